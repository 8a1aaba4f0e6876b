//! What polls are answered from without a question to the database: a few hundred bytes a node.

use crate::fleet::{Asked, Bearer, Denied, Taken};
use crate::sqlite::control::settings;
use crate::store::TokenKind;
use contract::poll::{Capability, Instance, Report};
use contract::row::Time;
use contract::settings::{Configuration, Layer, Settings};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// Age at which a credential is to be followed by another: a week.
const ROTATE_AFTER_NANOS: u64 = 7 * 86_400_000_000_000;

/// How old the last use of a token may be that is kept: it is written down at most this often.
const NOTE_USE_AFTER_NANOS: u64 = 60_000_000_000;

/// The keyed hash of a secret.
pub(super) type SecretHash = [u8; 32];

/// All that is in memory. It is written under the lock of the database, after a commit.
#[derive(Debug, Default)]
pub(super) struct Live {
    pub(super) nodes: HashMap<String, Known>,
    pub(super) identities: HashMap<String, Identity>,
    /// Nodes by the hashes of their credentials, present and next.
    pub(super) credentials: HashMap<SecretHash, String>,
    pub(super) tokens: HashMap<SecretHash, KnownToken>,
    pub(super) layers: BTreeMap<(Layer, String), Settings>,
    /// Highest generation that was ever given here.
    pub(super) newest: u64,
    /// Workloads of which something was wished since the start, or that a node did not hear of.
    pub(super) wished: BTreeSet<String>,
}

/// A node that reported.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    /// What the last report said beside lists, in short; 0 when it is not known.
    pub(super) said: u64,
    /// Generation of the newest wish for it.
    pub(super) generation: u64,
    pub(super) last_poll: Time,
    /// Start of its controller, and number of the list that is kept.
    pub(super) sequence: Option<(u64, u64)>,
    /// When a step is to be lent to it, or taken back.
    pub(super) due: Option<u64>,
    pub(super) cluster: Option<String>,
    pub(super) recorded: bool,
    pub(super) can_configure: bool,
}

/// Who may speak for a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) token: u64,
    pub(super) environment: Option<String>,
    pub(super) cluster: Option<String>,
    /// Absent for a controller that polls with its join token.
    pub(super) hash: Option<SecretHash>,
    pub(super) next_hash: Option<SecretHash>,
    pub(super) made: Time,
    pub(super) enrolled: Time,
    pub(super) revoked: bool,
}

/// A token that was made and not revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KnownToken {
    pub(super) id: u64,
    pub(super) kind: TokenKind,
    pub(super) expires: Option<Time>,
    pub(super) uses: Option<u32>,
    pub(super) used: u32,
    pub(super) last_used: Option<Time>,
    pub(super) environment: Option<String>,
}

impl KnownToken {
    /// Whether a use is noted that is near enough.
    pub(super) fn is_noted(&self, now: Time) -> bool {
        self.last_used.is_some_and(|used| now.0.saturating_sub(used.0) < NOTE_USE_AFTER_NANOS)
    }
}

/// What a report says beside its lists, in short.
pub(super) fn said(report: &Report) -> u64 {
    let mut hasher = DefaultHasher::new();
    let json = serde_json::to_string(&(&report.instance, &report.lost, &report.configuration));
    json.unwrap_or_default().hash(&mut hasher);
    report.generation.hash(&mut hasher);
    // 0 stands for what is not known.
    hasher.finish().max(1)
}

/// Whether a node was told more than is known here: of the wishes for it, not of all, because those
/// of other nodes go on.
pub(super) fn is_ahead(report: &Report, told: u64) -> bool {
    report.has_wishes && report.generation > told
}

/// Whether a report is of those that carry what changed in the list of workloads: a poll that waits
/// never does, and the first protocol has no word to ask for the list.
pub(super) fn tells_list(report: &Report) -> bool {
    report.wait_seconds == 0 && report.protocol >= 2
}

impl Known {
    /// Takes over what a report says of its sender.
    pub(super) fn introduce(&mut self, instance: &Instance) {
        self.cluster = instance.cluster.as_ref().map(|cluster| cluster.id.clone());
        self.recorded = instance.recorded;
        self.can_configure = instance.capabilities.contains(&Capability::Configure);
    }
}

impl Live {
    pub(super) fn bearer(&self, hashes: [SecretHash; 2], now: Time) -> Result<Bearer, Denied> {
        let [token, credential] = hashes;
        if let Some(id) = self.credentials.get(&credential) {
            let is_next =
                self.identities.get(id).is_some_and(|one| one.next_hash == Some(credential));
            return Ok(Bearer::Node { id: id.clone(), is_next });
        }
        let token = self.tokens.get(&token).ok_or(Denied::Unknown)?;
        if token.expires.is_some_and(|expires| expires <= now) {
            return Err(Denied::Expired);
        }
        Ok(Bearer::Token { id: token.id, kind: token.kind, is_noted: token.is_noted(now) })
    }

    pub(super) fn token(&self, id: u64) -> Option<&KnownToken> {
        self.tokens.values().find(|token| token.id == id)
    }

    /// Takes a report over that says nothing new.
    pub(super) fn glance(&mut self, report: &Report, now: Time) -> Option<Taken> {
        let says_more = report.workloads.is_some()
            || report.delta.is_some()
            || report.doctor.is_some()
            || report.held.is_some()
            || report.next_credential.is_some()
            || !report.steps.is_empty();
        let known = self.nodes.get_mut(&report.instance.id)?;
        let has_no_list = known.sequence.is_none() && tells_list(report);
        let is_ahead = is_ahead(report, known.generation);
        if says_more || has_no_list || is_ahead || known.said != said(report) {
            return None;
        }
        known.last_poll = now;
        Some(Taken { rotate: self.is_old(&report.instance.id, now), ..Taken::default() })
    }

    pub(super) fn is_old(&self, instance: &str, now: Time) -> bool {
        self.identities.get(instance).is_some_and(|identity| {
            identity.hash.is_some() && now.0.saturating_sub(identity.made.0) > ROTATE_AFTER_NANOS
        })
    }

    pub(super) fn has_news(&self, instance: &str, asked: &Asked, now: Time) -> bool {
        let Some(known) = self.nodes.get(instance).filter(|known| !known.recorded) else {
            return false;
        };
        known.generation != asked.generation
            || asked.before
            || known.due.is_some_and(|due| due <= now.0)
            || self.configuration_news(instance, asked).is_some()
    }

    /// The configuration to send to a node, when it is not the one that the node tried last.
    pub(super) fn configuration_news(
        &self,
        instance: &str,
        asked: &Asked,
    ) -> Option<Configuration> {
        self.nodes.get(instance).filter(|known| known.can_configure)?;
        let wanted = self.configuration(instance);
        let is_nothing = wanted.settings == Settings::default() && asked.configuration.is_none();
        (!is_nothing && asked.configuration.as_ref() != Some(&wanted.hash)).then_some(wanted)
    }

    /// What the layers come to on a node.
    pub(super) fn configuration(&self, instance: &str) -> Configuration {
        let identity = self.identities.get(instance);
        let cluster = self.nodes.get(instance).and_then(|known| known.cluster.clone());
        let names = [
            Some(String::new()),
            identity.and_then(|identity| identity.environment.clone()),
            cluster,
            Some(instance.to_owned()),
        ];
        let layers = Layer::ALL
            .into_iter()
            .zip(names)
            .filter_map(|(layer, name)| Some((layer, self.layers.get(&(layer, name?))?)));
        let (settings, origin) = Settings::layered(layers);
        Configuration { hash: settings::hash(&settings), settings, origin }
    }

    /// Lets an identity go, with its hashes.
    pub(super) fn forget_identity(&mut self, id: &str) {
        let Some(before) = self.identities.remove(id) else { return };
        for hash in before.hash.into_iter().chain(before.next_hash) {
            if self.credentials.get(&hash).is_some_and(|node| node == id) {
                self.credentials.remove(&hash);
            }
        }
    }

    /// Forgets the hashes of an identity, and notes those that it has now. It looks at no other
    /// identity: at the start of a large fleet it is called for each.
    pub(super) fn set_identity(&mut self, id: &str, identity: Identity) {
        self.forget_identity(id);
        if !identity.revoked {
            let hashes = identity.hash.into_iter().chain(identity.next_hash);
            self.credentials.extend(hashes.map(|hash| (hash, id.to_owned())));
        }
        self.identities.insert(id.to_owned(), identity);
    }
}

//! Control of the fleet: what is asked of the store about nodes, wishes, steps, configuration, and
//! who may come in. A second engine has to give these, and nothing more.

use crate::error::Error;
use crate::store::{Store, TokenKind};
use contract::poll::{Enrolled, Enrolment, Refused, Report, Wish};
use contract::reconcile::Feature;
use contract::row::{Configurations, History, LayerRow, StepRow, Time};
use contract::rules::Rules;
use contract::settings::{Layer, Settings};
use contract::step::Change;

/// Who a bearer of a secret is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bearer {
    /// Someone with a token.
    Token {
        /// Number of the token.
        id: u64,
        /// What it is good for.
        kind: TokenKind,
        /// False when its use has to be told by [`token_used`](Store::token_used): none is noted
        /// of the last minute.
        is_noted: bool,
    },
    /// The controller of a node, with a credential of its own.
    Node {
        /// The node, and no other.
        id: String,
        /// True when this is the credential that follows: it has to be told by
        /// [`promote`](Store::promote).
        is_next: bool,
    },
}

/// Why a secret is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// It was never made here, or it was revoked.
    Unknown,
    /// Its time is over.
    Expired,
}

/// A token to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    /// What it is good for.
    pub kind: TokenKind,
    /// What it is for, in the words of who makes it.
    pub name: String,
    /// Until when it is good; `None` for as long as it is not revoked.
    pub expires: Option<Time>,
    /// How many nodes may join with it; `None` for any number.
    pub uses: Option<u32>,
    /// Environment of the nodes that join with it.
    pub environment: Option<String>,
}

impl NewToken {
    /// A token that does not end by itself.
    pub fn new(kind: TokenKind, name: &str) -> Self {
        Self { kind, name: name.to_owned(), expires: None, uses: None, environment: None }
    }
}

/// What a poll says of what its sender has already.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Asked {
    /// Generation whose wishes it took over.
    pub generation: u64,
    /// Whether it has those wishes at hand.
    pub has_wishes: bool,
    /// Hash of the configuration that it tried last.
    pub configuration: Option<String>,
    /// Whether it wants to hear what it changed.
    pub before: bool,
}

impl Asked {
    /// What a report says.
    pub fn of(report: &Report) -> Self {
        Self {
            generation: report.generation,
            has_wishes: report.has_wishes,
            configuration: report.configuration.as_ref().map(|applied| applied.hash.clone()),
            before: report.asks_before,
        }
    }
}

/// What became of a report.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Taken {
    /// True when it changed what the lists of services or nodes answer.
    pub changed: bool,
    /// What was not taken over, and why.
    pub refused: Vec<Refused>,
    /// True when the next report has to be a full one.
    pub full: bool,
    /// True when the node knows of wishes that the store does not.
    pub ask_held: bool,
    /// True when the next credential is kept.
    pub credential_kept: bool,
    /// True when the credential is old.
    pub rotate: bool,
    /// Steps whose end is on disk.
    pub acknowledged: Vec<String>,
}

impl Taken {
    /// True when the sender has to hear something at once.
    pub fn is_news(&self) -> bool {
        self.full
            || self.ask_held
            || self.credential_kept
            || !self.refused.is_empty()
            || !self.acknowledged.is_empty()
    }
}

/// A step to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewStep {
    /// Node that shall take it.
    pub instance: String,
    /// Workload that it is about; `None` for the node itself.
    pub key: Option<String>,
    /// What to do.
    pub change: Change,
    /// Why.
    pub reason: String,
    /// Who wants it.
    pub actor: String,
    /// Until when it may be begun.
    pub deadline: Time,
}

/// A wish to keep.
#[derive(Debug, Clone, Copy)]
pub struct NewWish<'a> {
    /// Workload.
    pub key: &'a str,
    /// Level that is wanted.
    pub level: contract::capture::Level,
    /// Who wants it.
    pub actor: &'a str,
    /// Why; may be empty.
    pub reason: &'a str,
}

impl Store {
    /// Who a secret belongs to. Looks at memory alone.
    ///
    /// # Errors
    ///
    /// [`Denied`], which tells nothing about other secrets.
    pub fn bearer(&self, secret: &str, now: Time) -> Result<Bearer, Denied> {
        self.control.told(|control| control.bearer(secret, now))
    }

    /// Makes a token. It is not kept and cannot be shown again, only its keyed hash is.
    ///
    /// # Errors
    ///
    /// The database failed.
    pub fn make_token(&self, new: &NewToken, now: Time) -> Result<String, Error> {
        self.control.ask(|control| control.make_token(new, now))
    }

    /// Notes that a token was used; once a minute, however often it is.
    ///
    /// # Errors
    ///
    /// The database failed.
    pub fn token_used(&self, token: u64, now: Time) -> Result<(), Error> {
        self.control.ask(|control| control.token_used(token, now))
    }

    /// Takes a controller in: from now on its credential speaks for its node, and nothing else
    /// does. The same enrolment may be sent again.
    ///
    /// # Errors
    ///
    /// [`Error::Taken`] when the node has another credential that is in use, [`Error::Spent`] when
    /// no further node may join with the token, or the database failed.
    pub fn enrol(&self, enrolment: &Enrolment, token: u64, now: Time) -> Result<Enrolled, Error> {
        self.control.ask(|control| control.enrol(enrolment, token, now))
    }

    /// Whether a join token may speak for a node, as controllers of the first protocol do: the
    /// first that does is the only one from then on, until the node gets a credential.
    ///
    /// # Errors
    ///
    /// [`Error::Taken`], [`Error::Spent`], or the database failed.
    pub fn join(&self, instance: &str, token: u64, now: Time) -> Result<(), Error> {
        self.control.ask(|control| control.join(instance, token, now))
    }

    /// Cluster that a node named when it joined; it speaks for no other.
    pub fn cluster_of(&self, instance: &str) -> Option<String> {
        self.control.told(|control| control.cluster_of(instance))
    }

    /// Ends the credential of a node at once; false when it has none.
    ///
    /// # Errors
    ///
    /// The database failed.
    pub fn revoke_node(&self, instance: &str, actor: &str, now: Time) -> Result<bool, Error> {
        self.control.ask(|control| control.revoke_node(instance, actor, now))
    }

    /// Lets a node go without a credential, so that it may join anew; false when it is not known.
    ///
    /// # Errors
    ///
    /// The database failed.
    pub fn readmit_node(&self, instance: &str, actor: &str, now: Time) -> Result<bool, Error> {
        self.control.ask(|control| control.readmit_node(instance, actor, now))
    }

    /// The credential that follows was used: the one before is worthless from now on.
    ///
    /// # Errors
    ///
    /// The database failed.
    pub fn promote(&self, instance: &str, secret: &str, now: Time) -> Result<(), Error> {
        self.control.ask(|control| control.promote(instance, secret, now))
    }

    /// Takes a report over that says nothing new, in memory alone; `None` when it says something
    /// that has to be kept: then call [`report`](Self::report).
    pub fn glance(&self, report: &Report, now: Time) -> Option<Taken> {
        self.control.glance(report, now)
    }

    /// Takes a controller's report over.
    ///
    /// # Errors
    ///
    /// The database failed.
    pub fn report(&self, report: &Report, now: Time) -> Result<Taken, Error> {
        self.control.ask(|control| control.report(report, now))
    }

    /// Whether there is anything to answer to a poll but that nothing is new. Looks at memory
    /// alone.
    pub fn has_news(&self, instance: &str, asked: &Asked, now: Time) -> bool {
        self.control.has_news(instance, asked, now)
    }

    /// Takes over what other dashboards on the same ClickHouse changed, so that polls that wait
    /// here hear of it: true when anything is new since the last time, `None` when this store is its
    /// own.
    ///
    /// # Errors
    ///
    /// The database failed.
    pub fn follow(&self) -> Result<Option<bool>, Error> {
        self.control.follow()
    }

    /// What is wanted of a node, as far as the sender does not have it. Steps that are due are
    /// lent to it. Its generation is 0 as long as nothing ever was wanted.
    ///
    /// # Errors
    ///
    /// The database failed.
    pub fn wish(&self, instance: &str, asked: &Asked, now: Time) -> Result<Wish, Error> {
        self.control.ask(|control| control.wish(instance, asked, now))
    }

    /// What happened to a workload, newest first: wishes, states, steps, names.
    ///
    /// # Errors
    ///
    /// The database failed.
    pub fn history(&self, key: &str, limit: u32) -> Result<History, Error> {
        self.control.ask(|control| control.history(key, limit))
    }

    /// Gives a workload a name, or takes it away: the nodes that it is for.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownWorkload`], [`Error::Recorded`], or the database failed.
    pub fn set_name(
        &self,
        key: &str,
        name: Option<&str>,
        actor: &str,
        now: Time,
    ) -> Result<Vec<String>, Error> {
        self.control.ask(|control| control.set_name(key, name, actor, now))
    }

    /// Rules of discovery for all nodes.
    ///
    /// # Errors
    ///
    /// The database failed.
    pub fn rules(&self) -> Result<Rules, Error> {
        self.control.ask(|control| control.rules())
    }

    /// Sets the rules of discovery: the nodes that have to hear of it, which are all.
    ///
    /// # Errors
    ///
    /// The database failed.
    pub fn set_rules(&self, rules: &Rules, actor: &str, now: Time) -> Result<Vec<String>, Error> {
        self.control.ask(|control| control.set_rules(rules, actor, now))
    }

    /// All layers of configuration, and what comes of them on each node.
    ///
    /// # Errors
    ///
    /// The database failed.
    pub fn configurations(&self) -> Result<Configurations, Error> {
        self.control.ask(|control| control.configurations())
    }

    /// Settings of one layer: empty where it sets nothing.
    pub fn layer(&self, layer: Layer, name: &str) -> Settings {
        self.control.told(|control| control.layer(layer, name))
    }

    /// Sets a layer; empty settings take it away. Gives the nodes that have to hear of it.
    ///
    /// # Errors
    ///
    /// The database failed.
    pub fn set_layer(&self, row: &LayerRow, actor: &str, now: Time) -> Result<Vec<String>, Error> {
        self.control.ask(|control| control.set_layer(row, actor, now))
    }

    /// Makes a step, and gives its id.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownNode`], [`Error::TooManySteps`], or the database failed.
    pub fn new_step(&self, new: &NewStep, now: Time) -> Result<String, Error> {
        self.control.ask(|control| control.new_step(new, now))
    }

    /// Steps, newest first: those of a node, or of all.
    ///
    /// # Errors
    ///
    /// The database failed.
    pub fn steps(&self, instance: Option<&str>, limit: u32) -> Result<Vec<StepRow>, Error> {
        self.control.ask(|control| control.steps(instance, limit))
    }

    /// Makes the steps that lead to what is wanted of a node that does not plan itself, as far as it
    /// can bring these features about.
    ///
    /// # Errors
    ///
    /// The database failed.
    pub fn plan_for(&self, instance: &str, features: &[Feature], now: Time) -> Result<(), Error> {
        self.control.ask(|control| control.plan_for(instance, features, now))
    }

    /// Takes a step back: the node that it is for; `None` when there is no such step under way.
    ///
    /// # Errors
    ///
    /// The database failed.
    pub fn cancel_step(&self, id: &str, actor: &str, now: Time) -> Result<Option<String>, Error> {
        self.control.ask(|control| control.cancel_step(id, actor, now))
    }

    /// Ends steps that nobody can end any more; call it every minute or so.
    ///
    /// # Errors
    ///
    /// The database failed.
    pub fn expire_steps(&self, now: Time) -> Result<u64, Error> {
        self.control.ask(|control| control.expire_steps(now))
    }
}

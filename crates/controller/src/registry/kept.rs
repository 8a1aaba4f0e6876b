//! What of the registry survives a restart: one file, replaced as a whole, with its version.

use super::workload::{
    Ended, MAX_ENDED, MAX_EVIDENCE, MAX_EXECUTABLES, MAX_MODELS, MAX_PROVIDERS, MAX_REPLACED, Span,
    Workload,
};
use super::{MAX_WORKLOADS, Registry};
use crate::file;
use contract::capture::Level;
use contract::poll::Desired;
use contract::rules::Rules;
use contract::workload::{Evidence, Key, Platform};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Version of the file. Version 1 had no names, rules, providers, models, users and ended instances;
/// they are empty when it is read, and filled as programs are seen again.
const VERSION: u32 = 2;

/// Oldest version that is still read.
const OLDEST: u32 = 1;

/// The file has about 2 KB a workload.
const MAX_FILE: u64 = 64 << 20;

/// What survives a restart.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Kept {
    version: u32,
    /// Generation of the wishes below.
    pub(crate) generation: u64,
    /// The last wishes, which hold until a dashboard says otherwise.
    pub(crate) desired: Vec<Desired>,
    /// Rules of the dashboard.
    #[serde(default)]
    pub(crate) rules: Rules,
    /// Names that people gave.
    #[serde(default)]
    pub(crate) names: BTreeMap<Key, String>,
    /// What steps set.
    #[serde(default)]
    overrides: BTreeMap<Key, Override>,
    workloads: Vec<KeptWorkload>,
}

/// What the dashboard wants, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Wishes {
    pub(crate) generation: u64,
    pub(crate) desired: BTreeMap<Key, Desired>,
    /// What steps set, until a newer wish.
    pub(crate) overrides: BTreeMap<Key, Override>,
    pub(crate) rules: Rules,
    pub(crate) names: BTreeMap<Key, String>,
}

/// A level that a step set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Override {
    pub(crate) level: Level,
    /// Number of the step; a wish with a higher one overtakes it.
    pub(crate) generation: u64,
}

impl Wishes {
    /// The level that was wished last of each workload of which anything was.
    pub(crate) fn levels(&self) -> BTreeMap<Key, Level> {
        let of_wish = |wish: &Desired| match (wish.level, wish.agent) {
            (Level::Network, Some(true)) => Level::Full,
            (level, _) => level,
        };
        let mut levels: BTreeMap<Key, Level> =
            self.desired.iter().map(|(key, wish)| (key.clone(), of_wish(wish))).collect();
        for (key, step) in &self.overrides {
            if !self.overtakes(key, step) {
                levels.insert(key.clone(), step.level);
            }
        }
        levels
    }

    /// The number of the wish that holds for a workload; 0 where there is none.
    pub(crate) fn generation_of(&self, key: &Key) -> u64 {
        let wish = self.desired.get(key).map_or(0, |wish| wish.generation);
        let step = self.overrides.get(key).filter(|step| !self.overtakes(key, step));
        step.map_or(wish, |step| step.generation.max(wish))
    }

    /// Forgets what steps set before the wishes that hold now.
    pub(crate) fn forget_overtaken(&mut self) {
        let overrides = std::mem::take(&mut self.overrides);
        let stays = |(key, step): &(Key, Override)| !self.overtakes(key, step);
        self.overrides = overrides.into_iter().filter(stays).collect();
    }

    /// Whether the dashboard's wish is newer than the step.
    fn overtakes(&self, key: &Key, step: &Override) -> bool {
        let newest = self.desired.get(key).map(|wish| match wish.generation {
            // A dashboard that does not say.
            0 => self.generation,
            generation => generation,
        });
        newest.is_some_and(|newest| newest >= step.generation)
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct KeptWorkload {
    key: Key,
    name: String,
    platform: Platform,
    attributes: BTreeMap<String, String>,
    evidence: Vec<Evidence>,
    first_seen_unix_nanos: u64,
    last_seen_unix_nanos: u64,
    executables: BTreeSet<String>,
    #[serde(default)]
    users: BTreeSet<String>,
    #[serde(default)]
    providers: BTreeMap<String, Span>,
    #[serde(default)]
    models: BTreeMap<String, Span>,
    #[serde(default)]
    ended: Vec<Ended>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    replaces: BTreeSet<Key>,
}

impl Registry {
    /// What has to survive a restart. Processes that run are kept as ended: those that still run
    /// then are found again.
    pub(crate) fn to_keep(&self, wishes: &Wishes) -> Kept {
        let kept = |(key, workload): (&Key, &Workload)| KeptWorkload {
            key: key.clone(),
            name: workload.name.clone(),
            platform: workload.platform,
            attributes: workload.attributes.clone(),
            evidence: workload.evidence.clone(),
            first_seen_unix_nanos: workload.first_seen_unix_nanos,
            last_seen_unix_nanos: workload.last_seen_unix_nanos,
            executables: workload.executables.clone(),
            users: workload.users.clone(),
            providers: workload.providers.clone(),
            models: workload.models.clone(),
            ended: workload.ended.iter().cloned().collect(),
            replaces: workload.replaces.clone(),
        };
        Kept {
            version: VERSION,
            generation: wishes.generation,
            desired: wishes.desired.values().cloned().collect(),
            overrides: wishes.overrides.clone(),
            rules: wishes.rules.clone(),
            names: wishes.names.clone(),
            workloads: self.workloads.iter().chain(&self.hidden).map(kept).collect(),
        }
    }

    /// The registry before the restart; its processes have to be found again.
    pub(crate) fn from_kept(kept: &Kept) -> Self {
        let workloads = kept.workloads.iter().take(MAX_WORKLOADS).map(|kept| {
            let workload = kept.workload();
            (kept.key.clone(), workload)
        });
        Self { workloads: workloads.collect(), ..Self::default() }
    }
}

impl Kept {
    /// What was wanted.
    pub(crate) fn wishes(&self) -> Wishes {
        let desired = self.desired.iter().map(|desired| (desired.key.clone(), desired.clone()));
        Wishes {
            // Version 1 kept no rules and names: they are asked for again.
            generation: if self.version == VERSION { self.generation } else { 0 },
            desired: desired.collect(),
            overrides: self.overrides.clone(),
            rules: self.rules.clone(),
            names: self.names.clone(),
        }
    }
}

impl KeptWorkload {
    fn workload(&self) -> Workload {
        let spans = |of: &BTreeMap<String, Span>, limit: usize| {
            of.iter().take(limit).map(|(name, span)| (name.clone(), *span)).collect()
        };
        let mut providers: BTreeMap<String, Span> = spans(&self.providers, MAX_PROVIDERS);
        // Version 1 knew providers by their evidence alone.
        for evidence in &self.evidence {
            providers.entry(evidence.provider.clone()).or_insert(Span {
                first_unix_nanos: self.first_seen_unix_nanos,
                last_unix_nanos: evidence.last_seen_unix_nanos,
            });
        }
        Workload {
            name: self.name.clone(),
            platform: self.platform,
            attributes: self.attributes.clone(),
            evidence: self.evidence.iter().take(MAX_EVIDENCE).cloned().collect(),
            providers,
            models: spans(&self.models, MAX_MODELS),
            first_seen_unix_nanos: self.first_seen_unix_nanos,
            last_seen_unix_nanos: self.last_seen_unix_nanos,
            executables: self.executables.iter().take(MAX_EXECUTABLES).cloned().collect(),
            users: self.users.iter().take(MAX_EXECUTABLES).cloned().collect(),
            instances: BTreeMap::new(),
            ended: self.ended.iter().take(MAX_ENDED).cloned().collect(),
            replaces: self.replaces.iter().take(MAX_REPLACED).cloned().collect(),
            becomes: None,
        }
    }
}

/// The file that [`Kept`] is kept in.
#[derive(Debug)]
pub(crate) struct Store {
    file: PathBuf,
}

impl Store {
    /// The file of this data directory.
    pub(crate) fn new(data_dir: &Path) -> Self {
        Self { file: data_dir.join("controller.json") }
    }

    /// What was kept; nothing at the first start.
    ///
    /// A file that cannot be understood, or that a newer version wrote, is set aside rather than lost
    /// or obeyed.
    pub(crate) fn load(&self) -> Kept {
        let check = |kept: &Kept| match kept.version {
            OLDEST..=VERSION => Ok(()),
            other => Err(format!("version {other} is not {VERSION}")),
        };
        file::load(&self.file, MAX_FILE, check).unwrap_or_default()
    }

    /// Replaces the file as a whole: after a crash it is either the old one or the new one.
    ///
    /// # Errors
    ///
    /// When the directory cannot be written; the old file stands then.
    pub(crate) fn save(&self, kept: &Kept) -> std::io::Result<()> {
        file::replace(&self.file, kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Presence;
    use crate::registry::tests::{evidence, program};
    use contract::workload::By;
    use std::fs;

    fn key(text: &str) -> Key {
        Key(text.to_owned())
    }

    fn wish(text: &str, level: Level) -> Desired {
        Desired { key: key(text), level, agent: None, generation: 3 }
    }

    #[test]
    fn the_newer_of_a_step_and_a_wish_holds() {
        let at = |generation| Override { level: Level::Network, generation };
        let mut wishes = Wishes {
            generation: 3,
            desired: BTreeMap::from([(key("a"), wish("a", Level::Off))]),
            overrides: BTreeMap::from([(key("a"), at(2)), (key("b"), at(1))]),
            ..Wishes::default()
        };
        assert_eq!(wishes.levels()[&key("a")], Level::Off);
        assert_eq!(wishes.levels()[&key("b")], Level::Network, "nobody else wished anything");
        wishes.overrides.insert(key("a"), at(4));
        assert_eq!(wishes.levels()[&key("a")], Level::Network);
        wishes.forget_overtaken();
        assert_eq!(wishes.overrides.len(), 2);
        wishes.desired.get_mut(&key("a")).unwrap().generation = 5;
        wishes.forget_overtaken();
        assert_eq!(wishes.levels()[&key("a")], Level::Off);
    }

    #[test]
    fn a_program_is_kept_over_its_end_and_over_a_restart() {
        let mut registry = Registry::default();
        let model = Some("gpt-4o".to_owned());
        let seen = evidence("openai", By::Sni, 5);
        assert!(registry.sighted(&program("a", 7, None), seen, model, Presence::Running));
        registry.left(7, 9);

        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(directory.path());
        assert_eq!(store.load().generation, 0);
        let wishes = Wishes {
            generation: 3,
            desired: BTreeMap::from([(key("a"), wish("a", Level::Network))]),
            names: BTreeMap::from([(key("a"), "Chat".to_owned())]),
            ..Wishes::default()
        };
        store.save(&registry.to_keep(&wishes)).unwrap();
        let kept = store.load();
        assert_eq!((kept.generation, kept.desired[0].level), (3, Level::Network));
        assert_eq!(kept.wishes().names[&key("a")], "Chat");
        let again = &Registry::from_kept(&kept).workloads()[&key("a")].clone();
        assert_eq!(again.evidence, [evidence("openai", By::Sni, 5)]);
        let span = Span { first_unix_nanos: 5, last_unix_nanos: 5 };
        assert_eq!((again.providers["openai"], again.models["gpt-4o"]), (span, span));
        assert_eq!((again.ended[0].pid, again.ended[0].ended_unix_nanos), (7, 9));
    }

    #[test]
    fn a_file_of_version_1_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let text = r#"{"version":1,"generation":7,"desired":[{"key":"a","level":"network"}],
            "workloads":[{"key":"a","name":"n","platform":"process","attributes":{},
            "evidence":[{"provider":"openai","by":"sni","seen":"api.openai.com",
            "last_seen_unix_nanos":9}],"first_seen_unix_nanos":4,"last_seen_unix_nanos":9,
            "executables":["/usr/bin/x"]}]}"#;
        fs::write(directory.path().join("controller.json"), text).unwrap();
        let kept = Store::new(directory.path()).load();
        assert_eq!(kept.wishes().desired[&key("a")].level, Level::Network);
        let workload = &Registry::from_kept(&kept).workloads()[&key("a")].clone();
        let span = Span { first_unix_nanos: 4, last_unix_nanos: 9 };
        assert_eq!((workload.providers["openai"], workload.first_seen_unix_nanos), (span, 4));
    }

    #[test]
    fn an_unreadable_or_newer_file_is_set_aside() {
        let directory = tempfile::tempdir().unwrap();
        for text in ["", "{", r#"{"version":99,"generation":1,"desired":[],"workloads":[]}"#] {
            fs::write(directory.path().join("controller.json"), text).unwrap();
            assert_eq!(Store::new(directory.path()).load().generation, 0);
            assert_eq!(
                fs::read_to_string(directory.path().join("controller.json.unreadable")).unwrap(),
                text
            );
        }
    }
}

//! The workloads that are known on this node, and what of them survives a restart.

use contract::capture::Level;
use contract::poll::Desired;
use contract::workload::{Evidence, Key, Platform};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use workloads::Program;

/// Workloads of one node; beyond, the longest unseen ones that are stopped make room.
const MAX_WORKLOADS: usize = 1_000;

/// Kinds of evidence of one workload: providers times hosts.
const MAX_EVIDENCE: usize = 16;

/// Executables of one workload.
const MAX_EXECUTABLES: usize = 16;

/// Processes of one workload.
const MAX_INSTANCES: usize = 512;

/// Version of the file.
const VERSION: u32 = 1;

/// The file has about 1 KB a workload.
const MAX_FILE: u64 = 64 << 20;

/// All workloads that were seen to talk to a model, running or not.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    workloads: BTreeMap<Key, Workload>,
    /// Which workload a process was last seen in.
    processes: HashMap<u32, Key>,
}

/// One workload.
#[derive(Debug, Clone)]
pub(crate) struct Workload {
    pub(crate) name: String,
    pub(crate) platform: Platform,
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) evidence: Vec<Evidence>,
    pub(crate) first_seen_unix_nanos: u64,
    pub(crate) last_seen_unix_nanos: u64,
    /// Executables that its processes ran, by which new ones are recognised cheaply.
    pub(crate) executables: BTreeSet<String>,
    /// Running processes, by id.
    pub(crate) instances: BTreeMap<u32, Running>,
}

/// A running process of a workload.
#[derive(Debug, Clone)]
pub(crate) struct Running {
    pub(crate) program: Arc<Program>,
    /// Whether this very process was seen to talk to a model.
    pub(crate) talks: bool,
}

/// What survives a restart.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Kept {
    version: u32,
    /// Generation of the wishes below.
    pub(crate) generation: u64,
    /// The last wishes, which hold until a dashboard says otherwise.
    pub(crate) desired: Vec<Desired>,
    workloads: Vec<KeptWorkload>,
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
}

impl Registry {
    /// All workloads, by key.
    pub(crate) fn workloads(&self) -> &BTreeMap<Key, Workload> {
        &self.workloads
    }

    /// Whether a workload with this key was seen.
    pub(crate) fn knows(&self, key: &Key) -> bool {
        self.workloads.contains_key(key)
    }

    /// Notes that a program was seen to talk to a model; `false` when there is no room for it.
    pub(crate) fn sighted(&mut self, program: &Arc<Program>, evidence: Evidence) -> bool {
        if !self.knows(&program.key) && !self.make_room() {
            return false;
        }
        let at = evidence.last_seen_unix_nanos;
        let workload = self.workloads.entry(program.key.clone()).or_insert_with(|| Workload {
            name: program.name.clone(),
            platform: program.platform,
            attributes: program.attributes.clone(),
            evidence: Vec::new(),
            first_seen_unix_nanos: at,
            last_seen_unix_nanos: at,
            executables: BTreeSet::new(),
            instances: BTreeMap::new(),
        });
        workload.last_seen_unix_nanos = workload.last_seen_unix_nanos.max(at);
        workload.witness(evidence);
        self.joined(program);
        if let Some(running) = self.running_mut(program.instance.pid) {
            running.talks = true;
        }
        true
    }

    /// Notes that a process runs a program of a known workload; of others nothing is kept.
    pub(crate) fn joined(&mut self, program: &Arc<Program>) {
        let pid = program.instance.pid;
        if self.processes.get(&pid).is_some_and(|key| *key != program.key) {
            self.left(pid);
        }
        let Some(workload) = self.workloads.get_mut(&program.key) else { return };
        if workload.instances.len() >= MAX_INSTANCES && !workload.instances.contains_key(&pid) {
            return;
        }
        workload.name.clone_from(&program.name);
        workload.attributes.clone_from(&program.attributes);
        if workload.executables.len() < MAX_EXECUTABLES {
            workload.executables.insert(program.instance.executable.clone());
        }
        let before = workload
            .instances
            .get(&pid)
            .filter(|running| running.program.start_ticks == program.start_ticks);
        let talks = before.is_some_and(|running| running.talks);
        workload.instances.insert(pid, Running { program: Arc::clone(program), talks });
        self.processes.insert(pid, program.key.clone());
    }

    /// Notes that a process ended.
    pub(crate) fn left(&mut self, pid: u32) {
        let Some(key) = self.processes.remove(&pid) else { return };
        if let Some(workload) = self.workloads.get_mut(&key) {
            workload.instances.remove(&pid);
        }
    }

    /// The process with this id, when it belongs to a workload.
    pub(crate) fn running(&self, pid: u32) -> Option<&Running> {
        self.workloads.get(self.processes.get(&pid)?)?.instances.get(&pid)
    }

    fn running_mut(&mut self, pid: u32) -> Option<&mut Running> {
        self.workloads.get_mut(self.processes.get(&pid)?)?.instances.get_mut(&pid)
    }

    /// Ids and starts of all processes of workloads.
    pub(crate) fn processes(&self) -> Vec<(u32, u64)> {
        let of = |workload: &Workload| {
            workload
                .instances
                .iter()
                .map(|(pid, running)| (*pid, running.program.start_ticks))
                .collect::<Vec<_>>()
        };
        self.workloads.values().flat_map(of).collect()
    }

    /// Forgets the longest unseen stopped workload when there is no room for one more.
    fn make_room(&mut self) -> bool {
        if self.workloads.len() < MAX_WORKLOADS {
            return true;
        }
        let stopped = self.workloads.iter().filter(|(_, workload)| workload.instances.is_empty());
        let Some(oldest) = stopped
            .min_by_key(|(_, workload)| workload.last_seen_unix_nanos)
            .map(|(key, _)| key.clone())
        else {
            return false;
        };
        self.workloads.remove(&oldest);
        true
    }

    /// What has to survive a restart.
    pub(crate) fn to_keep(&self, generation: u64, desired: &BTreeMap<Key, Level>) -> Kept {
        let kept = |(key, workload): (&Key, &Workload)| KeptWorkload {
            key: key.clone(),
            name: workload.name.clone(),
            platform: workload.platform,
            attributes: workload.attributes.clone(),
            evidence: workload.evidence.clone(),
            first_seen_unix_nanos: workload.first_seen_unix_nanos,
            last_seen_unix_nanos: workload.last_seen_unix_nanos,
            executables: workload.executables.clone(),
        };
        Kept {
            version: VERSION,
            generation,
            desired: desired
                .iter()
                .map(|(key, level)| Desired {
                    key: key.clone(),
                    level: *level,
                    agent: None,
                    generation: 0,
                })
                .collect(),
            workloads: self.workloads.iter().map(kept).collect(),
        }
    }

    /// The registry before the restart; its processes have to be found again.
    pub(crate) fn from_kept(kept: &Kept) -> Self {
        let workload = |kept: &KeptWorkload| {
            let workload = Workload {
                name: kept.name.clone(),
                platform: kept.platform,
                attributes: kept.attributes.clone(),
                evidence: kept.evidence.iter().take(MAX_EVIDENCE).cloned().collect(),
                first_seen_unix_nanos: kept.first_seen_unix_nanos,
                last_seen_unix_nanos: kept.last_seen_unix_nanos,
                executables: kept.executables.iter().take(MAX_EXECUTABLES).cloned().collect(),
                instances: BTreeMap::new(),
            };
            (kept.key.clone(), workload)
        };
        Self {
            workloads: kept.workloads.iter().take(MAX_WORKLOADS).map(workload).collect(),
            processes: HashMap::new(),
        }
    }
}

impl Workload {
    /// Adds evidence, or renews what is there; the oldest goes when there is too much.
    fn witness(&mut self, evidence: Evidence) {
        let same = |known: &&mut Evidence| {
            known.provider == evidence.provider
                && known.by == evidence.by
                && known.seen == evidence.seen
        };
        if let Some(known) = self.evidence.iter_mut().find(same) {
            known.last_seen_unix_nanos =
                known.last_seen_unix_nanos.max(evidence.last_seen_unix_nanos);
            return;
        }
        if self.evidence.len() >= MAX_EVIDENCE {
            let oldest = self
                .evidence
                .iter()
                .enumerate()
                .min_by_key(|(_, known)| known.last_seen_unix_nanos);
            if let Some((index, _)) = oldest {
                self.evidence.swap_remove(index);
            }
        }
        self.evidence.push(evidence);
        self.evidence
            .sort_by(|a, b| (a.by, &a.provider, &a.seen).cmp(&(b.by, &b.provider, &b.seen)));
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
    /// A file that cannot be understood is set aside rather than lost or obeyed.
    pub(crate) fn load(&self) -> Kept {
        let text = match fs::metadata(&self.file) {
            Ok(metadata) if metadata.len() > MAX_FILE => Err(ErrorKind::FileTooLarge.into()),
            Ok(_) => fs::read(&self.file),
            Err(error) => Err(error),
        };
        let error = match text {
            Err(error) if error.kind() == ErrorKind::NotFound => return Kept::default(),
            Err(error) => error.to_string(),
            Ok(text) => match serde_json::from_slice::<Kept>(&text) {
                Ok(kept) if kept.version == VERSION => return kept,
                Ok(kept) => format!("version {} is not {VERSION}", kept.version),
                Err(error) => error.to_string(),
            },
        };
        let aside = self.file.with_extension("json.unreadable");
        tracing::warn!(error, file = %self.file.display(), aside = %aside.display(), "cannot read what was kept; starting anew");
        if let Err(error) = fs::rename(&self.file, &aside) {
            tracing::warn!(%error, "cannot set the file aside");
        }
        Kept::default()
    }

    /// Replaces the file as a whole: after a crash it is either the old one or the new one.
    ///
    /// # Errors
    ///
    /// When the directory cannot be written; the old file stands then.
    pub(crate) fn save(&self, kept: &Kept) -> std::io::Result<()> {
        let fresh = self.file.with_extension("json.new");
        let mut file: File = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&fresh)?;
        file.write_all(&serde_json::to_vec(kept)?)?;
        file.sync_all()?;
        fs::rename(&fresh, &self.file)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use contract::workload::{By, Instance};

    /// A program with a key, made up.
    pub(crate) fn program(key: &str, pid: u32, tls: Option<&str>) -> Arc<Program> {
        Arc::new(Program {
            key: Key(key.to_owned()),
            name: key.to_owned(),
            platform: Platform::Process,
            attributes: BTreeMap::new(),
            provisional: false,
            start_ticks: u64::from(pid) * 100,
            instance: Instance {
                pid,
                started_unix_nanos: 1,
                executable: "/usr/bin/x".to_owned(),
                arguments: vec!["x".to_owned()],
                user: "root".to_owned(),
                tls: tls.map(str::to_owned),
                ..Instance::default()
            },
        })
    }

    pub(crate) fn evidence(provider: &str, by: By, at: u64) -> Evidence {
        Evidence {
            provider: provider.to_owned(),
            by,
            seen: format!("{provider}.example"),
            last_seen_unix_nanos: at,
        }
    }

    #[test]
    fn a_program_is_kept_over_its_end_and_over_a_restart() {
        let mut registry = Registry::default();
        assert!(registry.sighted(&program("a", 7, None), evidence("openai", By::Sni, 5)));
        registry.joined(&program("a", 8, None));
        registry.joined(&program("unknown", 9, None));
        assert_eq!(registry.processes(), [(7, 700), (8, 800)]);
        registry.left(7);
        registry.left(8);
        assert!(registry.knows(&Key("a".to_owned())) && registry.processes().is_empty());

        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(directory.path());
        assert_eq!(store.load().generation, 0);
        let desired = BTreeMap::from([(Key("a".to_owned()), Level::Network)]);
        store.save(&registry.to_keep(3, &desired)).unwrap();
        let kept = store.load();
        assert_eq!((kept.generation, kept.desired[0].level), (3, Level::Network));
        let again = Registry::from_kept(&kept);
        assert_eq!(
            again.workloads()[&Key("a".to_owned())].evidence,
            [evidence("openai", By::Sni, 5)]
        );
    }

    #[test]
    fn an_unreadable_file_is_set_aside() {
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

    #[test]
    fn a_process_that_became_another_program_leaves_its_workload() {
        let mut registry = Registry::default();
        registry.sighted(&program("a", 7, None), evidence("openai", By::Sni, 5));
        registry.sighted(&program("b", 7, None), evidence("openai", By::Sni, 6));
        assert!(registry.workloads()[&Key("a".to_owned())].instances.is_empty());
        assert_eq!(registry.running(7).unwrap().program.key.0, "b");
    }

    #[test]
    fn evidence_is_renewed_and_bounded() {
        let mut registry = Registry::default();
        for at in 0..40 {
            registry
                .sighted(&program("a", 7, None), evidence(&format!("p{}", at % 20), By::Sni, at));
        }
        assert_eq!(registry.workloads()[&Key("a".to_owned())].evidence.len(), MAX_EVIDENCE);
    }

    #[test]
    fn the_longest_unseen_stopped_workload_makes_room() {
        let mut registry = Registry::default();
        for number in 0..MAX_WORKLOADS {
            let pid = u32::try_from(number).unwrap() + 1;
            assert!(registry.sighted(
                &program(&format!("w{number}"), pid, None),
                evidence("openai", By::Sni, 1000 + u64::from(pid))
            ));
        }
        assert!(!registry.sighted(&program("new", 5000, None), evidence("openai", By::Sni, 9000)));
        registry.left(3);
        assert!(registry.sighted(&program("new", 5000, None), evidence("openai", By::Sni, 9000)));
        assert!(!registry.knows(&Key("w2".to_owned())));
    }
}

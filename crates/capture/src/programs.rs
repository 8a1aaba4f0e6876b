//! The eBPF objects: opened, loaded and attached by trial.
//!
//! Each object stands alone, so that a kernel that refuses one still runs the others. All
//! links and maps are descriptors of this process: when it ends, however it ends, the
//! kernel takes everything back.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use libbpf_rs::{
    Link, MapCore, MapFlags, MapHandle, Object, ObjectBuilder, OpenObject, RingBuffer,
    RingBufferBuilder, UprobeMultiOpts, UprobeOpts,
};

use crate::cgroup::Root;
use crate::kernel::{Fact, Standing};
use crate::library::Function;
use crate::system;

static TLS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/tls.bpf.o"));
static PROCESS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/process.bpf.o"));
static OPENING: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/opening.bpf.o"));
static ANSWER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/answer.bpf.o"));

type Result<T> = std::result::Result<T, libbpf_rs::Error>;

/// A loaded object, its links and its ring.
#[derive(Debug)]
pub(crate) struct Programs<T> {
    object: Arc<Object>,
    links: Vec<Link>,
    ring: RingBuffer<'static>,
    lost: MapHandle,
    records: Arc<Mutex<Vec<T>>>,
}

/// The programs at TLS functions, and the way they are attached on this kernel.
#[derive(Debug)]
pub(crate) struct TlsPrograms {
    pub(crate) programs: Programs<crate::record::Tls>,
    multi: Multi,
}

/// How links to many functions at once work here, found by trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Multi {
    /// One link for all functions of a library, and every thread is seen.
    Works,
    /// One link for each function.
    Single(String),
}

impl<T: Send + 'static> Programs<T> {
    fn load(
        bytes: &[u8],
        ring: &str,
        read: fn(&[u8]) -> Option<T>,
        prepare: impl FnOnce(&mut OpenObject) -> Result<()>,
    ) -> Result<Self> {
        let mut open = ObjectBuilder::default().open_memory(bytes)?;
        set_reader_namespace(&mut open)?;
        prepare(&mut open)?;
        let object = Arc::new(open.load()?);
        let records = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&records);
        let (ring, lost) = (map(&object, ring)?, map(&object, "lost")?);
        let mut builder = RingBufferBuilder::new();
        builder.add(&ring, move |bytes| {
            if let Some(record) = read(bytes) {
                sink.lock().unwrap_or_else(PoisonError::into_inner).push(record);
            }
            0
        })?;
        let ring = builder.build()?;
        Ok(Self { object, links: Vec::new(), ring, lost, records })
    }

    /// Descriptor that becomes readable when there is something to [`read`](Self::read).
    pub(crate) fn fd(&self) -> i32 {
        self.ring.epoll_fd()
    }

    /// Takes up to `limit` records. Fewer means that the ring was empty.
    pub(crate) fn read(&self, limit: usize) -> Vec<T> {
        self.ring.consume_raw_n(limit);
        std::mem::take(&mut *self.records.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn attach_to(&mut self, root: &Root, names: &[&str]) -> Result<()> {
        for name in names {
            let link = program(&self.object, name)?.attach_cgroup(root.directory.as_raw_fd())?;
            self.links.push(link);
        }
        Ok(())
    }

    /// Sets a value in a map.
    pub(crate) fn set(&self, name: &str, key: &[u8], value: &[u8]) -> Result<()> {
        map(&self.object, name)?.update(key, value, MapFlags::ANY)
    }

    /// The counters of the map `lost`, summed over all CPUs, by the index of `enum loss`.
    pub(crate) fn lost(&self, reason: u32) -> u64 {
        let values = self.lost.lookup_percpu(&reason.to_ne_bytes(), MapFlags::ANY).ok().flatten();
        values
            .unwrap_or_default()
            .iter()
            .filter_map(|value| Some(u64::from_ne_bytes(value.get(..8)?.try_into().ok()?)))
            .sum()
    }
}

/// Loads and attaches the programs that see processes come and go.
pub(crate) fn processes() -> Result<Programs<crate::record::Process>> {
    let read = crate::record::Process::read;
    let mut programs = Programs::load(PROCESS, "processes", read, |_| Ok(()))?;
    for name in ["on_fork", "on_exec", "on_exit"] {
        let link = program(&programs.object, name)?.attach()?;
        programs.links.push(link);
    }
    Ok(programs)
}

impl Programs<crate::record::Process> {
    /// Says whether the reader is to be woken for every process, or reads in its own time.
    pub(crate) fn wake_for_each(&self, is_eager: bool) {
        if let Err(error) = self.set("eager", &[0; 4], &u32::from(is_eager).to_ne_bytes()) {
            tracing::debug!(%error, "cannot say when to be woken for processes");
        }
    }
}

/// Loads and attaches the programs that see how connections open.
pub(crate) fn openings(root: &Root) -> Result<Programs<crate::record::Opening>> {
    let read = crate::record::Opening::read;
    let mut programs = Programs::load(OPENING, "records", read, |_| Ok(()))?;
    programs.attach_to(root, &["on_egress"])?;
    let state = program(&programs.object, "on_state")?.attach()?;
    programs.links.push(state);
    Ok(programs)
}

/// Loads and attaches the programs that see the answers of name servers.
pub(crate) fn answers(root: &Root) -> Result<Programs<crate::record::Answer>> {
    let read = crate::record::Answer::read;
    let mut programs = Programs::load(ANSWER, "records", read, |_| Ok(()))?;
    let names = ["on_ingress", "on_connect4", "on_connect6", "on_sendmsg4", "on_sendmsg6"];
    programs.attach_to(root, &names)?;
    Ok(programs)
}

impl Multi {
    /// Finds out how links work here, with programs that are gone again afterwards.
    pub(crate) fn find_out(single_links: bool) -> Result<Self> {
        let page = u32::try_from(system::page_len()).unwrap_or(4096);
        let programs = TlsPrograms::open(page)?;
        Ok(match try_multi(&programs.object) {
            Ok(()) if single_links => Self::Single("it is configured so".to_owned()),
            Ok(()) => Self::Works,
            Err(reason) => Self::Single(reason),
        })
    }

    /// What was found out.
    pub(crate) fn fact(&self) -> Fact {
        match self {
            Self::Works => Fact {
                name: "uprobe_multi",
                standing: Standing::Good,
                found: "one link serves a whole library, scoped to the process, in all its threads"
                    .to_owned(),
                remedy: String::new(),
            },
            Self::Single(reason) => Fact {
                name: "uprobe_multi",
                standing: Standing::Limited,
                found: format!("each function has a link of its own: {reason}"),
                remedy:
                    "nothing is missed; attaching takes a little longer (Linux 6.10 has better)"
                        .to_owned(),
            },
        }
    }
}

impl TlsPrograms {
    /// Loads the programs, with a ring of this size.
    pub(crate) fn load(ring_bytes: u32, multi: Multi) -> Result<Self> {
        Ok(Self { programs: Self::open(ring_bytes)?, multi })
    }

    fn open(ring_bytes: u32) -> Result<Programs<crate::record::Tls>> {
        let read = crate::record::Tls::read;
        Programs::load(TLS, "records", read, |open| {
            for mut map in open.maps_mut() {
                if map.name() == "records" {
                    map.set_max_entries(ring_bytes)?;
                }
            }
            Ok(())
        })
    }

    /// Sets probes in a file, seen by one process only. The links remove them when dropped.
    pub(crate) fn attach(
        &self,
        pid: u32,
        watch: u32,
        file: &File,
        functions: &[Function],
    ) -> Result<Vec<Link>> {
        let pid = i32::try_from(pid).map_err(io::Error::other)?;
        // The descriptor and not the path: the file may be deleted, or another mount's.
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        let returning: Vec<Function> =
            functions.iter().filter(|function| function.role.returns).copied().collect();
        let (call, back) = match self.multi {
            Multi::Works => ("on_tls_call", "on_tls_return"),
            Multi::Single(_) => ("on_tls_call_single", "on_tls_return_single"),
        };
        let mut links = Vec::new();
        // Returns first: a return without its call is ignored, a call without its return
        // would be kept for nothing.
        for (name, functions, retprobe) in
            [(back, returning.as_slice(), true), (call, functions, false)]
        {
            let program = program(&self.programs.object, name)?;
            let cookie =
                |function: &Function| u64::from(watch) << 32 | u64::from(function.role.operation);
            if self.multi == Multi::Works {
                let options = UprobeMultiOpts {
                    offsets: functions.iter().map(|f| f.offset as usize).collect(),
                    cookies: functions.iter().map(cookie).collect(),
                    retprobe,
                    ..UprobeMultiOpts::default()
                };
                links.push(program.attach_uprobe_multi_with_opts(pid, &path, "", options)?);
                continue;
            }
            for function in functions {
                let cookie = cookie(function);
                let options = UprobeOpts { cookie, retprobe, ..UprobeOpts::default() };
                let offset = function.offset as usize;
                links.push(program.attach_uprobe_with_opts(pid, &path, offset, options)?);
            }
        }
        Ok(links)
    }

    /// How their links are set.
    pub(crate) fn multi(&self) -> &Multi {
        &self.multi
    }

    /// What [`Warmth::renew`] needs.
    pub(crate) fn warmth(&self) -> Option<Warmth> {
        let offset = own_file_offset(trial as extern "C" fn(u64) -> u64 as usize as u64)?;
        (self.multi == Multi::Works)
            .then(|| Warmth { object: Arc::clone(&self.programs.object), offset })
    }

    /// Tells the kernel side to copy no more of a connection.
    pub(crate) fn ignore(&self, watch: u32, object: u64, generation: u64) -> Result<()> {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&object.to_ne_bytes());
        key[8..].copy_from_slice(&u64::from(watch).to_ne_bytes());
        self.programs.set("ignored", &key, &generation.to_ne_bytes())
    }
}

/// Makes the next link quick.
///
/// Setting the first probe after a pause takes the kernel 10 to 20 ms, because it waits for
/// a grace period in which no process forks; probes soon after it take 0.1 ms. A program
/// that calls over loopback can be done in that time. So the wait is begun, with a probe in
/// this very process, when a process starts, before anybody knows whether it is to be
/// watched.
#[derive(Debug)]
pub(crate) struct Warmth {
    object: Arc<Object>,
    offset: usize,
}

impl Warmth {
    /// Sets a probe and removes it.
    pub(crate) fn renew(&self) {
        let options = UprobeMultiOpts { offsets: vec![self.offset], ..UprobeMultiOpts::default() };
        let own = i32::try_from(std::process::id()).unwrap_or_default();
        let link = program(&self.object, "on_trial").and_then(|program| {
            program.attach_uprobe_multi_with_opts(own, "/proc/self/exe", "", options)
        });
        if let Err(error) = link {
            tracing::debug!(%error, "cannot set the probe that makes others quick");
        }
    }
}

/// The function that the trial link is set on.
#[inline(never)]
extern "C" fn trial(seed: u64) -> u64 {
    std::hint::black_box(seed).wrapping_mul(3)
}

/// Sets a link on a function of this very process and calls it from two threads: a kernel
/// without multi links refuses the link, and one between 6.6 and 6.9 may see one thread only.
fn try_multi(object: &Object) -> std::result::Result<(), String> {
    let said = |error: libbpf_rs::Error| format!("{error:#}");
    let address = trial as extern "C" fn(u64) -> u64 as usize as u64;
    let offset = own_file_offset(address).ok_or("cannot find a function of this program")?;
    let options = UprobeMultiOpts { offsets: vec![offset], ..UprobeMultiOpts::default() };
    let own = i32::try_from(std::process::id()).map_err(|error| error.to_string())?;
    let link = program(object, "on_trial")
        .and_then(|program| {
            program.attach_uprobe_multi_with_opts(own, "/proc/self/exe", "", options)
        })
        .map_err(said)?;
    let call = trial as extern "C" fn(u64) -> u64;
    std::hint::black_box(call)(1);
    let other = std::thread::Builder::new()
        .name("trial".to_owned())
        .spawn(move || std::hint::black_box(call)(2))
        .map_err(|error| error.to_string())?;
    if other.join().is_err() {
        return Err("the trial thread failed".to_owned());
    }
    drop(link);
    let count =
        map(object, "trials").and_then(|map| map.lookup(&0_u32.to_ne_bytes(), MapFlags::ANY));
    match count.map_err(said)?.and_then(|value| value.first().copied()) {
        Some(2) => Ok(()),
        Some(count) => Err(format!("of calls by two threads, the kernel saw {count}")),
        None => Err("the trial left no count".to_owned()),
    }
}

/// Where an address of this process lies in its executable.
fn own_file_offset(address: u64) -> Option<usize> {
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    maps.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (start, end) = fields.next()?.split_once('-')?;
        let start = u64::from_str_radix(start, 16).ok()?;
        let end = u64::from_str_radix(end, 16).ok()?;
        let offset = u64::from_str_radix(fields.nth(1)?, 16).ok()?;
        let inside = (start..end).contains(&address);
        if inside { usize::try_from(address - start + offset).ok() } else { None }
    })
}

/// Writes the inode of our pid namespace into the object's read-only data.
fn set_reader_namespace(open: &mut OpenObject) -> Result<()> {
    let namespace = u32::try_from(fs::metadata("/proc/self/ns/pid")?.ino()).unwrap_or_default();
    for mut map in open.maps_mut() {
        if map.name().to_string_lossy().ends_with(".rodata")
            && let Some(value) = map.initial_value_mut()
            && let Some(first) = value.get_mut(..4)
        {
            first.copy_from_slice(&namespace.to_ne_bytes());
        }
    }
    Ok(())
}

fn program<'a>(object: &'a Object, name: &str) -> Result<libbpf_rs::ProgramMut<'a>> {
    object
        .progs_mut()
        .find(|program| program.name() == name)
        .ok_or_else(|| io::Error::other(format!("no program {name}")).into())
}

fn map(object: &Object, name: &str) -> Result<MapHandle> {
    let map = object.maps().find(|map| map.name() == name);
    let map = map.ok_or_else(|| io::Error::other(format!("no map {name}")))?;
    MapHandle::try_from(&map)
}

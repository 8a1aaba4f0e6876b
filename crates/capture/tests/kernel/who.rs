//! Who connected: threads, children, containers, and processes that are gone.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use capture::kernel::Standing;
use capture::{Config, Event};

use crate::load;
use crate::openings::{Anywhere, done, hello, hellos};
use crate::programs::{Program, identity, need_kernel};
use crate::seen::Watcher;

#[test]
fn a_thread_and_a_child_that_executes_nothing_are_known() {
    need_kernel!();
    let place = Anywhere::start();
    let mut sender = place.sender();
    let mut watcher = Watcher::start(&Config::default());
    done(&mut sender, "thread thread.sonde.test");
    let (process, caller, _) = hello(&mut watcher, "thread.sonde.test");
    assert_eq!(process, identity(sender.pid()));
    assert!(caller.name.starts_with("python3"), "the name of the process, not the thread's");
    assert_eq!(caller.user, 0);
    let program = caller.program.unwrap();
    assert!(program.executable.to_string_lossy().contains("python3"));
    let words: Vec<&[u8]> = program.arguments.as_bytes().split(|byte| *byte == 0).collect();
    assert_eq!(words[1..3], [b"-u", b"-c"]);

    sender.tell("child child.sonde.test");
    let said = sender.hear();
    let pid: u32 = said.strip_prefix("done ").unwrap().parse().unwrap();
    let (process, caller, _) = hello(&mut watcher, "child.sonde.test");
    assert_eq!((process.pid, caller.parent), (pid, Some(identity(sender.pid()))));
    // It was gone at once, and it runs what its parent runs.
    assert_eq!(caller.program.as_deref(), Some(&*program));
}

#[test]
fn a_process_in_its_own_cgroup_user_and_pid_namespace_is_told_as_it_is_here() {
    need_kernel!();
    let place = Anywhere::start();
    let directory = tempfile::tempdir().unwrap();
    let program = load::short_program(directory.path());
    let mut watcher = Watcher::start(&Config::default());
    let cgroup = Cgroup::make();
    let words = ["127.0.0.1", &place.port.to_string(), "inner.sonde.test"];
    let command = format!(
        "echo $$ > {}/cgroup.procs; exec setpriv --reuid 12345 unshare --pid --fork {} {}",
        cgroup.path,
        program.display(),
        words.join(" ")
    );
    // The program is not for others to read, so they must be let in.
    std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    let mut outer = Command::new("sh");
    outer.args(["-c", &command.replace("unshare", "unshare --user")]);
    Program::start(outer).finish();
    let (process, caller, _) = hello(&mut watcher, "inner.sonde.test");
    assert_ne!(process.pid, 1, "as we count, not as it does itself");
    let started =
        |event: &Event| matches!(event, Event::Started { process: known, .. } if *known == process);
    assert!(watcher.events.iter().any(started));
    assert_eq!((caller.user, caller.name.as_str()), (12345, "short"));
    let found = caller.program.unwrap();
    assert!(
        found.executable.ends_with("short")
            && found.arguments.as_bytes().ends_with(b"inner.sonde.test\0")
    );
    assert!(found.cgroup.ends_with("/sonde-test-cgroup"), "{}", found.cgroup);
}

#[test]
fn a_process_in_another_network_namespace_is_seen() {
    need_kernel!();
    // A pair of devices, one end in a namespace of its own.
    let script = "set -e
        ip netns del sonde-test 2>/dev/null || true; ip link del sonde-a 2>/dev/null || true
        ip netns add sonde-test; ip link add sonde-a type veth peer name sonde-b netns sonde-test
        ip addr add 10.213.7.1/24 dev sonde-a; ip link set sonde-a up
        ip -n sonde-test addr add 10.213.7.2/24 dev sonde-b; ip -n sonde-test link set sonde-b up";
    assert!(Command::new("sh").args(["-c", script]).status().unwrap().success());
    let place = Anywhere::start();
    let mut watcher = Watcher::start(&Config::default());
    let mut sender = place.sender_behind(&["ip", "netns", "exec", "sonde-test"]);
    done(&mut sender, "hello far.sonde.test 10.213.7.1");
    let (process, _, _) = hello(&mut watcher, "far.sonde.test");
    assert_eq!(process, identity(sender.pid()));
    let peer = match hellos(&watcher.events, "far.sonde.test")[0] {
        Event::Hello { peer, .. } => peer.to_string(),
        _ => unreachable!(),
    };
    assert_eq!(peer, format!("10.213.7.1:{}", place.port));
    sender.finish();
    assert!(Command::new("ip").args(["netns", "del", "sonde-test"]).status().unwrap().success());
}

/// Runs a test of this file in a process of its own, behind another command.
fn again(test: &str, words: &[&str]) {
    let own = std::env::current_exe().unwrap();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).arg(own).args(["--exact", test, "--nocapture"]);
    let output = command.env("SONDE_TEST_OUTER", std::process::id().to_string()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}\n{errors}");
}

/// The pid of the test that started this one behind another command.
fn outer() -> Option<String> {
    std::env::var("SONDE_TEST_OUTER").ok()
}

#[test]
fn a_controller_in_a_pid_namespace_counts_as_its_own_proc_does() {
    need_kernel!();
    if outer().is_none() {
        let name = "who::a_controller_in_a_pid_namespace_counts_as_its_own_proc_does";
        let sink = load::Sink::start();
        let done = AtomicBool::new(false);
        return std::thread::scope(|scope| {
            scope.spawn(|| {
                // It ends by itself, too, should the test inside fail.
                for _ in 0..1000 {
                    if done.load(Ordering::Acquire) {
                        break;
                    }
                    load::connect(sink.address(0), &load::hello("stranger.sonde.test"));
                    std::thread::sleep(Duration::from_millis(20));
                }
            });
            again(name, &["unshare", "--pid", "--fork", "--mount-proc"]);
            done.store(true, Ordering::Release);
        });
    }
    let place = Anywhere::start();
    let mut sender = place.sender();
    let mut watcher = Watcher::start(&Config::default());
    assert!(sender.pid() < 1000, "a namespace of its own");
    done(&mut sender, "hello inside.sonde.test");
    assert_eq!(hello(&mut watcher, "inside.sonde.test").0, identity(sender.pid()));
    // And one namespace further in.
    let mut deeper = place.sender_behind(&["unshare", "--pid", "--fork", "--mount-proc"]);
    done(&mut deeper, "hello deeper.sonde.test");
    let (process, caller, _) = hello(&mut watcher, "deeper.sonde.test");
    assert_eq!(process, identity(process.pid));
    assert_eq!(caller.parent.map(|parent| parent.pid), Some(deeper.pid()));
    // The process outside that connects all the time is none here; that is counted.
    let end = Instant::now() + Duration::from_secs(10);
    while watcher.capture.lost().strangers == 0 {
        assert!(Instant::now() < end, "no stranger was counted");
        watcher.settle(Duration::from_millis(20));
    }
    assert!(hellos(&watcher.events, "stranger.sonde.test").is_empty());
}

#[test]
fn without_a_mount_of_cgroups_one_is_made_that_nobody_sees() {
    need_kernel!();
    if outer().is_none() {
        let name = "who::without_a_mount_of_cgroups_one_is_made_that_nobody_sees";
        let hide = "umount -a -t cgroup2; exec \"$@\"";
        return again(name, &["unshare", "--mount", "sh", "-c", hide, "sh"]);
    }
    let place = Anywhere::start();
    let mut sender = place.sender();
    let mounts = || std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let before = mounts();
    assert!(!before.contains(" - cgroup2 "));
    let mut watcher = Watcher::start(&Config::default());
    let fact = watcher.capture.facts().iter().find(|fact| fact.name == "hello").unwrap();
    assert!(fact.standing == Standing::Good && fact.found.contains("alone"), "{fact:?}");
    assert_eq!(mounts(), before);
    done(&mut sender, "hello hidden.sonde.test");
    assert_eq!(hello(&mut watcher, "hidden.sonde.test").0, identity(sender.pid()));
}

#[test]
fn from_a_cgroup_namespace_the_whole_node_is_seen() {
    need_kernel!();
    if outer().is_none() {
        let cgroup = Cgroup::make();
        let name = "who::from_a_cgroup_namespace_the_whole_node_is_seen";
        let (at, _) = cgroup.path.rsplit_once('/').unwrap();
        let enter = format!(
            "echo $$ > {}/cgroup.procs; exec unshare --cgroup --mount sh -c \
             'umount -a -t cgroup2; mount -t cgroup2 none {at}; \"$@\"' sh \"$@\"",
            cgroup.path
        );
        return again(name, &["sh", "-c", &enter, "sh"]);
    }
    // What is mounted here is the cgroup of this test alone; the sender leaves it.
    let place = Anywhere::start();
    let mut watcher = Watcher::start(&Config::default());
    let fact = watcher.capture.facts().iter().find(|fact| fact.name == "hello").unwrap();
    assert_eq!(fact.standing, Standing::Good, "{fact:?}");
    let leave = "echo $$ > $(awk '$3 == \"cgroup2\" {print $2; exit}' /proc/mounts)/cgroup.procs
        exec \"$@\"";
    let target = outer().unwrap_or_default();
    let mut sender = place.sender_behind(&[
        "nsenter", "--target", &target, "--cgroup", "--mount", "sh", "-c", leave, "sh",
    ]);
    done(&mut sender, "hello beside.sonde.test");
    assert_eq!(hello(&mut watcher, "beside.sonde.test").0, identity(sender.pid()));
}

#[test]
fn what_is_refused_is_a_fact_and_the_rest_goes_on() {
    need_kernel!();
    if outer().is_none() {
        let name = "who::what_is_refused_is_a_fact_and_the_rest_goes_on";
        let without = "--bounding-set=-net_admin,-sys_admin";
        return again(name, &["setpriv", without, "--inh-caps=-net_admin,-sys_admin"]);
    }
    let place = Anywhere::start();
    let mut sender = place.sender();
    let mut watcher = Watcher::start(&Config::default());
    for fact in watcher.capture.facts() {
        println!("{}: {:?}: {}; {}", fact.name, fact.standing, fact.found, fact.remedy);
        let refused = ["hello", "names"].contains(&fact.name);
        assert_eq!(
            refused,
            fact.standing == Standing::Limited && fact.remedy.contains("NET_ADMIN")
        );
    }
    sender.tell("child gone.sonde.test");
    let said = sender.hear();
    let child: u32 = said.strip_prefix("done ").unwrap().parse().unwrap();
    watcher
        .until("the child's end", |events| events.iter().any(|event| crate::exited(event, child)));
    assert!(hellos(&watcher.events, "gone.sonde.test").is_empty());
}

/// A cgroup in v2, gone at the end.
struct Cgroup {
    path: String,
}

impl Cgroup {
    fn make() -> Self {
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
        let root = mounts.lines().find(|line| line.contains(" cgroup2 ")).unwrap();
        let path = format!("{}/sonde-test-cgroup", root.split(' ').nth(1).unwrap());
        std::fs::create_dir_all(&path).unwrap();
        Self { path }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Its processes may take a moment to be gone.
        for _ in 0..100 {
            if std::fs::remove_dir(&self.path).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

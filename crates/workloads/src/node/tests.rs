//! Real processes, and trees of `/proc` made up for what this machine does not have.

use super::*;
use contract::workload::Platform;
use std::process::{Child, Command, Stdio};

/// A tree with one process, 42, whose files a test may change.
pub(super) struct Tree(pub(super) tempfile::TempDir);

impl Tree {
    pub(super) fn new(executable: &str, arguments: &[&str], cgroup: &str) -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        tree.write("etc/machine-id", "0123456789abcdef0123456789abcdef\n");
        tree.write("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n");
        tree.write("proc/uptime", "1000.00 500.00\n");
        tree.write("proc/sys/kernel/hostname", "node-1\n");
        tree.write("proc/sys/kernel/osrelease", "6.1.0\n");
        tree.write(
            "proc/42/stat",
            "42 (a) b) c) S 7 42 42 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 60000 0 0\n",
        );
        tree.write("proc/42/cmdline", &(arguments.join("\0") + "\0"));
        tree.write("proc/42/cgroup", &format!("0::{cgroup}\n"));
        std::os::unix::fs::symlink(executable, tree.0.path().join("proc/42/exe")).unwrap();
        std::os::unix::fs::symlink("/srv/app", tree.0.path().join("proc/42/cwd")).unwrap();
        tree
    }

    pub(super) fn write(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Process 7, above process 42 and outside of its container.
    pub(super) fn keeper(&self, executable: &str, arguments: &[&str]) {
        self.write("proc/7/stat", "7 (shim) S 1 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 50000 0 0\n");
        self.write("proc/7/cmdline", &(executable.to_owned() + "\0" + &arguments.join("\0")));
        self.write("proc/7/cgroup", "0::/system.slice/containerd.service\n");
        let link = self.0.path().join("proc/7/exe");
        if !link.is_symlink() {
            std::os::unix::fs::symlink(executable, link).unwrap();
        }
        fs::create_dir_all(self.0.path().join("proc/7/root")).unwrap();
    }

    pub(super) fn program(&self) -> Program {
        let now = UNIX_EPOCH + Duration::from_secs(10_000);
        Node::open(self.0.path(), now, "fallback").program(42).unwrap()
    }
}

/// Ends its process when the test does.
pub(super) struct Running(pub(super) Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

pub(super) fn this_node() -> Node {
    Node::open(Path::new("/"), UNIX_EPOCH + Duration::from_secs(1_700_000_000), "fallback")
}

/// Reads a child once it runs the program that it was started for.
pub(super) fn program_of(child: &Child, is_ready: impl Fn(&Program) -> bool) -> Program {
    // The kernel lets the parent go on before the new program has its arguments.
    let is_ready = |program: &Program| !program.instance.arguments.is_empty() && is_ready(program);
    let node = this_node();
    let deadline = 500;
    for _ in 0..deadline {
        if let Some(program) = node.program(child.id()).filter(is_ready) {
            return program;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("process {} did not become ready", child.id());
}

#[test]
fn another_boot_is_the_same_workload() {
    let tree = Tree::new("/usr/bin/agent", &["agent"], "/system.slice/agent.service");
    let before = tree.program();
    // The clock of the kernel, and so every start, begins anew.
    tree.write("proc/uptime", "60.00 30.00\n");
    tree.write("proc/42/stat", "42 (agent) S 1 42 42 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 3000 0 0\n");
    let after = tree.program();
    assert_ne!(before.start_ticks, after.start_ticks);
    assert_ne!(before.instance.started_unix_nanos, after.instance.started_unix_nanos);
    assert_eq!((before.key, before.name), (after.key, after.name));
}

#[test]
fn times_names_and_users_are_read() {
    let program =
        Tree::new("/usr/bin/agent (deleted)", &["agent", "--token", "abc"], "/").program();
    assert_eq!(program.start_ticks, 60_000);
    assert_eq!(program.instance.parent, 7);
    assert!(program.started_at(600_004_321_000) && !program.started_at(600_010_000_000));
    // Booted at 9 000 s, started 600 s after that.
    assert_eq!(program.instance.started_unix_nanos, 9_600_000_000_000);
    assert_eq!(program.instance.executable, "/usr/bin/agent");
    assert_eq!(program.instance.arguments, ["agent", "--token", "***"]);
    assert_eq!(program.name, "agent");
    assert!(program.key.0.starts_with("host-0123456789ab/process:agent-"), "{:?}", program.key);
}

#[test]
fn a_unit_is_the_key_and_the_owners_name_is_only_shown() {
    let tree = Tree::new("/usr/bin/agent", &["agent"], "/system.slice/bot.service");
    assert_eq!((tree.program().name.as_str(), tree.program().platform), ("bot", Platform::Systemd));
    tree.write(
        "proc/42/environ",
        "A=1\0OTEL_RESOURCE_ATTRIBUTES=deployment.environment=x,service.name=my%20bot\0",
    );
    assert_eq!(tree.program().name, "my bot");
    tree.write(
        "proc/42/environ",
        "OTEL_SERVICE_NAME=support\0OTEL_RESOURCE_ATTRIBUTES=service.name=other\0",
    );
    let program = tree.program();
    assert_eq!(
        (program.name.as_str(), program.key.0.as_str()),
        ("support", "host-0123456789ab/systemd:bot.service")
    );
}

#[test]
fn a_session_is_a_bare_process() {
    let program =
        Tree::new("/usr/bin/agent", &["agent"], "/user.slice/user-0.slice/session-3.scope")
            .program();
    assert_eq!(program.platform, Platform::Process);
    assert!(program.key.0.contains("/process:agent-"));
}

#[test]
fn a_container_has_its_name_where_dockers_file_says_it() {
    let id = "c".repeat(64);
    let tree = Tree::new("/usr/bin/agent", &["agent"], &format!("/docker/{id}"));
    // Its id is another one when it is made anew: the program has to do.
    assert!(tree.program().key.0.starts_with("host-0123456789ab/docker:agent-"));
    let file = format!("proc/7/root/var/lib/docker/containers/{id}/config.v2.json");
    tree.keeper("/usr/bin/containerd-shim-runc-v2", &["-namespace", "moby", "-id", &id]);
    tree.write(
        &file,
        r#"{"ID":"c","Name":"x","Config":{"Labels":{}},"Image":"i","Name":"/web-1","Driver":"o"}"#,
    );
    assert_eq!(tree.program().key.0, "host-0123456789ab/docker:web-1");
    tree.write(&file, r#"{"Config":{"Labels":{"com.docker.compose.project":"shop","com.docker.compose.service":"bot"}},"Name":"/shop-bot-1"}"#);
    assert_eq!(tree.program().key.0, "host-0123456789ab/docker:shop-bot");
}

#[test]
fn a_pod_is_known_by_its_uid() {
    let uid = "0a7c2d10-3b1c-4f7a-9d55-8c1f1f2f3a4b";
    let program = Tree::new(
        "/app/bot",
        &["bot"],
        &format!("/kubepods/burstable/pod{uid}/{}", "d".repeat(64)),
    )
    .program();
    assert_eq!(program.platform, Platform::Kubernetes);
    let key = &program.key.0;
    assert!(key.starts_with(&format!("host-0123456789ab/k8s:pod-{uid}/bot-")), "{key}");
    assert_eq!(program.instance.attributes.get("container.id"), Some(&"d".repeat(64)));
}

#[test]
fn a_program_with_a_like_name_is_no_runtime() {
    assert_eq!(
        Tree::new("/usr/bin/node_exporter", &["node_exporter"], "/").program().instance.runtime,
        None
    );
    assert_eq!(
        Tree::new("/usr/bin/pythonista", &["pythonista"], "/").program().instance.runtime,
        None
    );
}

#[test]
fn an_interpreter_without_its_lock_has_a_version_like_every_other() {
    let tree = Tree::new("/usr/bin/python3.99t", &["python3.99t", "bot.py"], "/");
    let runtime = tree.program().instance.runtime.unwrap();
    assert_eq!((runtime.name.as_str(), runtime.version.as_deref()), ("cpython", Some("3.99")));
    // A name that only looks like one is none.
    let other = Tree::new("/usr/bin/pythont", &["pythont"], "/");
    assert_eq!(other.program().instance.runtime, None);
}

#[test]
fn the_virtual_environment_says_the_whole_version() {
    let tree = Tree::new("/usr/bin/python3.99", &["/venv/bin/python", "bot.py"], "/");
    let runtime = tree.program().instance.runtime.unwrap();
    assert_eq!((runtime.name.as_str(), runtime.version.as_deref()), ("cpython", Some("3.99")));
    tree.write("proc/42/root/venv/pyvenv.cfg", "home = /usr/bin\nversion = 3.99.2\n");
    assert_eq!(tree.program().instance.runtime.unwrap().version.as_deref(), Some("3.99.2"));
    assert_eq!(tree.program().name, "bot.py");
}

#[test]
fn mapped_libraries_are_named() {
    let tree = Tree::new("/usr/bin/agent", &["agent"], "/");
    assert_eq!(tree.program().instance.tls, None);
    tree.write("proc/42/maps", "7f00-7f01 r-xp 0 08:01 1     /usr/lib/libssl.so.3 (deleted)\n7f02-7f03 r-xp 0 08:01 2 /usr/lib/libcrypto.so.3\n");
    assert_eq!(tree.program().instance.tls.as_deref(), Some("libssl.so.3"));
}

#[test]
fn a_node_without_a_machine_id_has_the_fallback() {
    let tree = Tree::new("/usr/bin/agent", &["agent"], "/");
    tree.write("etc/machine-id", "uninitialized\n");
    assert!(tree.program().key.0.starts_with("host-fallback/"));
}

#[test]
fn strange_files_never_panic() {
    let tree = Tree::new("/usr/bin/agent", &["agent"], "/");
    for text in ["", ")", "42 (a", "42 (a) S", "42 (é) S x x x"] {
        tree.write("proc/42/stat", text);
        let node = Node::open(tree.0.path(), UNIX_EPOCH, "f");
        assert_eq!(node.program(42), None, "{text:?}");
    }
}

#[test]
fn a_real_python_is_recognised() {
    let script = tempfile::Builder::new().suffix(".py").tempfile().unwrap();
    fs::write(
        script.path(),
        "import ssl, sys\nprint(sys.version.split()[0], flush=True)\nsys.stdin.read()\n",
    )
    .unwrap();
    let mut child = Running(
        Command::new("python3")
            .arg(script.path())
            .args(["--api-key", "sk-abcdefghijklmnop"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut version = String::new();
    io::BufRead::read_line(&mut io::BufReader::new(child.0.stdout.take().unwrap()), &mut version)
        .unwrap();
    let program = program_of(&child.0, |program| program.instance.tls.is_some());
    let runtime = program.instance.runtime.clone().unwrap();
    assert_eq!(runtime.name, "cpython");
    assert!(
        version.trim().starts_with(runtime.version.as_deref().unwrap()),
        "{version} {runtime:?}"
    );
    assert_eq!(program.name, script.path().file_name().unwrap().to_str().unwrap());
    assert_eq!(program.instance.arguments.last().unwrap(), "***");
    // The version is the one that the file itself says.
    let tls = program.instance.tls.unwrap();
    assert!(
        tls.strip_prefix("libssl ").is_some_and(|version| version.starts_with(['1', '3'])),
        "{tls}"
    );
    assert_eq!(program.instance.coverage.unwrap().extent, contract::workload::Extent::Covered);
}

#[test]
fn a_program_that_ended_is_gone() {
    let mut child = Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    assert_eq!(this_node().program(child.id()), None);
    assert_eq!(this_node().program(2), None, "a kernel thread is no program");
}

//! Programs that mean ill, and programs that are not what they are called. Lines of the list of
//! weaknesses that these answer stand with the tests.

use super::tests::{Running, Tree, program_of, this_node};
use super::*;
use contract::workload::{Extent, Platform};
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

/// Everything about a program that is shown or sent.
fn texts(program: &Program) -> Vec<String> {
    let mut texts = vec![program.key.0.clone(), program.name.clone()];
    let instance = &program.instance;
    texts.extend([instance.executable.clone(), instance.directory.clone(), instance.user.clone()]);
    for attributes in [&program.attributes, &instance.attributes] {
        texts.extend(attributes.iter().flat_map(|(name, value)| [name.clone(), value.clone()]));
    }
    texts
}

#[test]
fn names_arguments_and_paths_of_any_kind_are_cleaned_and_bounded() {
    let long = "x".repeat(200_000);
    let cgroups = [
        "/system.slice/\u{1b}[31mred\u{202e}<script>.service".to_owned(),
        format!("/system.slice/{long}.service"),
        format!("/{}", "a/".repeat(20_000)),
        format!("/docker/{A}/../../{B}"),
        "/kubepods/pod../../../etc".to_owned(),
    ];
    for cgroup in &cgroups {
        let tree = Tree::new("/usr/bin/<b>agent\u{7}", &["a\u{1b}]0;x\u{7}", &long], cgroup);
        let raw = [b"agent\0\xff\xfe\0".as_slice(), &[b'y'; 300_000]].concat();
        fs::write(tree.0.path().join("proc/42/cmdline"), raw).unwrap();
        tree.write("proc/42/environ", &format!("OTEL_SERVICE_NAME=\u{1b}[1m<img>{long}\0"));
        let program = tree.program();
        for text in texts(&program) {
            assert!(text.chars().all(process::is_shown), "{text:?}");
            assert!(text.chars().count() <= 4_096, "{} characters", text.chars().count());
        }
        assert!(program.key.0.chars().count() <= 512 && program.name.chars().count() <= 128);
        let shown: usize = program.instance.arguments.iter().map(String::len).sum();
        assert!(shown < 64 << 10, "{shown} bytes of arguments");
    }
}

#[test]
fn no_file_of_a_program_leads_out_of_its_root() {
    let tree = Tree::new("/usr/bin/python3.99", &["/venv/bin/python", "bot.py"], "/");
    let root = tree.0.path().join("proc/42/root");
    fs::create_dir_all(root.join("venv")).unwrap();
    tree.write("secret.cfg", "version = 3.99.7\n");
    let version = || tree.program().instance.runtime.unwrap().version;
    for link in ["../../../../secret.cfg", tree.0.path().join("secret.cfg").to_str().unwrap()] {
        symlink(link, root.join("venv/pyvenv.cfg")).unwrap();
        assert_eq!(version().as_deref(), Some("3.99"), "{link}");
        fs::remove_file(root.join("venv/pyvenv.cfg")).unwrap();
    }
    // A pipe would hold us up for ever.
    assert!(Command::new("mkfifo").arg(root.join("venv/pyvenv.cfg")).status().unwrap().success());
    assert_eq!(version().as_deref(), Some("3.99"));
    fs::remove_file(root.join("venv/pyvenv.cfg")).unwrap();
    // What is too large is cut, not read.
    tree.write("proc/42/root/venv/pyvenv.cfg", &("#".repeat(32 << 10) + "\nversion = 3.99.7\n"));
    assert_eq!(version().as_deref(), Some("3.99"));
}

/// Weakness 14 and 15, from inside: a container that calls itself like another one.
#[test]
fn a_container_cannot_take_the_name_of_another() {
    let tree = Tree::new("/usr/bin/agent", &["agent"], &format!("/docker/{A}/docker/{B}"));
    // The process above stands in the same container, and lies.
    tree.keeper("/usr/bin/containerd-shim-runc-v2", &["-namespace", "moby", "-id", B]);
    tree.write("proc/7/cgroup", &format!("0::/docker/{A}\n"));
    let forged = r#"{"Name":"/prod-db","Config":{"Labels":{}}}"#;
    tree.write(&format!("proc/7/root/var/lib/docker/containers/{B}/config.v2.json"), forged);
    let key = tree.program().key.0;
    assert_eq!(
        key, "host-0123456789ab/docker:aaaaaaaaaaaa/prod-db",
        "its own, behind its container"
    );
}

#[test]
fn a_user_who_calls_a_program_like_a_runtime_names_nothing_but_their_own() {
    // Podman without cgroups: only the monitor above says that this is a container.
    let tree = Tree::new("/usr/bin/agent", &["agent"], "/");
    tree.keeper("/usr/bin/conmon", &["-c", A, "-n", "prod-db"]);
    tree.write("proc/7/status", "Uid:\t0\t0\t0\t0\n");
    assert_eq!(tree.program().key.0, "host-0123456789ab/podman:prod-db");
    tree.write("proc/7/status", "Uid:\t1000\t1000\t1000\t1000\n");
    assert_eq!(tree.program().key.0, "host-0123456789ab/podman:user-1000/prod-db");
}

/// Weakness 18: a container by cgroup v2 and systemd's driver is no host process.
#[test]
fn every_layout_of_cgroups_is_a_container() {
    for cgroup in [
        format!("/system.slice/docker-{A}.scope"),
        format!("/machine.slice/libpod-{A}.scope"),
        format!("/system.slice/nerdctl-{A}.scope"),
        format!("/default/{A}"),
    ] {
        let program = Tree::new("/usr/bin/agent", &["agent"], &cgroup).program();
        assert_eq!(program.platform, Platform::Docker, "{cgroup}");
        assert_eq!(program.instance.attributes["container.id"], A, "{cgroup}");
    }
}

/// Weakness 23: engines without a socket are named by what watches over their containers.
#[test]
fn podman_and_nerdctl_are_named_by_what_watches_over_their_containers() {
    let tree = Tree::new("/usr/bin/agent", &["agent"], &format!("/machine.slice/libpod-{A}.scope"));
    tree.keeper("/usr/bin/conmon", &["--api-version", "1", "-c", A, "-n", "web", "-b", "/none"]);
    let program = tree.program();
    assert_eq!(
        (program.key.0.as_str(), program.name.as_str()),
        ("host-0123456789ab/podman:web", "web")
    );
    assert_eq!(program.attributes["container.runtime.name"], "podman");

    let tree = Tree::new("/usr/bin/agent", &["agent"], &format!("/system.slice/nerdctl-{A}.scope"));
    tree.keeper("/usr/bin/containerd-shim-runc-v2", &["-namespace", "default", "-id", A]);
    let bundle =
        format!("proc/7/root/run/containerd/io.containerd.runtime.v2.task/default/{A}/config.json");
    tree.write(&bundle, r#"{"ociVersion":"1.0","annotations":{"nerdctl/name":"chat"}}"#);
    assert_eq!(tree.program().key.0, "host-0123456789ab/containerd:chat");

    // A pod whose API server cannot be asked.
    let pod = "0a7c2d10-3b1c-4f7a-9d55-8c1f1f2f3a4b";
    let tree = Tree::new("/usr/bin/agent", &["agent"], &format!("/kubepods/pod{pod}/{A}"));
    tree.keeper("/usr/bin/containerd-shim-runc-v2", &["-namespace", "k8s.io", "-id", B]);
    let bundle =
        format!("proc/7/root/run/containerd/io.containerd.runtime.v2.task/k8s.io/{A}/config.json");
    tree.write(&bundle, &format!(r#"{{"annotations":{{"io.kubernetes.cri.container-name":"app",
        "io.kubernetes.cri.sandbox-name":"web-7d4b9c6f5d-x2x4z","io.kubernetes.cri.sandbox-namespace":"shop",
        "io.kubernetes.cri.sandbox-uid":"{pod}","io.kubernetes.cri.image-name":"web:1"}}}}"#));
    let program = tree.program();
    assert_eq!(
        (program.key.0.as_str(), program.name.as_str()),
        ("host-0123456789ab/k8s:shop:web:app", "web")
    );
}

/// Weakness 17: the deepest unit, never the manager or the runtime around it.
#[test]
fn the_manager_of_a_user_and_the_runtime_of_pods_are_no_workloads() {
    let user = "/user.slice/user-1000.slice/user@1000.service";
    let key = |cgroup: &str| Tree::new("/usr/bin/agent", &["agent"], cgroup).program().key.0;
    assert!(
        key(&format!("{user}/app.slice/app-gnome-agent-4242.scope")).contains("/process:agent-")
    );
    assert_eq!(
        key(&format!("{user}/app.slice/bot.service")),
        "host-0123456789ab/systemd:user-1000/bot.service"
    );
    let pod = "0a7c2d10_3b1c_4f7a_9d55_8c1f1f2f3a4b";
    let in_unit = format!(
        "/system.slice/containerd.service/kubepods-burstable-pod{pod}.slice:cri-containerd:{A}"
    );
    assert!(key(&in_unit).contains("/k8s:pod-0a7c2d10-"));
    // A unit that is a container keeps both facts.
    let quadlet = format!("/system.slice/web.service/libpod-payload-{A}");
    let program = Tree::new("/usr/bin/agent", &["agent"], &quadlet).program();
    assert_eq!(
        (program.platform, program.attributes["systemd.unit"].as_str()),
        (Platform::Docker, "web.service")
    );
}

#[test]
fn the_user_is_the_nodes_and_not_a_namespaces() {
    let tree = Tree::new("/usr/bin/agent", &["agent"], "/");
    tree.write("etc/passwd", "root:x:0:0::/:\nada:x:1000:1000::/:\n");
    tree.write("proc/42/status", "Name:\tagent\nUid:\t0\t1000\t0\t0\n");
    assert_eq!(tree.program().instance.user, "ada");
    // The names of the node mean nothing in a container.
    tree.write("proc/42/cgroup", &format!("0::/docker/{A}\n"));
    assert_eq!(tree.program().instance.user, "1000");
}

/// Copies a program that is to be run. Not in this process: what other tests start at that moment
/// would hold the file open for writing, and it could not be run (ETXTBSY, execve(2)).
fn copy_program(from: &str, to: &Path) {
    let copied = Command::new("cp").arg(from).arg(to).status().unwrap();
    assert!(copied.success(), "cannot copy {from}");
}

/// Weakness 19: a runtime is what a program is, not what it or its arguments are called.
#[test]
fn programs_that_are_called_like_runtimes_are_not_them() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["node_exporter", "python3-exporter", "java"] {
        let path = directory.path().join(name);
        copy_program("/bin/sleep", &path);
        let child = Running(Command::new(&path).arg("60").spawn().unwrap());
        let program = program_of(&child.0, |program| program.instance.executable.ends_with(name));
        let runtime = program.instance.runtime.unwrap();
        assert!(matches!(runtime.name.as_str(), "c" | "c++" | "rust"), "{name}: {runtime:?}");
        assert_eq!(program.name, name);
        assert_eq!(program.instance.coverage.unwrap().extent, Extent::NotYet);
    }
    // This test is a program in Rust, whatever is said on its command line.
    let own = this_node().program(std::process::id()).unwrap();
    assert_eq!(own.instance.runtime.unwrap().name, "rust");
}

/// Weaknesses 19 and 20: Node under another name is Node, and its program has a name.
#[test]
fn a_real_node_is_recognised_under_any_name() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new("node");
    let command = command.args(["-p", "process.execPath + ' ' + process.versions.node"]);
    let mut found = found_output(command);
    found.truncate(found.trim_end().len());
    let (path, version) = found.rsplit_once(' ').unwrap();
    let renamed = directory.path().join("agent-runtime");
    // A link of the same file where that is possible: it is large.
    if fs::hard_link(path, &renamed).is_err() {
        copy_program(path, &renamed);
    }
    fs::write(directory.path().join("package.json"), r#"{"name": "helper-bot"}"#).unwrap();
    fs::write(directory.path().join("index.js"), "process.stdin.resume()").unwrap();
    for program in [Path::new(path), &renamed] {
        let child = Command::new(program)
            .arg("index.js")
            .current_dir(directory.path())
            .stdin(Stdio::piped())
            .spawn();
        let child = Running(child.unwrap());
        let program = program_of(&child.0, |program| program.instance.runtime.is_some());
        let runtime = program.instance.runtime.unwrap();
        assert_eq!((runtime.name.as_str(), runtime.version.as_deref()), ("nodejs", Some(version)));
        assert_eq!(program.name, "helper-bot");
        assert_eq!(program.instance.coverage.unwrap().extent, Extent::Covered);
    }
}

fn found_output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

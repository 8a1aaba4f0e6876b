//! Paths as they stand on real nodes.

use super::*;

const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
const POD: &str = "0a7c2d10-3b1c-4f7a-9d55-8c1f1f2f3a4b";
const POD_: &str = "0a7c2d10_3b1c_4f7a_9d55_8c1f1f2f3a4b";

/// The path, its containers, its pod.
type Row = (String, Vec<(&'static str, Option<Engine>)>, Option<&'static str>);

fn assert_read((path, containers, pod): Row) {
    let cgroup = read(std::slice::from_ref(&path));
    let found: Vec<_> = cgroup.containers.iter().map(|c| (c.id.as_str(), c.engine)).collect();
    assert_eq!((found, cgroup.pod.as_deref()), (containers, pod), "{path}");
}

#[test]
fn containers_are_found_in_the_paths_of_every_runtime() {
    let docker = Some(Engine::Docker);
    let podman = Some(Engine::Podman);
    let containerd = Some(Engine::Containerd);
    let user = "/user.slice/user-1000.slice/user@1000.service";
    let rows: [Row; 19] = [
        (format!("/docker/{A}"), vec![(A, docker)], None),
        (format!("/system.slice/docker-{A}.scope"), vec![(A, docker)], None),
        (format!("/system.slice/docker-{A}.scope/init"), vec![(A, docker)], None),
        (
            format!("/system.slice/docker-{A}.scope/system.slice/web.service"),
            vec![(A, docker)],
            None,
        ),
        (format!("/machine.slice/libpod-{A}.scope"), vec![(A, podman)], None),
        (format!("/machine.slice/libpod-{A}.scope/container"), vec![(A, podman)], None),
        (format!("/libpod_parent/libpod-{A}"), vec![(A, podman)], None),
        (format!("/system.slice/web.service/libpod-payload-{A}"), vec![(A, podman)], None),
        (format!("{user}/user.slice/libpod-{A}.scope"), vec![(A, podman)], None),
        (format!("/system.slice/nerdctl-{A}.scope"), vec![(A, containerd)], None),
        (format!("/system.slice:nerdctl:{A}"), vec![(A, containerd)], None),
        (format!("/default/{A}"), vec![(A, None)], None),
        (format!("/ecs/0123456789abcdef/{A}"), vec![(A, None)], None),
        (format!("/actions_job/{A}"), vec![(A, None)], None),
        // Monitors stand outside of their containers.
        (format!("/machine.slice/libpod-conmon-{A}.scope"), vec![], None),
        (format!("/system.slice/crio-conmon-{A}.scope"), vec![], None),
        // Docker in Docker, and its build daemon.
        (format!("/docker/{A}/docker/{B}"), vec![(A, docker), (B, docker)], None),
        (format!("/docker/{A}/docker/buildkit/x1y2z3"), vec![(A, docker)], None),
        ("/docker/buildx".to_owned(), vec![], None),
    ];
    rows.into_iter().for_each(assert_read);
}

#[test]
fn pods_are_found_with_either_driver_and_every_runtime() {
    let containerd = Some(Engine::Containerd);
    let crio = Some(Engine::CriO);
    let docker = Some(Engine::Docker);
    let slice = "/kubepods.slice/kubepods-besteffort.slice";
    let pod_slice = format!("{slice}/kubepods-besteffort-pod{POD_}.slice");
    let kind = "kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice";
    let rows: [Row; 12] = [
        (format!("/kubepods/burstable/pod{POD}/{A}"), vec![(A, None)], Some(POD)),
        (format!("/kubepods/pod{POD}/{A}"), vec![(A, None)], Some(POD)),
        (format!("{pod_slice}/cri-containerd-{A}.scope"), vec![(A, containerd)], Some(POD)),
        (
            format!("/kubepods.slice/kubepods-pod{POD_}.slice/cri-containerd-{A}.scope"),
            vec![(A, containerd)],
            Some(POD),
        ),
        (format!("{pod_slice}/crio-{A}.scope"), vec![(A, crio)], Some(POD)),
        (format!("{pod_slice}/crio-{A}.scope/container"), vec![(A, crio)], Some(POD)),
        (format!("{pod_slice}/docker-{A}.scope"), vec![(A, docker)], Some(POD)),
        (
            format!(
                "/system.slice/containerd.service/kubepods-burstable-pod{POD_}.slice:cri-containerd:{A}"
            ),
            vec![(A, containerd)],
            Some(POD),
        ),
        // kind: a node that is a container, on cgroup v1 and on v2.
        (
            format!("/docker/{A}/kubelet/kubepods/besteffort/pod{POD}/{B}"),
            vec![(A, docker), (B, None)],
            Some(POD),
        ),
        (
            format!(
                "/system.slice/docker-{A}.scope/{kind}/kubelet-kubepods-besteffort-pod{POD_}.slice/cri-containerd-{B}.scope"
            ),
            vec![(A, docker), (B, containerd)],
            Some(POD),
        ),
        // As a controller in a pod of its own sees others.
        (format!("/../../pod{POD}/{A}"), vec![(A, None)], Some(POD)),
        // A static pod's uid is a hash.
        (
            format!("/kubepods/burstable/pod{}/{A}", &A[..32]),
            vec![(A, None)],
            Some("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
        ),
    ];
    rows.into_iter().for_each(assert_read);
    assert_read((format!("/../cri-containerd-{A}.scope"), vec![(A, containerd)], None));
}

#[test]
fn the_hierarchy_that_says_most_counts() {
    let lines = |text: &[&str]| text.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
    // Hybrid: the processes of a container stand at the root of the v2 hierarchy.
    let hybrid = lines(&["/", &format!("/docker/{A}"), "/"]);
    assert_eq!(read(&hybrid).containers[0].id, A);
    let units = lines(&["/", "/user.slice", "/system.slice/agent.service"]);
    assert_eq!(read(&units).unit.unwrap().name, "agent.service");
    assert_eq!(read(&lines(&["/"])), Cgroup::default());
    assert_eq!(read(&[]), Cgroup::default());
}

#[test]
fn the_deepest_unit_counts_and_says_whose_manager_runs_it() {
    let unit = |path: &str| read(&[path.to_owned()]).unit.map(|unit| (unit.name, unit.manager));
    let is = |name: &str, manager| Some((name.to_owned(), manager));
    assert_eq!(unit("/system.slice/agent.service"), is("agent.service", None));
    assert_eq!(unit("/system.slice/system-a.slice/a@1.service"), is("a@1.service", None));
    let user = "/user.slice/user-1000.slice/user@1000.service";
    assert_eq!(unit(&format!("{user}/app.slice/bot.service")), is("bot.service", Some(1000)));
    assert_eq!(unit(&format!("{user}/init.scope")), is("init.scope", Some(1000)));
    assert_eq!(unit("/user.slice/user-0.slice/session-3.scope"), is("session-3.scope", None));
    // A unit inside of a container, and a container inside of a unit.
    assert_eq!(unit(&format!("/docker/{A}/system.slice/web.service")), is("web.service", None));
    let quadlet = format!("/system.slice/web.service/libpod-payload-{A}");
    assert_eq!(unit(&quadlet), is("web.service", None));
    assert_eq!(unit("/system.slice"), None);
}

#[test]
fn system_containers_have_units_of_their_own() {
    let machine = |path: &str| {
        let cgroup = read(&[path.to_owned()]);
        (cgroup.machine.map(|m| (m.runtime, m.name)), cgroup.unit.map(|unit| unit.name))
    };
    let web = Some("web.service".to_owned());
    assert_eq!(
        machine("/lxc.payload.c1/system.slice/web.service"),
        (Some(("lxc", "c1".to_owned())), web.clone())
    );
    assert_eq!(
        machine("/machine.slice/machine-my\\x2dbox.scope/payload/system.slice/web.service"),
        (Some(("systemd-nspawn", "my-box".to_owned())), web)
    );
    assert_eq!(
        machine("/machine.slice/systemd-nspawn@box.service/payload"),
        (Some(("systemd-nspawn", "box".to_owned())), None)
    );
    assert_eq!(machine("/machine.slice/machine-qemu\\x2d1\\x2dvm.scope").0, None);
    assert_eq!(machine("/lxc.monitor.c1").0, None);
}

#[test]
fn what_is_below_a_users_slice_is_theirs() {
    let user = |path: &str| read(&[path.to_owned()]).user;
    let of_user = "/user.slice/user-1000.slice/user@1000.service";
    assert_eq!(user(&format!("{of_user}/docker-{A}.scope")), Some(1000));
    let of_root = "/user.slice/user-0.slice/session-1.scope";
    assert_eq!(user(&format!("{of_root}/libpod_parent/libpod-{A}")), None);
    assert_eq!(user(&format!("/docker/{A}")), None);
}

#[test]
fn strange_paths_say_nothing_and_never_panic() {
    let long = "x".repeat(1 << 16);
    for path in [
        "",
        "/",
        "//",
        "/../../..",
        "é",
        &long,
        "/pod",
        "/kubepods-pod.slice",
        ":::",
        "/docker/",
        "/-",
        "\\x",
        "/user-99999999999.slice",
        "/user@.service",
        "/docker/\u{1b}[31m",
        "/machine-.scope",
    ] {
        let cgroup = read(&[path.to_owned()]);
        let is_empty = cgroup.containers.is_empty() && cgroup.pod.is_none();
        assert!(is_empty && cgroup.user.is_none() && cgroup.machine.is_none(), "{path:?}");
    }
    let deep = format!("/{A}").repeat(1_000);
    assert!(read(&[deep]).containers.len() <= MAX_PARTS);
    assert_eq!(unescaped("a\\x2db\\xzz\\x"), "a-b\\xzz\\x");
}

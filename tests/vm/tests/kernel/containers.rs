//! Containers before their runtime is a real one: born under the base policy, bound by the daemon, never in between.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use enforcer_containers::container::Container;
use enforcer_containers::wire::{self, Bind, Reply, Request};
use enforcer_vm_tests::actor::{self, Actor, Place, installed, op, program};
use enforcer_vm_tests::cgroup::Cgroup;
use enforcer_vm_tests::enforcer::{self, Enforcer, SCRATCH, baseline_only};
use enforcer_vm_tests::policy::Policy;
use enforcer_vm_tests::scenario::copy_of_actor;
use enforcer_vm_tests::wait;

const PATIENCE: Duration = Duration::from_secs(60);

/// Where containers of these tests are made.
const ROOT: &str = "/enforcer-test/pod-*";

/// The base policy: nothing runs but the program that holds a pod's namespaces.
pub(crate) fn base() -> Policy {
    Policy::bare("base", "container-roots", ROOT).allow("exec.allow", &pause().to_string_lossy())
}

/// A policy for containers of this name.
pub(crate) fn named(name: &str) -> Policy {
    Policy::selecting(name, "container.name", name)
}

fn pause() -> PathBuf {
    let path = PathBuf::from(format!("{SCRATCH}/pause"));
    fs::create_dir_all(SCRATCH).unwrap();
    if path.exists() { path } else { copy_of_actor(&path) }
}

fn ask(cgroup: &str, name: &str) -> Reply {
    let container = Container { id: name.into(), name: Some(name.into()), ..Container::default() };
    let request = Request::Bind(Bind { cgroup: cgroup.into(), container });
    wire::ask(Path::new(wire::SOCKET), &request, PATIENCE).expect("the daemon answers")
}

pub(crate) fn bind(cgroup: &Cgroup, name: &str) {
    assert_eq!(ask(cgroup.path(), name), Reply::Bound { policy: name.into() });
}

fn refusal(reply: Reply) -> String {
    match reply {
        Reply::Refused { message } => message,
        other => panic!("no refusal: {other:?}"),
    }
}

/// Whether a program starts there.
fn starts(cgroup: &Cgroup, program: &Path) -> bool {
    match actor::status(Place::Joining(cgroup), program, &["true"]) {
        Ok(status) => {
            assert!(status.success(), "{status}");
            true
        }
        Err(error) => {
            assert_eq!(error.raw_os_error(), Some(libc::EPERM));
            false
        }
    }
}

#[test]
fn a_container_is_born_under_the_base_policy_and_leaves_it_when_it_is_bound() {
    let mut enforcer = Enforcer::ready();
    if baseline_only() {
        return;
    }
    let own = PathBuf::from(program());
    enforcer.apply(&[&base(), &named("web")]);
    let web = Cgroup::create("pod-web");
    let neighbour = Cgroup::create("pod-neighbour");
    let host = Cgroup::create("no-pod");
    let early = web.child("early");
    for cgroup in [&web, &neighbour, &early] {
        assert!(!starts(cgroup, &own), "{} is not held back", cgroup.path());
        assert!(starts(cgroup, &pause()), "the base policy allows it in {}", cgroup.path());
    }
    assert!(starts(&host, &own), "no container");
    bind(&web, "web");
    let late = web.child("late");
    for cgroup in [&web, &early, &late] {
        assert!(starts(cgroup, &own), "{} is not bound", cgroup.path());
        assert!(!starts(cgroup, &pause()), "{} is under the base policy still", cgroup.path());
    }
    assert!(!starts(&neighbour, &own), "the neighbour was not bound");
    // A reload that keeps the policy keeps the container; one without returns it.
    enforcer.apply(&[&base(), &named("web"), &named("other")]);
    assert!(starts(&late, &own), "after a reload");
    enforcer.apply(&[&base()]);
    assert!(!starts(&web, &own), "its policy is gone, so it is nobody's container");
    assert!(starts(&web, &pause()));
}

#[test]
fn who_is_not_admitted_stays_under_the_base_policy() {
    let mut enforcer = Enforcer::ready();
    if baseline_only() {
        return;
    }
    enforcer.apply(&[
        &base(),
        &named("web"),
        &named("db"),
        &Policy::selecting("path", "cgroup", "/enforcer-test/pod-path"),
    ]);
    let mark = enforcer.mark();
    let pod = Cgroup::create("pod-stranger");
    let message = refusal(ask(pod.path(), "stranger"));
    assert!(message.contains("no policy admits") && message.contains("stranger"), "{message}");
    assert!(!starts(&pod, Path::new(&program())));
    let message = refusal(ask("/", "web"));
    assert!(message.contains("no cgroup of the container's own"), "{message}");
    let message = refusal(ask("/enforcer-test/pod-none", "web"));
    assert!(message.contains("there is no cgroup"), "{message}");
    let by_path = Cgroup::create("pod-path");
    assert_eq!(ask(by_path.path(), "web"), Reply::Bound { policy: "path".into() }, "a path says more");
    bind(&pod, "web");
    let message = refusal(ask(pod.path(), "db"));
    assert!(message.contains("bound to the policy `web` already"), "{message}");
    let expected = ["refused", "refused", "refused", "bound", "bound", "refused"];
    // The daemon looks for strays once the policies have come, and may see a task of this test between its entry and its end.
    let results = wait::until("an event for each request", wait::SOON, || {
        let events = enforcer.log().containers_since(mark);
        let results = events.iter().map(|event| event.text("result").to_owned());
        let asked: Vec<_> = results.filter(|result| result != "unadmitted").collect();
        (asked.len() == expected.len()).then_some(asked)
    });
    assert_eq!(results, expected);
}

/// The cgroups of real runtimes, with either driver, on the host and within other containers.
#[test]
fn containers_of_every_runtime_are_born_under_the_base_policy() {
    let mut enforcer = Enforcer::ready();
    if baseline_only() {
        return;
    }
    let own = PathBuf::from(program());
    let id = "3f2a9c0d11".repeat(6);
    let kind = format!("docker-{id}.scope/kubelet.slice/kubelet-kubepods.slice");
    let born = [
        format!("kubepods.slice/kubepods-burstable.slice/kubepods-pod1.slice/cri-containerd-{id}.scope"),
        format!("kubepods/besteffort/pod1/{id}"),
        format!("k3s.service/kubepods/pod1/{id}"),
        format!(
            "system.slice/containerd.service/kubepods-pod1.slice:cri-containerd:{id}/cri-containerd-{id}.scope"
        ),
        format!("machine.slice/libpod-{id}.scope"),
        format!("machine.slice/libpod-{id}.scope/container"),
        format!("user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{id}.scope"),
        format!("libpod_parent/libpod-{id}"),
        format!("system.slice/docker-{id}.scope"),
        format!("docker/{id}"),
        format!("{kind}/kubelet-kubepods-pod1.slice/cri-containerd-{id}.scope"),
        format!("docker/{id}/kubelet/kubepods/pod1/{id}"),
        // systemd in a container, whose units have names, too.
        format!("machine.slice/libpod-{id}.scope/container/system.slice/web.service"),
        format!("crio-{id}.scope"),
    ];
    let not_born = [
        "system.slice/docker.service".to_owned(),
        format!("machine.slice/libpod-conmon-{id}.scope"),
        "kubepods.slice".to_owned(),
        format!("system.slice/xdocker-{id}.scope"),
    ];
    let base = Policy::bare("base", "container-roots", ROOT).allow("exec.allow", &pause().to_string_lossy());
    let named = ["kubernetes", "podman", "docker", "containerd", "cri-o"];
    let text = base.to_toml().replace(&format!("\"{ROOT}\""), &format!("{named:?}"));
    let file = PathBuf::from(format!("{SCRATCH}/every-runtime.toml"));
    fs::write(&file, text).unwrap();
    let admitted = self::named("node");
    enforcer.apply_files(&[file, enforcer::write_policy(&admitted)]);
    let check = |path: &str, is_container: bool| {
        let (first, rest) = path.split_once('/').unwrap_or((path, ""));
        // With all that is below it, it goes when this is dropped.
        let outermost = Cgroup::create(first);
        let inner = (!rest.is_empty()).then(|| outermost.child(rest));
        let cgroup = inner.as_ref().unwrap_or(&outermost);
        assert_eq!(starts(cgroup, &own), !is_container, "{path}");
        assert!(!is_container || starts(cgroup, &pause()), "{path}: the base policy allows it");
    };
    born.iter().for_each(|path| check(path, true));
    not_born.iter().for_each(|path| check(path, false));
    // Within a container that was admitted, whatever is called a container or a unit is part of it.
    let node = Cgroup::create(&format!("docker-{id}.scope"));
    bind(&node, "node");
    for inner in ["kubelet.slice/kubelet-kubepods.slice/pod1", "system.slice/web.service"] {
        let inner = node.child(inner);
        assert!(starts(&inner, &own), "{} is not the node's", inner.path());
        assert!(!starts(&inner, &pause()), "{} is under the base policy", inner.path());
    }
}

/// A runtime is in the container's cgroup before the container is bound: what counts is what holds when its program starts.
#[test]
fn a_launcher_that_entered_before_is_under_the_container_s_policy() {
    let mut enforcer = Enforcer::ready();
    if baseline_only() {
        return;
    }
    enforcer.apply(&[&base(), &named("early")]);
    for (pod, bound) in [("pod-early", true), ("pod-never", false)] {
        let cgroup = Cgroup::create(pod);
        let gate = format!("{SCRATCH}/gate-{pod}");
        let _ = fs::remove_file(&gate);
        nix::unistd::mkfifo(gate.as_str(), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let child = Command::new(installed("launcher"))
            .arg(cgroup.directory())
            .args(["--touch", &gate, "--", &program(), "open-read", &gate])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It waits at the gate until somebody reads.
        let inside = || fs::read_to_string(cgroup.directory().join("cgroup.procs")).unwrap();
        wait::until("the launcher to enter", wait::SOON, || (!inside().is_empty()).then_some(()));
        if bound {
            bind(&cgroup, "early");
        }
        drop(File::open(&gate).unwrap());
        let output = child.wait_with_output().unwrap();
        let expected = if bound { 1 } else { 73 };
        assert_eq!(output.status.code(), Some(expected), "{pod}: {output:?}");
    }
}

/// The socket is root's, and root in a container is not root.
#[test]
fn a_task_under_a_policy_cannot_ask() {
    let mut enforcer = Enforcer::ready();
    if baseline_only() {
        return;
    }
    let hook = installed("enforcer-oci-hook");
    let inside = Cgroup::create("asking");
    let victim = Cgroup::create("pod-victim");
    let strict = Policy::of("asking", &inside).allow("exec.allow", &hook.to_string_lossy());
    let strict = strict.allow("file.read", "/proc/**").allow("file.read", "/sys/fs/cgroup/**");
    let lax = strict.clone().allow("network.connect", &format!("unix {}", wire::SOCKET));
    let ask_from = |place: Place<'_>| -> Output {
        let mut child = actor::command(place, &hook)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut resident = Command::new(program());
        let mut resident =
            resident.arg("script").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let state = format!("{{\"id\":\"pod-victim\",\"pid\":{},\"bundle\":\"/\"}}", resident.id());
        victim.adopt(resident.id());
        child.stdin.take().unwrap().write_all(state.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        drop(resident.stdin.take());
        resident.wait().unwrap();
        output
    };
    let pod = named("pod-victim");
    for (policy, said) in
        [(strict, "cannot reach the daemon"), (lax, "a task that is under a policy must not ask")]
    {
        enforcer.apply(&[&base(), &pod, &policy]);
        let output = ask_from(Place::Joining(&inside));
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(said), "{text}");
        assert!(!starts(&victim, Path::new(&program())), "the victim was bound");
    }
    let output = ask_from(Place::Host);
    assert!(output.status.success(), "the host may: {output:?}");
    assert!(starts(&victim, Path::new(&program())));
}

/// The daemon names the containers that nobody has admitted, but for those that do what their base policy is there for: when
/// it starts, and when policies come; each once.
#[test]
fn a_pod_s_sandbox_is_no_stray() {
    let mut enforcer = Enforcer::ready();
    if baseline_only() {
        return;
    }
    let resident = |cgroup: &Cgroup| {
        let program = pause().to_string_lossy().into_owned();
        let mut actor = Actor::start_as(Place::Joining(cgroup), &program).unwrap();
        assert!(!actor.perform(&["open-read", "/nowhere"]).ok);
        actor
    };
    enforcer.apply(&[]);
    let stray = Cgroup::create("pod-stray");
    let _before = resident(&stray);
    let mark = enforcer.mark();
    enforcer.apply(&[&base()]);
    let found = |enforcer: &Enforcer, mark| {
        let events = enforcer.log().containers_since(mark);
        let text = |event: &enforcer_vm_tests::events::Event| {
            (event.text("result").to_owned(), event.text("cgroup").to_owned())
        };
        events.iter().map(text).collect::<Vec<_>>()
    };
    let expected = [("unadmitted".to_owned(), stray.path().to_owned())];
    let at_once = wait::until("the stray to be named", wait::SOON, || {
        Some(found(&enforcer, mark)).filter(|found| !found.is_empty())
    });
    assert_eq!(at_once, expected);
    let sandbox = Cgroup::create("pod-sandbox");
    let _held = resident(&sandbox);
    let _empty = Cgroup::create("pod-empty");
    let mark = enforcer.mark();
    enforcer.kill_daemon();
    enforcer.start_daemon();
    enforcer.barrier();
    assert_eq!(found(&enforcer, mark), expected);
}

/// Without a daemon, and with one that hangs, the hook refuses in time.
#[test]
fn the_hook_refuses_without_an_answer() {
    let enforcer = Enforcer::ready();
    if baseline_only() {
        return;
    }
    let hook = |socket: &str| {
        let mut child = Command::new(installed("enforcer-oci-hook"))
            .args(["--timeout", "2", "--socket", socket])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let state = format!("{{\"id\":\"x\",\"pid\":{},\"bundle\":\"/\"}}", std::process::id());
        child.stdin.take().unwrap().write_all(state.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let nobody = hook(&format!("{SCRATCH}/nobody.sock"));
    assert_eq!(nobody.status.code(), Some(1));
    let path = format!("{SCRATCH}/hung.sock");
    let _ = fs::remove_file(&path);
    let _hung = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let output = hook(&path);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("did not answer"), "{said}");
    drop(enforcer);
}

/// A container that runs when its policy comes is armed at its next operation, like any other workload.
#[test]
fn a_container_that_runs_already_is_armed_when_it_is_bound() {
    let mut enforcer = Enforcer::ready();
    if baseline_only() {
        return;
    }
    let file = format!("{SCRATCH}/running-container");
    fs::write(&file, "secret").unwrap();
    // Outside every container root.
    let cgroup = Cgroup::create("running-container");
    enforcer.apply(&[&base(), &named("running")]);
    let mut actor = Actor::start(Place::Joining(&cgroup)).unwrap();
    assert!(actor.perform(&["open-read", &file]).ok);
    bind(&cgroup, "running");
    assert!(actor.perform(&op(&["open-read", &file])).refused());
    let mut content = String::new();
    File::open(&file).unwrap().read_to_string(&mut content).unwrap();
    assert_eq!(content, "secret", "the host may");
}

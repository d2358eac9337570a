//! Doors that a workload has no business at.

use std::os::fd::AsRawFd;

use enforcer_vm_tests::report::{At, Failure, Outcome};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{self, Pid};

use crate::system;

pub(crate) fn perform(name: &str, arguments: &[&str]) -> Option<Outcome> {
    Some(match (name, arguments) {
        ("mount-tmpfs", [at]) => {
            mount(Some("tmpfs"), *at, Some("tmpfs"), MsFlags::empty(), None::<&str>).at("mount").map(nothing)
        }
        ("bind-mount", [from, at]) => {
            mount(Some(*from), *at, None::<&str>, MsFlags::MS_BIND, None::<&str>).at("mount").map(nothing)
        }
        ("remount", [at]) => {
            let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
            mount(None::<&str>, *at, None::<&str>, flags, None::<&str>).at("mount").map(nothing)
        }
        ("move-mount", [from, at]) => move_mount(from, at),
        ("umount", [at]) => umount2(*at, MntFlags::MNT_DETACH).at("umount2").map(nothing),
        ("chroot", [to]) => unistd::chroot(*to).at("chroot").map(nothing),
        ("pivot-root", [to, old]) => unistd::pivot_root(*to, *old).at("pivot_root").map(nothing),
        ("unshare-user", []) => unshare(CloneFlags::CLONE_NEWUSER).at("unshare").map(nothing),
        ("unshare-mount", []) => unshare(CloneFlags::CLONE_NEWNS).at("unshare").map(nothing),
        ("ptrace", [pid]) => trace(pid),
        ("write-memory", [pid, address]) => write_memory(pid, address),
        ("signal", [pid]) => pid_of(pid).and_then(|pid| kill(pid, Signal::SIGURG).at("kill").map(nothing)),
        ("bpf", []) => system::create_bpf_map().at("bpf").map(|_| String::new()),
        ("perf", []) => system::perf_event_open().at("perf_event_open").map(|_| String::new()),
        ("init-module", []) => load_module(),
        _ => return None,
    })
}

fn nothing((): ()) -> String {
    String::new()
}

fn pid_of(text: &str) -> Result<Pid, Failure> {
    text.parse().map(Pid::from_raw).map_err(|_| Failure { step: "pid".into(), errno: libc::EINVAL })
}

/// `open_tree` and `move_mount`: a bind mount that `mount(2)` never sees.
fn move_mount(from: &str, at: &str) -> Outcome {
    const OPEN_TREE_CLONE: u32 = 1;
    const MOVE_MOUNT_F_EMPTY_PATH: u32 = 4;
    let (from, at) = (system::c_string(from).at("path")?, system::c_string(at).at("path")?);
    // SAFETY: the name ends in NUL.
    let tree = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, from.as_ptr(), OPEN_TREE_CLONE) };
    let tree = system::descriptor(tree).at("open_tree")?;
    // SAFETY: both names end in NUL.
    let moved = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            at.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    };
    system::check(moved).at("move_mount").map(|_| String::new())
}

fn trace(pid: &str) -> Outcome {
    let pid = pid_of(pid)?;
    nix::sys::ptrace::seize(pid, nix::sys::ptrace::Options::empty()).at("ptrace")?;
    nix::sys::ptrace::interrupt(pid).at("interrupt")?;
    nix::sys::wait::waitpid(pid, None).at("waitpid")?;
    nix::sys::ptrace::detach(pid, None).at("detach").map(nothing)
}

/// Overwrites one byte of another process.
fn write_memory(pid: &str, address: &str) -> Outcome {
    let base = address.parse().map_err(|_| Failure { step: "address".into(), errno: libc::EINVAL })?;
    let remote = [nix::sys::uio::RemoteIoVec { base, len: 1 }];
    let local = [std::io::IoSlice::new(b"!")];
    nix::sys::uio::process_vm_writev(pid_of(pid)?, &local, &remote)
        .at("process_vm_writev")
        .map(|n| n.to_string())
}

/// Loads nonsense as a module. `ENOEXEC` is the kernel's parser speaking: the attacker got that far.
fn load_module() -> Outcome {
    match system::init_module() {
        Err(error) if error.raw_os_error() == Some(libc::ENOEXEC) => Ok("reached the module loader".into()),
        other => other.at("init_module").map(nothing),
    }
}

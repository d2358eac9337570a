//! What somebody would do to files, processes and BPF objects that are not theirs.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use enforcer_vm_tests::report::{At, Failure, Outcome};
use nix::fcntl::{AT_FDCWD, OFlag};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::kill;
use nix::sys::stat::Mode;
use nix::unistd::{LinkatFlags, Pid};

const NOTHING: Option<&str> = None;

pub(crate) fn perform(name: &str, arguments: &[&str]) -> Option<Outcome> {
    Some(match (name, arguments) {
        ("mkdir", [path]) => nix::unistd::mkdir(*path, Mode::S_IRWXU).at("mkdir").map(nothing),
        ("rmdir", [path]) => std::fs::remove_dir(path).at("rmdir").map(nothing),
        ("mkfifo", [path]) => nix::unistd::mkfifo(*path, Mode::S_IRWXU).at("mkfifo").map(nothing),
        ("symlink", [to, path]) => std::os::unix::fs::symlink(to, path).at("symlink").map(nothing),
        ("link", [old, new]) => link(old, new),
        ("rename", [old, new]) => std::fs::rename(old, new).at("rename").map(nothing),
        ("unlink", [path]) => nix::unistd::unlink(*path).at("unlink").map(nothing),
        ("truncate", [path]) => nix::unistd::truncate(*path, 0).at("truncate").map(nothing),
        ("chmod", [path]) => chmod(path),
        ("signal", [process, number]) => signal(process, number),
        ("signal-by-pipe", [process, number]) => signal_by_pipe(process, number),
        ("trace", [process]) => trace(process),
        ("read-memory", [process, address]) => read_memory(process, address),
        ("steal-descriptor", [process, number]) => steal_descriptor(process, number),
        ("limit", [process]) => limit(process),
        ("renice", [process]) => renice(process),
        ("map-by-id", [id]) => by_id(BPF_MAP_GET_FD_BY_ID, id),
        ("program-by-id", [id]) => by_id(BPF_PROG_GET_FD_BY_ID, id),
        ("link-by-id", [id]) => by_id(BPF_LINK_GET_FD_BY_ID, id),
        ("open-pin", [path]) => open_pin(path).map(|_| String::new()),
        ("detach-pin", [path]) => detach_pin(path),
        ("mount-over", [path]) => mount_over(path),
        ("unmount", [path]) => umount2(*path, MntFlags::MNT_DETACH).at("umount2").map(nothing),
        ("move-by-mount", [from, to]) => move_by_mount(from, to),
        ("move-mount", [from, to]) => move_mount(from, to),
        ("move-apart", [at]) => move_apart(at),
        ("pivot-root", [to, old]) => nix::unistd::pivot_root(*to, *old).at("pivot_root").map(nothing),
        ("overlay-create", [upper, at, new]) => {
            overlay(upper, at, new, OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL)
        }
        ("overlay-write", [upper, at, file]) => overlay(upper, at, file, OFlag::O_WRONLY),
        ("overlay-read", [lower, at, file]) => overlay_read(lower, at, file),
        _ => return None,
    })
}

fn nothing((): ()) -> String {
    String::new()
}

fn number(text: &str) -> Result<i32, Failure> {
    text.parse().map_err(|_| Failure { step: "number".into(), errno: libc::EINVAL })
}

fn pid(text: &str) -> Result<Pid, Failure> {
    number(text).map(Pid::from_raw)
}

fn check(result: i64) -> io::Result<i64> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn link(old: &str, new: &str) -> Outcome {
    nix::unistd::linkat(AT_FDCWD, old, AT_FDCWD, new, LinkatFlags::empty()).at("link").map(nothing)
}

fn chmod(path: &str) -> Outcome {
    let flags = nix::sys::stat::FchmodatFlags::FollowSymlink;
    nix::sys::stat::fchmodat(AT_FDCWD, path, Mode::S_IRWXU, flags).at("chmod").map(nothing)
}

fn signal(process: &str, number: &str) -> Outcome {
    let signal = nix::sys::signal::Signal::try_from(self::number(number)?).ok();
    kill(pid(process)?, signal).at("kill").map(nothing)
}

/// Has a pipe signal its owner, another process, when something is written to it.
fn signal_by_pipe(process: &str, number: &str) -> Outcome {
    let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).at("pipe")?;
    let (process, number) = (self::number(process)?, self::number(number)?);
    let control = |command: i32, argument: i32| {
        // SAFETY: these commands take numbers.
        check(unsafe { libc::fcntl(read.as_raw_fd(), command, argument) }.into())
    };
    control(libc::F_SETOWN, process).at("F_SETOWN")?;
    // F_SETSIG.
    control(10, number).at("F_SETSIG")?;
    control(libc::F_SETFL, libc::O_ASYNC | libc::O_NONBLOCK).at("F_SETFL")?;
    nix::unistd::write(&write, b"x").at("write").map(|_| String::new())
}

fn trace(process: &str) -> Outcome {
    let process = pid(process)?;
    nix::sys::ptrace::seize(process, nix::sys::ptrace::Options::empty()).at("PTRACE_SEIZE")?;
    // Let go again: a dead process is its tracer's before it is its parent's.
    nix::sys::ptrace::interrupt(process).at("PTRACE_INTERRUPT")?;
    nix::sys::wait::waitpid(process, Some(nix::sys::wait::WaitPidFlag::__WALL)).at("waitpid")?;
    nix::sys::ptrace::detach(process, None).at("PTRACE_DETACH").map(nothing)
}

fn read_memory(process: &str, address: &str) -> Outcome {
    let address = usize::from_str_radix(address, 16)
        .map_err(|_| Failure { step: "address".into(), errno: libc::EINVAL })?;
    let mut bytes = [0; 16];
    let remote = nix::sys::uio::RemoteIoVec { base: address, len: bytes.len() };
    let mut local = [io::IoSliceMut::new(&mut bytes)];
    nix::sys::uio::process_vm_readv(pid(process)?, &mut local, &[remote]).at("process_vm_readv")?;
    Ok(String::new())
}

fn steal_descriptor(process: &str, number: &str) -> Outcome {
    let process = number_of(process)?;
    // SAFETY: takes no pointers.
    let handle = check(unsafe { libc::syscall(libc::SYS_pidfd_open, process, 0) }).at("pidfd_open")?;
    // SAFETY: takes no pointers.
    let stolen = unsafe { libc::syscall(libc::SYS_pidfd_getfd, handle, number_of(number)?, 0) };
    check(stolen).at("pidfd_getfd").map(|_| String::new())
}

fn number_of(text: &str) -> Result<i64, Failure> {
    number(text).map(Into::into)
}

fn limit(process: &str) -> Outcome {
    let process = number(process)?;
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one limit.
    let result = unsafe { libc::prlimit(process, libc::RLIMIT_CORE, core::ptr::null(), &raw mut limit) };
    check(result.into()).at("reading the limit")?;
    // SAFETY: the kernel reads one limit.
    let result =
        unsafe { libc::prlimit(process, libc::RLIMIT_CORE, &raw const limit, core::ptr::null_mut()) };
    check(result.into()).at("prlimit").map(|_| String::new())
}

fn renice(process: &str) -> Outcome {
    let process = number(process)?.unsigned_abs();
    // SAFETY: takes no pointers.
    check(unsafe { libc::setpriority(libc::PRIO_PROCESS, process, 5) }.into())
        .at("setpriority")
        .map(|_| String::new())
}

const BPF_OBJ_GET: i64 = 7;
const BPF_PROG_GET_FD_BY_ID: i64 = 13;
const BPF_MAP_GET_FD_BY_ID: i64 = 14;
const BPF_LINK_GET_FD_BY_ID: i64 = 30;
const BPF_LINK_DETACH: i64 = 34;

fn bpf(command: i64, attributes: &[u64; 16]) -> io::Result<i64> {
    // SAFETY: the attributes are 128 bytes, zero padded, and what they point to outlives the call.
    check(unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), size_of_val(attributes)) })
}

fn fresh(descriptor: i64) -> io::Result<OwnedFd> {
    let descriptor = i32::try_from(descriptor).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made it, for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn by_id(command: i64, id: &str) -> Outcome {
    let mut attributes = [0; 16];
    attributes[0] = u64::from(number(id)?.unsigned_abs());
    bpf(command, &attributes).and_then(fresh).at("bpf").map(|_| String::new())
}

fn open_pin(path: &str) -> Result<OwnedFd, Failure> {
    let path = CString::new(path).map_err(|_| Failure { step: "path".into(), errno: libc::EINVAL })?;
    let mut attributes = [0; 16];
    attributes[0] = path.as_ptr() as u64;
    bpf(BPF_OBJ_GET, &attributes).and_then(fresh).at("BPF_OBJ_GET")
}

fn detach_pin(path: &str) -> Outcome {
    let link = open_pin(path)?;
    let mut attributes = [0; 16];
    attributes[0] = u64::from(link.as_fd().as_raw_fd().unsigned_abs());
    bpf(BPF_LINK_DETACH, &attributes).at("BPF_LINK_DETACH").map(|_| String::new())
}

fn mount_over(path: &str) -> Outcome {
    mount(Some("over"), path, Some("tmpfs"), MsFlags::empty(), NOTHING).at("mount")?;
    umount2(path, MntFlags::MNT_DETACH).at("umount2").map(nothing)
}

fn move_by_mount(from: &str, to: &str) -> Outcome {
    mount(Some(from), to, NOTHING, MsFlags::MS_MOVE, NOTHING).at("mount").map(nothing)
}

/// Moves a mount of one's own in a mount namespace of one's own.
fn move_apart(at: &str) -> Outcome {
    unshare(CloneFlags::CLONE_NEWNS).at("unshare")?;
    mount(NOTHING, "/", NOTHING, MsFlags::MS_PRIVATE | MsFlags::MS_REC, NOTHING).at("make private")?;
    mount(Some("new"), at, Some("tmpfs"), MsFlags::empty(), NOTHING).at("mount")?;
    let to = format!("{at}/to");
    std::fs::create_dir(&to).at("mkdir")?;
    mount(Some("new"), to.as_str(), Some("tmpfs"), MsFlags::empty(), NOTHING).at("mount")?;
    let other = format!("{at}/other");
    std::fs::create_dir(&other).at("mkdir")?;
    move_by_mount(&to, &other)
}

fn move_mount(from: &str, to: &str) -> Outcome {
    let path =
        |text: &str| CString::new(text).map_err(|_| Failure { step: "path".into(), errno: libc::EINVAL });
    let (from, to) = (path(from)?, path(to)?);
    // SAFETY: both strings end in NUL.
    let result = unsafe {
        libc::syscall(libc::SYS_move_mount, libc::AT_FDCWD, from.as_ptr(), libc::AT_FDCWD, to.as_ptr(), 0)
    };
    check(result).at("move_mount").map(|_| String::new())
}

/// Opens a file by way of an overlay of our own of which `upper` is the layer that is written to.
fn overlay(upper: &str, at: &str, file: &str, flags: OFlag) -> Outcome {
    let (lower, work) = (format!("{at}-lower"), format!("{upper}-work"));
    for directory in [at, &lower, &work] {
        std::fs::create_dir_all(directory).at("mkdir")?;
    }
    let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
    on_overlay(at, &options, || {
        nix::fcntl::open(format!("{at}/{file}").as_str(), flags | OFlag::O_CLOEXEC, Mode::S_IRWXU).at("open")
    })
}

/// The same for reading, with `lower` as one of two layers that are not written to.
fn overlay_read(lower: &str, at: &str, file: &str) -> Outcome {
    let other = format!("{at}-other");
    for directory in [at, &other] {
        std::fs::create_dir_all(directory).at("mkdir")?;
    }
    on_overlay(at, &format!("lowerdir={lower}:{other}"), || crate::files::reading(&format!("{at}/{file}")))
}

fn on_overlay(at: &str, options: &str, open: impl FnOnce() -> Result<OwnedFd, Failure>) -> Outcome {
    // A child would be another program to list; the namespace is this process's from here on.
    unshare(CloneFlags::CLONE_NEWNS).at("unshare")?;
    mount(NOTHING, "/", NOTHING, MsFlags::MS_PRIVATE | MsFlags::MS_REC, NOTHING).at("make private")?;
    mount(Some("overlay"), at, Some("overlay"), MsFlags::empty(), Some(options)).at("mount overlay")?;
    open().map(|_| String::new())
}

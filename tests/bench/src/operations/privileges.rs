//! What takes privileges.

use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::{ForkResult, Pid, fork, getpid, pause};

use super::Run;
use super::syscall::{Bytes, Number, Room, Text, syscall};
use crate::fixture;

/// Where the benchmark's cgroups are made.
pub const CGROUPS: &str = "/sys/fs/cgroup/bench-work";

fn path(path: &str) -> Result<CString> {
    CString::new(path).context("a path has no NUL")
}

/// A call that succeeds.
fn succeeding<const N: usize>(number: libc::c_long, arguments: [i64; N]) -> Result<Run> {
    Ok(Box::new(move || Ok(syscall(number, arguments.map(Number)).map(drop)?)))
}

/// Whether the kernel got as far as looking at what it was given, and found it wanting.
fn failed_with(result: nix::Result<i64>, expected: Errno) -> Result<()> {
    ensure!(result == Err(expected), "gave {result:?}, not {expected}");
    Ok(())
}

pub(super) fn make_and_remove_cgroup(_: u32) -> Result<Run> {
    let directory = path(&format!("{CGROUPS}/made"))?;
    Ok(Box::new(move || {
        syscall(libc::SYS_mkdir, [Text(&directory), Number(0o755)])?;
        Ok(syscall(libc::SYS_rmdir, [Text(&directory)]).map(drop)?)
    }))
}

/// A process that waits, from one cgroup into another and back.
pub(super) fn move_between_cgroups(_: u32) -> Result<Run> {
    let child = Child::start()?;
    let mut lists = Vec::new();
    for name in ["here", "there"] {
        let directory = format!("{CGROUPS}/{name}");
        fs::create_dir_all(&directory).with_context(|| format!("creating {directory}"))?;
        let list = fs::OpenOptions::new().write(true).open(format!("{directory}/cgroup.procs"));
        lists.push(list.with_context(|| format!("opening the list of processes of {directory}"))?);
    }
    Ok(Box::new(move || {
        let number = child.id().to_string();
        for list in &lists {
            let length = nix::unistd::write(list, number.as_bytes())?;
            ensure!(length == number.len(), "wrote {length} bytes");
        }
        Ok(())
    }))
}

/// Where root is already: the kernel asks before it looks.
pub(super) fn pivot_root(_: u32) -> Result<Run> {
    let directory = path(fixture::WORK)?;
    Ok(Box::new(move || {
        failed_with(syscall(libc::SYS_pivot_root, [Text(&directory), Text(&directory)]), Errno::EBUSY)
    }))
}

/// A congestion control that nobody has heard of has the kernel ask for a module. (The driver sees to it that there is no
/// program to load it.)
pub(super) fn request_module(_: u32) -> Result<Run> {
    let numbers = [libc::AF_INET, libc::SOCK_STREAM, 0].map(|it| Number(it.into()));
    let socket = syscall(libc::SYS_socket, numbers)?;
    Ok(Box::new(move || {
        let [level, option] = [libc::IPPROTO_TCP, libc::TCP_CONGESTION].map(|it| Number(it.into()));
        let arguments = [Number(socket), level, option, Bytes(b"bench"), Number(5)];
        failed_with(syscall(libc::SYS_setsockopt, arguments), Errno::ENOENT)
    }))
}

const TUN: &str = "/dev/net/tun";

/// `TUNSETIFF` with `struct ifreq`.
fn tun(device: &File, name: &[u8], flags: u16) -> nix::Result<i64> {
    const TUNSETIFF: i64 = 0x4004_54ca;
    let mut request = [0; 40];
    (request[..name.len()]).copy_from_slice(name);
    (request[16..18]).copy_from_slice(&flags.to_ne_bytes());
    syscall(libc::SYS_ioctl, [Number(device.as_raw_fd().into()), Number(TUNSETIFF), Room(&mut request)])
}

fn open_tun_device() -> Result<File> {
    fs::OpenOptions::new().read(true).write(true).open(TUN).with_context(|| format!("opening {TUN}"))
}

/// A device that is neither tun nor tap: the kernel asks before it looks.
pub(super) fn make_tun(_: u32) -> Result<Run> {
    let device = open_tun_device()?;
    Ok(Box::new(move || failed_with(tun(&device, b"bench-none", 0), Errno::EINVAL)))
}

/// A device that somebody has open already.
pub(super) fn open_tun(_: u32) -> Result<Run> {
    const IFF_TUN: u16 = 1;
    const NAME: &[u8] = b"bench-tun";
    let (owner, other) = (open_tun_device()?, open_tun_device()?);
    tun(&owner, NAME, IFF_TUN).context("making the device")?;
    Ok(Box::new(move || {
        // Keeps the device there.
        ensure!(owner.as_raw_fd() >= 0, "the device is there");
        failed_with(tun(&other, NAME, IFF_TUN), Errno::EBUSY)
    }))
}

fn mount(source: &CStr, target: &CStr, flags: libc::c_ulong) -> nix::Result<()> {
    let flags = i64::try_from(flags).map_err(|_| Errno::EINVAL)?;
    syscall(libc::SYS_mount, [Text(source), Text(target), Text(c"tmpfs"), Number(flags), Number(0)]).map(drop)
}

fn unmount(target: &CStr) -> nix::Result<()> {
    syscall(libc::SYS_umount2, [Text(target), Number(libc::MNT_DETACH.into())]).map(drop)
}

/// A mount of its own, to be changed.
fn mounted(name: &str) -> Result<CString> {
    let directory = format!("{}/{name}", fixture::WORK);
    fs::create_dir_all(&directory).with_context(|| format!("creating {directory}"))?;
    let directory = path(&directory)?;
    // What a run before left.
    while unmount(&directory).is_ok() {}
    mount(c"bench", &directory, 0)?;
    Ok(directory)
}

pub(super) fn change_propagation(_: u32) -> Result<Run> {
    let directory = mounted("propagation")?;
    Ok(Box::new(move || Ok(mount(c"", &directory, libc::MS_PRIVATE)?)))
}

pub(super) fn remount(_: u32) -> Result<Run> {
    let directory = mounted("remounted")?;
    Ok(Box::new(move || Ok(mount(c"", &directory, libc::MS_REMOUNT)?)))
}

pub(super) fn mount_and_unmount(_: u32) -> Result<Run> {
    let directory = mounted("bound")?;
    Ok(Box::new(move || {
        mount(&directory, &directory, libc::MS_BIND)?;
        Ok(unmount(&directory)?)
    }))
}

pub(super) fn move_mount(_: u32) -> Result<Run> {
    const OPEN_TREE_CLONE: i64 = 1;
    const MOVE_MOUNT_F_EMPTY_PATH: i64 = 4;
    let directory = mounted("moved")?;
    Ok(Box::new(move || {
        let at = Number(libc::AT_FDCWD.into());
        let tree = syscall(libc::SYS_open_tree, [at, Text(&directory), Number(OPEN_TREE_CLONE)])?;
        let flags = Number(MOVE_MOUNT_F_EMPTY_PATH);
        let at = Number(libc::AT_FDCWD.into());
        syscall(libc::SYS_move_mount, [Number(tree), Text(c""), at, Text(&directory), flags])?;
        syscall(libc::SYS_close, [Number(tree)])?;
        Ok(unmount(&directory)?)
    }))
}

pub(super) fn change_root(_: u32) -> Result<Run> {
    Ok(Box::new(|| Ok(syscall(libc::SYS_chroot, [Text(c"/")]).map(drop)?)))
}

/// A child that waits; killed when dropped.
struct Child(Pid);

impl Child {
    fn start() -> Result<Self> {
        // SAFETY: this program has one thread; the child does nothing but wait.
        match unsafe { fork() }? {
            ForkResult::Child => loop {
                pause();
            },
            ForkResult::Parent { child } => Ok(Self(child)),
        }
    }

    fn process(&self) -> libc::pid_t {
        self.0.as_raw()
    }

    /// The same as an argument.
    fn id(&self) -> i64 {
        self.process().into()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It cannot have ended by itself, and nobody else waits for it.
        let _ = kill(self.0, nix::sys::signal::Signal::SIGKILL);
        let _ = nix::sys::wait::waitpid(self.0, None);
    }
}

pub(super) fn read_other_memory(_: u32) -> Result<Run> {
    let child = Child::start()?;
    // The child has the same at the same address.
    let remembered = Box::new([1_u8; 16]);
    Ok(Box::new(move || {
        let mut copy = [0_u8; 16];
        let local = libc::iovec { iov_base: copy.as_mut_ptr().cast(), iov_len: copy.len() };
        let remote = libc::iovec { iov_base: remembered.as_ptr().cast_mut().cast(), iov_len: copy.len() };
        // By a method, so that the closure keeps the child, not a copy of its number.
        let pid = child.process();
        // SAFETY: `local` describes `copy`, which is alive; `remote` is only read, in another process.
        let length = Errno::result(unsafe { libc::process_vm_readv(pid, &local, 1, &remote, 1, 0) })?;
        ensure!(length == 16, "read {length} bytes");
        Ok(())
    }))
}

pub(super) fn bpf(_: u32) -> Result<Run> {
    const BPF_BTF_GET_NEXT_ID: i64 = 23;
    Ok(Box::new(|| {
        // `start_id`, `next_id`, `open_flags`: the kernel writes into what it is given here.
        let mut attributes = [0; 12];
        let size = i64::try_from(attributes.len())?;
        let room = Room(&mut attributes);
        Ok(syscall(libc::SYS_bpf, [Number(BPF_BTF_GET_NEXT_ID), room, Number(size)]).map(drop)?)
    }))
}

pub(super) fn perf_event(_: u32) -> Result<Run> {
    const PERF_TYPE_SOFTWARE: u8 = 1;
    const PERF_COUNT_SW_DUMMY: u8 = 9;
    let mut attributes = [0_u8; 64];
    // `type`, `size` and `config`.
    (attributes[0], attributes[4], attributes[8]) = (PERF_TYPE_SOFTWARE, 64, PERF_COUNT_SW_DUMMY);
    Ok(Box::new(move || {
        let arguments = [Bytes(&attributes), Number(0), Number(-1), Number(-1), Number(0)];
        let event = syscall(libc::SYS_perf_event_open, arguments)?;
        // SAFETY: the kernel has just made it, and nobody else owns it.
        drop(unsafe { OwnedFd::from_raw_fd(i32::try_from(event)?) });
        Ok(())
    }))
}

/// What is no module.
const NO_MODULE: [u8; 64] = [0; 64];

pub(super) fn load_module_from_file(_: u32) -> Result<Run> {
    let file = File::open(fixture::SHALLOW).context("opening what is no module")?;
    Ok(Box::new(move || {
        let arguments = [Number(file.as_raw_fd().into()), Text(c""), Number(0)];
        failed_with(syscall(libc::SYS_finit_module, arguments), Errno::ENOEXEC)
    }))
}

pub(super) fn load_module_from_memory(_: u32) -> Result<Run> {
    Ok(Box::new(|| {
        let length = i64::try_from(NO_MODULE.len())?;
        let arguments = [Bytes(&NO_MODULE), Number(length), Text(c"")];
        failed_with(syscall(libc::SYS_init_module, arguments), Errno::ENOEXEC)
    }))
}

pub(super) fn signal(_: u32) -> Result<Run> {
    let own = getpid();
    Ok(Box::new(move || Ok(kill(own, None)?)))
}

const PROCESS_KEYRING: i64 = -2;

pub(super) fn add_key(_: u32) -> Result<Run> {
    Ok(Box::new(|| {
        // The same key again: its content is replaced.
        let payload = [Bytes(b"payload"), Number(7), Number(PROCESS_KEYRING)];
        let [bytes, length, keyring] = payload;
        let key = syscall(libc::SYS_add_key, [Text(c"user"), Text(c"bench"), bytes, length, keyring])?;
        ensure!(key > 0, "a key");
        Ok(())
    }))
}

pub(super) fn new_keyring(_: u32) -> Result<Run> {
    const KEYCTL_JOIN_SESSION_KEYRING: i64 = 1;
    succeeding(libc::SYS_keyctl, [KEYCTL_JOIN_SESSION_KEYRING, 0])
}

pub(super) fn set_time(_: u32) -> Result<Run> {
    // A time zone alone: what the clock says stays.
    Ok(Box::new(|| Ok(syscall(libc::SYS_settimeofday, [Number(0), Bytes(&[0; 8])]).map(drop)?)))
}

pub(super) fn sync_quotas(_: u32) -> Result<Run> {
    const Q_SYNC: i64 = 0x80_0001 << 8;
    succeeding(libc::SYS_quotactl, [Q_SYNC, 0, 0, 0])
}

pub(super) fn kernel_log(_: u32) -> Result<Run> {
    const SYSLOG_ACTION_SIZE_BUFFER: i64 = 10;
    succeeding(libc::SYS_syslog, [SYSLOG_ACTION_SIZE_BUFFER, 0, 0])
}

pub(super) fn set_scheduler(_: u32) -> Result<Run> {
    Ok(Box::new(|| {
        let priority = 0_i32.to_ne_bytes();
        let policy = Number(libc::SCHED_OTHER.into());
        Ok(syscall(libc::SYS_sched_setscheduler, [Number(0), policy, Bytes(&priority)]).map(drop)?)
    }))
}

pub(super) fn set_priority(_: u32) -> Result<Run> {
    succeeding(libc::SYS_setpriority, [libc::PRIO_PROCESS.into(), 0, 0])
}

pub(super) fn set_io_priority(_: u32) -> Result<Run> {
    const IOPRIO_WHO_PROCESS: i64 = 1;
    const BEST_EFFORT_4: i64 = 2 << 13 | 4;
    succeeding(libc::SYS_ioprio_set, [IOPRIO_WHO_PROCESS, 0, BEST_EFFORT_4])
}

pub(super) fn set_limit(_: u32) -> Result<Run> {
    let child = Child::start()?;
    let mut limits = [0_u8; 16];
    (limits[..8]).copy_from_slice(&4096_u64.to_ne_bytes());
    (limits[8..]).copy_from_slice(&4096_u64.to_ne_bytes());
    Ok(Box::new(move || {
        let arguments = [Number(child.id()), Number(libc::RLIMIT_NPROC.into()), Bytes(&limits), Number(0)];
        Ok(syscall(libc::SYS_prlimit64, arguments).map(drop)?)
    }))
}

pub(super) fn move_pages(_: u32) -> Result<Run> {
    let child = Child::start()?;
    Ok(Box::new(move || Ok(syscall(libc::SYS_move_pages, [Number(child.id()), Number(0)]).map(drop)?)))
}

pub(super) fn use_capability(_: u32) -> Result<Run> {
    let name = fs::read("/proc/sys/kernel/domainname").context("reading the domain name")?;
    let name = name.trim_ascii().to_vec();
    Ok(Box::new(move || {
        let length = i64::try_from(name.len())?;
        Ok(syscall(libc::SYS_setdomainname, [Bytes(&name), Number(length)]).map(drop)?)
    }))
}

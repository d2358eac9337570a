//! A small `io_uring`: one operation at a time, through the system calls themselves.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use enforcer_vm_tests::report::{At, Failure, Outcome};
use nix::sys::socket::SockaddrLike;

/// The kernel polls the submission queue by a thread of its own.
pub(crate) const SETUP_SQPOLL: u32 = 2;
/// Has a worker thread do the operation.
pub(crate) const ASYNC: u8 = 1 << 4;

const ENTER_GETEVENTS: u32 = 1;
const ENTER_SQ_WAKEUP: u32 = 2;
const OFFSET_SQES: i64 = 0x1000_0000;
const ENTRIES: u32 = 4;

const OP_SENDMSG: u8 = 9;
const OP_RECVMSG: u8 = 10;
const OP_CONNECT: u8 = 16;
const OP_OPENAT: u8 = 18;
const OP_MADVISE: u8 = 25;
const OP_SEND: u8 = 26;
const OP_RENAMEAT: u8 = 35;
const OP_UNLINKAT: u8 = 36;
const OP_LINKAT: u8 = 39;
const OP_SOCKET: u8 = 45;
const OP_URING_CMD: u8 = 46;
const OP_SEND_ZC: u8 = 47;
const OP_BIND: u8 = 56;
const OP_LISTEN: u8 = 57;

#[repr(C)]
#[derive(Default)]
struct SubmissionOffsets {
    head: u32,
    tail: u32,
    ring_mask: u32,
    ring_entries: u32,
    flags: u32,
    dropped: u32,
    array: u32,
    reserved: u32,
    user_address: u64,
}

#[repr(C)]
#[derive(Default)]
struct CompletionOffsets {
    head: u32,
    tail: u32,
    ring_mask: u32,
    ring_entries: u32,
    overflow: u32,
    cqes: u32,
    flags: u32,
    reserved: u32,
    user_address: u64,
}

#[repr(C)]
#[derive(Default)]
struct Parameters {
    sq_entries: u32,
    cq_entries: u32,
    flags: u32,
    sq_thread_cpu: u32,
    sq_thread_idle: u32,
    features: u32,
    wq_fd: u32,
    reserved: [u32; 3],
    sq: SubmissionOffsets,
    cq: CompletionOffsets,
}

/// `struct io_uring_sqe`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Entry {
    opcode: u8,
    flags: u8,
    priority: u16,
    fd: i32,
    offset: u64,
    address: u64,
    length: u32,
    op_flags: u32,
    user_data: u64,
    buffer: u16,
    personality: u16,
    /// `file_index`, or the length of an address that `offset` points to, in its lower half.
    extra: u32,
    rest: [u64; 2],
}

/// `struct io_uring_cqe`.
#[repr(C)]
struct Completion {
    user_data: u64,
    result: i32,
    flags: u32,
}

const _: () = assert!(size_of::<Entry>() == 64 && size_of::<Completion>() == 16);
const _: () = assert!(size_of::<Parameters>() == 120);

/// A ring with its mappings, which stay until the process ends.
pub(crate) struct Ring {
    fd: OwnedFd,
    rings: *mut u8,
    entries: *mut Entry,
    parameters: Parameters,
    /// Added to every operation.
    flags: u8,
}

impl Ring {
    /// `setup` are flags of `io_uring_setup`, `each` flags of every operation.
    pub(crate) fn new(setup: u32, each: u8) -> Result<Self, Failure> {
        let mut parameters = Parameters { flags: setup, ..Parameters::default() };
        // SAFETY: the kernel fills in a structure of the size that its version 1 has.
        let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, ENTRIES, &raw mut parameters) };
        let fd = super::descriptor(fd).at("io_uring_setup")?;
        // Since 5.4 both rings are in one mapping.
        let end_of_array = parameters.sq.array as usize + parameters.sq_entries as usize * size_of::<u32>();
        let end_of_completions =
            parameters.cq.cqes as usize + parameters.cq_entries as usize * size_of::<Completion>();
        let rings = map(&fd, end_of_array.max(end_of_completions), 0).at("mmap rings")?;
        let size = parameters.sq_entries as usize * size_of::<Entry>();
        let entries = map(&fd, size, OFFSET_SQES).at("mmap entries")?.cast();
        Ok(Self { fd, rings, entries, parameters, flags: each })
    }

    fn word(&self, offset: u32) -> &AtomicU32 {
        // SAFETY: the kernel said that an aligned word is there, and the mapping lives as long as the process. The
        // kernel writes to it, too, hence atomic.
        unsafe { AtomicU32::from_ptr(self.rings.add(offset as usize).cast()) }
    }

    /// Submits one entry and waits for its result.
    ///
    /// # Safety
    /// What the entry points to must be there until this returns.
    unsafe fn submit(&self, mut entry: Entry) -> io::Result<i32> {
        entry.flags |= self.flags;
        let (sq, cq) = (&self.parameters.sq, &self.parameters.cq);
        let tail = self.word(sq.tail).load(Ordering::Relaxed);
        let slot = tail & self.word(sq.ring_mask).load(Ordering::Relaxed);
        // SAFETY: the slot is below the number of entries, and the kernel reads it only after the tail has moved.
        unsafe { self.entries.add(slot as usize).write(entry) };
        self.word(sq.array + slot * 4).store(slot, Ordering::Relaxed);
        self.word(sq.tail).store(tail.wrapping_add(1), Ordering::Release);
        let head = self.word(cq.head).load(Ordering::Relaxed);
        let flags = ENTER_GETEVENTS | ENTER_SQ_WAKEUP;
        while self.word(cq.tail).load(Ordering::Acquire) == head {
            let none = core::ptr::null::<libc::sigset_t>();
            // SAFETY: no signal set is passed.
            let entered =
                unsafe { libc::syscall(libc::SYS_io_uring_enter, self.fd.as_raw_fd(), 1, 1, flags, none, 0) };
            super::check(entered)?;
        }
        let slot = head & self.word(cq.ring_mask).load(Ordering::Relaxed);
        let completions = cq.cqes as usize + slot as usize * size_of::<Completion>();
        // SAFETY: the slot is below the number of completions, and the kernel has filled it in before it moved the
        // tail.
        let result = unsafe { self.rings.add(completions).cast::<Completion>().read_volatile() }.result;
        self.word(cq.head).store(head.wrapping_add(1), Ordering::Release);
        if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(result) }
    }

    /// Registers our credentials and does nothing with them.
    pub(crate) fn with_personality(&self) -> io::Result<i32> {
        const REGISTER_PERSONALITY: u32 = 9;
        let none = core::ptr::null::<u8>();
        // SAFETY: this request takes no argument.
        let registered = unsafe {
            libc::syscall(libc::SYS_io_uring_register, self.fd.as_raw_fd(), REGISTER_PERSONALITY, none, 0)
        };
        let personality = u16::try_from(super::check(registered)?).map_err(io::Error::other)?;
        // SAFETY: IORING_OP_NOP points to nothing.
        unsafe { self.submit(Entry { personality, ..Entry::default() }) }
    }

    pub(crate) fn open(&self, path: &CStr, flags: i32) -> io::Result<OwnedFd> {
        let entry = Entry {
            opcode: OP_OPENAT,
            fd: libc::AT_FDCWD,
            address: path.as_ptr() as u64,
            op_flags: (flags | libc::O_CLOEXEC).cast_unsigned(),
            length: 0o644,
            ..Entry::default()
        };
        // SAFETY: the path outlives the call.
        super::descriptor(unsafe { self.submit(entry) }?)
    }

    pub(crate) fn unlink(&self, path: &CStr) -> io::Result<()> {
        let entry = Entry {
            opcode: OP_UNLINKAT,
            fd: libc::AT_FDCWD,
            address: path.as_ptr() as u64,
            ..Entry::default()
        };
        // SAFETY: the path outlives the call.
        unsafe { self.submit(entry) }.map(drop)
    }

    pub(crate) fn rename(&self, from: &CStr, to: &CStr) -> io::Result<()> {
        self.two_paths(OP_RENAMEAT, from, to)
    }

    pub(crate) fn link(&self, from: &CStr, to: &CStr) -> io::Result<()> {
        self.two_paths(OP_LINKAT, from, to)
    }

    fn two_paths(&self, opcode: u8, from: &CStr, to: &CStr) -> io::Result<()> {
        let entry = Entry {
            opcode,
            fd: libc::AT_FDCWD,
            address: from.as_ptr() as u64,
            offset: to.as_ptr() as u64,
            length: libc::AT_FDCWD.cast_unsigned(),
            ..Entry::default()
        };
        // SAFETY: the paths outlive the call.
        unsafe { self.submit(entry) }.map(drop)
    }

    /// Hands a command to the driver of a file. Since 5.19.
    pub(crate) fn command(&self, file: &OwnedFd, command: u32) -> io::Result<i32> {
        let entry =
            Entry { opcode: OP_URING_CMD, fd: file.as_raw_fd(), offset: command.into(), ..Entry::default() };
        // SAFETY: the entry points to nothing.
        unsafe { self.submit(entry) }
    }

    /// `madvise(2)` of memory of ours, that must keep what it holds.
    pub(crate) fn advise(&self, address: u64, length: u32, advice: i32) -> io::Result<i32> {
        let entry = Entry {
            opcode: OP_MADVISE,
            fd: -1,
            address,
            length,
            op_flags: advice.cast_unsigned(),
            ..Entry::default()
        };
        // SAFETY: the entry points to nothing that is read or written.
        unsafe { self.submit(entry) }
    }

    /// Since 5.19.
    pub(crate) fn socket(&self, family: i32, kind: i32) -> io::Result<OwnedFd> {
        let entry = Entry {
            opcode: OP_SOCKET,
            fd: family,
            offset: u64::from(kind.unsigned_abs()),
            ..Entry::default()
        };
        // SAFETY: the entry points to nothing.
        super::descriptor(unsafe { self.submit(entry) }?)
    }

    pub(crate) fn connect(&self, socket: &OwnedFd, address: &dyn SockaddrLike) -> io::Result<()> {
        let entry = Entry {
            opcode: OP_CONNECT,
            fd: socket.as_raw_fd(),
            address: address.as_ptr() as u64,
            offset: address.len().into(),
            ..Entry::default()
        };
        // SAFETY: the address outlives the call.
        unsafe { self.submit(entry) }.map(drop)
    }

    pub(crate) fn send(&self, socket: &OwnedFd, payload: &[u8]) -> io::Result<i32> {
        let entry = Entry {
            opcode: OP_SEND,
            fd: socket.as_raw_fd(),
            address: payload.as_ptr() as u64,
            length: u32::try_from(payload.len()).unwrap_or(0),
            ..Entry::default()
        };
        // SAFETY: the payload outlives the call.
        unsafe { self.submit(entry) }
    }

    /// `sendto`, with the address in the entry. Since 6.0 for zero-copy sends, since 6.1 for all.
    pub(crate) fn send_to(
        &self,
        socket: &OwnedFd,
        payload: &[u8],
        address: &dyn SockaddrLike,
    ) -> io::Result<i32> {
        self.send_by(OP_SEND, socket, payload, address)
    }

    /// The same without a copy. The payload must stay: the kernel may still read it when this returns. Since 6.0.
    pub(crate) fn send_zero_copy(
        &self,
        socket: &OwnedFd,
        payload: &'static [u8],
        address: &dyn SockaddrLike,
    ) -> io::Result<i32> {
        self.send_by(OP_SEND_ZC, socket, payload, address)
    }

    fn send_by(
        &self,
        opcode: u8,
        socket: &OwnedFd,
        payload: &[u8],
        address: &dyn SockaddrLike,
    ) -> io::Result<i32> {
        let entry = Entry {
            opcode,
            fd: socket.as_raw_fd(),
            address: payload.as_ptr() as u64,
            length: u32::try_from(payload.len()).unwrap_or(0),
            offset: address.as_ptr() as u64,
            extra: address.len(),
            ..Entry::default()
        };
        // SAFETY: payload and address outlive the call.
        unsafe { self.submit(entry) }
    }

    /// Since 6.11.
    pub(crate) fn bind(&self, socket: &OwnedFd, address: &dyn SockaddrLike) -> io::Result<()> {
        let entry = Entry {
            opcode: OP_BIND,
            fd: socket.as_raw_fd(),
            address: address.as_ptr() as u64,
            offset: address.len().into(),
            ..Entry::default()
        };
        // SAFETY: the address outlives the call.
        unsafe { self.submit(entry) }.map(drop)
    }

    /// Since 6.11.
    pub(crate) fn listen(&self, socket: &OwnedFd) -> io::Result<()> {
        let entry = Entry { opcode: OP_LISTEN, fd: socket.as_raw_fd(), length: 16, ..Entry::default() };
        // SAFETY: the entry points to nothing.
        unsafe { self.submit(entry) }.map(drop)
    }

    pub(crate) fn send_message(
        &self,
        socket: &OwnedFd,
        payload: &[u8],
        address: &dyn SockaddrLike,
    ) -> io::Result<i32> {
        let mut part = libc::iovec { iov_base: payload.as_ptr().cast_mut().cast(), iov_len: payload.len() };
        // SAFETY: all-zero is a message without anything.
        let mut message: libc::msghdr = unsafe { core::mem::zeroed() };
        message.msg_name = address.as_ptr().cast_mut().cast();
        message.msg_namelen = address.len();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        let entry = Entry {
            opcode: OP_SENDMSG,
            fd: socket.as_raw_fd(),
            address: (&raw const message) as u64,
            length: 1,
            ..Entry::default()
        };
        // SAFETY: the message and all it points to outlive the call.
        unsafe { self.submit(entry) }
    }
}

/// As [`super::sockets::receive_descriptor`], with the ring.
pub(crate) fn receive_descriptor(ring: &Ring, name: &str) -> Result<OwnedFd, Failure> {
    let stream = std::os::unix::net::UnixStream::connect_addr(&super::sockets::unix_name(name)?);
    let stream: OwnedFd = stream.at("connect")?.into();
    let mut byte = [0_u8; 1];
    let mut part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: byte.len() };
    // Room for one descriptor, aligned as its header is.
    let mut control = [0_u64; 4];
    // SAFETY: all-zero is a message without anything.
    let mut message: libc::msghdr = unsafe { core::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control);
    let entry = Entry {
        opcode: OP_RECVMSG,
        fd: stream.as_raw_fd(),
        address: (&raw mut message) as u64,
        length: 1,
        ..Entry::default()
    };
    // SAFETY: the message and all it points to outlive the call.
    unsafe { ring.submit(entry) }.at("recvmsg by io_uring")?;
    if message.msg_flags & libc::MSG_CTRUNC != 0 {
        return Err(Failure { step: "descriptor withheld".into(), errno: libc::EPERM });
    }
    // A header of a length, a level and a kind, and then the descriptor's number.
    if message.msg_controllen < size_of::<libc::cmsghdr>() + size_of::<i32>() {
        return Err(Failure { step: "no descriptor".into(), errno: libc::ENODATA });
    }
    let [a, b, c, d, ..] = control[2].to_ne_bytes();
    super::descriptor(i32::from_ne_bytes([a, b, c, d])).at("recvmsg by io_uring")
}

/// Sets up a ring by words of a row: `plain`, `async` (a worker does it) or `sqpoll` (the kernel's thread submits).
pub(crate) fn ring(how: &str) -> Result<Ring, Failure> {
    match how {
        "async" => Ring::new(0, ASYNC),
        "sqpoll" => Ring::new(SETUP_SQPOLL, 0),
        _ => Ring::new(0, 0),
    }
}

/// Takes what is behind a path with the ring.
pub(crate) fn steal(ring: &Ring, path: &str) -> Outcome {
    let path = super::c_string(path).at("path")?;
    super::files::steal_from(ring.open(&path, libc::O_RDONLY).at("openat by io_uring")?)
}

fn map(fd: &OwnedFd, size: usize, offset: i64) -> io::Result<*mut u8> {
    // SAFETY: the kernel chooses a fresh address, so no existing memory changes.
    let address = unsafe {
        libc::mmap(
            core::ptr::null_mut(),
            size,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_POPULATE,
            fd.as_raw_fd(),
            offset,
        )
    };
    if address == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(address.cast()) }
}

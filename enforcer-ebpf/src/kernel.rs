//! The one door to kernel memory and to BPF helpers.
//!
//! Offsets come from the running kernel's BTF ([`Field`]). Two kinds of pointers are kept apart by type: [`Typed`]
//! ones, which the verifier knows and lets us dereference with a plain load, and [`Raw`] ones, which are numbers to it
//! and are read by `bpf_probe_read_kernel`.

use core::{
    ffi::{c_long, c_void},
    ptr,
};

use aya_ebpf::{
    bindings::{BPF_LOCAL_STORAGE_GET_F_CREATE, bpf_dynptr, file, task_struct},
    helpers::generated as helpers,
};
use enforcer_common::{
    abi::Digest,
    content::{SHA256, VERITY_SHA256},
    field::{ABSENT, Field, Marked, Shape},
    kfunc::{FSVERITY_DIGEST, MISSING, RDONLY_CAST},
    verdict::Fault,
};

use crate::maps::{InodeStorage, SocketStorage, TaskStorage};
pub use crate::opaque::opaque;

#[unsafe(no_mangle)]
static HOST_MNT_NS: u32 = 0;
#[unsafe(no_mangle)]
static REMEMBERS: u32 = 0;
#[unsafe(no_mangle)]
static LOSES_LABELS: u32 = 0;
#[unsafe(no_mangle)]
static RENAME_LOCK: u64 = 0;
#[unsafe(no_mangle)]
static MOUNT_LOCK: u64 = 0;
#[unsafe(no_mangle)]
static INIT_PID_NS: u64 = 0;
#[unsafe(no_mangle)]
static WORDS_TYPE: u32 = 0;

/// A field's offset; all ones if the running kernel lacks an optional field. The loader puts it in place of the marker, so
/// it is a constant to the verifier.
#[inline(always)]
fn offset<F: Marked>(_: F) -> u64 {
    let offset: u64;
    // SAFETY: loads a constant.
    unsafe {
        core::arch::asm!("{offset} = {marker}", offset = out(reg) offset, marker = const F::ENTRY.immediate(), options(pure, nomem, nostack));
    }
    offset
}

/// A field's offset in bytes.
#[inline(always)]
fn bytes<F: Marked>(field: F) -> u64 {
    const { assert!(!is_bit::<F>(), "bits are no bytes") };
    offset(field)
}

const fn is_bit<F: Marked>() -> bool {
    matches!(F::ENTRY.shape(), Shape::OptionalBit)
}

/// Loads the field of a struct, in one instruction.
///
/// # Safety
/// The verifier checks the type and the offset of the load. What the compiler knows of the memory must allow it.
#[inline(always)]
unsafe fn load<T: Copy, F: Marked>(from: *const c_void, _: F) -> T {
    const { assert!(matches!(size_of::<T>(), 1 | 2 | 4 | 8) && !is_bit::<F>(), "one load") };
    let word: u64;
    // SAFETY: by contract. Not `pure`: others write there.
    unsafe {
        match size_of::<T>() {
            1 => {
                core::arch::asm!("{word} = *(u8 *)({from} + {marker})", word = out(reg) word, from = in(reg) from, marker = const F::ENTRY.displacement(), options(nostack, readonly));
            }
            2 => {
                core::arch::asm!("{word} = *(u16 *)({from} + {marker})", word = out(reg) word, from = in(reg) from, marker = const F::ENTRY.displacement(), options(nostack, readonly));
            }
            4 => {
                core::arch::asm!("{word} = *(u32 *)({from} + {marker})", word = out(reg) word, from = in(reg) from, marker = const F::ENTRY.displacement(), options(nostack, readonly));
            }
            8 => {
                core::arch::asm!("{word} = *(u64 *)({from} + {marker})", word = out(reg) word, from = in(reg) from, marker = const F::ENTRY.displacement(), options(nostack, readonly));
            }
            _ => word = 0,
        }
    }
    // SAFETY: the low bytes come first, and any bits are a `T`: programs read integers and pointers.
    unsafe { core::mem::transmute_copy(&word) }
}

/// Whether the running kernel has an optional field.
#[inline(always)]
pub fn has(field: impl Marked) -> bool {
    offset(field) != i64::from(ABSENT.cast_signed()).cast_unsigned()
}

/// The sequence counts of the locks that writers hold while they rename and while they mount; odd while one does.
/// `seqlock_t` starts with its count on every kernel (5.7 to 7.3).
#[inline(always)]
pub fn tree_sequence() -> Result<u64, Fault> {
    // SAFETY: live globals. Volatile because the loader overwrites the section before the kernel freezes it, which the
    // compiler cannot know.
    let (rename, mount) =
        unsafe { (ptr::read_volatile(&raw const RENAME_LOCK), ptr::read_volatile(&raw const MOUNT_LOCK)) };
    let (rename, mount) = (Raw(rename).peek::<u32>(0)?, Raw(mount).peek::<u32>(0)?);
    Ok(u64::from(rename) << 32 | u64::from(mount))
}

/// Whether a sequence says that a writer is at work.
#[inline(always)]
pub const fn is_disturbed(sequence: u64) -> bool {
    sequence & (1 << 32 | 1) != 0
}

/// Keeps two branches from being merged into one with computed operands.
#[inline(always)]
pub fn apart() {
    let nothing = 0_u64;
    // SAFETY: moves a register to itself. Not `pure`, so it stays where it stands.
    unsafe {
        core::arch::asm!("{nothing} = {nothing}", nothing = inout(reg) nothing => _, options(nomem, nostack))
    };
}

/// The same number, of which the verifier knows nothing. `any` is a number that it does not know.
///
/// For what subprograms and callbacks are handed and branch on. Before 6.8 the verifier may forget that a branch was
/// decided by a constant: it takes a state with one constant for every state, and removes what only the others run. Seen on
/// 6.1: all of `inode_setattr` behind its first condition was gone, as the first state that reached it was that of a task
/// that is let through, and so were the looks at pins, as the first content that was judged was an unknown one. (Loads
/// through anything but the frame pointer end its search; mended by 41f6f64e6999 in 6.8.)
#[inline(always)]
pub fn untold(value: u64, any: u64) -> u64 {
    let mut value = value;
    // SAFETY: arithmetic on one register.
    unsafe {
        core::arch::asm!("{value} ^= {any}", "{value} ^= {any}", value = inout(reg) value, any = in(reg) any, options(pure, nomem, nostack));
    }
    value
}

/// The same flag, likewise.
#[expect(
    clippy::transmute_int_to_bool,
    reason = "a comparison would be compiled to a branch between two constants"
)]
#[inline(always)]
pub fn untold_flag(flag: bool, any: u64) -> bool {
    // SAFETY: one bit is left.
    unsafe { core::mem::transmute((untold(u64::from(flag), any) & 1) as u8) }
}

/// Whether the kernel acts with other credentials than the current task's own: within overlayfs, or for `io_uring`
/// with a registered personality.
#[inline(always)]
pub fn acts_for_another() -> bool {
    let task = current();
    task.follow(Field::TaskCred).as_ptr() != task.follow(Field::TaskRealCred).as_ptr()
}

/// Whether all readable memory of the current task is executable.
#[inline(always)]
pub fn read_implies_exec() -> bool {
    /// Stable since 2.6.
    const READ_IMPLIES_EXEC: u32 = 0x0040_0000;
    current().get::<u32>(Field::TaskPersonality) & READ_IMPLIES_EXEC != 0
}

/// `__X32_SYSCALL_BIT`.
const X32: u32 = 0x4000_0000;

/// The registers that the current task entered the kernel with.
#[inline(always)]
fn registers() -> Typed {
    // SAFETY: the helper takes any task, and returns where the kernel saves its registers.
    Typed(unsafe {
        helpers::bpf_task_pt_regs(current().as_ptr().cast::<task_struct>().cast_mut()) as *const c_void
    })
}

/// The number and the third argument of the system call that the current task is in, by the registers that it entered
/// the kernel with. Means nothing for a kernel thread, and for an `io_uring` worker that of the task that made it.
#[inline(always)]
pub fn system_call() -> (u32, u32) {
    let registers = registers();
    (registers.get::<u64>(Field::RegsOrigAx) as u32 & !X32, registers.get::<u64>(Field::RegsDx) as u32)
}

/// Whether the system call that the current task is in has a number of the 32-bit ABI.
#[inline(always)]
pub fn is_compat() -> bool {
    /// `TS_COMPAT`, in the kernel since 2.6. Set at entry and cleared at exit.
    const TS_COMPAT: u32 = 2;
    current().get::<u32>(Field::TaskThreadStatus) & TS_COMPAT != 0
}

/// Whether the current task is in a `sendmmsg(2)` of more than one message, by the numbers of all three ABIs, none of which
/// is that of another call that sends. How many it is stands in a register, which nobody changes meanwhile; but in the
/// caller's memory where a 32-bit program goes by `socketcall(2)`, so it counts as many there.
#[inline(always)]
pub fn sends_several() -> bool {
    const SENDMMSG: u32 = 307;
    const SENDMMSG_X32: u32 = 538;
    const SENDMMSG_32: u32 = 345;
    /// `getuid(2)` for 64-bit programs.
    const SOCKETCALL_32: u32 = 102;
    /// `SYS_SENDMMSG` of `linux/net.h`.
    const BY_SOCKETCALL: u32 = 20;
    let registers = registers();
    let several = match registers.get::<u64>(Field::RegsOrigAx) as u32 & !X32 {
        SENDMMSG | SENDMMSG_X32 | SENDMMSG_32 => registers.get::<u64>(Field::RegsDx) as u32 > 1,
        SOCKETCALL_32 => registers.get::<u64>(Field::RegsBx) as u32 == BY_SOCKETCALL,
        _ => false,
    };
    several && !is_io_worker()
}

/// Whether the current task is in `write(2)` or `writev(2)`, by the numbers of both ABIs, none of which is that of a call
/// that splices. Of an `io_uring` worker nothing can be told.
#[inline(always)]
pub fn is_in_plain_write() -> bool {
    let (number, _) = system_call();
    let plain = number == 1 || number == 20 || number == 4 || number == 146;
    plain && !is_io_worker()
}

/// Whether the current task is a worker of `io_uring`, whose registers are those of whatever system call its maker happened to
/// be in.
#[inline(always)]
pub fn is_io_worker() -> bool {
    const PF_IO_WORKER: u32 = 0x10;
    current().get::<u32>(Field::TaskFlags) & PF_IO_WORKER != 0
}

/// What an `io_uring` worker is about to do: `IORING_OP_*`. None for other tasks, and for the thread that polls a ring, which
/// leaves what takes long to a worker.
#[inline(always)]
pub fn io_operation() -> Result<Option<u8>, Fault> {
    if !is_io_worker() {
        return Ok(None);
    }
    let worker = current().follow(Field::TaskWorkerPrivate).raw();
    if worker.is_null() {
        return Ok(None);
    }
    let work = worker.follow(Field::IoWorkerWork)?;
    if work.is_null() {
        return Ok(None);
    }
    work.container(Field::IoRequestWork).get::<u8>(Field::IoRequestOpcode).map(Some)
}

/// Whether `number` is what the current task calls its own process.
#[inline(always)]
pub fn is_own_process(number: i32) -> Result<bool, Fault> {
    /// `struct upid`: the number, and the namespace.
    const UPID_LEN: u64 = 16;
    let pid = current().follow(Field::TaskGroupLeader).raw().follow(Field::TaskThreadPid)?;
    let level = u64::from(pid.get::<u32>(Field::PidLevel)?);
    let own = Raw(pid.embedded(Field::PidNumbers).0.wrapping_add(level * UPID_LEN));
    Ok(own.get::<i32>(Field::UpidNr)? == number)
}

/// The first task with this id, of a process (`PIDTYPE_TGID`) or thread (`PIDTYPE_PID`); null if none is left.
#[inline(always)]
pub fn task_of(pid: Raw, kind: u32) -> Result<Raw, Fault> {
    /// `struct hlist_head`: the first node.
    const HEAD_LEN: u64 = 8;
    /// `struct hlist_node`.
    const NODE_LEN: u64 = 16;
    let kind = u64::from(kind);
    let first = Raw(pid.embedded(Field::PidTasks).0.wrapping_add(kind * HEAD_LEN)).load::<u64>()?;
    if first == 0 {
        return Ok(Raw(0));
    }
    Ok(Raw(first.wrapping_sub(kind * NODE_LEN)).container(Field::TaskPidLinks))
}

/// Whether the stack of the program that is being started will be executable: its ELF header asked for that. The kernel
/// has set the stack up, and maps the program next.
#[inline(always)]
pub fn has_executable_stack() -> Result<bool, Fault> {
    const VM_EXEC: u64 = 0x4;
    let task = current();
    let stack = task.follow(Field::TaskMm).get::<u64>(Field::MmStartStack);
    let mut flags = 0_u64;
    // SAFETY: the callback gets `flags` back, which outlives the call; it is called at most once, and always if the
    // result is zero.
    let result = unsafe {
        helpers::bpf_find_vma(
            task.as_ptr().cast::<task_struct>().cast_mut(),
            stack,
            note_flags as *const () as *mut c_void,
            (&raw mut flags).cast(),
            0,
        )
    };
    if result == 0 { Ok(flags & VM_EXEC != 0) } else { Err(Fault::Helper) }
}

extern "C" fn note_flags(_: *mut c_void, vma: *const c_void, flags: *mut u64) -> c_long {
    // SAFETY: `has_executable_stack` passes a live, exclusive number.
    unsafe { flags.write(Typed(vma).get::<u64>(Field::VmaFlags)) };
    0
}

/// Inode number of the host's mount namespace.
#[inline(always)]
pub fn host_mnt_ns() -> u32 {
    // SAFETY: as in `tree_sequence`.
    unsafe { ptr::read_volatile(&raw const HOST_MNT_NS) }
}

/// The host's first process. It never ends.
#[inline(always)]
pub fn first_process() -> Result<Raw, Fault> {
    // SAFETY: as in `tree_sequence`.
    Raw(unsafe { ptr::read_volatile(&raw const INIT_PID_NS) }).follow(Field::PidNamespaceReaper)
}

/// Whether the kernel may forget what sticks to a task, see [`enforcer_common::maps::LOSES_LABELS`].
#[inline(always)]
pub fn loses_labels() -> bool {
    // SAFETY: as in `tree_sequence`.
    unsafe { ptr::read_volatile(&raw const LOSES_LABELS) != 0 }
}

/// Whether allows are remembered.
#[inline(always)]
pub fn remembers() -> bool {
    // SAFETY: as in `tree_sequence`.
    unsafe { ptr::read_volatile(&raw const REMEMBERS) != 0 }
}

/// When an inode, its content or its names changed last, in seconds and nanoseconds; `None` on kernels that keep it in
/// a place unknown to us.
#[inline(always)]
pub fn changed(inode: Typed) -> Option<(u64, u64)> {
    /// Without the bit by which the kernel notes that somebody has asked (6.13).
    const NANOS: u32 = u32::MAX >> 1;
    if has(Field::InodeChangedSeconds) && has(Field::InodeChangedNanos) {
        let nanos = inode.get::<u32>(Field::InodeChangedNanos) & NANOS;
        Some((inode.get(Field::InodeChangedSeconds), u64::from(nanos)))
    } else if has(Field::InodeChangedSeconds66) && has(Field::InodeChangedNanos66) {
        Some((inode.get(Field::InodeChangedSeconds66), inode.get(Field::InodeChangedNanos66)))
    } else if has(Field::InodeChangedSeconds61) && has(Field::InodeChangedNanos61) {
        Some((inode.get(Field::InodeChangedSeconds61), inode.get(Field::InodeChangedNanos61)))
    } else {
        None
    }
}

/// A pointer whose kernel type the verifier knows: a hook's argument, the current task, or what a [`Typed`] pointer
/// field holds.
#[derive(Clone, Copy)]
pub struct Typed(*const c_void);

impl Typed {
    /// Wraps a hook's argument.
    #[inline(always)]
    pub const fn new(pointer: *const c_void) -> Self {
        Self(pointer)
    }

    #[inline(always)]
    pub fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// Reads a scalar field.
    #[inline(always)]
    pub fn get<T: Copy>(self, field: impl Marked) -> T {
        // SAFETY: the verifier checks the type and the offset of this load; a stale pointer reads as zero, because
        // the kernel handles faults of such loads.
        unsafe { load(self.0, field) }
    }

    /// Reads a bitfield of one bit. False where the kernel lacks it.
    #[inline(always)]
    pub fn bit<F: Marked>(self, field: F) -> bool {
        const { assert!(is_bit::<F>(), "bytes are no bits") };
        if !has(field) {
            return false;
        }
        let bit = offset(field);
        // SAFETY: as in `get`.
        let byte = unsafe { self.0.byte_add(bit as usize / 8).cast::<u8>().read_volatile() };
        byte >> (bit % 8) & 1 != 0
    }

    /// Follows a pointer field.
    #[inline(always)]
    pub fn follow(self, field: impl Marked) -> Self {
        Self(self.get::<*const c_void>(field))
    }

    /// The address of an embedded field.
    #[inline(always)]
    pub fn embedded(self, field: impl Marked) -> Raw {
        Raw(self.0 as u64 + bytes(field))
    }

    /// The same pointer as a number.
    #[inline(always)]
    pub fn raw(self) -> Raw {
        Raw(self.0 as u64)
    }

    #[inline(always)]
    pub const fn as_ptr(self) -> *const c_void {
        self.0
    }
}

/// An address in kernel memory of which the verifier knows nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Raw(pub u64);

impl Raw {
    #[inline(always)]
    pub const fn is_null(self) -> bool {
        self.0 == 0
    }

    /// Reads a scalar field.
    #[inline(always)]
    pub fn get<T: Copy + Default>(self, field: impl Marked) -> Result<T, Fault> {
        Self(self.0.wrapping_add(bytes(field))).load()
    }

    /// Follows a pointer field.
    #[inline(always)]
    pub fn follow(self, field: impl Marked) -> Result<Self, Fault> {
        self.get::<u64>(field).map(Self)
    }

    /// The address of an embedded field.
    #[inline(always)]
    pub fn embedded(self, field: impl Marked) -> Self {
        Self(self.0.wrapping_add(bytes(field)))
    }

    /// The address of the struct in which this is the given field.
    #[inline(always)]
    pub fn container(self, field: impl Marked) -> Self {
        Self(self.0.wrapping_sub(bytes(field)))
    }

    /// Reads what lies here.
    #[inline(always)]
    pub fn load<T: Copy + Default>(self) -> Result<T, Fault> {
        let mut value = T::default();
        // SAFETY: `value` is valid for writes of its size; the helper survives any source address.
        let result = unsafe {
            helpers::bpf_probe_read_kernel(
                (&raw mut value).cast(),
                size_of::<T>() as u32,
                self.0 as *const c_void,
            )
        };
        if result == 0 { Ok(value) } else { Err(Fault::KernelRead) }
    }

    /// Reads a number within a word, `at` bytes on, of memory that is there for certain: where a plain load can be had, a
    /// fault reads as zero. `at` is a constant, and at most 16 words.
    #[inline(always)]
    pub fn peek<T: Copy + Default>(self, at: u64) -> Result<T, Fault> {
        // SAFETY: as in `tree_sequence`.
        let words = unsafe { ptr::read_volatile(&raw const WORDS_TYPE) };
        if words == 0 {
            return Self(self.0.wrapping_add(at)).load();
        }
        let typed: *const c_void;
        // SAFETY: the function returns its first argument. All registers that a call may change are named.
        unsafe {
            core::arch::asm!(
                ".byte 0x85, 0x20, 0, 0",
                ".long {marker}",
                marker = const RDONLY_CAST.marker,
                inout("r1") self.0 => _,
                inout("r2") u64::from(words) => _,
                lateout("r0") typed,
                lateout("r3") _,
                lateout("r4") _,
                lateout("r5") _,
                options(nomem, nostack),
            );
        }
        // SAFETY: as in `Typed::get`.
        Ok(unsafe { typed.byte_add(at as usize).cast::<T>().read_volatile() })
    }

    /// Copies `len` bytes to `to`.
    ///
    /// # Safety
    /// `to` is valid for writes of `len` bytes.
    #[inline(always)]
    pub unsafe fn copy_to(self, to: *mut u8, len: u32) -> Result<(), Fault> {
        // SAFETY: by contract; the helper survives any source address.
        let result = unsafe { helpers::bpf_probe_read_kernel(to.cast(), len, self.0 as *const c_void) };
        if result == 0 { Ok(()) } else { Err(Fault::KernelRead) }
    }

    /// Copies a NUL-terminated string of less than `room` bytes to `to`; its length without the NUL.
    ///
    /// # Safety
    /// `to` is valid for writes of `room` bytes.
    #[inline(always)]
    pub unsafe fn copy_str_to(self, to: *mut u8, room: u32) -> Result<u32, Fault> {
        // SAFETY: by contract; the helper survives any source address.
        let result = unsafe { helpers::bpf_probe_read_kernel_str(to.cast(), room, self.0 as *const c_void) };
        if result > 0 { Ok(result.cast_unsigned() as u32 - 1) } else { Err(Fault::KernelRead) }
    }
}

/// Copies a NUL-terminated string of less than `room` bytes from the current task's memory to `to`; its length without
/// the NUL.
///
/// # Safety
/// `to` is valid for writes of `room` bytes.
#[inline(always)]
pub unsafe fn copy_user_str(from: u64, to: *mut u8, room: u32) -> Result<u32, Fault> {
    // SAFETY: by contract; the helper survives any source address.
    let result = unsafe { helpers::bpf_probe_read_user_str(to.cast(), room, from as *const c_void) };
    if result < 0 {
        return Err(Fault::KernelRead);
    }
    // 6.12 does not count the NUL of an empty string (`strncpy_from_user_nofault`). One less, unless it is none, without a
    // branch: in a loop over many strings, the verifier would follow either way each time.
    let counted = result.cast_unsigned();
    let less = opaque(counted.wrapping_neg()) >> 63;
    Ok((counted - less) as u32 & 0x1fff)
}

/// The current task.
#[inline(always)]
pub fn current() -> Typed {
    // SAFETY: the helper has no preconditions and never returns NULL.
    Typed(unsafe { helpers::bpf_get_current_task_btf() }.cast())
}

/// Process and thread id of the current task, in the initial pid namespace.
#[inline(always)]
pub fn pid_tgid() -> u64 {
    aya_ebpf::helpers::bpf_get_current_pid_tgid()
}

/// Real user id of the current task, in the initial user namespace.
#[inline(always)]
pub fn uid() -> u32 {
    aya_ebpf::helpers::bpf_get_current_uid_gid() as u32
}

/// Nanoseconds since boot, time asleep included.
#[inline(always)]
pub fn boot_ns() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { helpers::bpf_ktime_get_boot_ns() }
}

/// The current task's cgroup on the unified hierarchy.
#[inline(always)]
pub fn cgroup_id() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { helpers::bpf_get_current_cgroup_id() }
}

/// The ancestor of that cgroup at `level` (the root is 0), or 0 if the cgroup is not that deep.
#[inline(always)]
pub fn ancestor_cgroup_id(level: i32) -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { helpers::bpf_get_current_ancestor_cgroup_id(level) }
}

/// Eight bytes from an address that need not be aligned.
///
/// # Safety
/// `from` is valid for reads of eight bytes.
#[inline(always)]
pub unsafe fn load_unaligned(from: *const u8) -> u64 {
    let word: u64;
    // SAFETY: by contract. Assembly because `read_unaligned` compiles to eight byte loads on this target, though the
    // verifier allows unaligned access to map values wherever the CPU does.
    unsafe {
        core::arch::asm!("{word} = *(u64 *)({from} + 0)", word = out(reg) word, from = in(reg) from, options(nostack, readonly));
    }
    word
}

/// SHA-256 of a file's content, into `digest`; whether that is what is there now. Sleeps while the file is read, so
/// sleepable programs only.
#[inline(always)]
pub fn sha256(file: Typed, digest: &mut Digest) -> bool {
    // SAFETY: the verifier checks that `file` is a file that the hook holds; `digest` is valid for writes of its size.
    // A longer hash of another algorithm is cut off, and its algorithm returned.
    let algorithm = unsafe {
        helpers::bpf_ima_file_hash(
            file.as_ptr().cast::<file>().cast_mut(),
            ptr::from_mut(digest).cast(),
            size_of::<Digest>() as u32,
        )
    };
    algorithm == SHA256
}

/// `struct fsverity_digest` with room for SHA-256. In a map value: dynamic pointers point nowhere else.
#[repr(C, align(8))]
pub struct VerityDigest {
    /// So that the digest lies where a [`Digest`] may.
    reserved: [u16; 2],
    algorithm: u16,
    size: u16,
    /// The digest.
    pub digest: Digest,
}

/// The fs-verity digest of a file, into `found`; whether it has one, made with SHA-256. The file system compares whatever
/// is read of such a file with it, and lets nobody write. The file is open, so the kernel knows the digest.
#[inline(always)]
pub fn fsverity(file: Typed, found: &mut VerityDigest) -> bool {
    match ask_fsverity(file, found) {
        0 => found.algorithm == VERITY_SHA256 && usize::from(found.size) == size_of::<Digest>(),
        MISSING => read_fsverity(file, found),
        // `-ENODATA`: the file has none.
        _ => false,
    }
}

/// Calls `bpf_get_fsverity_digest`.
#[inline(always)]
fn ask_fsverity(file: Typed, found: &mut VerityDigest) -> i32 {
    const LEN: u32 = (size_of::<VerityDigest>() - size_of::<[u16; 2]>()) as u32;
    let mut pointer = bpf_dynptr { __opaque: [0; 2] };
    // SAFETY: `found` is a map value, valid for writes of `LEN` bytes from its algorithm on; `pointer` outlives the call
    // below, and is not touched between the two but by the kernel.
    let result =
        unsafe { helpers::bpf_dynptr_from_mem((&raw mut found.algorithm).cast(), LEN, 0, &raw mut pointer) };
    if result != 0 {
        return -1;
    }
    let result: u64;
    // SAFETY: a call of the kernel's function, or a move into `r0` (`enforcer_common::kfunc`). The verifier checks that
    // `file` is a file that the hook holds and `pointer` a dynamic pointer. All registers that a call may change are named,
    // and memory may change.
    unsafe {
        core::arch::asm!(
            ".byte 0x85, 0x20, 0, 0",
            ".long {marker}",
            marker = const FSVERITY_DIGEST.marker,
            inout("r1") file.as_ptr() => _,
            inout("r2") &raw mut pointer => _,
            lateout("r0") result,
            lateout("r3") _,
            lateout("r4") _,
            lateout("r5") _,
        );
    }
    result as i32
}

/// Reads what `bpf_get_fsverity_digest` would return on kernels that lack it (before 6.8), and keep the digest where the
/// inode says.
#[inline(always)]
fn read_fsverity(file: Typed, found: &mut VerityDigest) -> bool {
    if !has(Field::InodeVerity)
        || !has(Field::VerityAlgorithm)
        || !has(Field::VerityDigest)
        || !has(Field::VerityAlgorithmSize)
    {
        return false;
    }
    let info = file.follow(Field::FileInode).follow(Field::InodeVerity);
    // A NULL pointer reads as zeros.
    if info.follow(Field::VerityAlgorithm).get::<u32>(Field::VerityAlgorithmSize) as usize
        != size_of::<Digest>()
    {
        return false;
    }
    // SAFETY: a digest has as many bytes.
    let copied = unsafe {
        info.embedded(Field::VerityDigest).copy_to((&raw mut found.digest).cast(), size_of::<Digest>() as u32)
    };
    copied.is_ok()
}

/// A task's entry in a task storage map.
///
/// Where a fork that fails frees the parent's storage ([`loses_labels`]), nothing can be added to it while it is being freed
/// (`-EAGAIN`, which the helper does not tell). The second try, which waits for the same lock, finds it gone, and makes
/// another.
#[inline(always)]
pub fn task_storage<T>(map: &TaskStorage<T>, task: Typed, create: bool) -> Option<&'static mut T> {
    let entry = task_storage_once(map, task, create);
    if entry.is_none() && create && loses_labels() { task_storage_once(map, task, true) } else { entry }
}

#[inline(always)]
fn task_storage_once<T>(map: &TaskStorage<T>, task: Typed, create: bool) -> Option<&'static mut T> {
    let flags = if create { u64::from(BPF_LOCAL_STORAGE_GET_F_CREATE) } else { 0 };
    // SAFETY: the map holds values of `T`, zeroed when created, for as long as the task lives; entries are written by
    // the task itself, or at its birth and on its moves between cgroups with single aligned stores.
    unsafe {
        let entry = helpers::bpf_task_storage_get(
            map.as_ptr(),
            task.as_ptr().cast::<task_struct>().cast_mut(),
            ptr::null_mut(),
            flags,
        );
        entry.cast::<T>().as_mut()
    }
}

/// A socket's entry in a socket storage map.
#[inline(always)]
pub fn socket_storage<T>(map: &SocketStorage<T>, sock: Typed, create: bool) -> Option<&'static mut T> {
    let flags = if create { u64::from(BPF_LOCAL_STORAGE_GET_F_CREATE) } else { 0 };
    // SAFETY: the map holds values of `T`, zeroed when created, for as long as the socket lives; entries are written
    // with single aligned stores.
    unsafe {
        let entry =
            helpers::bpf_sk_storage_get(map.as_ptr(), sock.as_ptr().cast_mut(), ptr::null_mut(), flags);
        entry.cast::<T>().as_mut()
    }
}

/// An inode's entry in an inode storage map. Entries are never changed once they are there: see [`replace_in_inode`].
#[inline(always)]
pub fn inode_storage<T>(map: &InodeStorage<T>, inode: Typed) -> Option<&'static T> {
    // SAFETY: the map holds values of `T`. The entry lives as long as the inode, or until it is replaced, and then until
    // all programs that run have ended.
    unsafe {
        let entry =
            helpers::bpf_inode_storage_get(map.as_ptr(), inode.as_ptr().cast_mut(), ptr::null_mut(), 0);
        entry.cast::<T>().as_ref()
    }
}

/// Puts another entry in the place of an inode's entry, if there is one. Whoever reads meanwhile gets the old one, the
/// new one or none. Where there is no memory, or somebody else was faster, nothing is put there.
#[inline(always)]
pub fn replace_in_inode<T>(map: &InodeStorage<T>, inode: Typed, value: &mut T) {
    let inode = inode.as_ptr().cast_mut();
    // SAFETY: the kernel copies the value into an entry of its own before it shows it to anybody.
    unsafe {
        helpers::bpf_inode_storage_delete(map.as_ptr(), inode);
        let flags = u64::from(BPF_LOCAL_STORAGE_GET_F_CREATE);
        helpers::bpf_inode_storage_get(map.as_ptr(), inode, ptr::from_mut(value).cast(), flags);
    }
}

//! Memory whose protection is the point, so no Rust type owns it.

use std::ffi::c_void;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use enforcer_vm_tests::report::{At, Outcome};
use nix::sys::personality::{self, Persona};

pub(crate) use libc::{MAP_ANONYMOUS, MAP_PRIVATE, MAP_SHARED, PROT_EXEC, PROT_READ, PROT_WRITE};

/// Bytes of a page.
pub(crate) const PAGE: usize = 4096;

/// One page, never unmapped: the attacker does not live long.
#[derive(Clone, Copy)]
pub(crate) struct Page(*mut c_void);

impl Page {
    /// Maps a page of fresh memory.
    pub(crate) fn anonymous(protection: i32, sharing: i32) -> io::Result<Self> {
        Self::map(protection, sharing | MAP_ANONYMOUS, -1)
    }

    /// Maps the first page of a file.
    pub(crate) fn of_file(file: BorrowedFd<'_>, protection: i32, sharing: i32) -> io::Result<Self> {
        Self::map(protection, sharing, file.as_raw_fd())
    }

    fn map(protection: i32, flags: i32, file: i32) -> io::Result<Self> {
        // SAFETY: the kernel chooses a fresh address, so no existing memory changes.
        let address = unsafe { libc::mmap(core::ptr::null_mut(), PAGE, protection, flags, file, 0) };
        if address == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(Self(address)) }
    }

    /// A page that some other system call made.
    pub(crate) fn at(address: *mut c_void) -> Self {
        Self(address)
    }

    pub(crate) fn address(self) -> *mut c_void {
        self.0
    }

    /// Changes its protection.
    pub(crate) fn protect(self, protection: i32) -> io::Result<()> {
        // SAFETY: the page is ours and nothing in Rust refers to it.
        super::check(unsafe { libc::mprotect(self.0, PAGE, protection) }).map(drop)
    }

    /// Puts a return instruction at its start. The page must be writable.
    pub(crate) fn write_code(self) {
        // SAFETY: the callers mapped the page writable; 0xc3 is `ret`.
        unsafe { self.0.cast::<u8>().write_volatile(0xc3) };
    }

    /// Calls what is at `offset`. A fault kills the process, so where that is to be expected, a child calls.
    pub(crate) fn call(self, offset: usize) {
        // SAFETY: the callers know what code lies there; if it is not executable, the kernel ends the process.
        let function: extern "C" fn() = unsafe { core::mem::transmute(self.0.byte_add(offset)) };
        function();
    }
}

/// Acts with the personality under which readable memory is executable, and puts the old one back.
pub(crate) fn with_read_implies_exec(act: impl FnOnce() -> Outcome) -> Outcome {
    let before = personality::get().at("personality")?;
    personality::set(before | Persona::READ_IMPLIES_EXEC).at("personality")?;
    let outcome = act();
    personality::set(before).at("personality")?;
    outcome
}

/// System V shared memory of one page that goes away with its last user, attached with these flags.
pub(crate) fn attach_shm(flags: i32, act: impl FnOnce(Page) -> Outcome) -> Outcome {
    // SAFETY: takes no pointers.
    let id = unsafe { libc::shmget(libc::IPC_PRIVATE, PAGE, libc::IPC_CREAT | 0o700) };
    super::check(id).at("shmget")?;
    // SAFETY: the kernel chooses the address.
    let address = unsafe { libc::shmat(id, core::ptr::null(), flags) };
    let attached = if address as isize == -1 { Err(io::Error::last_os_error()) } else { Ok(()) };
    // SAFETY: IPC_RMID takes no pointer.
    unsafe { libc::shmctl(id, libc::IPC_RMID, core::ptr::null_mut()) };
    attached.at("shmat")?;
    let outcome = act(Page(address));
    // SAFETY: the address is that of the segment attached above, and `act` is done with it.
    unsafe { libc::shmdt(address) };
    outcome
}

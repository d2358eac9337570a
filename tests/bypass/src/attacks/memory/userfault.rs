//! `userfaultfd(2)` fills pages that have not been touched yet. In a private mapping of a file on tmpfs it does so whatever the
//! mapping's protection: that is what the kernel itself would do for a debugger, but nobody asks for `ptrace`.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use crate::calls::memory::{MAP_PRIVATE, PAGE, PROT_EXEC, PROT_READ, Page};

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "userfault",
    told: "fill a mapping of a listed library with code of mine",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["{dir}/library"])
            .stub("{dir}/library", 0)
            .given("file.read", "{dir}/library")
            .given("memory.libraries", "{dir}/library")
            .allowed_by("memory.anonymous", "true")
            .refused(Hook::FileIoctl, Family::Memory, Reason::AnonymousExec),
    ]
}

/// A page whose first instruction returns. `calls::memory` has nothing but one page at a time.
#[repr(align(4096))]
struct Code([u8; PAGE]);

fn run(words: &[&str]) -> Outcome {
    let [library] = arguments(words)?;
    let file = calls::files::open(library, OFlag::O_RDONLY)?;
    let page = Page::of_file(file.as_fd(), PROT_READ | PROT_EXEC, MAP_PRIVATE).at("mmap")?;
    let faults = open()?;
    fill(&faults, page)?;
    // The stub does not return, it ends the process; and its first bytes are a header that is no code at all.
    calls::process::in_child(|| {
        page.call(0);
        Ok("code of mine ran".into())
    })
}

/// For faults in user mode, which nobody needs a capability for.
fn open() -> Result<OwnedFd, Failure> {
    const UFFD_USER_MODE_ONLY: i32 = 1;
    const UFFDIO_API: libc::Ioctl = 0xc018_aa3f;
    const UFFD_API: u64 = 0xaa;
    // SAFETY: takes no pointers.
    let faults = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | UFFD_USER_MODE_ONLY) };
    let faults = calls::descriptor(faults).at("userfaultfd")?;
    // Version, features, commands.
    let mut api = [UFFD_API, 0, 0];
    // SAFETY: the kernel reads and writes the three words.
    calls::check(unsafe { libc::ioctl(faults.as_raw_fd(), UFFDIO_API, api.as_mut_ptr()) })
        .at("UFFDIO_API")?;
    Ok(faults)
}

fn fill(faults: &OwnedFd, page: Page) -> Result<(), Failure> {
    const UFFDIO_REGISTER: libc::Ioctl = 0xc020_aa00;
    const UFFDIO_COPY: libc::Ioctl = 0xc028_aa03;
    const MODE_MISSING: u64 = 1;
    let (at, size) = (page.address() as u64, PAGE as u64);
    // Start, length, mode, commands.
    let mut register = [at, size, MODE_MISSING, 0];
    // SAFETY: the kernel reads and writes the four words.
    calls::check(unsafe { libc::ioctl(faults.as_raw_fd(), UFFDIO_REGISTER, register.as_mut_ptr()) })
        .at("UFFDIO_REGISTER")?;
    let mut code = Box::new(Code([0; PAGE]));
    code.0[0] = 0xc3; // ret
    // Destination, source, length, mode, bytes copied.
    let mut copy = [at, code.0.as_ptr() as u64, size, 0, 0];
    // SAFETY: the kernel reads the page of code and writes the page that is ours, and the five words.
    calls::check(unsafe { libc::ioctl(faults.as_raw_fd(), UFFDIO_COPY, copy.as_mut_ptr()) })
        .at("UFFDIO_COPY")
        .map(drop)
}

//! Making memory executable.

use std::os::fd::AsRawFd;

use enforcer_vm_tests::report::{At, Failure, Outcome};
use libc::{MAP_ANONYMOUS, MAP_PRIVATE, MAP_SHARED, PROT_EXEC, PROT_READ, PROT_WRITE};
use nix::sys::personality::{self, Persona};

use crate::{files, system};

pub(crate) fn perform(name: &str, arguments: &[&str]) -> Option<Outcome> {
    Some(match (name, arguments) {
        ("mmap-exec", [path]) => map_file(path),
        ("mmap-rwx-file", [path]) => map_file_writable(path),
        ("mmap-rwx", []) => map_anonymous(PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE),
        ("mmap-rwx-shared", []) => map_anonymous(PROT_READ | PROT_WRITE | PROT_EXEC, MAP_SHARED),
        ("mprotect-rx", []) => protect_anonymous(),
        ("mprotect-file-rx", [path]) => protect_file(path),
        ("mprotect-cow-rx", [path]) => protect_written_copy(path),
        ("shmat-exec", []) => system::attach_executable_shm().map(|()| String::new()),
        ("read-implies-exec-mmap", []) => with_read_implies_exec(|| map_anonymous(PROT_READ, MAP_PRIVATE)),
        ("read-implies-exec-heap", []) => with_read_implies_exec(run_from_heap),
        ("memfd-mmap-exec", []) => map_memfd(),
        _ => return None,
    })
}

fn map_file(path: &str) -> Outcome {
    let file = files::reading(path)?;
    system::map_page(PROT_READ | PROT_EXEC, MAP_PRIVATE, file.as_raw_fd()).at("mmap").map(|_| String::new())
}

/// One private mapping of a file that is writable and executable at once: its pages become the attacker's.
fn map_file_writable(path: &str) -> Outcome {
    let file = files::reading(path)?;
    let page =
        system::map_page(PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE, file.as_raw_fd()).at("mmap")?;
    Ok(format!("{page:p}"))
}

fn map_anonymous(protection: i32, sharing: i32) -> Outcome {
    system::map_page(protection, sharing | MAP_ANONYMOUS, -1).at("mmap").map(|_| String::new())
}

fn protect_anonymous() -> Outcome {
    let page = system::map_page(PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1).at("mmap")?;
    put_return(page);
    system::protect_page(page, PROT_READ | PROT_EXEC).at("mprotect")?;
    system::call(page);
    Ok(String::new())
}

fn protect_file(path: &str) -> Outcome {
    let file = files::reading(path)?;
    let page = system::map_page(PROT_READ, MAP_PRIVATE, file.as_raw_fd()).at("mmap")?;
    system::protect_page(page, PROT_READ | PROT_EXEC).at("mprotect").map(|()| String::new())
}

/// Writes code over a private mapping of a library and makes that executable: the mapping still names the library.
fn protect_written_copy(path: &str) -> Outcome {
    let file = files::reading(path)?;
    let page = system::map_page(PROT_READ | PROT_WRITE, MAP_PRIVATE, file.as_raw_fd()).at("mmap")?;
    put_return(page);
    system::protect_page(page, PROT_READ | PROT_EXEC).at("mprotect")?;
    system::call(page);
    Ok(String::new())
}

fn put_return(page: *mut core::ffi::c_void) {
    // SAFETY: the callers mapped the page writable just now. 0xc3 is `ret`.
    unsafe { page.cast::<u8>().write_volatile(0xc3) };
}

/// Runs with the personality under which readable memory is executable, and puts the old one back.
fn with_read_implies_exec(act: impl FnOnce() -> Outcome) -> Outcome {
    let before = personality::get().at("personality")?;
    personality::set(before | Persona::READ_IMPLIES_EXEC).at("personality")?;
    let outcome = act();
    personality::set(before).at("personality")?;
    outcome
}

/// Grows the heap, which takes its protection from the personality, and runs code there.
///
/// In a child: without execute permission the call faults, which the parent sees as a signal.
fn run_from_heap() -> Outcome {
    // SAFETY: the actor is single threaded here and the child only touches its own fresh page and exits.
    match unsafe { nix::unistd::fork() }.at("fork")? {
        nix::unistd::ForkResult::Child => {
            // SAFETY: growing by a page moves nothing.
            let page = unsafe { libc::sbrk(8192) };
            if page as isize == -1 {
                crate::programs::system_exit(std::io::Error::last_os_error().raw_os_error().unwrap_or(1));
            }
            put_return(page);
            system::call(page);
            crate::programs::system_exit(0)
        }
        nix::unistd::ForkResult::Parent { child } => {
            match nix::sys::wait::waitpid(child, None).at("waitpid")? {
                nix::sys::wait::WaitStatus::Exited(_, 0) => Ok("ran from the heap".into()),
                nix::sys::wait::WaitStatus::Exited(_, errno) => Err(Failure { step: "sbrk".into(), errno }),
                // Not executable: refused in effect.
                other => Err(Failure { step: format!("call: {other:?}"), errno: libc::EPERM }),
            }
        }
    }
}

fn map_memfd() -> Outcome {
    use nix::sys::memfd::{MFdFlags, memfd_create};
    let memory = memfd_create(c"library", MFdFlags::MFD_CLOEXEC).at("memfd_create")?;
    nix::unistd::ftruncate(&memory, 4096).at("ftruncate")?;
    system::map_page(PROT_READ | PROT_EXEC, MAP_PRIVATE, memory.as_raw_fd()).at("mmap").map(|_| String::new())
}

//! A child that borrows its parent's memory is a task of its own.

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "vfork",
    told: "read in a child made by vfork",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    let birth = |how: &str| {
        ATTACK
            .row(&[how, "{dir}/secret"])
            .file("{dir}/secret")
            .allowed_by("file.read", "{dir}/secret")
            .refused(Hook::FileOpen, Family::File, Reason::NoRule)
            .needing("read")
            .about("{dir}/secret")
    };
    vec![birth("vfork")]
}

fn run(words: &[&str]) -> Outcome {
    let [_, secret] = arguments(words)?;
    let path = calls::c_string(secret).at("path")?;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    let mut stack = vec![0_u128; 4096];
    let mut shared = Shared { path: path.as_ptr(), errno: -1 };
    let top = stack.as_mut_ptr_range().end.cast();
    // SAFETY: we are stopped until the child exits, it has a stack of its own, and what it is given outlives it.
    let child = unsafe { libc::clone(child, top, flags, (&raw mut shared).cast()) };
    calls::check(child).at("clone")?;
    nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(child), None).at("waitpid")?;
    match shared.errno {
        0 => Ok("opened".into()),
        errno => Err(failure("open in the child", errno)),
    }
}

struct Shared {
    path: *const libc::c_char,
    errno: i32,
}

extern "C" fn child(shared: *mut libc::c_void) -> i32 {
    // SAFETY: the parent passes this and is stopped meanwhile.
    let shared = unsafe { &mut *shared.cast::<Shared>() };
    // SAFETY: the path ends in NUL.
    let opened = unsafe { libc::open(shared.path, libc::O_RDONLY) };
    shared.errno = if opened < 0 { nix::Error::last_raw() } else { 0 };
    0
}

//! Since 6.17, flags can be set by path, without opening the file.

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "set-flags-by-path",
    told: "make a file immutable that I have not opened",
    kernels: Kernels::Only(&["6.18", "7"]),
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["{dir}/victim"])
            .file("{dir}/victim")
            .given("file.read", "{dir}/victim")
            .allowed_by("file.write", "{dir}/victim")
            .refused(Hook::InodeFileSetattr, Family::File, Reason::NoRule)
            .needing("write")
            .about("{dir}/victim")
            .optional(),
    ]
}

const SYS_FILE_SETATTR: libc::c_long = 469;

fn run(words: &[&str]) -> Outcome {
    let [victim] = arguments(words)?;
    let path = calls::c_string(victim).at("path")?;
    // struct file_attr: FS_XFLAG_NODUMP, harmless and set by the same call as the harmful ones; no sizes, no project.
    let attributes = [0x80_u64, 0, 0];
    // SAFETY: the path ends in NUL and the attributes are as long as said.
    let set = unsafe {
        libc::syscall(
            SYS_FILE_SETATTR,
            libc::AT_FDCWD,
            path.as_ptr(),
            attributes.as_ptr(),
            size_of_val(&attributes),
            0,
        )
    };
    calls::check(set).at("file_setattr").map(calls::nothing)
}

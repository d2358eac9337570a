//! What was opened before the workload began could be used on: no hook sees it.

use std::os::fd::AsRawFd;

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "inherited-file-read",
    told: "go on with a file that I was started with",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    let inherited = |how: &str, what: Inherited| {
        ATTACK.row(&[how, "{fd}"]).file("{dir}/secret").inherits(what).at_entry().refused(
            Hook::BprmCredsFromFile,
            Family::File,
            Reason::NoRule,
        )
    };
    vec![
        inherited("read", Inherited::File("{dir}/secret".into()))
            .allowed_by("file.read", "{dir}/secret")
            .needing("read")
            .about("{dir}/secret"),
        inherited("write", Inherited::Written("{dir}/secret".into()))
            .allowed_by("file.write", "{dir}/secret")
            .needing("write")
            .about("{dir}/secret"),
        inherited("list", Inherited::File("{dir}".into()))
            .allowed_by("file.read", "{dir}")
            .needing("read")
            .about("{dir}"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [how, number] = arguments(words)?;
    let held = calls::borrowed(calls::number(number)?);
    match how {
        "write" => nix::unistd::write(held, b"!").at("write").map(calls::nothing),
        "list" => {
            let mut entries = [0_u8; 512];
            let (room, length) = (entries.as_mut_ptr(), entries.len());
            // SAFETY: there is as much room as said.
            let filled = unsafe { libc::syscall(libc::SYS_getdents64, held.as_raw_fd(), room, length) };
            calls::check(filled).at("getdents64")?;
            let found = entries.windows(6).any(|bytes| bytes == b"secret");
            if found { Ok(String::new()) } else { Err(failure("no secret there", libc::ENOENT)) }
        }
        _ => {
            let mut content = [0; 64];
            let length = nix::unistd::read(held, &mut content).at("read")?;
            calls::files::is_secret(String::from_utf8_lossy(&content[..length]).into_owned())
        }
    }
}

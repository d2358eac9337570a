//! A path in memory can change while the kernel reads it.

use crate::calls::race::Unsteady;

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "change-arguments",
    told: "change the name in memory while the kernel opens it",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["{dir}/a", "{dir}/b"])
            .prepared(contents)
            .given("file.read", "{dir}/a")
            .allowed_by("file.read", "{dir}/b")
            .refused(Hook::FileOpen, Family::File, Reason::NoRule)
            .needing("read")
            .about("{dir}/b")
            .repeatedly(),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [public, secret] = arguments(words)?;
    let (public, secret) = (calls::c_string(public).at("path")?, calls::c_string(secret).at("path")?);
    let path = Unsteady::between(public.as_bytes_with_nul(), secret.as_bytes_with_nul())
        .ok_or_else(|| failure("names that differ in one byte", libc::EINVAL))?;
    calls::race::against(
        || path.flip(),
        || {
            // SAFETY: whatever the other thread does, the name ends in NUL.
            let opened = unsafe { libc::open(path.address().cast(), libc::O_RDONLY) };
            calls::files::steal_from(calls::descriptor(opened).at("open")?)
        },
    )
}

fn contents(directory: &Path) {
    std::fs::write(directory.join("a"), "public").expect("creating a file");
    std::fs::write(directory.join("b"), "secret").expect("creating a file");
}

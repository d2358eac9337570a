//! A file without a name can get that of a listed program later.

use std::io::Write;

use enforcer_vm_tests::stub;
use nix::fcntl::{AT_FDCWD, AtFlags, open};
use nix::sys::stat::Mode;
use nix::unistd::linkat;

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "temporary-file",
    told: "create a file without a name and name it afterwards",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    let tmpfile = || {
        ATTACK.row(&["{dir}/spool", "{dir}/app"]).directory("{dir}/spool").given("exec.allow", "{dir}/app")
    };
    vec![
        tmpfile()
            .given("file.read", "{dir}/spool/*")
            .given("file.unlinked", "true")
            .allowed_by("file.create", "{dir}/spool/*")
            .allowed_by("file.create", "{dir}/app")
            .refused(Hook::FileOpen, Family::File, Reason::NoRule)
            .needing("create")
            .about("{dir}/spool/"),
        tmpfile()
            .given("file.read", "{dir}/spool/*")
            .given("file.create", "{dir}/spool/*")
            .given("file.unlinked", "true")
            .allowed_by("file.create", "{dir}/app")
            .refused(Hook::PathLink, Family::File, Reason::NoRule)
            .needing("create")
            .about("{dir}/app"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [spool, app] = arguments(words)?;
    let flags = OFlag::O_RDWR | OFlag::O_TMPFILE | OFlag::O_CLOEXEC;
    let held = open(spool, flags, Mode::S_IRWXU).at("open")?;
    std::fs::File::from(held.try_clone().at("dup")?).write_all(&stub::exiting(0)).at("write")?;
    let name = calls::files::magic_link(&held);
    linkat(AT_FDCWD, name.as_str(), AT_FDCWD, app, AtFlags::AT_SYMLINK_FOLLOW).at("linkat")?;
    drop(held);
    calls::process::run(app)
}

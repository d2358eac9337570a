//! Whatever a task becomes, its label stays.

use nix::unistd::setsid;

use crate::calls::process::{Channel, clone3, in_child, in_orphan, in_thread};

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "become-another-process",
    told: "become another process before I read",
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
    vec![
        birth("fork"),
        birth("double-fork"),
        birth("session"),
        birth("daemon"),
        birth("thread"),
        birth("thread-of-daemon"),
        birth("sister"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [how, secret] = arguments(words)?;
    let own = secret.to_owned();
    let steal = || calls::files::steal(secret);
    match how {
        "fork" => in_child(steal),
        "double-fork" => in_child(|| in_child(steal)),
        "session" => in_child(|| {
            setsid().at("setsid")?;
            steal()
        }),
        "daemon" => in_child(|| {
            setsid().at("setsid")?;
            in_orphan(steal)
        }),
        "thread" => in_thread(move || calls::files::steal(&own)),
        "sister" => as_sister(secret),
        _ => in_child(|| {
            setsid().at("setsid")?;
            in_orphan(|| in_thread(move || calls::files::steal(&own)))
        }),
    }
}

/// A child of our parent, which is outside.
fn as_sister(secret: &str) -> Outcome {
    let channel = Channel::new()?;
    match clone3(u64::from(libc::CLONE_PARENT.unsigned_abs()), 0, 0).at("clone3")? {
        None => {
            let outcome = calls::files::steal(secret);
            channel.finish(outcome)
        }
        Some(_) => {
            channel.outcome()?.unwrap_or_else(|| Err(failure("the sister ended silently", libc::ECHILD)))
        }
    }
}

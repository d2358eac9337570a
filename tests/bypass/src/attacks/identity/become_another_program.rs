//! A listed program that is started by the workload is of the workload.

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "become-another-program",
    told: "start another listed program and let it read",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    let program = |how: &str| {
        ATTACK
            .row(&[how, "{dir}/app", "{dir}/secret"])
            .program("{dir}/app")
            .given("exec.allow", "{dir}/app")
            .file("{dir}/secret")
            .allowed_by("file.read", "{dir}/secret")
            .refused(Hook::FileOpen, Family::File, Reason::NoRule)
            .needing("read")
            .about("{dir}/secret")
            // All that is left of the program is its status.
            .errno(libc::EREMOTEIO)
    };
    vec![program("exec"), program("exec-from-thread")]
}

fn run(words: &[&str]) -> Outcome {
    let [how, app, secret] = arguments(words)?;
    let (app, secret) = (app.to_owned(), secret.to_owned());
    calls::process::spawn(|| {
        let replace = move || calls::process::exec(&app, &["quiet", "read-secret", "open", &secret]);
        if how == "exec" {
            return replace();
        }
        // The whole process becomes what its second thread starts.
        std::thread::spawn(replace).join().unwrap_or(nix::Error::ECHILD)
    })
}

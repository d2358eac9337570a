//! What was opened before the workload began can be read on.

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "inherited-file-read",
    told: "read on in a file that I was started with",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["{fd}"])
            .file("{dir}/secret")
            .inherits(Inherited::File("{dir}/secret".into()))
            .allowed_by("file.read", "{dir}/secret")
            .refused_at("file_permission", Family::File, Reason::NoRule)
            .needing("read")
            .about("{dir}/secret"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [number] = arguments(words)?;
    let mut content = [0; 64];
    let length = nix::unistd::read(calls::borrowed(calls::number(number)?), &mut content).at("read")?;
    calls::files::is_secret(String::from_utf8_lossy(&content[..length]).into_owned())
}

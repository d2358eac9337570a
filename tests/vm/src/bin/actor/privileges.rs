//! Doors that a workload has no business at.

use enforcer_vm_tests::report::{At, Outcome};

pub(crate) fn perform(name: &str, arguments: &[&str]) -> Option<Outcome> {
    Some(match (name, arguments) {
        ("chroot", [to]) => nix::unistd::chroot(*to).at("chroot").map(|()| String::new()),
        _ => return None,
    })
}

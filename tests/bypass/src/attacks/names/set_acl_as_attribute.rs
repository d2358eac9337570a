//! Before 6.2, an access control list was an extended attribute like others.

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "set-acl-as-attribute",
    told: "give others access by an access control list",
    kernels: Kernels::Only(&["6.1"]),
    ordinary: true,
    rows,
    run: super::set_acl::run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["{dir}/victim"])
            .file("{dir}/victim")
            .given("file.read", "{dir}/victim")
            .allowed_by("file.write", "{dir}/victim")
            .refused(Hook::InodeSetxattr, Family::File, Reason::NoRule)
            .needing("write")
            .about("{dir}/victim")
            .optional(),
    ]
}

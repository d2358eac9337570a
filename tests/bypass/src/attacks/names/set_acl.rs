//! An access control list is another way to change who may do what.

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "set-acl",
    told: "give others access by an access control list",
    kernels: Kernels::Only(&["6.12", "6.18", "7"]),
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
            .refused(Hook::InodeSetAcl, Family::File, Reason::NoRule)
            .needing("write")
            .about("{dir}/victim")
            .optional(),
    ]
}

pub(super) fn run(words: &[&str]) -> Outcome {
    let [victim] = arguments(words)?;
    let path = calls::c_string(victim).at("path")?;
    // Version 2; owner rw-, user 1 rw-, group r--, mask rw-, others r--.
    let mut list = 2_u32.to_le_bytes().to_vec();
    for (tag, permission, id) in
        [(1_u16, 6_u16, u32::MAX), (2, 6, 1), (4, 4, u32::MAX), (16, 6, u32::MAX), (32, 4, u32::MAX)]
    {
        list.extend(tag.to_le_bytes());
        list.extend(permission.to_le_bytes());
        list.extend(id.to_le_bytes());
    }
    let name = c"system.posix_acl_access";
    // SAFETY: both names end in NUL and the value is as long as said.
    let set = unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), list.as_ptr().cast(), list.len(), 0) };
    calls::check(set).at("setxattr").map(calls::nothing)
}

//! Newer kernels open the accounting file twice, the second time on a mount of their own, which no rule can name.

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "account-on-private-mount",
    told: "have the kernel write its accounting into a file",
    kernels: Kernels::Only(&["6.18", "7"]),
    ordinary: false,
    rows,
    run: super::account_into_file::run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["{dir}/victim"])
            .file("{dir}/victim")
            .given("file.write", "{dir}/victim")
            .refused(Hook::FileOpen, Family::File, Reason::Unreachable)
            .needing("write")
            .optional()
            .unlistable(),
    ]
}

//! Making memory executable.

use std::os::fd::AsRawFd;

use enforcer_vm_tests::report::{At, Outcome};
use libc::{MAP_ANONYMOUS, MAP_PRIVATE, PROT_EXEC, PROT_READ, PROT_WRITE};

use crate::{files, system};

pub(crate) fn perform(name: &str, arguments: &[&str]) -> Option<Outcome> {
    Some(match (name, arguments) {
        ("mmap-exec", [path]) => map_file(path),
        ("mmap-rwx", []) => {
            system::map_page(PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1)
                .at("mmap")
                .map(|()| String::new())
        }
        _ => return None,
    })
}

fn map_file(path: &str) -> Outcome {
    let file = files::reading(path)?;
    let mapped = system::map_page(PROT_READ | PROT_EXEC, MAP_PRIVATE, file.as_raw_fd());
    mapped.at("mmap").map(|()| String::new())
}

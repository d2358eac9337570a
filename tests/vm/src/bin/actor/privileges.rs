//! Doors that a workload has no business at.

use enforcer_vm_tests::report::{At, Outcome};
use nix::fcntl::{OFlag, open, openat};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;

pub(crate) fn perform(name: &str, arguments: &[&str]) -> Option<Outcome> {
    Some(match (name, arguments) {
        ("open-below-old-root", [path, new_root]) => open_below_old_root(path, new_root),
        ("leave-namespace", []) => unshare(CloneFlags::CLONE_NEWNS).at("unshare").map(|()| String::new()),
        ("chroot", [to]) => nix::unistd::chroot(*to).at("chroot").map(|()| String::new()),
        _ => return None,
    })
}

/// Opens `path`, makes an empty file system at `new_root` the root of a mount namespace of its own, with the old root at
/// `/old`, and opens the file again by a descriptor of the old root.
fn open_below_old_root(path: &str, new_root: &str) -> Outcome {
    const NOTHING: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS).at("unshare")?;
    mount(NOTHING, "/", NOTHING, MsFlags::MS_PRIVATE | MsFlags::MS_REC, NOTHING).at("make private")?;
    mount(Some("new"), new_root, Some("tmpfs"), MsFlags::empty(), NOTHING).at("mount")?;
    let old = format!("{new_root}/old");
    nix::unistd::mkdir(old.as_str(), Mode::S_IRWXU).at("mkdir")?;
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    for _ in 0..2 {
        open(path, flags, Mode::empty()).at("open before")?;
    }
    let root = open("/", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).at("open the root")?;
    nix::unistd::pivot_root(new_root, old.as_str()).at("pivot_root")?;
    openat(&root, path.trim_start_matches('/'), flags, Mode::empty()).at("open after")?;
    Ok(String::new())
}

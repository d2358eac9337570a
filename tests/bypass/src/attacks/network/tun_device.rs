//! A tun device is a network card of one's own.

use std::os::fd::AsRawFd;

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "tun-device",
    told: "make a network interface and write packets to it",
    kernels: Kernels::All,
    ordinary: false,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["/dev/net/tun"])
            .prepared(load)
            .given("file.read", "/dev/net/tun")
            .given("file.write", "/dev/net/tun")
            .given("privileges.allow", "network-admin")
            .allowed_by("privileges.allow", "tun")
            .refused(Hook::TunDevCreate, Family::Privilege, Reason::Privilege)
            .about("tun")
            .optional(),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [device] = arguments(words)?;
    let tun = calls::files::open(device, OFlag::O_RDWR)?;
    // struct ifreq: a name that the kernel chooses, then IFF_TUN | IFF_NO_PI.
    let mut request = [0_u8; 40];
    request[16..18].copy_from_slice(&0x1001_u16.to_ne_bytes());
    // SAFETY: the request reads and writes a structure of this size.
    let made = unsafe { libc::ioctl(tun.as_raw_fd(), TUNSETIFF, request.as_mut_ptr()) };
    calls::check(made).at("TUNSETIFF").map(calls::nothing)
}

/// `_IOW('T', 202, int)`
const TUNSETIFF: libc::c_ulong = 0x4004_54ca;

/// Has the driver's device node made.
fn load(_: &Path) {
    let status = std::process::Command::new("modprobe").arg("tun").status();
    if !status.is_ok_and(|status| status.success()) {
        println!("the tun module is not to be had");
    }
}

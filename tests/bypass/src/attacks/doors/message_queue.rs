//! POSIX message queues lie on a mount that no name leads to. Their `mq_open(2)` hands its flags to the file as they are, that
//! by which the kernel marks what it opens to start it among them.

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "message-queue",
    told: "read what others say to each other, as if the kernel did",
    kernels: Kernels::All,
    ordinary: false,
    rows,
    run,
};

const QUEUE: &str = "/bypass-queue";

fn rows() -> Vec<Case> {
    let row = |how: &str| {
        ATTACK
            .row(&[how])
            .prepared(fill)
            .refused(Hook::FileOpen, Family::File, Reason::Unreachable)
            .needing("read")
            .about("bypass-queue")
            .unlistable()
    };
    vec![row("plain"), row("as-program")]
}

fn run(words: &[&str]) -> Outcome {
    /// `__FMODE_EXEC`
    const AS_PROGRAM: i32 = 0x20;
    let [how] = arguments(words)?;
    let name = calls::c_string(QUEUE).at("name")?;
    let flags = libc::O_RDONLY | libc::O_NONBLOCK | if how == "plain" { 0 } else { AS_PROGRAM };
    // SAFETY: the name ends in NUL. The C library's function skips the slash.
    let queue =
        unsafe { libc::syscall(libc::SYS_mq_open, name.as_ptr().add(1), flags, 0, core::ptr::null::<u8>()) };
    let queue = calls::descriptor(queue).at("mq_open")?;
    let mut message = [0_u8; 64];
    // SAFETY: the kernel writes at most as many bytes as the message has room for.
    let read = unsafe {
        libc::mq_receive(
            std::os::fd::AsRawFd::as_raw_fd(&queue),
            message.as_mut_ptr().cast(),
            message.len(),
            core::ptr::null_mut(),
        )
    };
    let read = calls::check(i64::try_from(read).unwrap_or(-1)).at("mq_receive")?;
    let text = message.get(..usize::try_from(read).unwrap_or(0)).unwrap_or_default();
    calls::files::is_secret(String::from_utf8_lossy(text).into_owned())
}

/// A queue outside, with something in it for everyone who asks.
fn fill(_: &Path) {
    use nix::mqueue::{MQ_OFlag, MqAttr, mq_open, mq_send, mq_unlink};
    let _ = mq_unlink(QUEUE);
    let flags = MQ_OFlag::O_CREAT | MQ_OFlag::O_WRONLY | MQ_OFlag::O_NONBLOCK;
    let attributes = MqAttr::new(0, 4, 64, 0);
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o600);
    let queue = mq_open(QUEUE, flags, mode, Some(&attributes)).expect("making a message queue");
    // To the brim, which may take fewer than there is room for: others fill it as well.
    while mq_send(&queue, b"secret", 0).is_ok() {}
}

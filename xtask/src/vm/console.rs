//! Reads the kernel's console log: did the kernel itself break?

use std::fs;
use std::path::Path;

/// Messages of a kernel that hit a bug in itself or in the emulator below it.
///
/// A panic alone is not among them: "Attempted to kill init" or "Unable to mount root" are our own mistakes, and
/// repeating the boot would only hide them.
const BROKEN: &[&str] = &[
    "Oops: ",
    "BUG: unable to handle",
    "kernel BUG at",
    "Kernel panic - not syncing: Fatal exception",
    "PANIC: double fault",
    "traps: PANIC",
    "Kernel stack is corrupted",
];

/// Where a register dump says that a BPF program ran. Such a crash is ours: the verifier can be wrong about a pointer.
const IN_PROGRAM: &str = "RIP: 0010:bpf_prog_";

/// The first line that shows the kernel broke, if any, and not in a program of ours.
pub(crate) fn kernel_crash(log: &str) -> Option<&str> {
    if log.contains(IN_PROGRAM) {
        return None;
    }
    log.lines().find(|line| BROKEN.iter().any(|mark| line.contains(mark))).map(str::trim_end)
}

/// The last line of a panic of any kind: the guest is gone, whoever is to blame.
pub(crate) fn panic_line(log: &str) -> Option<&str> {
    log.lines().find(|line| line.contains("Kernel panic - not syncing")).map(str::trim_end)
}

/// The log as text; guests write what they like to a console.
pub(crate) fn read(file: &Path) -> String {
    fs::read(file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crashes_of_the_kernel_are_told_from_ours() {
        let cases = [
            ("[    3.1] Oops: int3: 0000 [#1] PREEMPT SMP NOPTI\n", true),
            ("[    1.0] BUG: unable to handle page fault for address: ffff\n", true),
            ("[    1.0] BUG: kernel NULL pointer dereference, address: 0\n[    1.0] Oops: 0002 [#1]\n", true),
            ("[    2.0] kernel BUG at mm/slub.c:448!\n", true),
            ("[    1.2] Kernel panic - not syncing: Fatal exception in interrupt\n", true),
            ("[    1.2] PANIC: double fault, error_code: 0x0\n", true),
            ("[    0.9] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100\n", false),
            ("[    0.9] Kernel panic - not syncing: VFS: Unable to mount root fs\n", false),
            ("[    5.0] traps: actor[77] general protection fault ip:1 sp:2 error:0\n", false),
            (
                "[    9.9] BUG: kernel NULL pointer dereference, address: 28\n[    9.9] Oops: 0000 [#1]\n\
                 [    9.9] RIP: 0010:bpf_prog_4a0c89d2f1e6b7aa_path_mknod+0x1f2/0x9c4\n",
                false,
            ),
            ("[    5.0] WARNING: CPU: 0 PID: 1 at kernel/x.c:1\n", false),
            ("", false),
        ];
        for (log, crashed) in cases {
            assert_eq!(kernel_crash(log).is_some(), crashed, "{log}");
        }
    }

    #[test]
    fn the_panic_is_shown_without_line_end() {
        let log = "a\r\n[ 1.0] Kernel panic - not syncing: x\r\nb";
        assert_eq!(panic_line(log), Some("[ 1.0] Kernel panic - not syncing: x"));
    }
}

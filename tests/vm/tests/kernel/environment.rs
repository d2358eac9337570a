//! What every other test of the suite takes for granted.

use std::fs;
use std::os::unix::fs::MetadataExt;

#[test]
fn the_requested_kernel_runs() {
    let requested = std::env::var("ENFORCER_VM_KERNEL").expect("set by the VM harness");
    let running = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert_eq!(running.trim(), requested);
}

#[test]
fn bpf_is_an_active_lsm() {
    let modules = fs::read_to_string("/sys/kernel/security/lsm").unwrap();
    assert!(modules.trim().split(',').any(|module| module == "bpf"), "active: {modules}");
}

#[test]
fn kernel_btf_is_readable() {
    let btf = fs::read("/sys/kernel/btf/vmlinux").unwrap();
    assert_eq!(btf.get(..2), Some([0x9f, 0xeb].as_slice()), "magic number");
}

#[test]
fn we_are_root() {
    assert_eq!(fs::metadata("/proc/self").unwrap().uid(), 0);
}

#[test]
fn the_file_systems_we_need_are_mounted() {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let wanted = [
        ("cgroup2", "/sys/fs/cgroup"),
        ("bpf", "/sys/fs/bpf"),
        ("securityfs", "/sys/kernel/security"),
        ("tracefs", "/sys/kernel/tracing"),
        ("tmpfs", "/tmp"),
    ];
    for (kind, place) in wanted {
        let mounted = mounts.lines().any(|line| {
            let fields: Vec<_> = line.split(' ').collect();
            fields[1] == place && fields[2] == kind
        });
        assert!(mounted, "no {kind} on {place} in:\n{mounts}");
    }
}

#[test]
fn loopback_is_up() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
}

//! Making memory executable.

use enforcer_common::hook::Hook::{FileMprotect, MmapFile, ShmShmat};
use enforcer_common::verdict::Family::Memory;
use enforcer_common::verdict::Reason::{AnonymousExec, NoRule, Unlinked};
use enforcer_vm_tests::scenario::{Table, case};

#[test]
fn mapping_code_from_a_file() {
    Table::new(
        "libraries",
        vec![
            case("map a readable file as code (LD_PRELOAD, dlopen)", &["mmap-exec", "{dir}/evil.so"])
                .file("{dir}/evil.so")
                .given("file.read", "{dir}/evil.so")
                .allowed_by("memory.libraries", "{dir}/evil.so")
                .refused(MmapFile, Memory, NoRule)
                .needing("library")
                .about("{dir}/evil.so"),
            case("map it as data, make it code later", &["mprotect-file-rx", "{dir}/evil.so"])
                .file("{dir}/evil.so")
                .given("file.read", "{dir}/evil.so")
                .allowed_by("memory.libraries", "{dir}/evil.so")
                .refused(FileMprotect, Memory, NoRule)
                .needing("library")
                .about("{dir}/evil.so"),
        ],
    )
    .check();
}

#[test]
fn running_code_from_anonymous_memory() {
    Table::new(
        "shellcode",
        vec![
            case("private RWX memory", &["mmap-rwx"]).allowed_by("memory.anonymous", "true").refused(
                MmapFile,
                Memory,
                AnonymousExec,
            ),
            case("shared RWX memory", &["mmap-rwx-shared"]).allowed_by("memory.anonymous", "true").refused(
                MmapFile,
                Memory,
                AnonymousExec,
            ),
            case("write, then mprotect to RX", &["mprotect-rx"])
                .allowed_by("memory.anonymous", "true")
                .refused(FileMprotect, Memory, AnonymousExec),
            case("System V shared memory with SHM_EXEC", &["shmat-exec"])
                .allowed_by("memory.anonymous", "true")
                .refused(ShmShmat, Memory, AnonymousExec)
                .optional(),
            case("READ_IMPLIES_EXEC makes any mapping code", &["read-implies-exec-mmap"])
                .allowed_by("memory.anonymous", "true")
                .refused(MmapFile, Memory, AnonymousExec),
            case("shellcode over a private copy of a listed library", &["mprotect-cow-rx", "{dir}/good.so"])
                .file("{dir}/good.so")
                .given("memory.libraries", "{dir}/good.so")
                .allowed_by("memory.anonymous", "true")
                .refused(FileMprotect, Memory, AnonymousExec),
            case("a listed library mapped writable and executable", &["mmap-rwx-file", "{dir}/good.so"])
                .file("{dir}/good.so")
                .given("memory.libraries", "{dir}/good.so")
                .allowed_by("memory.anonymous", "true")
                .refused(MmapFile, Memory, AnonymousExec),
        ],
    )
    .check();
}

#[test]
fn mapping_code_from_a_memfd() {
    Table::new(
        "memfd-library",
        vec![
            // The memfd is sized first, which 6.1 judges as `truncate`.
            case("map a memfd as code", &["memfd-mmap-exec"])
                .given("file.unlinked", "true")
                .allowed_by("exec.unlinked", "true")
                .refused(MmapFile, Memory, Unlinked)
                .needing("library")
                .about("library"),
        ],
    )
    .check();
}

/// The heap takes its protection from the personality, and no LSM hook sees `personality(2)` or `brk(2)`.
#[test]
#[ignore = "known limitation: no LSM hook sees personality(2); see docs/known-limitations.md"]
fn running_code_from_a_read_implies_exec_heap() {
    use enforcer_vm_tests::actor::{Place, op, run};
    use enforcer_vm_tests::cgroup::Cgroup;
    use enforcer_vm_tests::enforcer::{Enforcer, baseline_only};
    use enforcer_vm_tests::policy::Policy;

    let mut enforcer = Enforcer::ready();
    let cgroup = Cgroup::create("exec-heap");
    let attack = [op(&["read-implies-exec-heap"])];
    let bare = run(Place::Joining(&cgroup), &attack).unwrap();
    assert!(bare[0].ok, "without a policy: {bare:?}");
    if baseline_only() {
        return;
    }
    enforcer.apply(&[&Policy::of("exec-heap", &cgroup)]);
    let reports = run(Place::Joining(&cgroup), &attack).unwrap();
    assert!(!reports[0].ok, "code ran from the heap: {reports:?}");
    enforcer.apply(&[&Policy::of("exec-heap", &cgroup).allow("memory.anonymous", "true")]);
    let reports = run(Place::Joining(&cgroup), &attack).unwrap();
    assert!(reports[0].ok, "anonymous = true, but refused: {reports:?}");
}

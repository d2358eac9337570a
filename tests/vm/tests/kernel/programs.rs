//! Starting programs.

use enforcer_common::hook::Hook::BprmCheckSecurity;
use enforcer_common::verdict::Family::Exec;
use enforcer_common::verdict::Reason::{NoRule, Unlinked};
use enforcer_vm_tests::scenario::{Table, case};

#[test]
fn starting_a_dropped_program() {
    Table::new(
        "programs",
        vec![
            case("run a dropped binary", &["exec", "{dir}/evil"])
                .program("{dir}/evil")
                .allowed_by("exec.allow", "{dir}/evil")
                .refused(BprmCheckSecurity, Exec, NoRule)
                .needing("exec")
                .about("{dir}/evil"),
            case("execveat on an O_PATH descriptor", &["execveat", "{dir}/evil"])
                .program("{dir}/evil")
                .allowed_by("exec.allow", "{dir}/evil")
                .refused(BprmCheckSecurity, Exec, NoRule)
                .needing("exec")
                .about("{dir}/evil"),
            case("exec through /proc/self/fd", &["exec-proc-fd", "{dir}/evil"])
                .program("{dir}/evil")
                .allowed_by("exec.allow", "{dir}/evil")
                .refused(BprmCheckSecurity, Exec, NoRule)
                .needing("exec")
                .about("{dir}/evil"),
            case("a file that may be read, not run", &["exec", "{dir}/data"])
                .program("{dir}/data")
                .given("file.read", "{dir}/data")
                .allowed_by("exec.allow", "{dir}/data")
                .refused(BprmCheckSecurity, Exec, NoRule)
                .needing("exec")
                .about("{dir}/data"),
            case("a library started as a program", &["exec", "{dir}/lib.so"])
                .program("{dir}/lib.so")
                .given("memory.libraries", "{dir}/lib.so")
                .allowed_by("exec.allow", "{dir}/lib.so")
                .refused(BprmCheckSecurity, Exec, NoRule)
                .needing("exec")
                .about("{dir}/lib.so"),
            case("a program beside the glob", &["exec", "{dir}/bin/deep/evil"])
                .directory("{dir}/bin/deep")
                .program("{dir}/bin/deep/evil")
                .given("exec.allow", "{dir}/bin/*")
                .allowed_by("exec.allow", "{dir}/bin/**")
                .refused(BprmCheckSecurity, Exec, NoRule)
                .needing("exec")
                .about("{dir}/bin/deep/evil"),
            case("an unlisted script of a listed interpreter", &["exec", "{dir}/script"])
                .program("{dir}/interpreter")
                .script("{dir}/script", "{dir}/interpreter")
                .given("exec.allow", "{dir}/interpreter")
                .allowed_by("exec.allow", "{dir}/script")
                .refused(BprmCheckSecurity, Exec, NoRule)
                .needing("exec")
                .about("{dir}/script"),
            case("a listed script of an unlisted interpreter", &["exec", "{dir}/script"])
                .program("{dir}/interpreter")
                .script("{dir}/script", "{dir}/interpreter")
                .given("exec.allow", "{dir}/script")
                .allowed_by("exec.allow", "{dir}/interpreter")
                .refused(BprmCheckSecurity, Exec, NoRule)
                .needing("exec")
                .about("{dir}/interpreter"),
        ],
    )
    .check();
}

#[test]
fn starting_a_program_without_a_name() {
    Table::new(
        "nameless-programs",
        vec![
            case("exec from memfd", &["exec-memfd", "{actor}"])
                .allowed_by("exec.unlinked", "true")
                .refused(BprmCheckSecurity, Exec, Unlinked)
                .needing("exec")
                .about("dropped"),
            case("exec of a deleted file", &["exec-deleted", "{dir}/gone"])
                .program("{dir}/gone")
                .given("exec.allow", "{dir}/gone")
                .given("file.write", "{dir}/gone")
                .allowed_by("exec.unlinked", "true")
                .refused(BprmCheckSecurity, Exec, Unlinked)
                .needing("exec")
                .about("gone"),
        ],
    )
    .check();
}

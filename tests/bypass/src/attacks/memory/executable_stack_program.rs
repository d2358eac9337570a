//! The ELF header of a program asks for an executable stack.

use enforcer_vm_tests::scenario::make_executable;
use enforcer_vm_tests::stub;

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "executable-stack-program",
    told: "start a listed program with an executable stack",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["{dir}/app"])
            .prepared(program)
            .given("exec.allow", "{dir}/app")
            .allowed_by("memory.anonymous", "true")
            .refused(Hook::MmapFile, Family::Memory, Reason::AnonymousExec),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [app] = arguments(words)?;
    calls::process::run(app)
}

/// Writes `ret` to the stack, calls it, and ends with status 0.
const CODE: &[u8] = &[
    0xc6, 0x44, 0x24, 0x80, 0xc3, // mov byte [rsp - 128], 0xc3
    0x48, 0x8d, 0x44, 0x24, 0x80, // lea rax, [rsp - 128]
    0xff, 0xd0, // call rax
    0xb8, 60, 0, 0, 0, // mov eax, SYS_exit
    0x31, 0xff, // xor edi, edi
    0x0f, 0x05, // syscall
];

fn program(directory: &Path) {
    make_executable(&directory.join("app"), &stub::with_executable_stack(CODE));
}

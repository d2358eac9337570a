//! A 32-bit program keeps the personality across its start, and its heap is executable.

use enforcer_vm_tests::scenario::make_executable;

use crate::calls::memory::with_read_implies_exec;

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "read-implies-exec-program",
    told: "start a listed 32-bit program with an executable heap",
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
            .refused(Hook::BprmCheckSecurity, Family::Memory, Reason::AnonymousExec)
            .optional(),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [app] = arguments(words)?;
    with_read_implies_exec(|| calls::process::run(app))
}

/// Grows the heap by a page, writes `ret` there, calls it, and ends with status 0.
const CODE: &[u8] = &[
    0xb8, 45, 0, 0, 0, // mov eax, SYS_brk
    0x31, 0xdb, // xor ebx, ebx
    0xcd, 0x80, // int 0x80
    0x89, 0xc6, // mov esi, eax
    0x8d, 0x98, 0, 0x20, 0, 0, // lea ebx, [eax + 0x2000]
    0xb8, 45, 0, 0, 0, // mov eax, SYS_brk
    0xcd, 0x80, // int 0x80
    0xc6, 0x06, 0xc3, // mov byte [esi], 0xc3
    0xff, 0xd6, // call esi
    0xb8, 1, 0, 0, 0, // mov eax, SYS_exit
    0x31, 0xdb, // xor ebx, ebx
    0xcd, 0x80, // int 0x80
];

/// Writes a static i386 ELF program.
fn program(directory: &Path) {
    const BASE: u32 = 0x0804_8000;
    const ENTRY: u32 = 52 + 2 * 32;
    let size = ENTRY + u32::try_from(CODE.len()).expect("a few bytes");
    let mut file = vec![0x7f, b'E', b'L', b'F', 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    file.extend([2_u16.to_le_bytes(), 3_u16.to_le_bytes()].concat()); // ET_EXEC, EM_386
    // Version, entry, program headers, section headers, flags.
    file.extend([1, BASE + ENTRY, 52, 0, 0].iter().flat_map(|word: &u32| word.to_le_bytes()));
    file.extend([52_u16, 32, 2, 0, 0, 0].iter().flat_map(|half| half.to_le_bytes()));
    // PT_LOAD, R+X; PT_GNU_STACK, not executable.
    for segment in [[1, 0, BASE, BASE, size, size, 5, 0x1000], [0x6474_e551, 0, 0, 0, 0, 0, 6, 16]] {
        file.extend(segment.iter().flat_map(|word: &u32| word.to_le_bytes()));
    }
    file.extend(CODE);
    make_executable(&directory.join("app"), &file);
}

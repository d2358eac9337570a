//! Code: what is mapped, and what becomes executable.

use crate::attack::Attack;

mod anonymous_memory;
mod code_over_library;
mod executable_stack;
mod executable_stack_program;
mod loader;
mod map_memfd;
mod map_readable_file;
mod preload;
mod proc_self_mem;
mod protect_readable_file;
mod ptrace_own_child;
mod read_implies_exec;
mod read_implies_exec_heap;
mod read_implies_exec_program;
mod shared_memory;
mod userfault;
mod write_then_protect;

/// All of them.
pub(crate) const ATTACKS: &[Attack] = &[
    anonymous_memory::ATTACK,
    code_over_library::ATTACK,
    executable_stack::ATTACK,
    executable_stack_program::ATTACK,
    loader::ATTACK,
    map_memfd::ATTACK,
    map_readable_file::ATTACK,
    preload::ATTACK,
    proc_self_mem::ATTACK,
    protect_readable_file::ATTACK,
    ptrace_own_child::ATTACK,
    read_implies_exec::ATTACK,
    read_implies_exec_heap::ATTACK,
    read_implies_exec_program::ATTACK,
    shared_memory::ATTACK,
    userfault::ATTACK,
    write_then_protect::ATTACK,
];

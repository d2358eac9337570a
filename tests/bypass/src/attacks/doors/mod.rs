//! Doors: what root may do, and what reaches processes outside.

use crate::attack::Attack;

mod administer_network;
mod bind_mount;
mod bpf;
mod bpf_names;
mod chroot;
mod detached_tree;
mod fanotify;
mod file_system_commands;
mod inotify;
mod io_uring_command;
mod io_uring_setup;
mod kernel_files;
mod kernel_log;
mod kexec;
mod keyring;
mod limit_outsiders;
mod load_module;
mod look_at_process;
mod message_queue;
mod mount_setattr;
mod move_mount;
mod new_file_system;
mod new_mount_namespace;
mod offline_memory;
mod performance_counters;
mod pivot_root;
mod process_memory;
mod ptrace;
mod quota;
mod raw_io;
mod reboot;
mod remount;
mod request_binary_format;
mod request_module;
mod set_time;
mod signal;
mod signal_by_descriptor;
mod steal_descriptor;
mod swap_area;
mod traceme;
mod type_into_terminal;
mod umount;
mod user_namespace;
mod usermode_helper;

/// All of them.
pub(crate) const ATTACKS: &[Attack] = &[
    administer_network::ATTACK,
    bind_mount::ATTACK,
    bpf::ATTACK,
    bpf_names::ATTACK,
    chroot::ATTACK,
    detached_tree::ATTACK,
    fanotify::ATTACK,
    file_system_commands::ATTACK,
    inotify::ATTACK,
    io_uring_command::ATTACK,
    io_uring_setup::ATTACK,
    kernel_files::ATTACK,
    kernel_log::ATTACK,
    kexec::ATTACK,
    keyring::ATTACK,
    limit_outsiders::ATTACK,
    load_module::ATTACK,
    look_at_process::ATTACK,
    message_queue::ATTACK,
    mount_setattr::ATTACK,
    move_mount::ATTACK,
    new_file_system::ATTACK,
    new_mount_namespace::ATTACK,
    offline_memory::ATTACK,
    performance_counters::ATTACK,
    pivot_root::ATTACK,
    process_memory::ATTACK,
    ptrace::ATTACK,
    quota::ATTACK,
    raw_io::ATTACK,
    reboot::ATTACK,
    remount::ATTACK,
    request_binary_format::ATTACK,
    request_module::ATTACK,
    set_time::ATTACK,
    signal::ATTACK,
    signal_by_descriptor::ATTACK,
    steal_descriptor::ATTACK,
    swap_area::ATTACK,
    traceme::ATTACK,
    type_into_terminal::ATTACK,
    umount::ATTACK,
    user_namespace::ATTACK,
    usermode_helper::ATTACK,
];

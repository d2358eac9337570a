//! Names: what a file is called, and what can be done to it by name.

use crate::attack::Attack;

mod account_into_file;
mod account_on_private_mount;
mod ask_whether;
mod chmod;
mod chown;
mod core_dump;
mod drop_file;
mod exchange_with_program;
mod exec_deleted;
mod exec_descriptor;
mod exec_memfd;
mod hard_link_in_image;
mod hard_link_over_program;
mod hard_link_to_secret;
mod interpreter_environment;
mod interpreter_name;
mod io_uring_rename;
mod io_uring_unlink;
mod list_directory;
mod make_device;
mod open_by_handle;
mod open_for_writing;
mod overwrite_program;
mod plant_directory;
mod plant_fifo;
mod plant_symlink;
mod read_secret;
mod removexattr;
mod rename_away;
mod rename_directory;
mod rename_over_program;
mod rename_secret;
mod reopen_descriptor;
mod rmdir;
mod roundabout_name;
mod run_dropped_program;
mod set_acl;
mod set_acl_as_attribute;
mod set_flags;
mod set_flags_by_path;
mod set_times;
mod setxattr;
mod shebang;
mod symlink_to_program;
mod temporary_file;
mod truncate;
mod unlink;

/// All of them.
pub(crate) const ATTACKS: &[Attack] = &[
    account_into_file::ATTACK,
    account_on_private_mount::ATTACK,
    ask_whether::ATTACK,
    chmod::ATTACK,
    chown::ATTACK,
    core_dump::ATTACK,
    drop_file::ATTACK,
    exchange_with_program::ATTACK,
    exec_deleted::ATTACK,
    exec_descriptor::ATTACK,
    exec_memfd::ATTACK,
    hard_link_in_image::ATTACK,
    hard_link_over_program::ATTACK,
    hard_link_to_secret::ATTACK,
    interpreter_environment::ATTACK,
    interpreter_name::ATTACK,
    io_uring_rename::ATTACK,
    io_uring_unlink::ATTACK,
    list_directory::ATTACK,
    make_device::ATTACK,
    open_by_handle::ATTACK,
    open_for_writing::ATTACK,
    overwrite_program::ATTACK,
    plant_directory::ATTACK,
    plant_fifo::ATTACK,
    plant_symlink::ATTACK,
    read_secret::ATTACK,
    removexattr::ATTACK,
    rename_away::ATTACK,
    rename_directory::ATTACK,
    rename_over_program::ATTACK,
    rename_secret::ATTACK,
    reopen_descriptor::ATTACK,
    rmdir::ATTACK,
    roundabout_name::ATTACK,
    run_dropped_program::ATTACK,
    set_acl::ATTACK,
    set_acl_as_attribute::ATTACK,
    set_flags::ATTACK,
    set_flags_by_path::ATTACK,
    set_times::ATTACK,
    setxattr::ATTACK,
    shebang::ATTACK,
    symlink_to_program::ATTACK,
    temporary_file::ATTACK,
    truncate::ATTACK,
    unlink::ATTACK,
];

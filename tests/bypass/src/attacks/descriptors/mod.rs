//! Descriptors: what was opened by somebody else.

use crate::attack::Attack;

mod handed_signal;
mod inherited_connection;
mod inherited_directory;
mod inherited_file;
mod inherited_file_read;
mod name_over_connection;
mod received_connection;
mod received_file;
mod sendfile_to_inherited_connection;
mod sendfile_to_received_connection;
mod sendpage_to_inherited_connection;

/// All of them.
pub(crate) const ATTACKS: &[Attack] = &[
    handed_signal::ATTACK,
    inherited_connection::ATTACK,
    inherited_directory::ATTACK,
    inherited_file::ATTACK,
    inherited_file_read::ATTACK,
    name_over_connection::ATTACK,
    received_connection::ATTACK,
    received_file::ATTACK,
    sendfile_to_inherited_connection::ATTACK,
    sendfile_to_received_connection::ATTACK,
    sendpage_to_inherited_connection::ATTACK,
];

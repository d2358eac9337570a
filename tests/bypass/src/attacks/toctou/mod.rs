//! Time of check, time of use.

use crate::attack::Attack;

mod change_address;
mod change_arguments;
mod overlay;
mod overlay_copy_up;
mod replace_component;
mod replace_program;

/// All of them.
pub(crate) const ATTACKS: &[Attack] = &[
    change_address::ATTACK,
    change_arguments::ATTACK,
    overlay::ATTACK,
    overlay_copy_up::ATTACK,
    replace_component::ATTACK,
    replace_program::ATTACK,
];

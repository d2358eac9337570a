//! The kernel's side of user space: the only modules that use aya.

pub mod attach;
pub mod bind;
pub mod btf;
pub mod install;
pub mod load;
pub mod maps;
pub mod pin;
pub mod place;
pub mod pod;
pub mod probe;
pub mod state;
#[cfg(test)]
pub(crate) mod testing;

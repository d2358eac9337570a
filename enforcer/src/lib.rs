//! Kernel-level allowlist enforcement.

<<<<<<< HEAD
pub mod bundle;
pub mod cgroups;
pub mod events;
pub mod kernel;
=======
pub mod cli;
>>>>>>> main
pub mod policy;
pub mod sys;

//! Kernel-level allowlist enforcement: everything but the BPF programs.

<<<<<<< HEAD
<<<<<<< HEAD
=======
>>>>>>> refs/heads/loader
pub mod bundle;
pub mod cgroups;
pub mod cli;
pub mod daemon;
pub mod events;
pub mod kernel;
<<<<<<< HEAD
=======
pub mod cli;
>>>>>>> main
=======
>>>>>>> refs/heads/loader
pub mod policy;
pub mod session;
pub mod status;
pub mod sys;

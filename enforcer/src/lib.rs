//! Kernel-level allowlist enforcement.

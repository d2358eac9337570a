//! The TPM part against a real TPM: libtpms in an emulator of its own per test.

#[cfg(test)]
mod tpm {
    mod authority;
    pub(crate) mod emulator;
    mod failures;
    mod identity;
    mod interposer;
    mod pcrs;
    mod slot;
}

#[path = "admission/mod.rs"]
mod admission;

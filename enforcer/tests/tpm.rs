//! The TPM part against a real TPM: libtpms in an emulator of its own per test.

#[cfg(test)]
mod tpm {
    mod authority;
    mod certificates;
    pub(crate) mod emulator;
    mod failures;
    mod identity;
    pub(crate) mod interposer;
    mod pcrs;
    mod slot;
}

#[path = "admission/mod.rs"]
mod admission;

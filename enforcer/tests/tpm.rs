//! The TPM part against a real TPM: libtpms in an emulator of its own per test.

mod tpm {
    mod authority;
    pub(crate) mod emulator;
    mod failures;
    mod identity;
    mod interposer;
    mod pcrs;
    mod slot;
}

/// Policies admitted by it: every refusal, and what is measured and proved elsewhere.
mod admission {
    mod bundles;
    mod emergencies;
    mod evidence;
    mod platforms;
    mod slots;
    mod world;
}

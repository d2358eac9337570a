//! Nothing but suites, in `tests/`: programs that talk to a guest's TPM themselves. They need the TPM software stack's
//! shared libraries, so they are a package of their own, beside the static programs of `tests/vm`.

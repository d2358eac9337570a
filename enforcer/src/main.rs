//! The `enforcer` command.

fn main() -> std::process::ExitCode {
    // Refusals of a TPM are errors of ours, with what to do. `TSS2_LOG=all+debug` brings the library's own words back.
    // Fails only with more than one thread, and there is one.
    let _ = enforcer::sys::default_variable(c"TSS2_LOG", c"all+none");
    enforcer::cli::main()
}

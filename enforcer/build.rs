//! Builds the BPF programs and leaves the object in `OUT_DIR/enforcer.bpf.o` for `kernel::object` to embed.
//!
//! `aya-build` is not used: it takes the toolchain through rustup only, reads `RUSTC_BOOTSTRAP` from this process
//! (which would switch nightly features on in every build script of ours), and does not pass `--locked`. What remains
//! is one call of cargo.

use std::{
    env,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use sha2::{Digest as _, Sha256};

const TARGET: &str = "bpfel-unknown-none";
const PACKAGE: &str = "enforcer-ebpf";
const BINARY: &str = "enforcer";
const SETUP: &str = "run `cargo xtask setup`, which installs it";

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            println!("cargo::error={message}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), String> {
    let manifest_dir = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let out_dir = PathBuf::from(variable("OUT_DIR")?);
    let workspace = manifest_dir.parent().ok_or("the enforcer crate is not inside a workspace")?;
    for input in
        ["enforcer-ebpf", "enforcer-common/src", "enforcer-common/Cargo.toml", "Cargo.toml", "Cargo.lock"]
    {
        println!("cargo::rerun-if-changed={}", workspace.join(input).display());
    }
    println!("cargo::rerun-if-changed=build.rs");

    require_rust_src()?;
    let linker = require_linker()?;
    let target_dir = shared_target_dir(workspace, &out_dir);
    run_cargo(workspace, &target_dir, &linker)?;

    let built = target_dir.join(TARGET).join("release").join(BINARY);
    let object = out_dir.join("enforcer.bpf.o");
    fs::copy(&built, &object)
        .map_err(|error| format!("cannot copy {} to {}: {error}", built.display(), object.display()))?;
    // Here rather than at run time: a debug build on a slow machine takes seconds for it.
    let bytes = fs::read(&object).map_err(|error| format!("cannot read {}: {error}", object.display()))?;
    let digest: String = Sha256::digest(bytes).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    println!("cargo::rustc-env=ENFORCER_OBJECT_DIGEST={digest}");
    Ok(())
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|error| format!("{name}: {error}"))
}

/// `core` is compiled for the BPF target from the library's sources.
fn require_rust_src() -> Result<(), String> {
    let output = Command::new(variable("RUSTC")?)
        .args(["--print", "sysroot"])
        .output()
        .map_err(|error| format!("rustc --print sysroot: {error}"))?;
    let sysroot = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    let library = sysroot.join("lib/rustlib/src/rust/library");
    if library.join("core").is_dir() {
        return Ok(());
    }
    Err(format!("the sources of the Rust library are missing ({}): {SETUP}", library.display()))
}

/// Where `cargo install` puts programs is not always on `PATH`, so that directory is tried, too.
fn require_linker() -> Result<PathBuf, String> {
    println!("cargo::rerun-if-env-changed=PATH");
    let paths = env::var_os("PATH").unwrap_or_default();
    let cargo_bin = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")))
        .map(|home| home.join("bin"));
    env::split_paths(&paths)
        .chain(cargo_bin)
        .map(|directory| directory.join("bpf-linker"))
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| format!("bpf-linker is missing: {SETUP}"))
}

/// One directory for all profiles and targets of the host build, the fuzzers' own included, so that `core` and the
/// programs are compiled for BPF once and not once for each. Not the host build's own: cargo holds its lock while this
/// runs.
fn shared_target_dir(workspace: &Path, out_dir: &Path) -> PathBuf {
    // Directories of targets are tagged, too, so the outermost one is wanted.
    out_dir
        .ancestors()
        .take_while(|directory| *directory != workspace)
        .filter(|directory| directory.join("CACHEDIR.TAG").is_file())
        .last()
        .map_or_else(|| out_dir.join("ebpf"), |target| target.join("ebpf"))
}

fn run_cargo(workspace: &Path, target_dir: &Path, linker: &Path) -> Result<(), String> {
    let flags = [
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        format!("-Clinker={}", linker.display()),
        // The object's digest decides whether a new daemon takes over running programs as they are, so it must not
        // depend on where the sources lie.
        format!("--remap-path-prefix={}=.", workspace.display()),
        format!("--cfg=bpf_target_arch=\"{}\"", variable("CARGO_CFG_TARGET_ARCH")?),
    ];
    let mut command = Command::new(variable("CARGO")?);
    command
        .current_dir(workspace)
        .args(["build", "--locked", "--release", "--package", PACKAGE, "--bin", BINARY, "--target", TARGET])
        .args(["-Zbuild-std=core", "--target-dir"])
        .arg(target_dir)
        // Unstable features for this child only.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    // What the outer cargo set for the host build, clippy's wrapper above all, does not belong into this one.
    for (name, _) in env::vars_os() {
        if is_for_the_host_build(&name) {
            command.env_remove(name);
        }
    }
    let output = command.output().map_err(|error| format!("cannot run cargo: {error}"))?;
    let report = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        // One line each, or cargo shows the first only.
        for line in report.lines() {
            println!("cargo::error={line}");
        }
        return Err(format!("building {PACKAGE} for {TARGET} failed"));
    }
    let warned = report.lines().any(|line| line.starts_with("warning"));
    for line in report.lines().filter(|_| warned) {
        println!("cargo::warning={line}");
    }
    Ok(())
}

fn is_for_the_host_build(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    matches!(
        &*name,
        "RUSTC"
            | "RUSTDOC"
            | "RUSTC_WRAPPER"
            | "RUSTC_WORKSPACE_WRAPPER"
            | "RUSTFLAGS"
            | "TARGET"
            | "CLIPPY_ARGS"
    ) || name.starts_with("CARGO_FEATURE_")
        || name.starts_with("CARGO_CFG_")
        || name.starts_with("CARGO_PROFILE_")
        || name.starts_with("CARGO_BUILD_")
        || name.starts_with("CARGO_TARGET_")
}

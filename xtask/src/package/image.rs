//! The root directory of the container image: the programs, the libraries they need, and nothing else. There is no shell in
//! it and no package manager, and no base image to trust. `deploy/container/Containerfile` makes an image of it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::Purpose;
use super::contents::is_shipped;
use crate::vm::{Program, libraries_of};
use crate::{paths, process, ui};

/// Where libraries are found without a cache of the loader's.
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
const LOADER: &str = "usr/lib64/ld-linux-x86-64.so.2";

/// Places that mounts go to: with a read-only root the runtime cannot make them.
const MOUNT_POINTS: &[&str] =
    &["dev", "etc/enforcer", "policies", "proc", "run/enforcer", "sys", "tmp", "var/lib/enforcer"];

/// Lays the directory out and checks that the programs find all of their libraries in it.
pub(crate) fn lay_out(programs: &[Program], purpose: Purpose) -> Result<PathBuf> {
    let step = ui::step("laying out the container image");
    let root = purpose.directory().join("image");
    let _ = fs::remove_dir_all(&root);
    for directory in MOUNT_POINTS.iter().chain(&[LIBRARIES, "usr/lib64", "usr/bin"]) {
        fs::create_dir_all(root.join(directory)).with_context(|| format!("creating {directory}"))?;
    }
    for name in ["lib", "lib64"] {
        symlink(format!("usr/{name}"), root.join(name)).context("linking a directory of libraries")?;
    }
    for program in programs.iter().filter(|program| is_shipped(program)) {
        let file = root.join("usr/bin").join(&program.name);
        process::output(process::command("strip").arg("-o").arg(file).arg(&program.file))?;
    }
    let enforcer = programs.iter().find(|program| program.name == "enforcer");
    for library in libraries_of(&enforcer.context("enforcer was not built")?.file)? {
        let name = library.file_name().context("a library has a name")?.to_owned();
        let is_loader = Path::new(LOADER).file_name() == Some(name.as_os_str());
        let target = if is_loader { root.join(LOADER) } else { root.join(LIBRARIES).join(name) };
        let _ = fs::copy(&library, &target).with_context(|| format!("copying {}", library.display()))?;
    }
    for (source, target) in [
        ("deploy/package/copyright", "copyright"),
        ("LICENSE-APACHE", "LICENSE-APACHE"),
        ("LICENSE-GPL-2.0", "LICENSE-GPL-2.0"),
    ] {
        let directory = root.join("usr/share/doc/enforcer");
        fs::create_dir_all(&directory).context("creating a directory for licences")?;
        let _ =
            fs::copy(paths::workspace().join(source), directory.join(target)).context("copying a licence")?;
    }
    check(&root)?;
    step.done();
    Ok(root)
}

/// Has the image's own loader say what it would load, from the image.
fn check(root: &Path) -> Result<()> {
    let libraries = root.join(LIBRARIES);
    let mut loader = process::command(&root.join(LOADER).display().to_string());
    loader.args(["--inhibit-cache", "--library-path"]).arg(&libraries).arg("--list");
    let listing = process::text(loader.arg(root.join("usr/bin/enforcer")))?;
    let missing = missing(&listing, root);
    ensure!(missing.is_empty(), "the image lacks {}", missing.join(", "));
    Ok(())
}

/// Libraries that are not found below `root`: lines as `name => path (address)` or `path (address)`.
fn missing(listing: &str, root: &Path) -> Vec<String> {
    let elsewhere = |line: &&str| {
        let from_the_kernel = line.trim_start().starts_with("linux-vdso");
        let path = line.split_whitespace().find(|word| word.starts_with('/'));
        let is_loader = path.is_some_and(|path| path.ends_with("/ld-linux-x86-64.so.2"));
        !from_the_kernel && !is_loader && !path.is_some_and(|path| Path::new(path).starts_with(root))
    };
    listing.lines().filter(elsewhere).map(|line| line.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_from_elsewhere_are_missing() {
        let listing = "\tlinux-vdso.so.1 (0x1)\n\tliba.so => /image/usr/lib/liba.so (0x2)\n\
            \tlibb.so => /usr/lib/libb.so (0x3)\n\tlibc.so => not found\n\
            \t/lib64/ld-linux-x86-64.so.2 => /image/usr/lib64/ld-linux-x86-64.so.2 (0x4)\n";
        let missing = missing(listing, Path::new("/image"));
        assert_eq!(missing, ["libb.so => /usr/lib/libb.so (0x3)", "libc.so => not found"]);
    }
}

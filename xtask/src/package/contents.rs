//! What is in the packages, and where.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::vm::Program;
use crate::{paths, process};

const DOC: &str = "usr/share/doc/enforcer";
const UNITS: &str = "usr/lib/systemd/system";

/// Which package a file is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Within {
    Both,
    Deb,
    Rpm,
}

/// A file that was laid out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    /// Where it lies now.
    pub(super) source: PathBuf,
    /// Where it is installed, below the root, without a leading slash.
    pub(super) target: String,
    /// Its permissions.
    pub(super) mode: u32,
    /// The packages it is in.
    pub(super) within: Within,
}

impl File {
    /// Whether it is there to be read only.
    pub(super) fn is_documentation(&self) -> bool {
        self.target.starts_with(DOC) || self.target.starts_with("usr/share/man/")
    }

    /// Whether it is started.
    pub(super) fn is_program(&self) -> bool {
        self.target.starts_with("usr/bin/")
    }
}

/// Files of the tree, and where they go.
const FILES: &[(&str, &str)] = &[
    ("deploy/package/tpm-group.conf", "usr/lib/systemd/system/enforcer.service.d/10-tpm-group.conf"),
    ("deploy/package/sysusers.conf", "usr/lib/sysusers.d/enforcer.conf"),
    ("deploy/package/tmpfiles.conf", "usr/lib/tmpfiles.d/enforcer.conf"),
    ("deploy/package/copyright", "usr/share/doc/enforcer/copyright"),
    ("deploy/seal.conf", "usr/share/doc/enforcer/examples/seal.conf"),
    ("deploy/podman/enforcer.json", "usr/share/doc/enforcer/examples/podman-hook.json"),
    ("LICENSE-APACHE", "usr/share/doc/enforcer/LICENSE-APACHE"),
    ("LICENSE-GPL-2.0", "usr/share/doc/enforcer/LICENSE-GPL-2.0"),
    ("CHANGELOG.md", "usr/share/doc/enforcer/CHANGELOG.md"),
    ("README.md", "usr/share/doc/enforcer/README.md"),
    ("SECURITY.md", "usr/share/doc/enforcer/SECURITY.md"),
];

/// All files of a kind in a directory of the tree, and the directory they go into.
const DIRECTORIES: &[(&str, &str, &str)] = &[
    ("deploy", "service", UNITS),
    ("policy-examples", "toml", "usr/share/doc/enforcer/policy-examples"),
    ("docs", "md", "usr/share/doc/enforcer/docs"),
];

/// Pages of programs whose command line does not come from clap.
const MANUAL: (&str, &str) = ("deploy/man", "8");

/// Shell, what its completion is called, and where that goes. Debian's zsh looks elsewhere than others'.
const COMPLETIONS: &[(&str, &str, Within)] = &[
    ("bash", "usr/share/bash-completion/completions/enforcer", Within::Both),
    ("fish", "usr/share/fish/vendor_completions.d/enforcer.fish", Within::Both),
    ("zsh", "usr/share/zsh/vendor-completions/_enforcer", Within::Deb),
    ("zsh", "usr/share/zsh/site-functions/_enforcer", Within::Rpm),
];

/// Whether a program belongs to users, and not to tests.
pub(crate) fn is_shipped(program: &Program) -> bool {
    program.name == "enforcer" || program.name.starts_with("enforcer-")
}

/// The names of all units.
pub(super) fn units() -> Result<Vec<String>> {
    let names = of_kind(&paths::workspace().join("deploy"), "service")?;
    Ok(names.iter().filter_map(|file| Some(file.file_name()?.to_string_lossy().into_owned())).collect())
}

/// Lays all files out below `root`.
pub(super) fn lay_out(root: &Path, programs: &[Program]) -> Result<Vec<File>> {
    let mut layout = Layout { root: root.to_owned(), files: Vec::new() };
    let shipped: Vec<&Program> = programs.iter().filter(|program| is_shipped(program)).collect();
    for program in &shipped {
        let file = layout.place(&format!("usr/bin/{}", program.name), 0o755, Within::Both)?;
        process::output(process::command("strip").arg("-o").arg(file).arg(&program.file))?;
    }
    let enforcer = shipped.iter().find(|program| program.name == "enforcer");
    generate(&mut layout, &enforcer.context("enforcer was not built")?.file)?;
    let tree = paths::workspace();
    for (source, target) in FILES {
        layout.copy(&tree.join(source), target)?;
    }
    for (directory, kind, target) in DIRECTORIES {
        for source in of_kind(&tree.join(directory), kind)? {
            let name = source.file_name().context("a file has a name")?.to_string_lossy().into_owned();
            layout.copy(&source, &format!("{target}/{name}"))?;
        }
    }
    for page in of_kind(&tree.join(MANUAL.0), MANUAL.1)? {
        manual_page(&mut layout, &page)?;
    }
    for program in shipped {
        let page = format!("{}/{}.8.gz", MAN, program.name);
        ensure!(layout.files.iter().any(|file| file.target == page), "{} has no manual page", program.name);
    }
    layout.files.sort_by(|one, other| one.target.cmp(&other.target));
    Ok(layout.files)
}

const MAN: &str = "usr/share/man/man8";

/// What the program says about itself: always what it is, because it says it.
fn generate(layout: &mut Layout, enforcer: &Path) -> Result<()> {
    let pages = tempfile::tempdir().context("creating a temporary directory")?;
    process::output(Command::new(enforcer).args(["man", "--directory"]).arg(pages.path()))?;
    for page in of_kind(pages.path(), "8")? {
        manual_page(layout, &page)?;
    }
    for (shell, target, within) in COMPLETIONS {
        let script = process::output(Command::new(enforcer).args(["completions", shell]))?;
        let file = layout.place(target, 0o644, *within)?;
        fs::write(&file, script).with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(())
}

fn manual_page(layout: &mut Layout, page: &Path) -> Result<()> {
    let name = page.file_name().context("a page has a name")?.to_string_lossy().into_owned();
    // Without name and time: equal pages are to be equal files.
    let packed = process::output(process::command("gzip").args(["-9", "-n", "-c"]).arg(page))?;
    let file = layout.place(&format!("{MAN}/{name}.gz"), 0o644, Within::Both)?;
    fs::write(&file, packed).with_context(|| format!("writing {}", file.display()))
}

/// Files with this extension, sorted.
fn of_kind(directory: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory).with_context(|| format!("listing {}", directory.display()))?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|found| found == extension));
    files.sort();
    Ok(files)
}

struct Layout {
    root: PathBuf,
    files: Vec<File>,
}

impl Layout {
    /// A file to be written, noted.
    fn place(&mut self, target: &str, mode: u32, within: Within) -> Result<PathBuf> {
        let source = self.root.join(target);
        let parent = source.parent().context("a file has a parent")?;
        fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
        self.files.push(File { source: source.clone(), target: target.to_owned(), mode, within });
        Ok(source)
    }

    fn copy(&mut self, source: &Path, target: &str) -> Result<()> {
        let file = self.place(target, 0o644, Within::Both)?;
        let bytes = fs::read(source).with_context(|| format!("reading {}", source.display()))?;
        fs::write(&file, bytes).with_context(|| format!("writing {}", file.display()))?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).context("setting a mode")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_list_names_is_in_the_tree() {
        for (source, _) in FILES {
            assert!(paths::workspace().join(source).is_file(), "{source}");
        }
        for (directory, kind, _) in DIRECTORIES {
            assert!(!of_kind(&paths::workspace().join(directory), kind).unwrap().is_empty(), "{directory}");
        }
        assert!(units().unwrap().contains(&"enforcer.service".to_owned()));
    }

    #[test]
    fn programs_of_tests_are_not_shipped() {
        let shipped = |name: &str| is_shipped(&Program { name: name.into(), file: PathBuf::new() });
        assert!(shipped("enforcer") && shipped("enforcer-oci-hook"));
        assert!(!shipped("actor") && !shipped("vm-guest") && !shipped("suite-kernel"));
    }

    /// Whoever follows the page and whoever copies the example gets the same hook.
    #[test]
    fn the_hook_of_the_documentation_is_the_shipped_one() {
        let read = |file: &str| fs::read_to_string(paths::workspace().join(file)).unwrap();
        assert!(read("docs/containers.md").contains(&read("deploy/podman/enforcer.json")));
    }
}

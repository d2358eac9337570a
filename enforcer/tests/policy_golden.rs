//! Policies against what the compiler made of them when someone last looked: see `tests/golden/README.md`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use enforcer::policy::{compile::compile, diagnostics::Style, parse::parse, source::Source};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden");

/// What comes out of a policy: image and diagnostics, as text.
fn outcome(path: &Path) -> (String, String) {
    let name = path.file_name().expect("name").to_string_lossy().into_owned();
    let source = Source::new(name, fs::read(path).expect("readable")).expect("text");
    let parsed = parse(&source);
    let mut diagnostics = parsed.diagnostics;
    let image = parsed.policy.and_then(|policy| match compile(&policy) {
        Ok(image) => Some(image.to_text()),
        Err(error) => {
            diagnostics.push(error.diagnostic(&policy));
            None
        }
    });
    let text = diagnostics.render(&source, Style::Plain);
    (image.unwrap_or_default(), text.lines().map(|line| format!("{}\n", line.trim_end())).collect())
}

fn policies() -> Vec<PathBuf> {
    let entries = fs::read_dir(FOLDER).expect("folder").map(|entry| entry.expect("entry").path());
    let mut policies: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|it| it == "toml")).collect();
    policies.sort();
    policies
}

#[test]
fn golden_files() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut changed = Vec::new();
    for policy in policies() {
        let (image, diagnostics) = outcome(&policy);
        for (extension, found) in [("image", image), ("diag", diagnostics)] {
            let path = policy.with_extension(extension);
            let expected = fs::read_to_string(&path).unwrap_or_default();
            if expected == found {
                continue;
            }
            if !update {
                changed.push(format!("--- {}\n{found}", path.display()));
            } else if found.is_empty() {
                fs::remove_file(&path).expect("removable");
            } else {
                fs::write(&path, found).expect("writable");
            }
        }
    }
    assert!(changed.is_empty(), "{}\nUPDATE_GOLDEN=1 accepts these", changed.join("\n"));
}

/// A golden file without its policy would never be looked at again.
#[test]
fn no_golden_file_is_orphaned() {
    for entry in fs::read_dir(FOLDER).expect("folder") {
        let path = entry.expect("entry").path();
        if path.extension().is_some_and(|it| it == "image" || it == "diag") {
            assert!(path.with_extension("toml").exists(), "{}", path.display());
        }
    }
}

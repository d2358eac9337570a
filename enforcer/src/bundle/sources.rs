//! Policy files on disk, on their way to verification.
#![forbid(unsafe_code)]

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use super::{
    compile::CompileError,
    verify::{InsecureUnsigned, PolicySource, VerifiedBundle},
};
use crate::policy::diagnostics::Style;

/// Ending of policy files in directories.
const ENDING: &str = "toml";

/// Policies that cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum SourcesError {
    /// A file or directory cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Nobody signed them, and nobody consented.
    #[error(
        "{count} of the policies are not signed. Signatures cannot be checked yet; if you trust everyone who can write \
         these files, consent with `--insecure-unsigned`"
    )]
    Unsigned {
        /// How many.
        count: usize,
    },
    /// They have mistakes.
    #[error("{0}")]
    Mistakes(Mistakes),
}

/// Every mistake in every file.
#[derive(Debug)]
pub struct Mistakes(Vec<CompileError>);

impl Mistakes {
    /// All of them, drawn, with how many files they are in.
    #[must_use]
    pub fn render(&self, style: Style) -> String {
        let drawn: String = self.0.iter().map(|error| error.render(style)).collect();
        let files = if self.0.len() == 1 { "1 policy has".to_owned() } else { format!("{} policies have", self.0.len()) };
        format!("{drawn}{files} mistakes")
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(Style::Plain))
    }
}

/// Reads policy files: those named, and in directories those ending in `.toml`, by name. Hidden files are left alone.
///
/// # Errors
/// [`SourcesError::Read`] for the first that cannot be read.
pub fn read(paths: &[PathBuf]) -> Result<Vec<PolicySource>, SourcesError> {
    let mut files = Vec::new();
    for path in paths {
        let failed = |source| SourcesError::Read { path: path.clone(), source };
        if fs::metadata(path).map_err(failed)?.is_dir() {
            let mut inside = Vec::new();
            for entry in fs::read_dir(path).map_err(failed)? {
                let file = entry.map_err(failed)?.path();
                if is_policy(&file) {
                    inside.push(file);
                }
            }
            inside.sort();
            files.extend(inside);
        } else {
            files.push(path.clone());
        }
    }
    files
        .into_iter()
        .map(|path| match fs::read(&path) {
            Ok(bytes) => Ok(PolicySource { origin: path.display().to_string(), bytes }),
            Err(source) => Err(SourcesError::Read { path, source }),
        })
        .collect()
}

/// Verifies all policies, or tells everything that is wrong with any.
///
/// # Errors
/// [`SourcesError`].
pub fn verify(
    sources: Vec<PolicySource>,
    consent: Option<InsecureUnsigned>,
) -> Result<Vec<VerifiedBundle>, SourcesError> {
    if sources.is_empty() {
        return Ok(Vec::new());
    }
    let consent = consent.ok_or(SourcesError::Unsigned { count: sources.len() })?;
    let (mut bundles, mut mistakes) = (Vec::new(), Vec::new());
    for source in sources {
        match VerifiedBundle::accept_unsigned(source, consent) {
            Ok(bundle) => bundles.push(bundle),
            Err(error) => mistakes.push(error),
        }
    }
    if mistakes.is_empty() { Ok(bundles) } else { Err(SourcesError::Mistakes(Mistakes(mistakes))) }
}

fn is_policy(path: &Path) -> bool {
    let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    !hidden && path.extension().is_some_and(|extension| extension == ENDING) && path.is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "policy = \"web\"\n[workload]\nunit = \"nginx.service\"\n[exec]\nallow = [\"/usr/sbin/nginx\"]\n";

    #[test]
    fn directories_give_their_policies_in_order() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["b.toml", "a.toml", ".hidden.toml", "a.toml.bak", "notes.txt"] {
            fs::write(directory.path().join(name), GOOD).unwrap();
        }
        fs::create_dir(directory.path().join("c.toml")).unwrap();
        let found = read(&[directory.path().to_owned()]).unwrap();
        let names: Vec<_> = found.iter().map(|source| source.origin.rsplit('/').next().unwrap()).collect();
        assert_eq!(names, ["a.toml", "b.toml"]);
        let missing = directory.path().join("missing.toml");
        assert!(read(&[missing]).unwrap_err().to_string().contains("missing.toml"));
    }

    #[test]
    fn unsigned_policies_need_consent_and_all_mistakes_are_told() {
        let source = |origin: &str, text: &str| PolicySource { origin: origin.into(), bytes: text.into() };
        let good = source("good.toml", GOOD);
        let error = verify(vec![good.clone()], None).unwrap_err();
        assert!(error.to_string().contains("--insecure-unsigned"), "{error}");
        assert!(verify(Vec::new(), None).unwrap().is_empty());
        let consent = InsecureUnsigned::from_flag(true);
        assert_eq!(verify(vec![good.clone()], consent).unwrap()[0].name(), "web");
        let bad = [source("one.toml", "policy = 3"), good, source("two.toml", "nonsense")];
        let error = verify(bad.to_vec(), consent).unwrap_err().to_string();
        assert!(error.contains("one.toml") && error.contains("two.toml") && error.contains("2 policies have mistakes"));
    }
}

//! Policy files on disk, on their way to verification.
#![forbid(unsafe_code)]

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use super::{
    compile::CompileError,
    signed::{self, BundleFiles},
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
        "{count} of the policies are not signed. Sign them with `enforcer sign`; a machine on which everyone who can \
         write these files is trusted consents with `unsigned = \"allow\"` in its anchors and `--insecure-unsigned`"
    )]
    Unsigned {
        /// How many.
        count: usize,
    },
    /// They have mistakes.
    #[error("{0}")]
    Mistakes(Mistakes),
    /// A bundle and other policies, or several bundles.
    #[error("{}", mixed(bundles))]
    Mixed {
        /// The bundles.
        bundles: Vec<PathBuf>,
    },
}

fn mixed(bundles: &[PathBuf]) -> String {
    match bundles {
        [one] => {
            format!("policies are named that do not lie beside {}; a bundle is the whole set", one.display())
        }
        [] => "no bundle is named".into(),
        [first, second, ..] => format!(
            "there are several bundles, {} and {}; a bundle is the whole set of a machine, so name one",
            first.display(),
            second.display()
        ),
    }
}

/// Every mistake in every file.
#[derive(Debug)]
pub struct Mistakes(Vec<CompileError>);

impl Mistakes {
    /// These mistakes.
    #[must_use]
    pub const fn of(mistakes: Vec<CompileError>) -> Self {
        Self(mistakes)
    }

    /// All of them, drawn, with how many files they are in.
    #[must_use]
    pub fn render(&self, style: Style) -> String {
        let drawn: String = self.0.iter().map(|error| error.render(style)).collect();
        let files = if self.0.len() == 1 {
            "1 policy has".to_owned()
        } else {
            format!("{} policies have", self.0.len())
        };
        format!("{drawn}{files} mistakes")
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(Style::Plain))
    }
}

/// What was read, once. Nothing is known about it.
#[derive(Clone, Debug)]
pub enum Sources {
    /// Policies without signatures.
    Unsigned(Vec<PolicySource>),
    /// A bundle.
    Bundle(BundleFiles),
}

/// Reads policies: files that are named, and in directories those ending in `.toml`, by name. A file ending in
/// `.pcrsig.json`, named or in a directory, makes them a bundle. Hidden files are left alone.
///
/// # Errors
/// [`SourcesError::Read`] for the first that cannot be read, [`SourcesError::Mixed`].
pub fn read(paths: &[PathBuf]) -> Result<Sources, SourcesError> {
    let (mut policies, mut signatures, mut whole_directory) = (Vec::new(), Vec::new(), false);
    for path in paths {
        if metadata(path)?.is_dir() {
            policies.extend(listed(path, is_policy)?);
            signatures.extend(listed(path, is_bundle)?);
            whole_directory = true;
        } else if is_bundle(path) {
            signatures.push(path.clone());
        } else {
            policies.push(path.clone());
        }
    }
    match (signatures.as_slice(), policies.is_empty()) {
        ([], _) => policies.iter().map(|path| source(path)).collect::<Result<_, _>>().map(Sources::Unsigned),
        ([bundle], true) => {
            let directory = bundle.parent().filter(|parent| !parent.as_os_str().is_empty());
            let beside = listed(directory.unwrap_or(Path::new(".")), is_policy)?;
            files(bundle, &beside, false).map(Sources::Bundle)
        }
        ([bundle], false) if policies.iter().all(|policy| policy.parent() == bundle.parent()) => {
            files(bundle, &policies, whole_directory).map(Sources::Bundle)
        }
        _ => Err(SourcesError::Mixed { bundles: signatures }),
    }
}

fn files(bundle: &Path, policies: &[PathBuf], nothing_else: bool) -> Result<BundleFiles, SourcesError> {
    let named = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Ok((name, source(path)?))
    };
    Ok(BundleFiles {
        origin: bundle.display().to_string(),
        signatures: source(bundle)?.bytes,
        policies: policies.iter().map(named).collect::<Result<_, SourcesError>>()?,
        nothing_else,
    })
}

fn metadata(path: &Path) -> Result<fs::Metadata, SourcesError> {
    fs::metadata(path).map_err(|source| SourcesError::Read { path: path.to_owned(), source })
}

fn source(path: &Path) -> Result<PolicySource, SourcesError> {
    match fs::read(path) {
        Ok(bytes) => Ok(PolicySource { origin: path.display().to_string(), bytes }),
        Err(source) => Err(SourcesError::Read { path: path.to_owned(), source }),
    }
}

fn listed(directory: &Path, wanted: fn(&Path) -> bool) -> Result<Vec<PathBuf>, SourcesError> {
    let failed = |source| SourcesError::Read { path: directory.to_owned(), source };
    let mut inside = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        if wanted(&file) {
            inside.push(file);
        }
    }
    inside.sort();
    Ok(inside)
}

/// Accepts policies that nobody signed, or tells everything that is wrong with any.
///
/// # Errors
/// [`SourcesError`].
pub fn accept_unsigned(
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

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

fn is_bundle(path: &Path) -> bool {
    let ending =
        path.file_name().is_some_and(|name| name.as_encoded_bytes().ends_with(signed::ENDING.as_bytes()));
    ending && !is_hidden(path) && path.is_file()
}

fn is_policy(path: &Path) -> bool {
    !is_hidden(path) && path.extension().is_some_and(|extension| extension == ENDING) && path.is_file()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::anchors::Consent;

    const GOOD: &str =
        "policy = \"web\"\n[workload]\nunit = \"nginx.service\"\n[exec]\nallow = [\"/usr/sbin/nginx\"]\n";

    #[test]
    fn directories_give_their_policies_in_order() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["b.toml", "a.toml", ".hidden.toml", "a.toml.bak", "notes.txt"] {
            fs::write(directory.path().join(name), GOOD).unwrap();
        }
        fs::create_dir(directory.path().join("c.toml")).unwrap();
        let Sources::Unsigned(found) = read(&[directory.path().to_owned()]).unwrap() else { panic!() };
        let names: Vec<_> = found.iter().map(|source| source.origin.rsplit('/').next().unwrap()).collect();
        assert_eq!(names, ["a.toml", "b.toml"]);
        let missing = directory.path().join("missing.toml");
        assert!(read(&[missing]).unwrap_err().to_string().contains("missing.toml"));
    }

    #[test]
    fn unsigned_policies_need_consent_and_all_mistakes_are_told() {
        let source = |origin: &str, text: &str| PolicySource { origin: origin.into(), bytes: text.into() };
        let good = source("good.toml", GOOD);
        let error = accept_unsigned(vec![good.clone()], None).unwrap_err();
        assert!(error.to_string().contains("--insecure-unsigned"), "{error}");
        assert!(accept_unsigned(Vec::new(), None).unwrap().is_empty());
        let consent = InsecureUnsigned::of(true, Consent::Allow);
        assert_eq!(accept_unsigned(vec![good.clone()], consent).unwrap()[0].name(), "web");
        let bad = [source("one.toml", "policy = 3"), good, source("two.toml", "nonsense")];
        let error = accept_unsigned(bad.to_vec(), consent).unwrap_err().to_string();
        assert!(
            error.contains("one.toml")
                && error.contains("two.toml")
                && error.contains("2 policies have mistakes")
        );
    }

    #[test]
    fn consent_takes_two() {
        assert!(InsecureUnsigned::of(true, Consent::Allow).is_some());
        assert!(InsecureUnsigned::of(true, Consent::Refuse).is_none());
        assert!(InsecureUnsigned::of(false, Consent::Allow).is_none());
    }

    #[test]
    fn a_signature_file_makes_a_bundle() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        for name in ["a.toml", "b.toml", "set.pcrsig.json", ".old.pcrsig.json"] {
            fs::write(path(name), GOOD).unwrap();
        }
        let bundle = |paths: &[PathBuf]| match read(paths) {
            Ok(Sources::Bundle(files)) => {
                (files.policies.into_keys().collect::<Vec<_>>(), files.nothing_else)
            }
            other => panic!("{other:?}"),
        };
        let both = vec!["a.toml".to_owned(), "b.toml".to_owned()];
        assert_eq!(bundle(&[directory.path().to_owned()]), (both.clone(), true));
        assert_eq!(bundle(&[path("set.pcrsig.json")]), (both, false));
        assert_eq!(bundle(&[path("set.pcrsig.json"), path("b.toml")]), (vec!["b.toml".to_owned()], false));
        fs::create_dir(path("other")).unwrap();
        fs::write(path("other/c.toml"), GOOD).unwrap();
        let mixed = read(&[path("set.pcrsig.json"), path("other")]).unwrap_err();
        assert!(mixed.to_string().contains("do not lie beside"), "{mixed}");
        fs::write(path("other/two.pcrsig.json"), GOOD).unwrap();
        let several = read(&[path("set.pcrsig.json"), path("other")]).unwrap_err();
        assert!(several.to_string().contains("several bundles"), "{several}");
    }
}

//! The seam to the policy compiler.
#![forbid(unsafe_code)]

use enforcer_common::abi::Slot;

use super::verify::{PolicySource, VerifiedBundle};
use crate::policy::image::PolicyImage;

/// What the compiler makes of a policy.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The map entries.
    pub image: PolicyImage,
    /// Cgroups that it binds.
    pub cgroups: Vec<String>,
}

/// A policy with mistakes.
#[derive(Debug, thiserror::Error)]
#[error("{origin}: {message}")]
pub struct CompileError {
    /// Which.
    pub origin: String,
    /// All of them, rendered.
    pub message: String,
}

/// Selectors that contradict each other.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(pub String);

/// Compiles a policy.
///
/// # Errors
/// [`CompileError`] with all mistakes.
pub fn compile(source: &PolicySource) -> Result<Compiled, CompileError> {
    Err(CompileError { origin: source.origin.clone(), message: "the policy compiler is not merged yet".into() })
}

/// Compiles the selectors of all policies into one image whose rule indices are slots.
///
/// # Errors
/// [`SelectorError`].
pub fn compile_selectors(policies: &[(&VerifiedBundle, Slot)]) -> Result<PolicyImage, SelectorError> {
    use enforcer_common::{abi::Grant, rights::Rights};
    let exact = policies.iter().flat_map(|(bundle, slot)| {
        let grant = Grant { rights: Rights::EXEC.0, min_trust: 0, on_low: 0, rule: *slot };
        bundle.compiled().cgroups.iter().map(move |path| (path.as_bytes().to_vec(), grant))
    });
    Ok(PolicyImage {
        name: "(selectors)".into(),
        modes: [0; _],
        switches: 0,
        privileges: 0,
        socket_families: 0,
        exact: exact.collect(),
        automaton: None,
        prefixes: [].into(),
        rules: Vec::new(),
    })
}

impl Compiled {
    #[cfg(test)]
    pub(crate) fn for_tests(image: PolicyImage, cgroup: &str) -> Self {
        Self { image, cgroups: vec![cgroup.to_owned()] }
    }
}

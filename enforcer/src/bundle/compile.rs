//! The seam to the policy compiler: bytes in, image or every mistake out.
#![forbid(unsafe_code)]

use std::fmt;

use enforcer_common::abi::Slot;

use super::verify::{Candidate, PolicySource};
use crate::policy::{
    compile as lower,
    diagnostics::{Diagnostics, Style},
    image::PolicyImage,
    model::Policy,
    parse::parse,
    selectors::{self, Claim},
    source::{Source, SourceError},
};

pub use crate::policy::selectors::SelectorError;

/// What the compiler makes of a policy.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The policy.
    pub policy: Policy,
    /// Its map entries.
    pub image: PolicyImage,
    /// What is questionable about it, if anything, drawn for people.
    pub warnings: Option<String>,
}

/// A policy with mistakes.
#[derive(Clone, Debug)]
pub enum CompileError {
    /// Not text.
    Source(SourceError),
    /// Mistakes, each with its place.
    Mistakes {
        /// The text they are in.
        source: Box<Source>,
        /// All of them.
        diagnostics: Diagnostics,
    },
}

impl CompileError {
    /// All mistakes, drawn.
    #[must_use]
    pub fn render(&self, style: Style) -> String {
        match self {
            Self::Source(error) => format!("error: {error}\n"),
            Self::Mistakes { source, diagnostics } => diagnostics.render(source, style),
        }
    }
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(Style::Plain))
    }
}

impl std::error::Error for CompileError {}

/// Compiles a policy.
///
/// # Errors
/// [`CompileError`] with all mistakes.
pub fn compile(policy: &PolicySource) -> Result<Compiled, CompileError> {
    let source = Source::new(policy.origin.clone(), policy.bytes.clone()).map_err(CompileError::Source)?;
    let parsed = parse(&source);
    let mut diagnostics = parsed.diagnostics;
    if let Some(policy) = parsed.policy {
        match lower::compile(&policy) {
            Ok(image) => {
                let warnings = (!diagnostics.is_empty()).then(|| diagnostics.render(&source, Style::Plain));
                return Ok(Compiled { policy, image, warnings });
            }
            Err(error) => diagnostics.push(error.diagnostic(&policy)),
        }
    }
    diagnostics.sort();
    Err(CompileError::Mistakes { source: Box::new(source), diagnostics })
}

/// Compiles the selectors of all policies into one image whose rule indices are slots.
///
/// # Errors
/// [`SelectorError`] when two policies claim one cgroup.
pub fn compile_selectors(policies: &[(&Candidate, Slot)]) -> Result<PolicyImage, SelectorError> {
    let claims: Vec<Claim<'_>> = policies
        .iter()
        .map(|(bundle, slot)| Claim {
            selector: &bundle.compiled().policy.selector,
            slot: *slot,
            policy: bundle.name(),
        })
        .collect();
    selectors::compile_selectors(&claims)
}

impl Compiled {
    /// The policy for the same workloads that allows nothing.
    ///
    /// # Errors
    /// Never, as far as is known: nothing always fits.
    pub fn denying_all(&self) -> Result<Self, lower::CompileError> {
        let policy = self.policy.denying_all();
        let image = lower::compile(&policy)?;
        Ok(Self { policy, image, warnings: None })
    }

    /// Around an image, for tests of what comes later.
    #[cfg(test)]
    pub(crate) fn for_tests(image: PolicyImage, cgroup: &str) -> Self {
        let text = format!("policy = \"{}\"\n[workload]\ncgroup = \"{cgroup}\"\n", image.name);
        Self::of_text_for_tests(image, &text)
    }

    /// Around an image, with a selector from a policy's text.
    #[cfg(test)]
    pub(crate) fn of_text_for_tests(image: PolicyImage, text: &str) -> Self {
        let source = Source::new("test.toml", text.to_owned()).unwrap();
        let policy = parse(&source).policy.unwrap();
        Self { policy, image, warnings: None }
    }
}

//! From the policies' `[workload]` tables to one image over cgroup paths.
//!
//! An exact path beats a pattern. Among patterns, one about the cgroup itself beats one of a base policy, which beats one
//! about a slice above it; then the longer literal prefix wins, then the larger number of literal bytes. Two policies that are still equal on some
//! path are refused: which of them holds must never be an accident.

use std::collections::BTreeMap;

use enforcer_common::{
    abi::{Grant, SELECTS, SELECTS_BASE, SLOT_SELECTORS, Slot},
    rights::Rights,
};

use super::{
    automaton::{Limits, Subsets, TooComplex},
    compile::lower,
    containers::{Rivals, refuse_rivals},
    glob::{Glob, Specificity},
    image::{PolicyImage, RuleText},
    model::{Selector, SelectorPattern, SelectorReach},
};

/// One policy's claim.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// Whom it binds.
    pub selector: &'a Selector,
    /// Its slot: what a match yields.
    pub slot: Slot,
    /// Its name.
    pub policy: &'a str,
}

/// Why the policies cannot be installed side by side.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// Two claims on one cgroup, neither more specific.
    #[error(
        "policies `{}` (line {}) and `{}` (line {}) both bind the cgroup `{example}`, and neither selector is more specific",
        .sides[0].policy, .sides[0].line, .sides[1].policy, .sides[1].line
    )]
    Tie {
        /// The two policies.
        sides: Box<[Claimant; 2]>,
        /// A cgroup path that both match.
        example: String,
    },
    /// Two claims on one container, neither more specific.
    #[error(transparent)]
    Rivals(#[from] Rivals),
    /// The patterns need too large an automaton.
    #[error("the selectors are too complex: {limit} (mostly because of {})", .policies.join(", "))]
    TooComplex {
        /// What was exceeded.
        limit: TooComplex,
        /// Policies whose selectors contribute most.
        policies: Vec<String>,
    },
}

/// A side of a [`SelectorError::Tie`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimant {
    /// The policy.
    pub policy: String,
    /// The selector's text.
    pub selector: String,
    /// Its line in the policy file.
    pub line: u32,
}

/// A pattern of a claim.
#[derive(Clone, Copy)]
struct Entry<'a> {
    pattern: &'a SelectorPattern,
    slot: Slot,
    policy: &'a str,
}

/// How directly and closely a pattern describes a cgroup.
type Weight = (SelectorReach, Specificity);

impl Entry<'_> {
    fn weight(&self) -> Weight {
        (self.pattern.reach, self.pattern.glob.specificity())
    }

    fn is_base(&self) -> bool {
        self.pattern.reach == SelectorReach::Base
    }

    fn grants(&self) -> Rights {
        if self.is_base() { SELECTS.union(SELECTS_BASE) } else { SELECTS }
    }

    fn claimant(&self) -> Claimant {
        let origin = &self.pattern.origin;
        Claimant { policy: self.policy.to_owned(), selector: origin.text.clone(), line: origin.line }
    }
}

/// Compiles all claims into one image, to be installed in [`SLOT_SELECTORS`]. A match grants [`SELECTS`], so the programs
/// look selectors up like any other name, and its rule is the slot. Containers are not in it: they are bound one by one;
/// but that no two policies claim the same is made sure of here.
///
/// # Errors
/// [`SelectorError`] for claims that contradict each other.
pub fn compile_selectors(claims: &[Claim<'_>]) -> Result<PolicyImage, SelectorError> {
    compile_selectors_within(claims, &Limits::default())
}

/// [`compile_selectors`] within other limits.
///
/// # Errors
/// Like [`compile_selectors`].
pub fn compile_selectors_within<'a>(
    claims: &[Claim<'a>],
    limits: &Limits,
) -> Result<PolicyImage, SelectorError> {
    let containers = |claim: &Claim<'a>| Some((claim.policy, claim.selector.container.as_ref()?));
    refuse_rivals(&claims.iter().filter_map(containers).collect::<Vec<_>>())?;
    let entries = claims.iter().flat_map(|claim| {
        let of_claim = |pattern| Entry { pattern, slot: claim.slot, policy: claim.policy };
        claim.selector.patterns.iter().map(of_claim)
    });
    let (literals, patterns): (Vec<Entry<'_>>, Vec<Entry<'_>>) =
        entries.partition(|entry| !entry.is_base() && entry.pattern.glob.literal().is_some());
    let mut image = PolicyImage::empty(format!("slot-{SLOT_SELECTORS}"));
    image.exact = exact_paths(&literals)?;
    if !patterns.is_empty() {
        let globs: Vec<&Glob> = patterns.iter().map(|entry| &entry.pattern.glob).collect();
        let weights: Vec<Weight> = patterns.iter().map(Entry::weight).collect();
        let too_complex = |limit: TooComplex| {
            let policies = limit.culprits.iter().filter_map(|at| patterns.get(*at));
            let mut policies: Vec<String> = policies.map(|entry| format!("`{}`", entry.policy)).collect();
            policies.dedup();
            SelectorError::TooComplex { limit, policies }
        };
        let subsets = Subsets::of(&globs, limits).map_err(too_complex)?;
        for (state, matched) in subsets.accepting() {
            let best = strongest(matched, &weights);
            let (first, others) =
                best.split_first().map_or((None, &[][..]), |(first, others)| (Some(*first), others));
            let Some(first) = first.and_then(|at| patterns.get(at as usize)) else { continue };
            let rival = others
                .iter()
                .filter_map(|at| patterns.get(*at as usize))
                .find(|entry| entry.slot != first.slot);
            if let Some(second) = rival {
                let example = String::from_utf8_lossy(&subsets.example(state)).into_owned();
                // An exact path settles it only if it settles all of the overlap, which nobody can rely on.
                return Err(SelectorError::Tie {
                    sides: Box::new([first.claimant(), second.claimant()]),
                    example,
                });
            }
        }
        let slot_of = |matched: &[u32]| {
            let best = strongest(matched, &weights);
            best.first()
                .and_then(|at| patterns.get(*at as usize))
                .map_or((SELECTS.0, 0), |entry| (entry.grants().0, entry.slot))
        };
        image.automaton = Some(lower(&subsets.minimise(limits, slot_of).map_err(too_complex)?));
    }
    image.rules = describe(claims);
    Ok(image)
}

/// The patterns of the greatest weight, in order.
fn strongest(matched: &[u32], weights: &[Weight]) -> Vec<u32> {
    let weight = |at: &&u32| weights.get(**at as usize).copied();
    let best = matched.iter().map(|at| weight(&at)).max().flatten();
    matched.iter().filter(|at| weight(at) == best).copied().collect()
}

fn exact_paths(entries: &[Entry<'_>]) -> Result<BTreeMap<Vec<u8>, Grant>, SelectorError> {
    let mut exact: BTreeMap<Vec<u8>, (Grant, &Entry<'_>)> = BTreeMap::new();
    for entry in entries {
        let path = entry.pattern.glob.literal().unwrap_or_default();
        let grant = Grant { rights: SELECTS.0, min_trust: 0, on_low: 0, rule: entry.slot };
        let (_, holder) = exact.entry(path.to_vec()).or_insert((grant, entry));
        if holder.slot != entry.slot {
            let example = String::from_utf8_lossy(path).into_owned();
            return Err(SelectorError::Tie {
                sides: Box::new([holder.claimant(), entry.claimant()]),
                example,
            });
        }
    }
    Ok(exact.into_iter().map(|(path, (grant, _))| (path, grant)).collect())
}

/// Rule texts by slot: what a match's rule index means here.
fn describe(claims: &[Claim<'_>]) -> Vec<RuleText> {
    let mut by_slot: BTreeMap<Slot, &Claim<'_>> = BTreeMap::new();
    claims.iter().for_each(|claim| {
        by_slot.entry(claim.slot).or_insert(claim);
    });
    let Some((last, _)) = by_slot.last_key_value() else { return Vec::new() };
    (0..=*last)
        .map(|slot| {
            let claim = by_slot.get(&slot);
            let text = claim.map(|claim| format!("slot {slot}: {}", claim.policy)).unwrap_or_default();
            let line = claim.and_then(|claim| claim.selector.patterns.first()).map_or(0, |it| it.origin.line);
            RuleText { text, line }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use enforcer_common::decide::{Bytes, granted};

    use super::{
        super::{lookup::ImageTables, model::Policy, parse::parse, source::Source},
        *,
    };

    fn policies(workloads: &[&str]) -> Vec<Policy> {
        let text =
            |workload: &str| format!("policy = \"p\"\n[workload]\n{workload}\n[exec]\nallow = [\"/x\"]\n");
        let parsed = workloads.iter().map(|workload| parse(&Source::new("p.toml", text(workload)).unwrap()));
        parsed.map(|parsed| parsed.policy.unwrap_or_else(|| panic!("{:?}", parsed.diagnostics))).collect()
    }

    fn image(policies: &[Policy]) -> Result<PolicyImage, SelectorError> {
        let names = ["a", "b", "c", "d"];
        let claims: Vec<Claim<'_>> = (2..)
            .zip(policies)
            .zip(names)
            .map(|((slot, policy), name)| Claim { selector: &policy.selector, slot, policy: name })
            .collect();
        compile_selectors(&claims)
    }

    fn slots(workloads: &[&str], paths: &[(&str, Option<Slot>)]) {
        let tables = ImageTables::new(&image(&policies(workloads)).unwrap());
        for (path, expected) in paths {
            let grant = granted(&Bytes(path.as_bytes()), SELECTS, tables.head(), &tables).unwrap();
            let slot = grant.rights().contains(SELECTS).then_some(grant.rule);
            assert_eq!(slot, *expected, "{path} under {workloads:?}");
        }
    }

    #[test]
    fn units_and_slices() {
        slots(
            &["unit = \"nginx.service\"", "unit = [\"worker@*.service\"]", "slice = \"batch.slice\""],
            &[
                ("/system.slice/nginx.service", Some(2)),
                ("/nginx.service", Some(2)),
                ("/system.slice/xnginx.service", None),
                ("/system.slice/nginx.service/sub", None),
                ("/system.slice/system-worker.slice/worker@1.service", Some(3)),
                ("/system.slice/worker.service", None),
                ("/batch.slice", Some(4)),
                ("/batch.slice/a.service/b", Some(4)),
                ("/xbatch.slice/a.service", None),
                // The unit itself is meant, the slice only holds it.
                ("/batch.slice/nginx.service", Some(2)),
                ("/", None),
            ],
        );
    }

    #[test]
    fn the_more_specific_wins() {
        slots(
            &[
                "cgroup = \"/system.slice/*\"",
                "cgroup = \"/system.slice/foo-*\"",
                "cgroup = \"/system.slice/foo-1\"",
                "cgroup = \"/**\"",
            ],
            &[
                ("/system.slice/bar", Some(2)),
                ("/system.slice/foo-2", Some(3)),
                ("/system.slice/foo-1", Some(4)),
                ("/user.slice", Some(5)),
            ],
        );
        slots(
            &["slice = \"batch.slice\"", "slice = \"batch-night.slice\""],
            &[("/batch.slice/x", Some(2)), ("/batch.slice/batch-night.slice/x", Some(3))],
        );
    }

    #[test]
    fn ties_name_both_policies() {
        let tie = |workloads: &[&str]| image(&policies(workloads)).expect_err("tie").to_string();
        assert_eq!(
            tie(&["unit = \"a.service\"", "unit = \"a.service\""]),
            "policies `a` (line 3) and `b` (line 3) both bind the cgroup `/a.service`, and neither selector is more specific"
        );
        assert!(tie(&["cgroup = \"/a/*b\"", "cgroup = \"/a/*b*\""]).contains("`/a/b`"));
        assert!(tie(&["cgroup = \"/a\"", "cgroup = \"/a\""]).contains("`/a`"));
        // Equal weight without overlap, and overlap within one policy, are no ties.
        assert!(image(&policies(&["unit = \"a.service\"", "unit = \"b.service\""])).is_ok());
        assert!(image(&policies(&["cgroup = [\"/a/*b\", \"/a/*b*\"]"])).is_ok());
    }

    #[test]
    fn containers_are_under_the_base_policy_unless_they_are_named() {
        let id = "0123456789abcdef".repeat(4);
        let [podman, docker, conmon] =
            ["machine.slice/libpod", "system.slice/docker", "machine.slice/libpod-conmon"]
                .map(|stem| format!("/{stem}-{id}.scope"));
        let workloads = [
            "container-roots = [\"podman\", \"docker\", \"/own/one\"]",
            "slice = \"system.slice\"",
            &format!("cgroup = \"{podman}/named\""),
            "cgroup = \"/own/*\"",
        ];
        let tables = ImageTables::new(&image(&policies(&workloads)).unwrap());
        let cases = [
            (podman.clone(), Some((2, true))),
            // A container in a slice is none of the slice's services.
            (docker, Some((2, true))),
            ("/system.slice/x.service".to_owned(), Some((3, false))),
            (format!("{podman}/named"), Some((4, false))),
            (conmon, None),
            // Without wildcards it is still nobody's own.
            ("/own/one".to_owned(), Some((5, false))),
        ];
        for (path, expected) in cases {
            let grant = granted(&Bytes(path.as_bytes()), SELECTS, tables.head(), &tables).unwrap();
            let found =
                grant.rights().contains(SELECTS).then(|| (grant.rule, grant.rights().contains(SELECTS_BASE)));
            assert_eq!(found, expected, "{path}");
        }
        let two = ["container-roots = \"podman\"", "container-roots = [\"docker\", \"podman\"]"];
        assert!(matches!(image(&policies(&two)), Err(SelectorError::Tie { .. })));
    }

    #[test]
    fn two_policies_for_one_container_are_refused() {
        let shop = "container.namespace = \"shop\"";
        assert!(matches!(image(&policies(&[shop, shop])), Err(SelectorError::Rivals(_))));
        let app = "container = { namespace = \"shop\", container = \"app\" }";
        let image = image(&policies(&[shop, app])).unwrap();
        assert!(image.exact.is_empty() && image.automaton.is_none(), "they bind no path");
    }

    #[test]
    fn no_claims_bind_nothing() {
        slots(&[], &[("/", None), ("/a", None)]);
    }
}

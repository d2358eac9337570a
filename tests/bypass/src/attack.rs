//! What is known about an attack.

use enforcer_vm_tests::report::{Failure, Outcome};
use enforcer_vm_tests::scenario::{Case, case};

/// One way around an allowlist.
pub struct Attack {
    /// Its name, which is also that of its file.
    pub name: &'static str,
    /// What the attacker does, in the attacker's words.
    pub told: &'static str,
    /// Where it is on.
    pub kernels: Kernels,
    /// Whether it also works for a user without any capability.
    pub ordinary: bool,
    /// The ways to try it: each with what it needs, what allows it, and how it is refused.
    pub rows: fn() -> Vec<Case>,
    /// The attack itself.
    pub run: fn(&[&str]) -> Outcome,
}

impl Attack {
    /// Starts a row: the attack with these arguments.
    pub(crate) fn row(&self, arguments: &[&str]) -> Case {
        let mut op = vec![self.name];
        op.extend(arguments);
        case(self.told, &op)
    }

    /// Starts a row that goes to `peer`, which the rule in `network.connect` allows. Sockets may be made throughout.
    pub(crate) fn reaching(&self, arguments: &[&str], rule: &str, peer: &str) -> Case {
        self.row(arguments)
            .given("network.families", "inet")
            .given("network.families", "inet6")
            .allowed_by("network.connect", rule)
            .about(peer)
    }
}

/// The kernels on which an attack exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernels {
    /// Every supported one.
    All,
    /// Only these series: the others have lost, or do not have, what it takes.
    Only(&'static [&'static str]),
}

impl Kernels {
    /// Whether this release (`6.12.107-cloud`) is one of them.
    #[must_use]
    pub fn contain(self, release: &str) -> bool {
        let of = |series: &str| {
            release.strip_prefix(series).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        match self {
            Self::All => true,
            Self::Only(series) => series.iter().any(|series| of(series)),
        }
    }

    /// For the table.
    #[must_use]
    pub fn text(self) -> String {
        match self {
            Self::All => "all".into(),
            Self::Only(series) => series.join(", "),
        }
    }
}

/// The arguments, if there are as many as the attack takes.
pub(crate) fn arguments<'a, const N: usize>(words: &[&'a str]) -> Result<[&'a str; N], Failure> {
    words.try_into().map_err(|_| failure("wrong number of arguments", libc::EINVAL))
}

/// A failure that no system call reported.
pub(crate) fn failure(step: &str, errno: i32) -> Failure {
    Failure { step: step.into(), errno }
}

#[cfg(test)]
mod tests {
    use super::Kernels;

    #[test]
    fn series_end_at_dots() {
        let old = Kernels::Only(&["6.1"]);
        assert!(old.contain("6.1.176-1-cloud-amd64") && !old.contain("6.12.107") && !old.contain("6.18"));
        assert!(Kernels::All.contain("7.3.4"));
    }
}

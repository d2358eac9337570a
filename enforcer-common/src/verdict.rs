//! Decisions, their reasons, and the one function that turns them into what the kernel returns.

use crate::codes::codes;

codes! {
    /// A group of operations whose mode is set together.
    pub enum Family : u8 {
        /// Starting programs.
        Exec = 0 => "exec",
        /// Executable mappings: libraries, JIT memory.
        Memory = 1 => "memory",
        /// Files and directories.
        File = 2 => "file",
        /// Sockets of every kind.
        Network = 3 => "network",
        /// Privileged kernel doors: mount, ptrace, bpf and the like.
        Privilege = 4 => "privilege",
    }
}

/// How many families there are room for in the ABI.
pub const FAMILY_SLOTS: usize = 8;

codes! {
    /// What happens to an operation that no rule allows.
    ///
    /// Zero is `Enforce`, so memory that nobody filled in denies.
    pub enum Mode : u8 {
        /// Refuse it.
        Enforce = 0 => "enforce",
        /// Let it pass and report it.
        Audit = 1 => "audit",
    }
}

codes! {
    /// Whether the policy allows the operation.
    pub enum Verdict : u8 {
        /// No.
        Deny = 0 => "deny",
        /// Yes.
        Allow = 1 => "allow",
    }
}

codes! {
    /// Why a decision fell as it did.
    pub enum Reason : u8 {
        /// A rule grants every right that was needed.
        Rule = 0 => "rule",
        /// No rule grants what was needed.
        NoRule = 1 => "no-rule",
        /// The object has no name any more, or never had one (deleted file, memfd).
        Unlinked = 2 => "unlinked",
        /// The object lies on a mount that is not part of the task's mount namespace.
        Unreachable = 3 => "unreachable",
        /// The name is longer than 4096 bytes.
        PathTooLong = 4 => "path-too-long",
        /// Executable memory that no file backs.
        AnonymousExec = 5 => "anonymous-exec",
        /// The socket's family, type or protocol is not listed.
        SocketFamily = 6 => "socket-family",
        /// The privilege is not listed.
        Privilege = 7 => "privilege",
        /// The task carries a label, but no policy is installed for it.
        NoPolicy = 8 => "no-policy",
        /// The program could not find out what was asked.
        Internal = 9 => "internal",
        /// The policy names a switch that allows this class of objects.
        Switch = 10 => "switch",
        /// The program is pinned to contents, and this is none of them, or nobody has looked.
        Digest = 11 => "digest",
        /// The program is pinned, and lies on a file system where content can change behind the kernel's back.
        Unverifiable = 12 => "unverifiable",
        /// It is the enforcer's own, which no policy gives away.
        Protected = 13 => "protected",
        /// The program is for probes: allowed to whoever enters the workload from outside, and refused to the workload.
        Probe = 14 => "probe",
    }
}

codes! {
    /// What went wrong inside a BPF program. Always a denial in enforce mode.
    pub enum Fault : u8 {
        /// Not a fault.
        None = 0 => "none",
        /// Task storage could not be had.
        TaskStorage = 1 => "task-storage",
        /// Scratch memory could not be had.
        Scratch = 2 => "scratch",
        /// Kernel memory could not be read.
        KernelRead = 3 => "kernel-read",
        /// A table of the policy ended early.
        Table = 4 => "table",
        /// A walk did not come to its end: of names to a root, or of a new program's arguments and environment.
        Walk = 5 => "walk",
        /// A binding could not be stored.
        Binding = 6 => "binding",
        /// A BPF helper failed.
        Helper = 7 => "helper",
        /// The kernel gave no SHA-256 of a file's content.
        Digest = 8 => "digest",
        /// Policies changed again and again while one request was decided.
        Unsettled = 9 => "unsettled",
        /// A task holds more descriptors than a program can look at.
        Descriptors = 10 => "descriptors",
    }
}

/// The answer of [`decide`](crate::decide::decide).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a decision that nobody acts on protects nobody"]
pub struct Decision {
    /// Allow or deny.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// What went wrong, with [`Reason::Internal`]; [`Fault::None`] otherwise.
    pub fault: Fault,
    /// The rule that allowed it, as an index into the policy's rule list; [`Decision::NO_RULE`] otherwise.
    pub rule: u32,
}

impl Decision {
    /// Stands where no rule took part.
    pub const NO_RULE: u32 = u32::MAX;

    /// Allowed by the rule with this index.
    #[inline(always)]
    pub const fn allow(rule: u32) -> Self {
        Self { verdict: Verdict::Allow, reason: Reason::Rule, fault: Fault::None, rule }
    }

    /// Allowed by the rule with this index, because whoever asks comes from outside.
    #[inline(always)]
    pub const fn allow_probe(rule: u32) -> Self {
        Self { verdict: Verdict::Allow, reason: Reason::Probe, fault: Fault::None, rule }
    }

    /// Allowed by a switch of the policy rather than by a rule.
    #[inline(always)]
    pub const fn allow_by_switch() -> Self {
        Self { verdict: Verdict::Allow, reason: Reason::Switch, fault: Fault::None, rule: Self::NO_RULE }
    }

    /// Refused.
    #[inline(always)]
    pub const fn deny(reason: Reason) -> Self {
        Self { verdict: Verdict::Deny, reason, fault: Fault::None, rule: Self::NO_RULE }
    }

    /// What was asked could not be found out: nothing says yes, so the answer is no.
    ///
    /// A field rather than a `Result` around the decision, because the verifier refuses the undefined bytes of a
    /// `Result`'s other variant when LLVM packs it into registers.
    #[inline(always)]
    pub const fn fault(fault: Fault) -> Self {
        Self { verdict: Verdict::Deny, reason: Reason::Internal, fault, rule: Self::NO_RULE }
    }
}

/// What a hook does with a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the outcome is what the kernel is told"]
pub struct Outcome {
    /// Whether the kernel is told to refuse.
    pub refuse: bool,
    /// Whether an event is due.
    pub report: bool,
}

/// Turns a decision into what the hook does. The only place where a mode matters.
///
/// A fault denies in enforce mode: an attacker who can exhaust memory or confuse a walk must not gain by it. In audit
/// mode it passes, because audit promises not to break the workload, and is reported. What is the enforcer's own is
/// refused whatever the mode: nothing of a workload's hangs on it.
#[inline(always)]
pub const fn outcome(mode: Mode, decision: Decision) -> Outcome {
    let denied = matches!(decision.verdict, Verdict::Deny);
    let refuses = matches!(mode, Mode::Enforce) || matches!(decision.reason, Reason::Protected);
    Outcome { refuse: denied && refuses, report: denied }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_allow_passes_in_enforce_mode() {
        let allow = Decision::allow(1);
        let deny = Decision::deny(Reason::NoRule);
        let fault = Decision::fault(Fault::Walk);
        let own = Decision::deny(Reason::Protected);
        let table = [
            (Mode::Enforce, allow, false, false),
            (Mode::Enforce, deny, true, true),
            (Mode::Enforce, fault, true, true),
            (Mode::Audit, allow, false, false),
            (Mode::Audit, deny, false, true),
            (Mode::Audit, fault, false, true),
            (Mode::Enforce, own, true, true),
            (Mode::Audit, own, true, true),
        ];
        for (mode, decision, refuse, report) in table {
            assert_eq!(outcome(mode, decision), Outcome { refuse, report }, "{mode} {decision:?}");
        }
    }

    #[test]
    fn codes_round_trip() {
        for reason in Reason::ALL {
            assert_eq!(Reason::from_code(reason.code()), Some(*reason));
            assert_eq!(Reason::from_name(reason.name()), Some(*reason));
        }
        assert_eq!(Mode::from_code(9), None);
    }
}

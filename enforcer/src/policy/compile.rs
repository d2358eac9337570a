//! From a [`Policy`] to the contents of the maps.
//!
//! Deterministic: nothing here depends on hash order, time or the machine. What does not fit is refused with the
//! number and the rule; nothing is dropped.

use std::collections::BTreeMap;

use enforcer_common::abi::{Grant, Measure};

use super::{
    automaton::{Dfa, Limits, Subsets, TooComplex},
    diagnostics::{Code, Diagnostic},
    families,
    glob::Glob,
    image::{Automaton, PolicyImage, RuleText, accept_row},
    model::{ObjectRule, Policy},
    net::{self, TooManyPorts},
};

/// Why a valid policy has no image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// The patterns.
    #[error("{limit}")]
    Patterns {
        /// What was exceeded.
        limit: TooComplex,
        /// Rules that contribute most, worst first.
        rules: Vec<u32>,
    },
    /// The network rules.
    #[error(transparent)]
    Ports(#[from] TooManyPorts),
}

impl CompileError {
    /// The rules to look at first.
    #[must_use]
    pub fn rules(&self) -> &[u32] {
        match self {
            Self::Patterns { rules, .. } => rules,
            Self::Ports(ports) => std::slice::from_ref(&ports.rule),
        }
    }

    /// As something to show to the policy's author.
    #[must_use]
    pub fn diagnostic(&self, policy: &Policy) -> Diagnostic {
        let mut places = self.rules().iter().filter_map(|rule| policy.rules.get(*rule as usize));
        let (code, help) = match self {
            Self::Patterns { .. } => (
                Code::TooComplex,
                "every `**` before other text, and every `*` between texts, multiplies with the others: \
                 name directories, or end patterns in `/**`",
            ),
            Self::Ports(_) => (Code::TooLarge, "use port ranges, or fewer nested prefixes"),
        };
        let mut diagnostic = Diagnostic::error(code, self.to_string()).help(help);
        if let Some(worst) = places.next() {
            diagnostic = diagnostic.at(worst.span, "contributes most");
        }
        places.fold(diagnostic, |diagnostic, place| diagnostic.related(place.span, "and this"))
    }
}

/// Compiles a policy.
///
/// # Errors
/// [`CompileError`] for what does not fit.
pub fn compile(policy: &Policy) -> Result<PolicyImage, CompileError> {
    compile_within(policy, &Limits::default())
}

/// Compiles a policy within other limits than the kernel's tables set.
///
/// # Errors
/// [`CompileError`] for what does not fit.
pub fn compile_within(policy: &Policy, limits: &Limits) -> Result<PolicyImage, CompileError> {
    let (patterns, literals): (Vec<&ObjectRule>, Vec<&ObjectRule>) =
        policy.objects.iter().partition(|rule| rule.glob.literal().is_none());
    let automaton = automaton_of(&patterns, limits)?;
    let families = policy.families.iter().fold(families::UNIX.bit(), |bits, (family, _)| bits | family.bit());
    let internet = if policy.addresses.is_empty() { 0 } else { families::INET.bit() | families::INET6.bit() };
    Ok(PolicyImage {
        name: policy.name.to_string(),
        modes: policy.modes.codes(),
        switches: policy.switches.iter().fold(0, |bits, (switch, _)| bits | switch.bit()),
        privileges: policy.privileges.iter().fold(0, |bits, (privilege, _)| bits | privilege.bit()),
        socket_families: families | internet,
        netlink: policy.families.iter().fold(0, |bits, (family, _)| bits | family.netlink_bit()),
        exact: exact_names(&literals, automaton.as_ref()),
        pins: pins(policy),
        automaton: automaton.as_ref().map(lower),
        prefixes: net::fold(&policy.addresses)?,
        rules: policy
            .rules
            .iter()
            .map(|rule| RuleText { text: rule.text.clone(), line: rule.line })
            .collect(),
    })
}

/// Rights, and the first of the rules that grant them. Ordered so that labels can be ranked.
pub(super) type Granted = (u16, u32);

fn automaton_of(rules: &[&ObjectRule], limits: &Limits) -> Result<Option<Dfa<Granted>>, CompileError> {
    if rules.is_empty() {
        return Ok(None);
    }
    let globs: Vec<&Glob> = rules.iter().map(|rule| &rule.glob).collect();
    let named = |limit: TooComplex| {
        let rules = limit.culprits.iter().filter_map(|at| rules.get(*at)).map(|rule| rule.rule).collect();
        CompileError::Patterns { limit, rules }
    };
    let grants: Vec<u16> = rules.iter().map(|rule| rule.rights.with_implied().0).collect();
    let subsets = Subsets::of_grants(&globs, &grants, limits).map_err(named)?;
    let union = |matched: &[u32]| {
        let matched = matched.iter().filter_map(|at| rules.get(*at as usize));
        matched.fold((0, u32::MAX), |(rights, first), rule| {
            (rights | rule.rights.with_implied().0, first.min(rule.rule))
        })
    };
    subsets.minimise(limits, union).map(Some).map_err(named)
}

/// Literal names, each with all that the patterns grant on it, so that the kernel can stop at an exact hit.
fn exact_names(rules: &[&ObjectRule], patterns: Option<&Dfa<Granted>>) -> BTreeMap<Vec<u8>, Grant> {
    let mut exact: BTreeMap<Vec<u8>, Grant> = BTreeMap::new();
    for rule in rules {
        let Some(name) = rule.glob.literal() else { continue };
        let grant = exact.entry(name.to_vec()).or_insert_with(|| {
            let by_pattern = patterns.and_then(|dfa| dfa.run(name)).map_or(0, |(rights, _)| *rights);
            Grant { rights: by_pattern, min_trust: 0, on_low: 0, rule: rule.rule }
        });
        grant.rights = grant.rights().union(rule.rights.with_implied()).0;
    }
    exact
}

/// The contents that pinned programs may have.
fn pins(policy: &Policy) -> BTreeMap<(Vec<u8>, Measure, [u8; 32]), u32> {
    let mut pins = BTreeMap::new();
    for pin in &policy.pins {
        let key = (pin.name.clone(), pin.content.measure, pin.content.digest.0);
        pins.entry(key).or_insert(pin.rule);
    }
    pins
}

/// The table form.
pub(super) fn lower(dfa: &Dfa<Granted>) -> Automaton {
    let row = |granted: &Option<Granted>| {
        let grant = granted.map(|(rights, rule)| Grant { rights, min_trust: 0, on_low: 0, rule });
        accept_row(grant.as_ref())
    };
    Automaton {
        class_of: dfa.class_of,
        classes: u32::try_from(dfa.classes).unwrap_or(u32::MAX),
        start: dfa.start.into(),
        transitions: dfa.transitions.clone(),
        accepts: dfa.accepts.iter().flat_map(row).collect(),
    }
}

#[cfg(test)]
mod tests {
    use enforcer_common::{
        decide::{Bytes, Request},
        hook::Privilege,
        net::Flow,
        rights::Rights,
        verdict::{Reason, Verdict},
    };

    use super::{
        super::{lookup::ImageTables, net::key_of, parse::parse, source::Source},
        *,
    };

    const POLICY: &str = r#"
policy = "test"
[workload]
unit = "test.service"
[mode]
file = "audit"
[exec]
allow = ["/usr/bin/app", "/opt/app/bin/*"]
[memory]
libraries = ["/usr/lib/**"]
[file]
read = ["/etc/app.conf", "/etc/**"]
write = ["/etc/app.conf", "/var/log/app*.log"]
create = ["/run/app/**"]
unlinked = true
[network]
connect = ["tcp 10.0.0.0/8:443", "unix /run/db.sock", "unix @bus-*"]
bind = ["tcp *:8080", "unix /run/app/sock"]
families = ["netlink"]
[privileges]
allow = ["chroot"]
"#;

    fn compiled(text: &str) -> PolicyImage {
        let parsed = parse(&Source::new("test.toml", text).unwrap());
        compile(&parsed.policy.unwrap_or_else(|| panic!("{:#?}", parsed.diagnostics))).unwrap()
    }

    #[test]
    fn decisions() {
        let tables = ImageTables::new(&compiled(POLICY));
        let rights = |name: &str| {
            Rights::NAMES
                .iter()
                .filter(|(needed, _)| {
                    let request = Request::Object { name: &Bytes(name.as_bytes()), needed: *needed };
                    tables.decide(&request).verdict == Verdict::Allow
                })
                .map(|(_, name)| *name)
                .collect::<Vec<_>>()
                .join(" ")
        };
        let table = [
            ("/usr/bin/app", "exec library read code probe"),
            ("/usr/bin/sh", ""),
            ("/opt/app/bin/x", "exec library read code probe"),
            ("/opt/app/bin/x/y", ""),
            ("/usr/lib/a/b.so", "library read code"),
            ("/usr/lib", ""),
            ("/etc/app.conf", "read write"),
            ("/etc/passwd", "read"),
            ("/var/log/app.log", "write"),
            ("/var/log/app-1.log", "write"),
            ("/run/app/x", "write create"),
            ("/run/app/sock", "write create unix-bind"),
            ("/run/db.sock", "unix-connect"),
            ("@bus-1", "unix-connect"),
            ("@bus", ""),
        ];
        for (name, expected) in table {
            assert_eq!(rights(name), expected, "{name}");
        }
    }

    #[test]
    fn other_requests() {
        let tables = ImageTables::new(&compiled(POLICY));
        let ask = |request: Request<'_, Bytes<'_>>| {
            let decision = tables.decide(&request);
            (decision.verdict == Verdict::Allow, decision.reason)
        };
        let address = |address: &str, port, flow| {
            ask(Request::Address { address: key_of(address.parse().unwrap()), port, flow }).0
        };
        assert!(address("10.1.2.3", 443, Flow::TCP_CONNECT));
        assert!(address("::ffff:10.1.2.3", 443, Flow::TCP_CONNECT));
        assert!(!address("10.1.2.3", 443, Flow::TCP_BIND));
        assert!(!address("10.1.2.3", 443, Flow::UDP_CONNECT));
        assert!(!address("11.1.2.3", 443, Flow::TCP_CONNECT));
        assert!(address("::", 8080, Flow::TCP_BIND));
        assert!(address("0.0.0.0", 8080, Flow::TCP_BIND));
        for (family, expected) in [(1, true), (2, true), (10, true), (16, true), (17, false)] {
            assert_eq!(ask(Request::Socket { family, raw: false, protocol: 0 }).0, expected, "{family}");
        }
        assert_eq!(ask(Request::Privilege(Privilege::Chroot)), (true, Reason::Switch));
        assert_eq!(ask(Request::Privilege(Privilege::Mount)), (false, Reason::Privilege));
        assert_eq!(ask(Request::AnonymousExec), (false, Reason::AnonymousExec));
        assert!(
            ask(Request::Unnamed { name: &Bytes(b"memfd:x"), why: Reason::Unlinked, needed: Rights::READ }).0
        );
        assert!(
            !ask(Request::Unnamed { name: &Bytes(b"memfd:x"), why: Reason::Unlinked, needed: Rights::EXEC })
                .0
        );
    }

    #[test]
    fn exact_names_hold_what_patterns_grant() {
        let image = compiled(POLICY);
        let grant = image.exact[&b"/etc/app.conf"[..]];
        assert_eq!(grant.rights(), Rights::READ.union(Rights::WRITE));
        assert_eq!(image.rules[grant.rule as usize].text, "file.read \"/etc/app.conf\"");
        assert_eq!(image.rules[grant.rule as usize].line, 12);
    }

    #[test]
    fn rules_are_numbered_as_they_stand() {
        let image = compiled(POLICY);
        assert!(image.rules.is_sorted_by_key(|rule| rule.line));
        assert_eq!(image.rules.len(), 13);
    }

    #[test]
    fn the_same_policy_gives_the_same_bytes() {
        let digest = compiled(POLICY).digest();
        assert_eq!(compiled(POLICY).digest(), digest);
        assert_ne!(compiled(&POLICY.replace("8080", "8081")).digest(), digest);
        let moved = compiled(&format!("# one more line\n{POLICY}"));
        assert_ne!(moved.digest(), digest);
        assert_eq!(moved.tables_digest(), compiled(POLICY).tables_digest());
    }

    /// Rules like `/**/name/**` are what operators write. Remembering which names have come by would take 2^60 states.
    #[test]
    fn final_depths_do_not_multiply() {
        let rules: Vec<String> = (0..60).map(|at| format!("'/**/name{at}/**'")).collect();
        let list = |key: &str, rules: &[String]| format!("file.{key} = [{}]\n", rules.join(", "));
        let (read, write) = rules.split_at(50);
        let body = list("read", read) + &list("write", write);
        let image = compiled(&format!("policy = \"x\"\nworkload.unit = \"x.service\"\n{body}"));
        assert!(image.automaton.as_ref().unwrap().states() < 10_000);
        let tables = ImageTables::new(&image);
        let allows = |name: &[u8], needed| {
            tables.decide(&Request::Object { name: &Bytes(name), needed }).verdict == Verdict::Allow
        };
        let both = Rights::READ.union(Rights::WRITE);
        assert!(allows(b"/a/name1/b/name55/c", both));
        assert!(allows(b"/a/name55/b/name1/c", both));
        assert!(allows(b"/a/name1/b/name2/c", Rights::READ));
        assert!(!allows(b"/a/name1/b/name2/c", Rights::WRITE));
        assert!(!allows(b"/a/name1", Rights::READ));
    }
}

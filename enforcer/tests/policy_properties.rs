//! The compiler against plain definitions: whatever it makes of a policy must decide as the policy reads.

use std::{collections::BTreeSet, fmt::Write as _, net::IpAddr};

use enforcer::policy::{
    automaton::{Dfa, Limits, Nfa, Subsets},
    compile::compile,
    glob::Glob,
    image::PolicyImage,
    lookup::ImageTables,
    model::{OBJECT_LISTS, Policy},
    net::{AddressRule, Host, key_of},
    parse::parse,
    source::Source,
};
use enforcer_common::{
    abi::digest_of,
    decide::{Bytes, Contents, Request},
    net::{Direction, Flow},
    rights::Rights,
    verdict::{Decision, Reason, Verdict},
};
use proptest::{collection::vec, prelude::*, sample::select};

type Ask<'a> = Request<'a, Bytes<'a>>;

fn policy(body: &str) -> Policy {
    let text = format!("policy = \"p\"\nworkload.unit = \"p.service\"\n{body}");
    let parsed = parse(&Source::new("p.toml", text.as_str()).expect("text"));
    let shown = parsed.diagnostics;
    parsed.policy.unwrap_or_else(|| panic!("{text}\n{shown:#?}"))
}

fn image(body: &str) -> PolicyImage {
    compile(&policy(body)).expect("fits")
}

fn toml_list<T: AsRef<str>>(items: &[T]) -> String {
    let quoted: Vec<String> = items.iter().map(|item| format!("'{}'", item.as_ref())).collect();
    format!("[{}]", quoted.join(", "))
}

fn ask(tables: &ImageTables, name: &[u8], needed: Rights) -> Decision {
    tables.decide(&Request::Object { name: &Bytes(name), needed })
}

/// Fewer cases than the default where each is many questions. `PROPTEST_CASES` overrides, e.g. for a long run.
fn config(cases: u32) -> ProptestConfig {
    let cases =
        if std::env::var_os("PROPTEST_CASES").is_some() { ProptestConfig::default().cases } else { cases };
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

// --- patterns ---

/// One component of a pattern, over an alphabet small enough that patterns and names meet.
fn component() -> impl Strategy<Value = String> {
    let element = prop_oneof![
        6 => select(vec!["a", "b", "c", ".", "ab"]).prop_map(str::to_owned),
        2 => Just("*".to_owned()),
        1 => Just("?".to_owned()),
        1 => select(vec!["[ab]", "[!a]", "[a-c]", "[^.]"]).prop_map(str::to_owned),
        1 => select(vec!["{a,b}", "{a,}", "{ab,c*}", "{a{b,c},?}"]).prop_map(str::to_owned),
        1 => select(vec!["{,/a}", "{/b,/**}", "{a/b,c}", "{b,/**/c}"]).prop_map(str::to_owned),
    ];
    prop_oneof![
        4 => vec(element, 1..4).prop_map(|elements| elements.concat()),
        1 => Just("**".to_owned()),
    ]
}

/// Patterns; those that are not valid are left out.
fn glob() -> impl Strategy<Value = Glob> {
    let text = (select(vec!["/", "/", "/", "/", "@"]), vec(component(), 0..4))
        .prop_map(|(sigil, components)| format!("{sigil}{}", components.join("/")));
    text.prop_filter_map("not a pattern", |text| Glob::socket(&text).ok())
}

/// Names that start out as a reading of the pattern and are then disturbed.
fn near_name(pattern: &str) -> impl Strategy<Value = Vec<u8>> + use<> {
    let pattern = pattern.to_owned();
    (vec(any::<u8>(), 64), vec((0usize..24, select(b"abc./@*x\xff".to_vec()), 0u8..3), 0..3)).prop_map(
        move |(dice, edits)| {
            let mut name = reading(pattern.as_bytes(), &mut dice.into_iter().cycle());
            for (at, byte, kind) in edits {
                let at = at.min(name.len());
                match kind {
                    0 => name.insert(at, byte),
                    1 if at < name.len() => name[at] = byte,
                    2 if at < name.len() => {
                        name.remove(at);
                    }
                    _ => {}
                }
            }
            name
        },
    )
}

/// One of the names that a pattern stands for, more or less.
fn reading(pattern: &[u8], dice: &mut impl Iterator<Item = u8>) -> Vec<u8> {
    let mut name = Vec::new();
    let mut at = 0;
    let mut roll = |sides: usize| usize::from(dice.next().unwrap_or(0)) % sides;
    while at < pattern.len() {
        match pattern[at] {
            b'*' if pattern.get(at + 1) == Some(&b'*') => {
                name.extend_from_slice([&b"a"[..], b"a/b", b"c/ab/a", b"", b"."][roll(5)]);
                at += 1;
            }
            b'*' => name.extend_from_slice([&b""[..], b"a", b"bc", b".a", b"ab"][roll(5)]),
            b'?' => name.push([b'a', b'b', b'.', b'x'][roll(4)]),
            b'[' => {
                at += pattern[at..].iter().position(|byte| *byte == b']').unwrap_or(0);
                name.push([b'a', b'b', b'c', b'x'][roll(4)]);
            }
            b'{' => {
                let end = closing(pattern, at);
                let branches = split_branches(&pattern[at + 1..end]);
                let branch = branches[roll(branches.len())];
                let mut inner =
                    (0..64).map(|_| u8::try_from(roll(256)).unwrap_or(0)).collect::<Vec<_>>().into_iter();
                name.extend(reading(branch, &mut inner));
                at = end;
            }
            byte => name.push(byte),
        }
        at += 1;
    }
    name
}

fn closing(pattern: &[u8], open: usize) -> usize {
    let mut depth = 0;
    for (at, byte) in pattern.iter().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    pattern.len()
}

fn split_branches(inner: &[u8]) -> Vec<&[u8]> {
    let mut depth = 0;
    inner
        .split(|byte| {
            match byte {
                b'{' => depth += 1,
                b'}' => depth -= 1,
                _ => {}
            }
            *byte == b',' && depth == 0
        })
        .collect()
}

fn dfa(globs: &[Glob]) -> Dfa<Vec<u32>> {
    let refs: Vec<&Glob> = globs.iter().collect();
    let limits = Limits::default();
    let subsets = Subsets::of(&refs, &limits).expect("small");
    subsets.minimise(&limits, <[u32]>::to_vec).expect("small")
}

proptest! {
    #![proptest_config(config(1200))]

    #[test]
    fn automaton_equals_the_definition(
        (globs, names) in vec(glob(), 1..5).prop_flat_map(|globs| {
            let names: Vec<_> = globs.iter().map(|glob| vec(near_name(glob.text()), 6)).collect();
            (Just(globs), names)
        })
    ) {
        let (dfa, nfa) = (dfa(&globs), Nfa::of(&globs));
        for name in names.concat() {
            let hits: Option<Vec<bool>> = globs.iter().map(|glob| glob.matches_naively(&name)).collect();
            let hits = hits.expect("few expansions");
            let expected: Vec<usize> = (0..globs.len()).filter(|at| hits[*at]).collect();
            let found: Vec<usize> =
                dfa.run(&name).into_iter().flatten().map(|at| usize::try_from(*at).unwrap()).collect();
            let shown = name.escape_ascii();
            prop_assert_eq!(&found, &expected, "dfa: {:?} on {}", globs, &shown);
            prop_assert_eq!(&nfa.matching(&name), &expected, "nfa: {:?} on {}", globs, shown);
        }
    }

    /// Random text never breaks the parser, and what it accepts compiles to what it means.
    #[test]
    fn any_text_is_a_pattern_or_an_error(text in "[/ab*?\\[\\]{},\\\\!.@-]{0,12}", name in "[/@][ab/.]{0,6}") {
        match Glob::socket(&text) {
            Err(error) => prop_assert!(text.get(error.at.clone()).is_some(), "{}: {:?}", text, error),
            Ok(glob) => {
                let expected = glob.matches_naively(name.as_bytes());
                let found = dfa(std::slice::from_ref(&glob)).run(name.as_bytes()).is_some();
                prop_assert_eq!(Some(found), expected.or(Some(found)), "{} on {}", text, name);
            }
        }
    }

    #[test]
    fn an_escaped_name_matches_itself_alone(tail in "[a/*?\\[\\]{},\\\\é]{1,8}", other in "[a*?\\[{]{1,4}") {
        let name = format!("/x{}y", tail.replace('/', "-"));
        let glob = Glob::path(&Glob::escape(name.as_bytes())).expect("valid");
        prop_assert_eq!(glob.literal(), Some(name.as_bytes()));
        prop_assert_eq!(glob.matches_naively(other.as_bytes()), Some(false));
    }
}

// --- whole policies ---

/// A rule on objects: its list, and a pattern that the list takes.
fn object_rule() -> impl Strategy<Value = (usize, Glob)> {
    (0..OBJECT_LISTS.len(), glob().prop_filter("a path", |glob| glob.text().starts_with('/')))
}

fn object_policy(rules: &[(usize, Glob)]) -> String {
    let mut body = String::new();
    for (at, (table, key, _)) in OBJECT_LISTS.iter().enumerate() {
        let of_list: Vec<&str> =
            rules.iter().filter(|(list, _)| *list == at).map(|(_, glob)| glob.text()).collect();
        let _ = writeln!(body, "{table}.{key} = {}", toml_list(&of_list));
    }
    body
}

proptest! {
    #![proptest_config(config(150))]

    /// The rights on a name are the union of what every matching rule grants, literal or not, in any order; and the
    /// rule that is named grants part of it.
    #[test]
    fn rights_are_the_union_of_all_rules(
        (rules, names) in vec(object_rule(), 1..10).prop_flat_map(|rules| {
            let names: Vec<_> = rules.iter().map(|(_, glob)| vec(near_name(glob.text()), 4)).collect();
            (Just(rules), names)
        })
    ) {
        let image = image(&object_policy(&rules));
        let mut reversed = rules.clone();
        reversed.reverse();
        let tables = ImageTables::new(&image);
        let other_order = ImageTables::new(&compile(&policy(&object_policy(&reversed))).expect("fits"));
        for name in names.concat() {
            let matching: Vec<usize> =
                (0..rules.len()).filter(|at| rules[*at].1.matches_naively(&name) == Some(true)).collect();
            let union = matching.iter().fold(Rights::NONE, |all, at| all.union(OBJECT_LISTS[rules[*at].0].2.with_implied()));
            for (right, _) in Rights::NAMES {
                let decision = ask(&tables, &name, *right);
                let expected = if union.with_probe().contains(*right) { Verdict::Allow } else { Verdict::Deny };
                prop_assert_eq!(decision.verdict, expected, "{} {:?}", name.escape_ascii(), right);
                prop_assert_eq!(ask(&other_order, &name, *right).verdict, expected);
                if decision.verdict == Verdict::Allow {
                    let text = &image.rules[usize::try_from(decision.rule).unwrap()].text;
                    prop_assert!(matching.iter().any(|at| text.contains(rules[*at].1.text())), "{}", text);
                }
            }
            // Asking for everything at once is allowed exactly when all of it is granted.
            let everything = ask(&tables, &name, union);
            prop_assert!(union.is_empty() || everything.verdict == Verdict::Allow);
        }
    }

    /// An exact name holds everything, so the kernel need not run the automaton after a hit.
    #[test]
    fn exact_entries_are_complete(rules in vec(object_rule(), 1..10)) {
        let image = image(&object_policy(&rules));
        let without_patterns = PolicyImage { automaton: None, ..image.clone() };
        let (all, exact_only) = (ImageTables::new(&image), ImageTables::new(&without_patterns));
        for name in image.exact.keys() {
            for (right, _) in Rights::NAMES {
                prop_assert_eq!(ask(&all, name, *right).verdict, ask(&exact_only, name, *right).verdict);
            }
        }
    }

    #[test]
    fn equal_policies_give_equal_bytes(rules in vec(object_rule(), 1..10)) {
        let body = object_policy(&rules);
        prop_assert_eq!(image(&body).to_bytes(), image(&body).to_bytes());
        prop_assert_eq!(image(&body).to_text(), image(&body).to_text());
    }
}

// --- addresses ---

fn address_rule() -> impl Strategy<Value = (Direction, String)> {
    let v4 = (0u8..=32, any::<u32>()).prop_map(|(length, bits)| {
        let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
        // Few distinct bits, so that prefixes nest.
        format!("{}/{length}", std::net::Ipv4Addr::from(bits & mask & 0x0a03_0003))
    });
    let v6 = (0u8..=128, any::<u128>()).prop_map(|(length, bits)| {
        let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
        let bits = bits & mask & 0x0003_0000_0000_0000_0000_ffff_0a03_0003;
        format!("[{}/{length}]", std::net::Ipv6Addr::from(bits))
    });
    let host = prop_oneof![2 => Just("*".to_owned()), 4 => v4, 4 => v6];
    let ports = prop_oneof![
        Just("*".to_owned()),
        (0u16..6).prop_map(|port| port.to_string()),
        (0u16..6, 0u16..6).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
        Just("65535".to_owned()),
    ];
    let direction = prop_oneof![Just(Direction::Connect), Just(Direction::Bind)];
    let protocol = select(vec!["tcp", "udp", "sctp", "other", "any"]);
    (direction, protocol, host, ports)
        .prop_map(|(direction, protocol, host, ports)| (direction, format!("{protocol} {host}:{ports}")))
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u32>().prop_map(|bits| IpAddr::from((bits & 0x0a03_0003).to_be_bytes())),
        any::<u128>()
            .prop_map(|bits| IpAddr::from((bits & 0x0003_0000_0000_0000_0000_ffff_0a03_0003).to_be_bytes())),
    ]
}

/// The definition: some rule covers the address, in its own family, and the port, for the flow.
fn covered(rules: &[(Direction, AddressRule)], address: IpAddr, port: u16, flow: Flow) -> bool {
    rules.iter().any(|(direction, rule)| {
        let host = match (rule.host, address.to_canonical()) {
            (Host::Any, _) => true,
            (Host::V4(net), IpAddr::V4(address)) => net.contains(&address),
            (Host::V6(net), IpAddr::V6(address)) => net.contains(&address),
            _ => false,
        };
        host && rule.ports.contains(&port) && rule.protocol.flows(*direction).0 & flow.0 != 0
    })
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn addresses_are_decided_as_the_rules_read(
        texts in vec(address_rule(), 1..12),
        addresses in vec(address(), 24),
    ) {
        let of = |wanted: Direction| -> Vec<&String> {
            texts.iter().filter(|(direction, _)| *direction == wanted).map(|(_, text)| text).collect()
        };
        let body = format!(
            "network.connect = {}\nnetwork.bind = {}\n",
            toml_list(&of(Direction::Connect)),
            toml_list(&of(Direction::Bind)),
        );
        let rules: Vec<(Direction, AddressRule)> =
            texts.iter().map(|(direction, text)| (*direction, text.parse().expect("valid"))).collect();
        let image = image(&body);
        let tables = ImageTables::new(&image);
        for list in image.prefixes.values() {
            prop_assert!(list.windows(2).all(|pair| pair[0].high < pair[1].low));
        }
        for address in addresses {
            for port in [0, 1, 2, 3, 4, 5, 6, 65534, 65535] {
                for (flow, name) in Flow::NAMES {
                    let request = Ask::Address { address: key_of(address), port, flow: *flow };
                    let allowed = tables.decide(&request).verdict == Verdict::Allow;
                    prop_assert_eq!(allowed, covered(&rules, address, port, *flow), "{} {} {}", address, port, name);
                }
            }
        }
    }
}

// --- size ---

/// What a large service comes to: ten thousand files by name, five hundred patterns.
#[test]
fn ten_thousand_names_and_five_hundred_patterns() {
    let mut body = String::from("file.read = [\n");
    let exact: Vec<String> = (0..10_000).map(|at| format!("/opt/app/mod{}/data-{at}.bin", at % 97)).collect();
    exact.iter().for_each(|name| {
        let _ = writeln!(body, "'{name}',");
    });
    body.push_str("]\nfile.write = [\n");
    let patterns: Vec<String> = (0..500)
        .map(|at| match at % 5 {
            0 => format!("/opt/app/mod{at}/**"),
            1 => format!("/opt/app/mod{at}/data-?[0-9]*.bin"),
            2 => format!("/var/log/app{at}/*.log{{,.gz}}"),
            3 => format!("/srv/{{a,b}}{at}/**/index-*.html"),
            _ => format!("/opt/app/mod{}/data-{at}*.bin", at % 97),
        })
        .collect();
    patterns.iter().for_each(|pattern| {
        let _ = writeln!(body, "'{pattern}',");
    });
    body.push_str("]\n");
    let started = std::time::Instant::now();
    let image = image(&body);
    println!("{:?} from text to image, {:?}", started.elapsed(), image.needs());
    let tables = ImageTables::new(&image);
    let globs: Vec<Glob> = patterns.iter().map(|text| Glob::path(text).expect("valid")).collect();
    let known: BTreeSet<&[u8]> = exact.iter().map(|name| name.as_bytes()).collect();
    let more = (0..4000).map(|at| match at % 4 {
        0 => format!("/srv/{}{}/x/y/index-{at}.html", ["a", "b", "c"][at % 3], at % 500),
        1 => format!("/var/log/app{}/{at}.log{}", at % 500, ["", ".gz", ".xz"][at % 3]),
        2 => format!("/opt/app/mod{}/data-{}.bin", at % 500, at / 3),
        _ => format!("/opt/app/mod{}{}", at % 500, ["", "/a", "/a/b"][at % 3]),
    });
    let names: Vec<String> = exact.iter().step_by(10).cloned().chain(more).collect();
    let mut allowed = 0;
    for name in &names {
        let name = name.as_bytes();
        let writable = globs.iter().any(|glob| glob.matches_naively(name) == Some(true));
        let verdict = |right| ask(&tables, name, right).verdict == Verdict::Allow;
        assert_eq!(verdict(Rights::WRITE), writable, "{}", name.escape_ascii());
        assert_eq!(verdict(Rights::READ), known.contains(name), "{}", name.escape_ascii());
        allowed += usize::from(writable);
    }
    assert!(allowed > 500 && allowed < names.len() - 500, "{allowed} of {}", names.len());
}

// --- contents ---

/// An entry of `exec.allow`: one of a few names, with contents or without.
fn program() -> impl Strategy<Value = (u8, Option<Vec<u8>>)> {
    (0u8..5, prop::option::weighted(0.8, vec(0u8..4, 1..4)))
}

proptest! {
    #![proptest_config(config(256))]

    /// A program starts if an entry allows it whatever it holds, or one lists what it holds; and a pin gives nothing
    /// but that, and reading.
    #[test]
    fn pinned_programs(entries in vec(program(), 0..8), library in prop::option::of(0u8..5)) {
        let entry = |(name, contents): &(u8, Option<Vec<u8>>)| match contents {
            None => format!("'/p/{name}'"),
            Some(contents) => {
                let digests: Vec<String> =
                    contents.iter().map(|content| format!("'{}'", format!("{content:02x}").repeat(32))).collect();
                format!("{{ path = '/p/{name}', sha256 = [{}] }}", digests.join(", "))
            }
        };
        let mut body = format!("exec.allow = [{}]\n", entries.iter().map(entry).collect::<Vec<_>>().join(", "));
        if let Some(name) = library {
            writeln!(body, "memory.libraries = ['/p/[{name}]']").expect("a string");
        }
        let tables = ImageTables::new(&image(&body));
        for name in 0..6u8 {
            let path = format!("/p/{name}");
            let of_name = || entries.iter().filter(|(it, _)| *it == name);
            let free = of_name().any(|(_, contents)| contents.is_none());
            let listed = |content| of_name().any(|(_, them)| them.iter().flatten().any(|it| *it == content));
            let pinned = of_name().any(|(_, contents)| contents.is_some());
            for content in 0..5u8 {
                let digest = digest_of([content; 32]);
                let contents = Contents::of(Some(&digest), None);
                let request = Request::Content { name: &Bytes(path.as_bytes()), contents };
                let decision = tables.decide(&request);
                let expected = match (free || listed(content), pinned) {
                    (true, _) => Reason::Rule,
                    (false, true) => Reason::Digest,
                    (false, false) => Reason::NoRule,
                };
                prop_assert_eq!(decision.reason, expected, "{} {}", path, content);
                prop_assert_eq!(decision.verdict == Verdict::Allow, expected == Reason::Rule);
            }
            let allows = |needed| ask(&tables, path.as_bytes(), needed).verdict == Verdict::Allow;
            prop_assert_eq!(allows(Rights::EXEC), free);
            prop_assert_eq!(allows(Rights::LIBRARY), free || library == Some(name));
            prop_assert_eq!(allows(Rights::READ), free || pinned || library == Some(name));
            prop_assert!(!allows(Rights::WRITE));
        }
    }
}

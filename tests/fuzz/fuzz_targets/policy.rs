//! A policy file is bytes from someone. Whatever they are, the compiler ends soon, never panics, explains itself, and
//! an image that it makes decides as the rules read.
#![no_main]

use enforcer::policy::{
    automaton::{Limits, Nfa},
    compile::compile_within,
    diagnostics::{Severity, Style},
    image::PolicyImage,
    lookup::ImageTables,
    model::Policy,
    parse::parse,
    selectors::{Claim, compile_selectors_within},
    source::Source,
};
use enforcer_common::{
    abi::SLOT_FIRST_POLICY,
    decide::{Bytes, Request},
    net::Flow,
    rights::Rights,
    verdict::{Reason, Verdict},
};
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits::small();

fuzz_target!(|data: &[u8]| {
    let Ok(source) = Source::new("fuzz.toml", data) else { return };
    let parsed = parse(&source);
    let shown = parsed.diagnostics.render(&source, Style::Plain);
    assert_eq!(shown.is_empty(), parsed.diagnostics.is_empty());
    let _ = parsed.diagnostics.to_json(&source).to_string();
    assert_eq!(parsed.policy.is_none(), parsed.diagnostics.count(Severity::Error) > 0);
    let Some(policy) = parsed.policy else { return };
    let claim = Claim { selector: &policy.selector, slot: SLOT_FIRST_POLICY, policy: policy.name.as_str() };
    let _ = compile_selectors_within(&[claim], &LIMITS);
    match compile_within(&policy, &LIMITS) {
        Ok(image) => check_image(&policy, &image, data),
        Err(error) => assert!(!error.diagnostic(&policy).message.is_empty()),
    }
});

fn check_image(policy: &Policy, image: &PolicyImage, data: &[u8]) {
    assert_eq!(compile_within(policy, &LIMITS).as_ref(), Ok(image));
    let _ = (image.digest(), image.to_text());
    let tables = ImageTables::new(image);
    let rules = Nfa::of(policy.objects.iter().map(|rule| &rule.glob));
    let exact = image.exact.keys().take(16).map(Vec::as_slice);
    // Parts of the policy make names that nearly match.
    let parts = data.split(|byte| matches!(byte, b'"' | b'\'' | b' ')).filter(|part| part.len() > 1).take(32);
    for name in exact.chain(parts).chain([&b"/"[..], b"/a", b"/a/b", b"@", b"", b"//"]) {
        let expected = rules
            .matching(name)
            .into_iter()
            .fold(Rights::NONE, |all, at| all.union(policy.objects[at].rights.with_implied()))
            .with_probe();
        for (needed, _) in Rights::NAMES {
            let decision = tables.decide(&Request::Object { name: &Bytes(name), needed: *needed });
            assert_ne!(decision.reason, Reason::Internal);
            let allowed = name.len() <= 4096 && expected.contains(*needed);
            assert_eq!(decision.verdict == Verdict::Allow, allowed, "{}", name.escape_ascii());
        }
    }
    let mut address = [0; 16];
    for (to, from) in address.iter_mut().zip(data.iter().rev()) {
        *to = *from;
    }
    for (flow, _) in Flow::NAMES {
        for port in [0, 80, 443, 65535] {
            let request: Request<'_, Bytes<'_>> = Request::Address { address, port, flow: *flow };
            assert_ne!(tables.decide(&request).reason, Reason::Internal);
        }
    }
}

//! Attacks that get through, or cannot be told from what is allowed.

/// Their names, and why. They run without a policy only, which keeps the attack itself working until there is something
/// to stop it; then the entry goes.
pub const KNOWN_GAPS: &[(&str, &str)] = &[(
    "second-datagram",
    "`sendmmsg` asks no hook about a datagram that goes where the one before it went (`sock_sendmsg_nosec`, since 3.2), \
     so its control messages pass; refusing such calls altogether would take name servers and VPNs their way of sending",
)];

/// Whether an attack still gets through.
#[must_use]
pub fn is_known_gap(name: &str) -> bool {
    KNOWN_GAPS.iter().any(|(gap, _)| *gap == name)
}

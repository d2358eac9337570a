//! Order of Debian version numbers (Debian policy, section 5.6.12).

use std::cmp::Ordering;

/// Compares two version numbers as `dpkg --compare-versions` does.
pub(crate) fn compare(left: &str, right: &str) -> Ordering {
    let (left_epoch, left) = split_epoch(left);
    let (right_epoch, right) = split_epoch(right);
    let (left_upstream, left_revision) = split_revision(left);
    let (right_upstream, right_revision) = split_revision(right);
    left_epoch
        .cmp(&right_epoch)
        .then_with(|| compare_part(left_upstream, right_upstream))
        .then_with(|| compare_part(left_revision, right_revision))
}

/// The version the authors of the software gave: without epoch and Debian revision.
pub(crate) fn upstream(version: &str) -> &str {
    split_revision(split_epoch(version).1).0
}

fn split_epoch(version: &str) -> (u64, &str) {
    match version.split_once(':') {
        Some((epoch, rest)) => (epoch.parse().unwrap_or(0), rest),
        None => (0, version),
    }
}

fn split_revision(version: &str) -> (&str, &str) {
    version.rsplit_once('-').unwrap_or((version, ""))
}

/// Alternates between non-digit runs (by [`weight`]) and digit runs (by value).
fn compare_part(mut left: &str, mut right: &str) -> Ordering {
    loop {
        let (left_text, left_rest) = split_while(left, |c| !c.is_ascii_digit());
        let (right_text, right_rest) = split_while(right, |c| !c.is_ascii_digit());
        let (left_digits, left_next) = split_while(left_rest, |c| c.is_ascii_digit());
        let (right_digits, right_next) = split_while(right_rest, |c| c.is_ascii_digit());
        let order =
            compare_text(left_text, right_text).then_with(|| compare_digits(left_digits, right_digits));
        if order.is_ne() || (left_next.is_empty() && right_next.is_empty()) {
            return order;
        }
        (left, right) = (left_next, right_next);
    }
}

fn split_while(text: &str, accept: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !accept(c)).unwrap_or(text.len()))
}

fn compare_text(left: &str, right: &str) -> Ordering {
    let length = left.len().max(right.len());
    let weights = |text: &str| -> Vec<u32> {
        let end = std::iter::repeat(weight(None));
        text.chars().map(|c| weight(Some(c))).chain(end).take(length + 1).collect()
    };
    weights(left).cmp(&weights(right))
}

/// `~` sorts before the end, the end before letters, letters before everything else.
fn weight(character: Option<char>) -> u32 {
    match character {
        Some('~') => 0,
        None => 1,
        Some(letter) if letter.is_ascii_alphabetic() => 1 + u32::from(letter),
        Some(other) => 1000 + u32::from(other),
    }
}

fn compare_digits(left: &str, right: &str) -> Ordering {
    let (left, right) = (left.trim_start_matches('0'), right.trim_start_matches('0'));
    left.len().cmp(&right.len()).then_with(|| left.cmp(right))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_dpkgs() {
        let rising = [
            ("6.1.170-3", "6.1.176-1"),
            ("6.12.94-1", "6.12.107-1"),
            ("7.3.4-1~bpo13+1", "7.3.4-1"),
            ("6.18.15-1~bpo13+1", "6.18.15-1~bpo13+2"),
            ("1.95.0+dfsg1-2~bpo13+1", "1.96.1+dfsg1-2~bpo13+1"),
            ("2.0", "1:1.0"),
            ("1.0~rc1", "1.0"),
            ("1.0", "1.0a"),
            ("1.0a", "1.0+b"),
            ("1.09", "1.10"),
        ];
        for (low, high) in rising {
            assert_eq!(compare(low, high), Ordering::Less, "{low} < {high}");
            assert_eq!(compare(high, low), Ordering::Greater, "{high} > {low}");
        }
        assert_eq!(compare("1:1.37.0-6", "1:1.37.00-6"), Ordering::Equal);
    }

    #[test]
    fn upstream_part() {
        for (version, expected) in [("6.12.107-1", "6.12.107"), ("1:1.37.0-6+b9", "1.37.0"), ("7.3", "7.3")] {
            assert_eq!(upstream(version), expected);
        }
    }
}

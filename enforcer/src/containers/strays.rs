//! Containers that run and that nobody has admitted: when to look for them, and which are news.
//!
//! A runtime without hook or plugin does not ask, and a container may have been there before its base policy. Nothing is done
//! about them but to say so: under the base policy they are in any case.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

/// How often to look if nothing has changed.
const EVERY: Duration = Duration::from_secs(30);

/// What is known of them.
#[derive(Debug, Default)]
pub struct Strays {
    /// The cgroups of those that were found the last time.
    known: BTreeSet<Vec<u8>>,
    /// When they were last looked for, and which generation was in force.
    looked: Option<(Instant, u64)>,
}

impl Strays {
    /// Whether it is time to look again, as it is when other policies have come into force. Then this counts as having looked.
    pub fn are_due(&mut self, now: Instant, generation: u64) -> bool {
        let is_due = self
            .looked
            .is_none_or(|(then, under)| generation != under || now.saturating_duration_since(then) >= EVERY);
        if is_due {
            self.looked = Some((now, generation));
        }
        is_due
    }

    /// Those of the cgroups found now that were not there the last time.
    pub fn news(&mut self, found: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        let found: BTreeSet<_> = found.into_iter().collect();
        let news = found.difference(&self.known).cloned().collect();
        self.known = found;
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_time_at_first_when_policies_change_and_after_a_while() {
        let (mut strays, start) = (Strays::default(), Instant::now());
        let looks =
            [(0, 1, true), (1, 1, false), (2, 2, true), (31, 2, false), (32, 2, true), (40, 2, false)];
        for (seconds, generation, expected) in looks {
            let now = start + Duration::from_secs(seconds);
            assert_eq!(strays.are_due(now, generation), expected, "{seconds}");
        }
    }

    #[test]
    fn each_is_news_once() {
        let mut strays = Strays::default();
        let paths = |names: &[&str]| names.iter().map(|name| name.as_bytes().to_vec()).collect::<Vec<_>>();
        let mut news = |found: &[&str]| strays.news(paths(found));
        assert_eq!(news(&["/a"]), paths(&["/a"]));
        assert_eq!(news(&["/b", "/a"]), paths(&["/b"]));
        assert_eq!(news(&["/b"]), paths(&[]));
        assert_eq!(news(&["/a", "/b"]), paths(&["/a"]), "it was gone meanwhile");
    }
}

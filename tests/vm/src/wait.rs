//! Waiting on conditions.

use std::time::{Duration, Instant};

/// Time between two looks at a condition.
const INTERVAL: Duration = Duration::from_millis(5);

/// For conditions that come true soon if they ever do; generous, because an emulated CPU is slow.
pub const SOON: Duration = Duration::from_secs(20);

/// Looks until there is something, and returns it.
///
/// # Panics
/// When the deadline passes, naming what was waited for.
pub fn until<T>(what: &str, deadline: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < deadline, "waited {deadline:?} in vain: {what}");
        std::thread::sleep(INTERVAL);
    }
}

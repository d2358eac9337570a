//! What to write into a policy so that a denied operation is allowed.

use super::decode::Event;

/// The line, if there is one that would help.
#[must_use]
pub fn suggest(_event: &Event) -> Option<String> {
    None
}

//! Policies, as text.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use enforcer::policy::digest::ContentDigest;

use crate::{actor, cgroup::Cgroup};

/// One thing that a policy allows: a key of the language (`file.read`) and one of its values.
pub type Allowance<'a> = (&'a str, &'a str);

/// A policy under construction. It allows the actor to start, and nothing else.
#[derive(Clone, Debug)]
pub struct Policy {
    name: String,
    selector: (&'static str, String),
    mode: &'static str,
    /// Values by section and key. The single value `true` stands for a switch.
    lists: BTreeMap<(String, String), Vec<String>>,
}

impl Policy {
    /// A policy for this cgroup and all below it.
    #[must_use]
    pub fn of(name: &str, cgroup: &Cgroup) -> Self {
        Self::selecting(name, "cgroup", cgroup.path())
    }

    /// A policy with any selector.
    #[must_use]
    pub fn selecting(name: &str, key: &'static str, value: &str) -> Self {
        Self::bare(name, key, value).allow("exec.allow", &actor::program())
    }

    /// A policy with any selector that allows nothing.
    #[must_use]
    pub fn bare(name: &str, key: &'static str, value: &str) -> Self {
        Self { name: name.into(), selector: (key, value.into()), mode: "enforce", lists: BTreeMap::new() }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Reports instead of refusing.
    #[must_use]
    pub fn audit(mut self) -> Self {
        self.mode = "audit";
        self
    }

    /// Adds one value to a list, or sets a switch to `true`.
    ///
    /// # Panics
    /// When the key has no section.
    #[must_use]
    pub fn allow(mut self, key: &str, value: &str) -> Self {
        let (section, key) = key.split_once('.').expect("a key is section.name");
        let list = self.lists.entry((section.into(), key.into())).or_default();
        if !list.iter().any(|known| known == value) {
            list.push(value.into());
        }
        self
    }

    /// Allows a program with these contents only.
    #[must_use]
    pub fn pin(self, path: &str, digests: &[ContentDigest]) -> Self {
        self.allow("exec.allow", &pinned(path, digests))
    }

    /// Allows a program with these fs-verity digests only.
    #[must_use]
    pub fn pin_verity(self, path: &str, digests: &[ContentDigest]) -> Self {
        let digests: Vec<String> = digests.iter().map(|digest| format!("\"sha256:{digest}\"")).collect();
        let entry = format!("{PINNED}{}, fsverity = [{}] }}", quoted(path), digests.join(", "));
        self.allow("exec.allow", &entry)
    }

    /// Adds many values, known to differ, to one list.
    ///
    /// # Panics
    /// When the key has no section.
    #[must_use]
    pub fn allow_many(mut self, key: &str, values: impl IntoIterator<Item = String>) -> Self {
        let (section, key) = key.split_once('.').expect("a key is section.name");
        self.lists.entry((section.into(), key.into())).or_default().extend(values);
        self
    }

    /// Adds several.
    #[must_use]
    pub fn allow_all<'a>(self, allowances: impl IntoIterator<Item = Allowance<'a>>) -> Self {
        allowances.into_iter().fold(self, |policy, (key, value)| policy.allow(key, value))
    }

    /// The policy file.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut text = format!(
            "policy = {}\n\n[workload]\n{} = {}\n\n[mode]\ndefault = \"{}\"\n",
            quoted(&self.name),
            self.selector.0,
            quoted(&self.selector.1),
            self.mode
        );
        let mut current = "";
        for ((section, key), values) in &self.lists {
            if current != section {
                let _ = writeln!(text, "\n[{section}]");
                current = section;
            }
            if values == &["true"] {
                let _ = writeln!(text, "{key} = true");
                continue;
            }
            let _ = writeln!(text, "{key} = [");
            for value in values {
                let is_table = value.starts_with(PINNED);
                let _ = writeln!(text, "    {},", if is_table { value.clone() } else { quoted(value) });
            }
            text.push_str("]\n");
        }
        text
    }
}

/// How the entry of a pinned program starts. No path does.
const PINNED: &str = "{ path = ";

/// An entry of `exec.allow` for a program with these contents.
#[must_use]
pub fn pinned(path: &str, digests: &[ContentDigest]) -> String {
    let digests: Vec<String> = digests.iter().map(|digest| format!("\"{digest}\"")).collect();
    format!("{PINNED}{}, sha256 = [{}] }}", quoted(path), digests.join(", "))
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.into()).to_string()
}

#[cfg(test)]
mod tests {
    use super::{ContentDigest, Policy};

    #[test]
    fn the_text_is_toml_with_every_value() {
        let policy = Policy::selecting("p", "cgroup", "/a b")
            .allow("file.read", "/x\"y")
            .allow("file.read", "/é")
            .allow("file.write", "/z")
            .allow("memory.anonymous", "true")
            .pin("/p\"q", &[ContentDigest([0; 32]), ContentDigest([0xff; 32])])
            .audit();
        let parsed: toml::Table = policy.to_toml().parse().unwrap();
        assert_eq!(parsed["policy"].as_str(), Some("p"));
        assert_eq!(parsed["workload"]["cgroup"].as_str(), Some("/a b"));
        assert_eq!(parsed["mode"]["default"].as_str(), Some("audit"));
        assert_eq!(parsed["memory"]["anonymous"].as_bool(), Some(true));
        let read: Vec<_> =
            parsed["file"]["read"].as_array().unwrap().iter().filter_map(|v| v.as_str()).collect();
        assert_eq!(read, ["/x\"y", "/é"]);
        let pinned = &parsed["exec"]["allow"][1];
        assert_eq!(pinned["path"].as_str(), Some("/p\"q"));
        assert_eq!(pinned["sha256"][1].as_str(), Some("ff".repeat(32).as_str()));
    }
}

//! Events about containers: bound, refused, or running although nobody has admitted them.

use std::time::SystemTime;

use enforcer_containers::{container::Container, wire::Bind};
use serde::{Deserialize, Serialize};

use super::{record::SCHEMA_VERSION, text, time::rfc3339};

/// One line of kind `container`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// RFC 3339, UTC.
    pub time: String,
    /// What came of it.
    pub result: ContainerResult,
    /// The container's cgroup.
    pub cgroup: String,
    /// The container as its runtime describes it. Left out where no runtime has said anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
    /// The policy that it is under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// What came of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContainerResult {
    /// It is under a policy of its own.
    Bound,
    /// It must not start.
    Refused,
    /// It has processes and is under the base policy: nobody has asked for it, or no policy admits it.
    Unadmitted,
}

impl ContainerRecord {
    /// Somebody has asked for a container.
    #[must_use]
    pub fn asked(bind: &Bind, bound: Result<&str, &String>) -> Self {
        let result = if bound.is_ok() { ContainerResult::Bound } else { ContainerResult::Refused };
        Self {
            container: Some(bind.container.clone()),
            policy: bound.ok().map(str::to_owned),
            message: bound.err().cloned(),
            ..Self::new(result, bind.cgroup.clone())
        }
    }

    /// It runs, and was refused a policy of its own.
    #[must_use]
    pub fn running(bind: &Bind, message: &str) -> Self {
        Self {
            container: Some(bind.container.clone()),
            message: Some(message.to_owned()),
            ..Self::new(ContainerResult::Unadmitted, bind.cgroup.clone())
        }
    }

    /// Nobody has.
    #[must_use]
    pub fn unadmitted(cgroup: &[u8]) -> Self {
        Self::new(ContainerResult::Unadmitted, text::from_bytes(cgroup))
    }

    fn new(result: ContainerResult, cgroup: String) -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            time: rfc3339(SystemTime::now()),
            result,
            cgroup,
            container: None,
            policy: None,
            message: None,
        }
    }

    /// One line for people.
    #[must_use]
    pub fn compact(&self) -> String {
        let result = match self.result {
            ContainerResult::Bound => "bound   ",
            ContainerResult::Refused => "refused ",
            ContainerResult::Unadmitted => "UNBOUND ",
        };
        let mut line = format!("{}  {result} {}", self.time, self.cgroup);
        if let Some(container) = &self.container {
            line.push_str(&format!("  {container}"));
        }
        if let Some(policy) = &self.policy {
            line.push_str(&format!("  under {policy}"));
        }
        if let Some(message) = &self.message {
            line.push_str(&format!("  {}", message.lines().next().unwrap_or_default()));
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let container = Container { id: "1".into(), name: Some("web".into()), ..Container::default() };
        let bind = Bind { cgroup: "/pods/1".into(), container };
        let bound = ContainerRecord::asked(&bind, Ok("front"));
        assert!(bound.compact().ends_with("bound    /pods/1  container \"1\", name \"web\"  under front"));
        let refused = ContainerRecord::asked(&bind, Err(&"no policy\nat all".to_owned()));
        assert!(refused.compact().ends_with("\"web\"  no policy"), "{}", refused.compact());
        let stray = ContainerRecord::unadmitted(b"/pods/2");
        assert!(stray.compact().ends_with("UNBOUND  /pods/2"));
        let running = ContainerRecord::running(&bind, "no policy\nat all");
        assert!(running.compact().ends_with("UNBOUND  /pods/1  container \"1\", name \"web\"  no policy"));
        for record in [bound, refused, stray, running] {
            let json = serde_json::to_string(&record).unwrap();
            assert_eq!(serde_json::from_str::<ContainerRecord>(&json).unwrap(), record);
        }
    }
}

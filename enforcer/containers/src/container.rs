//! A container as its runtime describes it.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

/// What is known about a container. What a runtime does not say is not there, and no policy that asks for it matches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Container {
    /// The runtime's id for it.
    pub id: String,
    /// Kubernetes' namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Kubernetes' service account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<String>,
    /// Digests by which the image is known (of its manifest, of its configuration), as `sha256:HEX`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<String>,
    /// The container's name in its pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Podman's or Docker's name; for a bare runtime, the id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Labels. Whoever writes the pod or starts the container chooses them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl fmt::Display for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "container {:?}", self.id)?;
        let known = [
            ("namespace", &self.namespace),
            ("service-account", &self.service_account),
            ("container", &self.container),
            ("name", &self.name),
        ];
        for (key, value) in known {
            if let Some(value) = value {
                write!(f, ", {key} {value:?}")?;
            }
        }
        self.images.iter().try_for_each(|image| write!(f, ", image {image:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_shown() {
        let container = Container {
            id: "1f".into(),
            images: vec!["sha256:00".into()],
            name: Some("web\"".into()),
            ..Container::default()
        };
        assert_eq!(container.to_string(), r#"container "1f", name "web\"", image "sha256:00""#);
    }
}

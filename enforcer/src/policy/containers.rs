//! Containers as policies see them: which one a policy admits, which policy wins, and where containers' cgroups are.
//!
//! A container is admitted by what its runtime says of it. Of several policies that would admit it, the one that asks for
//! the most telling attribute wins; labels have no say in that. They are looked at last, and if those that the winner asks
//! for are not there, the container is refused: whoever writes labels can keep a container from starting, and cannot choose
//! another policy for it.

use std::{collections::BTreeMap, fmt};

use enforcer_containers::container::Container;
use serde::{Deserialize, Serialize};

/// What a policy asks of a container. An attribute with values must be one of them; one without is not looked at. At
/// least one has values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerSelector {
    /// Digests of the image, as `sha256:HEX`.
    pub image: Vec<String>,
    /// Kubernetes' service account.
    pub service_account: Vec<String>,
    /// Kubernetes' namespace.
    pub namespace: Vec<String>,
    /// The container's name in its pod.
    pub container: Vec<String>,
    /// The runtime's name for the container.
    pub name: Vec<String>,
    /// Labels that it must have.
    pub labels: BTreeMap<String, String>,
}

/// Number of attributes besides labels.
const ATTRIBUTES: usize = 5;

impl ContainerSelector {
    /// Attributes with the values asked for, the most telling first: that is the precedence.
    #[must_use]
    pub fn attributes(&self) -> [(&'static str, &[String]); ATTRIBUTES] {
        [
            ("image", &self.image),
            ("service-account", &self.service_account),
            ("namespace", &self.namespace),
            ("container", &self.container),
            ("name", &self.name),
        ]
    }

    /// The list of an attribute.
    pub(super) fn attribute_mut(&mut self, key: &str) -> Option<&mut Vec<String>> {
        match key {
            "image" => Some(&mut self.image),
            "service-account" => Some(&mut self.service_account),
            "namespace" => Some(&mut self.namespace),
            "container" => Some(&mut self.container),
            "name" => Some(&mut self.name),
            _ => None,
        }
    }

    /// Which attributes are asked for. The greater wins.
    fn weight(&self) -> [bool; ATTRIBUTES] {
        self.attributes().map(|(_, values)| !values.is_empty())
    }

    /// Whether the container is one that is asked for, labels apart.
    fn fits(&self, container: &Container) -> bool {
        let found = found(container);
        self.weight().contains(&true)
            && self
                .attributes()
                .iter()
                .zip(&found)
                .all(|((_, wanted), found)| wanted.is_empty() || found.iter().any(|it| wanted.contains(it)))
    }

    /// Whether the container may turn out to be one that is asked for, labels apart: what is not known of it is not looked at.
    fn may_fit(&self, container: &Container) -> bool {
        let found = found(container);
        let may = |((_, wanted), found): (&(_, &[String]), &&[String])| {
            wanted.is_empty() || found.is_empty() || found.iter().any(|it| wanted.contains(it))
        };
        self.weight().contains(&true) && self.attributes().iter().zip(&found).all(may)
    }

    /// The first label that is asked for and not there.
    fn missing_label(&self, container: &Container) -> Option<(&str, &str)> {
        let missing = |(key, value): &(&String, &String)| container.labels.get(*key) != Some(*value);
        self.labels.iter().find(missing).map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Whether some container could fit both, with neither more telling.
    fn rivals(&self, other: &Self) -> bool {
        let overlap = |(one, other): (&(_, &[String]), &(_, &[String]))| {
            one.1.is_empty() || one.1.iter().any(|value| other.1.contains(value))
        };
        self.weight() == other.weight() && self.attributes().iter().zip(&other.attributes()).all(overlap)
    }
}

/// What a container has of each attribute, in the order of [`ContainerSelector::attributes`].
fn found(container: &Container) -> [&[String]; ATTRIBUTES] {
    [
        container.images.as_slice(),
        container.service_account.as_slice(),
        container.namespace.as_slice(),
        container.container.as_slice(),
        container.name.as_slice(),
    ]
}

impl fmt::Display for ContainerSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (key, values) in self.attributes().iter().filter(|(_, values)| !values.is_empty()) {
            write!(f, "{separator}{key} {}", values.join(" or "))?;
            separator = ", ";
        }
        self.labels.iter().try_for_each(|(key, value)| write!(f, ", label {key}={value}"))
    }
}

/// Why no policy admits a container.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAdmitted {
    /// None asks for one like it.
    #[error(
        "no policy admits {0}; write one with a [workload.container] table that names one of these attributes"
    )]
    Unknown(String),
    /// Two, by different digests of its image: neither is more telling, and no installation could know.
    #[error(
        "policies `{first}` and `{second}` both admit {container}, by different digests of its image; leave one of them \
         out, or add an attribute to one policy"
    )]
    Rivals {
        /// The container.
        container: String,
        /// The one.
        first: String,
        /// The other.
        second: String,
    },
    /// The one that asks for it asks for a label, too.
    #[error("policy `{policy}` is for {container}, but asks for the label {key:?} with the value {value:?}")]
    Label {
        /// The policy.
        policy: String,
        /// The container.
        container: String,
        /// The label.
        key: String,
        /// Its value.
        value: String,
    },
}

/// The policy that admits a container, of policies that are no rivals.
///
/// # Errors
/// [`NotAdmitted`].
pub fn admitting<'a>(
    policies: impl IntoIterator<Item = (&'a str, &'a ContainerSelector)>,
    container: &Container,
) -> Result<&'a str, NotAdmitted> {
    let mut fitting: Vec<_> = policies.into_iter().filter(|(_, selector)| selector.fits(container)).collect();
    fitting.sort_by_key(|(_, selector)| std::cmp::Reverse(selector.weight()));
    let Some((policy, selector)) = fitting.first() else {
        return Err(NotAdmitted::Unknown(container.to_string()));
    };
    if let Some((other, rival)) = fitting.get(1)
        && rival.weight() == selector.weight()
    {
        return Err(NotAdmitted::Rivals {
            container: container.to_string(),
            first: (*policy).to_owned(),
            second: (*other).to_owned(),
        });
    }
    match selector.missing_label(container) {
        None => Ok(policy),
        Some((key, value)) => Err(NotAdmitted::Label {
            policy: (*policy).to_owned(),
            container: container.to_string(),
            key: key.to_owned(),
            value: value.to_owned(),
        }),
    }
}

/// Whether [`admitting`] could name a policy once more is known of the container than now. Labels are all known.
///
/// # Errors
/// [`NotAdmitted`]; then it will not.
pub fn admissible<'a>(
    policies: impl IntoIterator<Item = (&'a str, &'a ContainerSelector)>,
    container: &Container,
) -> Result<(), NotAdmitted> {
    let mut refused = NotAdmitted::Unknown(container.to_string());
    for (policy, selector) in policies.into_iter().filter(|(_, selector)| selector.may_fit(container)) {
        let Some((key, value)) = selector.missing_label(container) else { return Ok(()) };
        refused = NotAdmitted::Label {
            policy: policy.to_owned(),
            container: container.to_string(),
            key: key.to_owned(),
            value: value.to_owned(),
        };
    }
    Err(refused)
}

/// Two policies that would admit one container, neither more telling.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "policies `{first}` ({first_asks}) and `{second}` ({second_asks}) would both admit the same container, and neither \
     is more specific; labels do not count for that"
)]
pub struct Rivals {
    /// The one.
    pub first: String,
    /// What it asks for.
    pub first_asks: String,
    /// The other.
    pub second: String,
    /// What that asks for.
    pub second_asks: String,
}

/// Sees to it that which policy admits a container is never an accident.
///
/// # Errors
/// [`Rivals`], the first there are.
pub fn refuse_rivals(policies: &[(&str, &ContainerSelector)]) -> Result<(), Rivals> {
    for (at, (first, one)) in policies.iter().enumerate() {
        let others = policies.get(at + 1..).unwrap_or_default();
        if let Some((second, other)) = others.iter().find(|(_, other)| one.rivals(other)) {
            return Err(Rivals {
                first: (*first).to_owned(),
                first_asks: one.to_string(),
                second: (*second).to_owned(),
                second_asks: other.to_string(),
            });
        }
    }
    Ok(())
}

/// Eight hexadecimal digits: what every id starts with, and no other name of these runtimes' cgroups.
macro_rules! id {
    () => {
        "[0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f]*"
    };
}

/// Where runtimes make the cgroups of containers, by the name that `container-roots` has for it. All anywhere in the
/// hierarchy, because runtimes run in containers, too.
pub const ROOTS: &[(&str, &[&str])] = &[
    ("kubernetes", &["/**/{,kubelet-}kubepods{,.slice}/**"]),
    ("podman", &[concat!("/**/libpod-", id!(), ".scope"), concat!("/**/libpod_parent/libpod-", id!())]),
    ("docker", &[concat!("/**/docker-", id!(), ".scope"), concat!("/**/docker/", id!())]),
    ("containerd", &[concat!("/**/cri-containerd-", id!(), ".scope"), "/k8s.io/*", "/default/*"]),
    ("cri-o", &[concat!("/**/crio-", id!(), ".scope"), concat!("/**/crio-", id!())]),
];

/// The patterns of an entry of `container-roots`: those of a runtime, or the entry itself if it is a pattern.
#[must_use]
pub fn root_patterns(entry: &str) -> Option<Vec<&str>> {
    if entry.starts_with('/') {
        return Some(vec![entry]);
    }
    ROOTS.iter().find(|(name, _)| *name == entry).map(|(_, patterns)| patterns.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::glob::Glob;

    fn selector(pairs: &[(&str, &str)]) -> ContainerSelector {
        let mut selector = ContainerSelector::default();
        for (key, value) in pairs {
            match key.strip_prefix("label ") {
                Some(label) => drop(selector.labels.insert(label.to_owned(), (*value).to_owned())),
                None => selector.attribute_mut(key).unwrap().push((*value).to_owned()),
            }
        }
        selector
    }

    fn container() -> Container {
        Container {
            id: "1".into(),
            namespace: Some("shop".into()),
            service_account: Some("cart".into()),
            images: vec!["sha256:aa".into(), "sha256:bb".into()],
            container: Some("app".into()),
            name: Some("web".into()),
            labels: BTreeMap::from([("tier".into(), "front".into())]),
        }
    }

    fn chosen(policies: &[(&'static str, &[(&str, &str)])]) -> Result<String, NotAdmitted> {
        let selectors: Vec<_> = policies.iter().map(|(name, pairs)| (*name, selector(pairs))).collect();
        let policies = selectors.iter().map(|(name, selector)| (*name, selector));
        admitting(policies, &container()).map(str::to_owned)
    }

    #[test]
    fn every_attribute_must_be_one_of_those_listed() {
        let cases: [(&[(&str, &str)], bool); 9] = [
            (&[("namespace", "shop")], true),
            (&[("namespace", "other"), ("namespace", "shop")], true),
            (&[("namespace", "other")], false),
            (&[("image", "sha256:bb")], true),
            (&[("image", "sha256:bb"), ("namespace", "other")], false),
            (&[("service-account", "cart"), ("container", "app"), ("name", "web")], true),
            (&[("service-account", "cart"), ("container", "app"), ("name", "x")], false),
            // Asking for nothing admits nobody, and a label alone is nothing.
            (&[], false),
            (&[("label tier", "front")], false),
        ];
        for (pairs, expected) in cases {
            assert_eq!(chosen(&[("p", pairs)]).is_ok(), expected, "{pairs:?}");
        }
        let unknown = Container { id: "2".into(), ..Container::default() };
        for (key, value) in [("namespace", ""), ("image", "sha256:aa"), ("name", "web")] {
            let selector = selector(&[(key, value)]);
            let refused = admitting([("p", &selector)], &unknown).unwrap_err();
            assert!(matches!(refused, NotAdmitted::Unknown(_)), "what is not known matches nothing: {key}");
        }
    }

    #[test]
    fn the_most_telling_attribute_wins() {
        let by: [(&'static str, &[(&str, &str)]); 5] = [
            ("image", &[("image", "sha256:aa")]),
            ("account", &[("service-account", "cart"), ("namespace", "shop")]),
            ("namespace", &[("namespace", "shop"), ("container", "app"), ("name", "web")]),
            ("container", &[("container", "app"), ("name", "web")]),
            ("name", &[("name", "web")]),
        ];
        for strongest in 0..by.len() {
            let mut policies = by[strongest..].to_vec();
            assert_eq!(chosen(&policies).unwrap(), by[strongest].0);
            policies.reverse();
            assert_eq!(chosen(&policies).unwrap(), by[strongest].0, "whatever the order");
        }
        let more: [(&'static str, &[(&str, &str)]); 2] =
            [("shop", &[("namespace", "shop")]), ("app", &[("namespace", "shop"), ("container", "app")])];
        assert_eq!(chosen(&more).unwrap(), "app");
    }

    #[test]
    fn two_digests_of_one_image_are_no_way_to_choose() {
        let by_id: &[(&str, &str)] = &[("image", "sha256:aa")];
        let by_manifest: &[(&str, &str)] = &[("image", "sha256:bb")];
        let refused = chosen(&[("a", by_id), ("b", by_manifest)]).unwrap_err();
        assert!(matches!(&refused, NotAdmitted::Rivals { .. }), "{refused}");
        let more: &[(&str, &str)] = &[("image", "sha256:bb"), ("name", "web")];
        assert_eq!(chosen(&[("a", by_id), ("b", more)]).unwrap(), "b");
    }

    #[test]
    fn labels_only_refuse() {
        let strict: &[(&str, &str)] = &[("namespace", "shop"), ("label tier", "back")];
        let loose: &[(&str, &str)] = &[("name", "web")];
        let refused = chosen(&[("strict", strict), ("loose", loose)]).unwrap_err();
        assert!(matches!(&refused, NotAdmitted::Label { policy, .. } if policy == "strict"), "{refused}");
        let met: &[(&str, &str)] = &[("namespace", "shop"), ("label tier", "front")];
        assert_eq!(chosen(&[("met", met), ("loose", loose)]).unwrap(), "met");
    }

    /// Whatever labels a pod's author writes, and whatever labels policies ask for: the container gets the policy that its
    /// other attributes name, or none.
    #[test]
    fn labels_choose_no_policy() {
        let attributes: [&[(&str, &str)]; 4] = [
            &[("image", "sha256:aa")],
            &[("namespace", "shop"), ("container", "app")],
            &[("namespace", "shop")],
            &[("name", "web")],
        ];
        let labels = [("tier", "front"), ("tier", "back"), ("team", "a")];
        let mut refused = 0;
        for asked in 0..1_u32 << (attributes.len() * 2) {
            // Two bits for each policy: which label it asks for, if any.
            let policy = |(at, pairs): (usize, &&[(&str, &str)])| {
                let mut selector = selector(pairs);
                if let Some((key, value)) = labels.get((asked >> (2 * at) & 3) as usize) {
                    selector.labels.insert((*key).to_owned(), (*value).to_owned());
                }
                (["image", "app", "shop", "web"][at], selector)
            };
            let policies: Vec<_> = attributes.iter().enumerate().map(policy).collect();
            for written in 0..1_u32 << labels.len() {
                let chosen_by_author = labels.iter().enumerate().filter(|(at, _)| written >> at & 1 != 0);
                let container = Container {
                    labels: chosen_by_author
                        .map(|(_, (key, value))| ((*key).into(), (*value).into()))
                        .collect(),
                    ..container()
                };
                for first in 0..policies.len() {
                    let rest = policies[first..].iter().map(|(name, selector)| (*name, selector));
                    match admitting(rest, &container) {
                        Ok(name) => assert_eq!(name, policies[first].0, "{asked:b} {written:b}"),
                        Err(NotAdmitted::Label { policy, .. }) => {
                            assert_eq!(policy, policies[first].0);
                            refused += 1;
                        }
                        Err(other) => panic!("{other}"),
                    }
                }
            }
        }
        assert!(refused > 0);
    }

    #[test]
    fn what_is_not_known_yet_keeps_nobody_out() {
        let known = Container { images: Vec::new(), service_account: None, ..container() };
        let could = |pairs: &[(&str, &str)]| admissible([("p", &selector(pairs))], &known);
        let fine: [&[(&str, &str)]; 4] = [
            &[("image", "sha256:cc")],
            &[("service-account", "other"), ("namespace", "shop")],
            &[("namespace", "shop"), ("label tier", "front")],
            &[("name", "web")],
        ];
        for pairs in fine {
            could(pairs).unwrap_or_else(|refused| panic!("{pairs:?}: {refused}"));
        }
        for pairs in [&[("image", "sha256:cc"), ("namespace", "bank")][..], &[("container", "other")], &[]] {
            assert!(matches!(could(pairs), Err(NotAdmitted::Unknown(_))), "{pairs:?}");
        }
        let label = could(&[("image", "sha256:cc"), ("label tier", "back")]).unwrap_err();
        assert!(matches!(&label, NotAdmitted::Label { .. }), "{label}");
        // Whatever is admitted in the end could be admitted before.
        let winner = selector(&[("image", "sha256:aa"), ("label tier", "front")]);
        let loser = selector(&[("namespace", "shop"), ("label tier", "back")]);
        assert_eq!(admitting([("winner", &winner), ("loser", &loser)], &container()), Ok("winner"));
        assert_eq!(admissible([("loser", &loser), ("winner", &winner)], &known), Ok(()));
    }

    #[test]
    fn rivals_are_refused() {
        let refused = |one: &[(&str, &str)], other: &[(&str, &str)]| {
            refuse_rivals(&[("a", &selector(one)), ("b", &selector(other))]).is_err()
        };
        let shop: &[(&str, &str)] = &[("namespace", "shop")];
        assert!(refused(shop, shop));
        assert!(refused(shop, &[("namespace", "bank"), ("namespace", "shop")]));
        assert!(refused(shop, &[("namespace", "shop"), ("label tier", "back")]), "labels do not count");
        assert!(!refused(shop, &[("namespace", "bank")]));
        assert!(!refused(shop, &[("namespace", "shop"), ("container", "app")]));
        assert!(!refused(shop, &[("name", "web")]));
        assert!(!refused(&[("namespace", "shop"), ("name", "x")], &[("namespace", "shop"), ("name", "y")]));
    }

    #[test]
    fn roots_hold_containers_and_nothing_else() {
        let id = "3f2a9c0d11".repeat(6);
        let holds = |root: &str, path: &str| {
            let patterns = root_patterns(root).unwrap();
            patterns
                .iter()
                .any(|pattern| Glob::path(pattern).unwrap().matches_naively(path.as_bytes()) == Some(true))
        };
        let containers = [
            (
                "kubernetes",
                format!(
                    "/kubepods.slice/kubepods-burstable.slice/kubepods-pod1.slice/cri-containerd-{id}.scope"
                ),
            ),
            ("kubernetes", format!("/kubepods/besteffort/pod1/{id}")),
            (
                "kubernetes",
                format!("/system.slice/docker-{id}.scope/kubelet.slice/kubelet-kubepods.slice/pod1/{id}"),
            ),
            ("podman", format!("/machine.slice/libpod-{id}.scope")),
            ("podman", format!("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{id}.scope")),
            ("podman", format!("/libpod_parent/libpod-{id}")),
            ("docker", format!("/system.slice/docker-{id}.scope")),
            ("docker", format!("/docker/{id}")),
            ("containerd", format!("/k8s.io/{id}")),
            ("containerd", "/default/web".to_owned()),
            ("containerd", format!("/system.slice/cri-containerd-{id}.scope")),
            ("cri-o", format!("/machine.slice/crio-{id}.scope")),
            ("/my/*", "/my/own".to_owned()),
        ];
        for (root, path) in &containers {
            assert!(holds(root, path), "{root}: {path}");
        }
        let others = [
            ("kubernetes", "/kubepods.slice".to_owned()),
            ("kubernetes", "/system.slice/kubelet.service".to_owned()),
            ("podman", format!("/machine.slice/libpod-conmon-{id}.scope")),
            ("podman", "/machine.slice".to_owned()),
            ("podman", "/libpod_parent/conmon".to_owned()),
            ("docker", "/system.slice/docker.service".to_owned()),
            ("docker", "/system.slice/docker-compose.scope".to_owned()),
            ("containerd", "/system.slice/containerd.service".to_owned()),
            ("cri-o", format!("/machine.slice/crio-conmon-{id}.scope")),
        ];
        for (root, path) in &others {
            assert!(!holds(root, path), "{root}: {path}");
        }
        assert_eq!(root_patterns("kubernets"), None);
    }
}

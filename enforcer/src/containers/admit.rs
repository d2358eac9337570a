//! Which policy a container gets, and its cgroups bound to it.
//!
//! [`admit`] is for containers that are there, [`check`] for those that are yet to be made: it refuses only what [`admit`]
//! would refuse, too.

use std::collections::BTreeMap;

use enforcer_common::abi::{Binding, Label, Origin, State, program};
use enforcer_containers::{container::Container, wire::Bind};

use crate::{
    cgroups::Cgroup,
    kernel::{
        bind::{BindError, put, selected},
        maps::{MapFault, Maps},
        state::Snapshot,
    },
    policy::containers::{ContainerSelector, NotAdmitted, admissible, admitting},
};

/// Why a container may not start.
#[derive(Debug, thiserror::Error)]
pub enum AdmitError {
    /// Nothing is in force that could admit it.
    #[error("it is not known what is in force; install the policies again with `enforcer apply` or a reload")]
    NothingKnown,
    /// No policy.
    #[error(transparent)]
    NotAdmitted(#[from] NotAdmitted),
    /// The cgroup is not there.
    #[error("there is no cgroup {0:?}; is the runtime configured for cgroups of version 2?")]
    NoCgroup(String),
    /// The cgroup is the host's.
    #[error(
        "{0:?} is no cgroup of the container's own; configure the runtime to make one (Podman: not \
         `--cgroups=disabled`)"
    )]
    Shared(String),
    /// Two containers in one cgroup, or one that changed.
    #[error(
        "the cgroup {cgroup:?} is bound to the policy `{bound}` already, and {container} would be under `{policy}`"
    )]
    Bound {
        /// The cgroup.
        cgroup: String,
        /// Its policy.
        bound: String,
        /// The container.
        container: String,
        /// The policy that admits the container.
        policy: String,
    },
    /// The policy that admits it is not in the kernel.
    #[error("the policy `{0}` is not in force; install the policies again with `enforcer apply` or a reload")]
    NotInForce(String),
    /// A map.
    #[error(transparent)]
    Map(#[from] MapFault),
    /// The selectors.
    #[error(transparent)]
    Selectors(#[from] BindError),
}

/// Whether a container has started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It waits for the answer. A cgroup that is another container's already is an error.
    Waiting,
    /// It runs. Whatever policy of its own it has, it keeps.
    Running,
}

/// A container that is under a policy of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// The policy's name.
    pub policy: String,
    /// Whether it was under another before.
    pub is_new: bool,
}

/// Whom a request is about, and who makes it.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// What is asked for.
    pub bind: &'a Bind,
    /// The cgroup of whoever asks: the runtime's, so not the container's.
    pub asker: &'a [u8],
    /// Whether the container has started.
    pub standing: Standing,
}

/// Binds a container's cgroups to the policy that admits it.
///
/// A cgroup that a `unit`, `slice` or `cgroup` selector binds stays with that policy: a path says more than attributes do.
/// So does one that a task under a policy has made.
/// `walk` lists the container's cgroup and those below it, or nothing if there is no such cgroup; it is called once the
/// outermost is bound, so that none below it is left out: what is made later is bound by the kernel's programs like its
/// parent. How long this takes does not depend on how many other cgroups there are.
///
/// The caller holds the installers' lock.
///
/// # Errors
/// [`AdmitError`]; then the container is still under what it was under.
pub fn admit<M: Maps, E: From<AdmitError>>(
    maps: &mut M,
    snapshot: Option<&Snapshot>,
    asked: Asked<'_>,
    find: impl Fn(&[u8]) -> Option<u64>,
    walk: impl FnOnce(&[u8]) -> Result<Vec<Cgroup>, E>,
) -> Result<Admitted, E> {
    let known = snapshot.ok_or(AdmitError::NothingKnown)?;
    let Bind { cgroup, container } = asked.bind;
    let id = own_cgroup(find, asked)?;
    let before = maps.binding(id).map_err(AdmitError::from)?;
    let holder = before.and_then(|binding| {
        let policy = known.policy_of(binding.slot, binding.incarnation)?;
        Some((Origin::from_code(binding.origin)?, policy.name.as_str()))
    });
    let keeps = |policy: &str| Ok(Admitted { policy: policy.to_owned(), is_new: false });
    match holder {
        Some((Origin::Selector | Origin::Workload, policy)) => return keeps(policy),
        Some((Origin::Container | Origin::Started, policy)) if asked.standing == Standing::Running => {
            return keeps(policy);
        }
        _ => {}
    }
    let policy = admitting_policy(known, container)?;
    match holder {
        Some((Origin::Container | Origin::Started, bound)) if bound != policy => {
            return Err(AdmitError::Bound {
                cgroup: cgroup.clone(),
                bound: bound.to_owned(),
                container: container.to_string(),
                policy: policy.to_owned(),
            }
            .into());
        }
        _ => {}
    }
    let runs = asked.standing == Standing::Running || matches!(holder, Some((Origin::Started, _)));
    let origin = if runs { Origin::Started } else { Origin::Container };
    let binding = binding_of(maps, known, policy, origin)?;
    let is_new = before != Some(binding);
    put(maps, id, before, binding).map_err(AdmitError::from)?;
    let cgroups = walk(cgroup.as_bytes())?;
    let inside = match cgroups.split_first() {
        Some((own, inside)) if own.id == id => inside,
        // Gone meanwhile, and another has its name.
        _ => return Err(AdmitError::NoCgroup(cgroup.clone()).into()),
    };
    for below in inside {
        let before = maps.binding(below.id).map_err(AdmitError::from)?;
        put(maps, below.id, before, binding).map_err(AdmitError::from)?;
    }
    let mut control = maps.control().map_err(AdmitError::from)?;
    // Tasks that were there before and that are still the host's look again.
    control.bind_epoch = control.bind_epoch.wrapping_add(1);
    maps.set_control(&control).map_err(AdmitError::from)?;
    Ok(Admitted { policy: policy.to_owned(), is_new })
}

/// Whether a container that is yet to be made could be admitted: some policy may turn out to, or the path of its cgroup is
/// under one that a selector names. What its runtime does not say yet may still be what a policy asks for.
///
/// # Errors
/// [`AdmitError`]; then there is no use in making it.
pub fn check<M: Maps>(
    maps: &M,
    snapshot: Option<&Snapshot>,
    bind: &Bind,
    find: impl Fn(&[u8]) -> Option<u64>,
) -> Result<(), AdmitError> {
    let known = snapshot.ok_or(AdmitError::NothingKnown)?;
    if let Err(refused) = admissible(container_policies(known), &bind.container) {
        let prospect = prospect(maps, &bind.cgroup, find)?;
        let origin = prospect.and_then(|binding| Origin::from_code(binding.origin));
        if !matches!(origin, Some(Origin::Selector | Origin::Workload)) {
            return Err(refused.into());
        }
    }
    Ok(())
}

/// What a cgroup with this path would be bound to if it were made now.
fn prospect<M: Maps>(
    maps: &M,
    path: &str,
    find: impl Fn(&[u8]) -> Option<u64>,
) -> Result<Option<Binding>, AdmitError> {
    let mut rest = path;
    loop {
        if let Some(cgroup) = find(rest.as_bytes()) {
            return Ok(maps.binding(cgroup)?);
        }
        if let Some(binding) = selected(maps, rest.as_bytes())? {
            return Ok(Some(binding));
        }
        match rest.rsplit_once('/') {
            Some((parent, _)) if !parent.is_empty() => rest = parent,
            _ => return Ok(None),
        }
    }
}

fn container_policies(known: &Snapshot) -> impl Iterator<Item = (&str, &ContainerSelector)> {
    known.policies.iter().filter_map(|policy| Some((policy.name.as_str(), policy.containers.as_ref()?)))
}

fn admitting_policy<'a>(known: &'a Snapshot, container: &Container) -> Result<&'a str, AdmitError> {
    Ok(admitting(container_policies(known), container)?)
}

/// The id of the container's cgroup, if it holds nobody else.
fn own_cgroup(find: impl Fn(&[u8]) -> Option<u64>, asked: Asked<'_>) -> Result<u64, AdmitError> {
    let path = asked.bind.cgroup.as_bytes();
    let found = find(path).ok_or_else(|| AdmitError::NoCgroup(asked.bind.cgroup.clone()))?;
    let below = asked.asker.strip_prefix(path);
    let holds_asker = below.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"));
    if path == b"/" || holds_asker {
        return Err(AdmitError::Shared(asked.bind.cgroup.clone()));
    }
    Ok(found)
}

fn binding_of<M: Maps>(
    maps: &M,
    known: &Snapshot,
    policy: &str,
    origin: Origin,
) -> Result<Binding, AdmitError> {
    let missing = || AdmitError::NotInForce(policy.to_owned());
    let record = known.policy(policy).ok_or_else(missing)?;
    let head = maps.head(maps.control()?.generation, record.slot)?;
    if head.is_none_or(|head| head.incarnation != record.incarnation) {
        return Err(missing());
    }
    Ok(Binding { slot: record.slot, incarnation: record.incarnation, origin: origin.code() })
}

/// Whether a label keeps its task from asking for anything.
#[must_use]
pub fn is_labelled(state: u32) -> bool {
    state == State::Entering.code() || state == State::Armed.code()
}

/// Whether a task runs a program that its policy, which this binding leads to, has let start.
#[must_use]
pub fn was_let_start(label: Option<Label>, binding: Binding) -> bool {
    label.is_some_and(|label| {
        label.state == State::Armed.code()
            && (label.slot, label.incarnation) == (binding.slot, binding.incarnation)
            && label.inherited == 0
    })
}

/// Whether a task is the runtime's, which enters a container before anybody can be asked about it.
#[must_use]
pub fn is_setting_up(label: Option<Label>) -> bool {
    label.is_some_and(|label| {
        label.state != State::Armed.code() && label.program & program::RUNS_LAUNCHER != 0
    })
}

/// Containers that nobody has admitted, although something runs in them that their base policy has not let start: paths of
/// cgroups. `labels` gives the labels of the processes in a cgroup itself.
///
/// What a base policy lets start, such as the program that holds a pod's namespaces, is what it is there for.
///
/// # Errors
/// [`MapFault`].
pub fn unadmitted<M: Maps>(
    maps: &M,
    cgroups: &[Cgroup],
    labels: impl Fn(&[u8]) -> Result<Vec<Option<Label>>, MapFault>,
) -> Result<Vec<Vec<u8>>, MapFault> {
    let bindings: BTreeMap<u64, Binding> = maps.bindings()?.into_iter().collect();
    let mut found = Vec::new();
    for cgroup in cgroups {
        let binding = bindings.get(&cgroup.id).filter(|binding| binding.origin == Origin::Base.code());
        let Some(binding) = binding else { continue };
        let is_stray = |label| !was_let_start(label, *binding) && !is_setting_up(label);
        if labels(&cgroup.path)?.into_iter().any(is_stray) {
            found.push(cgroup.path.clone());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use enforcer_common::abi::AllowedAddress;

    use super::*;
    use crate::{
        bundle::{compile::Compiled, verify::VerifiedBundle},
        kernel::{
            bind::{BindError, rebind},
            install::{Desired, install},
            state::StateStore as _,
            testing::{FakeMaps, FakeStore, image_of},
        },
    };

    /// A base policy, one for a path, and two for containers by name.
    fn policies() -> Vec<VerifiedBundle> {
        let policy = |name: &str, workload: &str| {
            let text = format!("policy = \"{name}\"\n[workload]\n{workload}\n");
            VerifiedBundle::for_tests_around(Compiled::of_text_for_tests(image_of(name, &[]), &text))
        };
        vec![
            policy("base", "container-roots = [\"podman\", \"/pods/*\"]"),
            policy("path", "cgroup = \"/pods/named\""),
            policy("web", "container.name = \"web\""),
            policy("db", "container.name = \"db\""),
        ]
    }

    struct World {
        maps: FakeMaps,
        store: FakeStore,
        cgroups: Vec<Cgroup>,
    }

    impl World {
        fn new() -> Self {
            let mut world = Self { maps: FakeMaps::default(), store: FakeStore::default(), cgroups: tree() };
            world.install(&policies());
            world
        }

        fn install(&mut self, policies: &[VerifiedBundle]) {
            install(&mut self.maps, &mut self.store, &Desired { policies, launchers: &[] }).unwrap();
            rebind(&mut self.maps, || Ok::<_, BindError>(self.cgroups.clone())).unwrap();
        }

        fn snapshot(&self) -> Snapshot {
            self.store.load().unwrap().unwrap().installed
        }

        fn admit(&mut self, cgroup: &str, name: &str) -> Result<String, AdmitError> {
            self.ask(cgroup, name, Standing::Waiting).map(|admitted| admitted.policy)
        }

        fn ask(&mut self, cgroup: &str, name: &str, standing: Standing) -> Result<Admitted, AdmitError> {
            let bind = bind(cgroup, name);
            let snapshot = self.snapshot();
            let asked = Asked { bind: &bind, asker: b"/system.slice/runtime.service", standing };
            let Self { maps, cgroups, .. } = self;
            admit(maps, Some(&snapshot), asked, finding(cgroups), |path| Ok(below(cgroups, path)))
        }

        fn check(&self, cgroup: &str, name: &str) -> Result<(), AdmitError> {
            check(&self.maps, Some(&self.snapshot()), &bind(cgroup, name), finding(&self.cgroups))
        }

        /// Policy and origin of a cgroup, by id.
        fn of(&self, id: u64) -> Option<(String, Origin)> {
            let binding = self.maps.bindings.get(&id)?;
            let snapshot = self.snapshot();
            let name = snapshot.policy_of(binding.slot, binding.incarnation)?.name.clone();
            Some((name, Origin::from_code(binding.origin)?))
        }
    }

    fn finding(cgroups: &[Cgroup]) -> impl Fn(&[u8]) -> Option<u64> {
        |path| cgroups.iter().find(|cgroup| cgroup.path == path).map(|cgroup| cgroup.id)
    }

    fn below(cgroups: &[Cgroup], path: &[u8]) -> Vec<Cgroup> {
        let is_below = |cgroup: &&Cgroup| {
            let rest = cgroup.path.strip_prefix(path);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        };
        cgroups.iter().filter(is_below).cloned().collect()
    }

    fn tree() -> Vec<Cgroup> {
        let cgroup = |id, path: &str, parent| Cgroup { id, path: path.as_bytes().to_vec(), parent };
        vec![
            cgroup(1, "/", None),
            cgroup(10, "/pods", Some(0)),
            cgroup(20, "/pods/one", Some(1)),
            cgroup(30, "/pods/two", Some(1)),
            cgroup(40, "/pods/named", Some(1)),
            cgroup(50, "/system.slice", Some(0)),
            cgroup(60, "/pods/one/init", Some(2)),
            cgroup(70, "/system.slice/runtime.service", Some(5)),
            cgroup(80, "/own", Some(0)),
        ]
    }

    fn bind(cgroup: &str, name: &str) -> Bind {
        let container = Container { id: "1".into(), name: Some(name.into()), ..Container::default() };
        Bind { cgroup: cgroup.into(), container }
    }

    fn bound(policy: &str, origin: Origin) -> Option<(String, Origin)> {
        Some((policy.to_owned(), origin))
    }

    #[test]
    fn a_container_leaves_the_base_policy_with_all_below_it() {
        let mut world = World::new();
        assert_eq!(world.of(20), bound("base", Origin::Base));
        assert_eq!(world.of(60), bound("base", Origin::Base));
        let epoch = world.maps.control.bind_epoch;
        assert_eq!(world.admit("/pods/one", "web").unwrap(), "web");
        assert_eq!(world.of(20), bound("web", Origin::Container));
        assert_eq!(world.of(60), bound("web", Origin::Container));
        assert_eq!(world.of(30), bound("base", Origin::Base), "its neighbour");
        assert_eq!(world.maps.control.bind_epoch, epoch + 1);
        // Asked again, and where no root is.
        assert_eq!(world.admit("/pods/one", "web").unwrap(), "web");
        assert_eq!(world.admit("/own", "db").unwrap(), "db");
        assert_eq!(world.of(80), bound("db", Origin::Container));
    }

    #[test]
    fn what_is_not_admitted_stays_where_it_is() {
        let mut world = World::new();
        let before = world.maps.bindings.clone();
        assert!(matches!(world.admit("/pods/one", "stranger"), Err(AdmitError::NotAdmitted(_))));
        assert!(matches!(world.admit("/pods/none", "web"), Err(AdmitError::NoCgroup(_))));
        for shared in ["/", "/system.slice", "/system.slice/runtime.service"] {
            assert!(matches!(world.admit(shared, "web"), Err(AdmitError::Shared(_))), "{shared}");
        }
        assert_eq!(world.maps.bindings, before);
        world.admit("/pods/one", "web").unwrap();
        let error = world.admit("/pods/one", "db").unwrap_err();
        assert!(matches!(&error, AdmitError::Bound { bound, .. } if bound == "web"), "{error}");
        let bind = Bind { cgroup: "/pods/two".into(), container: Container::default() };
        let asked = Asked { bind: &bind, asker: b"/", standing: Standing::Waiting };
        let walk = |path: &[u8]| Ok::<_, AdmitError>(below(&tree(), path));
        let unknown = admit(&mut world.maps, None, asked, finding(&tree()), walk);
        assert!(matches!(unknown, Err(AdmitError::NothingKnown)));
    }

    #[test]
    fn a_path_says_more_than_attributes() {
        let mut world = World::new();
        for name in ["web", "stranger"] {
            assert_eq!(world.admit("/pods/named", name).unwrap(), "path");
        }
        assert_eq!(world.of(40), bound("path", Origin::Selector));
    }

    #[test]
    fn a_reload_keeps_containers_and_returns_them_to_the_base_policy_when_theirs_is_gone() {
        let mut world = World::new();
        world.admit("/pods/one", "web").unwrap();
        world.admit("/pods/two", "db").unwrap();
        world.cgroups.push(Cgroup { id: 90, path: b"/pods/one/late".to_vec(), parent: Some(2) });
        let without_db: Vec<_> = policies().into_iter().filter(|policy| policy.name() != "db").collect();
        world.install(&without_db);
        assert_eq!(world.of(20), bound("web", Origin::Container));
        assert_eq!(world.of(90), bound("web", Origin::Container), "what is inside goes with it");
        assert_eq!(world.of(30), bound("base", Origin::Base));
    }

    #[test]
    fn one_that_runs_is_bound_once_and_keeps_what_it_has() {
        let mut world = World::new();
        let admitted = |policy: &str, is_new| Admitted { policy: policy.into(), is_new };
        assert_eq!(world.ask("/pods/one", "web", Standing::Running).unwrap(), admitted("web", true));
        assert_eq!(
            world.of(60),
            bound("web", Origin::Started),
            "whoever enters now is not its first program"
        );
        assert_eq!(world.ask("/pods/one", "web", Standing::Running).unwrap(), admitted("web", false));
        // Neither another policy nor none at all takes it away.
        for name in ["db", "stranger"] {
            assert_eq!(world.ask("/pods/one", name, Standing::Running).unwrap(), admitted("web", false));
        }
        let refused = world.ask("/pods/two", "stranger", Standing::Running).unwrap_err();
        assert!(matches!(refused, AdmitError::NotAdmitted(_)), "{refused}");
        assert_eq!(world.of(30), bound("base", Origin::Base));
    }

    /// That a container's first program has started, which the kernel notes, is not forgotten.
    #[test]
    fn one_that_has_started_stays_started() {
        let mut world = World::new();
        world.admit("/pods/one", "web").unwrap();
        assert_eq!(world.of(20), bound("web", Origin::Container));
        for id in [20, 60] {
            world.maps.bindings.get_mut(&id).unwrap().origin = Origin::Started.code();
        }
        assert_eq!(world.admit("/pods/one", "web").unwrap(), "web");
        assert!(matches!(world.admit("/pods/one", "db"), Err(AdmitError::Bound { .. })));
        world.cgroups.push(Cgroup { id: 90, path: b"/pods/one/late".to_vec(), parent: Some(2) });
        world.install(&policies());
        for id in [20, 60, 90] {
            assert_eq!(world.of(id), bound("web", Origin::Started), "{id}");
        }
    }

    #[test]
    fn what_is_yet_to_be_made_is_checked_by_attributes_and_by_path() {
        let mut world = World::new();
        let before = world.maps.bindings.clone();
        world.check("/pods/new", "web").unwrap();
        let refused = world.check("/pods/new", "stranger").unwrap_err();
        assert!(matches!(refused, AdmitError::NotAdmitted(_)), "{refused}");
        world.cgroups.retain(|cgroup| cgroup.id != 40);
        for path in ["/pods/named", "/pods/named/deep/below"] {
            world.check(path, "stranger").unwrap();
        }
        assert!(
            world.check("/pods/one/deep", "stranger").is_err(),
            "what is there counts, and it is quarantined"
        );
        assert_eq!(world.maps.bindings, before);
        let unknown = check(&world.maps, None, &bind("/pods/new", "web"), finding(&world.cgroups));
        assert!(matches!(unknown, Err(AdmitError::NothingKnown)));
    }

    #[test]
    fn containers_that_nobody_admitted_are_found() {
        let mut world = World::new();
        world.admit("/pods/one", "web").unwrap();
        let found = unadmitted(&world.maps, &tree(), |_| Ok(vec![None])).unwrap();
        assert_eq!(found, [b"/pods/two".to_vec()]);
        assert!(unadmitted(&world.maps, &tree(), |_| Ok(Vec::new())).unwrap().is_empty());
    }

    #[test]
    fn what_the_base_policy_has_let_start_is_no_stray() {
        let world = World::new();
        let base = world.maps.bindings[&30];
        let started = Label {
            slot: base.slot,
            incarnation: base.incarnation,
            state: State::Armed.code(),
            bind_epoch: 0,
            arming: 0,
            program: 0,
            script: 0,
            vouched: 0,
            content: 0,
            inherited: 0,
            probing: 0,
            looked: 0,
            allowed: [AllowedAddress::NONE; 2],
        };
        let found =
            |label| unadmitted(&world.maps, &tree()[3..4], |_| Ok(vec![Some(started), label])).unwrap();
        assert!(found(Some(started)).is_empty());
        // A runtime on its way in.
        for state in [State::Unknown, State::Host, State::Entering] {
            let entering = Label { state: state.code(), program: program::LAUNCHER, slot: 0, ..started };
            assert!(found(Some(entering)).is_empty(), "{state}");
        }
        let strays = [
            None,
            // It was there before its policy.
            Some(Label { inherited: 1, ..started }),
            Some(Label { inherited: 1, program: program::LAUNCHER, ..started }),
            Some(Label { state: State::Host.code(), ..started }),
            Some(Label { state: State::Entering.code(), ..started }),
            Some(Label { incarnation: started.incarnation + 1, ..started }),
            Some(Label { slot: started.slot + 1, ..started }),
        ];
        for stray in strays {
            assert_eq!(found(stray), [b"/pods/two".to_vec()], "{stray:?}");
        }
    }
}

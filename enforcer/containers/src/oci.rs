//! What an OCI `createRuntime` hook finds out about the container that it is called for.
//!
//! The runtime says id, process and bundle on standard input. The process is in the container's cgroup already. Podman's
//! name for the container, and the digests of its image, are in the store that the bundle lies in. Annotations are not
//! looked at: whoever starts a container chooses them.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    cgroup::{self, CgroupError},
    container::Container,
    wire::Bind,
};

/// A state that cannot be acted on.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Not what the specification says.
    #[error("the runtime's state makes no sense: {0}; run this program as an OCI createRuntime hook")]
    State(#[from] serde_json::Error),
    /// There is no process to find the cgroup by.
    #[error("the runtime's state names no process; run this program as a createRuntime hook, not as another")]
    NoProcess,
    /// A file that cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A part of the store that cannot be understood.
    #[error("cannot understand {}: {source}", path.display())]
    Store {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// The cgroup.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
}

/// The state of a container, as the runtime specification has it.
#[derive(Debug, Deserialize)]
pub struct State {
    /// The container's id.
    pub id: String,
    /// Its first process.
    #[serde(default)]
    pub pid: u32,
    /// Its directory.
    pub bundle: PathBuf,
}

impl State {
    /// Reads a state.
    ///
    /// # Errors
    /// [`StateError::State`] and [`StateError::NoProcess`].
    pub fn parse(text: &[u8]) -> Result<Self, StateError> {
        let state: Self = serde_json::from_slice(text)?;
        if state.pid == 0 { Err(StateError::NoProcess) } else { Ok(state) }
    }

    /// What the daemon is to be asked.
    ///
    /// # Errors
    /// [`StateError`] when something about the container cannot be found out.
    pub fn request(&self) -> Result<Bind, StateError> {
        let own = cgroup::of_process(Path::new("/proc"), self.pid)?;
        let cgroup = cgroup::outermost(&own, &self.id).unwrap_or(&own).to_owned();
        Ok(Bind { cgroup, container: self.container()? })
    }

    fn container(&self) -> Result<Container, StateError> {
        let bare = || Container { id: self.id.clone(), name: Some(self.id.clone()), ..Container::default() };
        let Some(store) = Store::of(&self.bundle, &self.id) else { return Ok(bare()) };
        let Some(stored) = store.container(&self.id)? else { return Ok(bare()) };
        let images = store.images(&stored.image)?;
        Ok(Container {
            id: self.id.clone(),
            name: stored.names.into_iter().flatten().next(),
            images,
            ..Container::default()
        })
    }
}

/// A store of images and containers as Podman has it: `ROOT/DRIVER-containers/ID/userdata` is a bundle.
struct Store {
    containers: PathBuf,
    images: PathBuf,
}

#[derive(Deserialize)]
struct StoredContainer {
    id: String,
    names: Option<Vec<String>>,
    #[serde(default)]
    image: String,
}

#[derive(Deserialize)]
struct StoredImage {
    id: String,
    digest: Option<String>,
    #[serde(default, rename = "big-data-digests")]
    parts: BTreeMap<String, String>,
}

impl Store {
    fn of(bundle: &Path, id: &str) -> Option<Self> {
        let own = bundle.parent().filter(|own| own.file_name().is_some_and(|name| name == id))?;
        let containers = own.parent()?;
        let driver = containers.file_name()?.to_str()?.strip_suffix("-containers")?;
        let images = containers.parent()?.join(format!("{driver}-images/images.json"));
        Some(Self { containers: containers.to_owned(), images })
    }

    fn container(&self, id: &str) -> Result<Option<StoredContainer>, StateError> {
        // Those that do not outlive a reboot have a list of their own.
        for name in ["containers.json", "volatile-containers.json"] {
            let list: Vec<StoredContainer> = read_list(&self.containers.join(name))?;
            if let Some(found) = list.into_iter().find(|container| container.id == id) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Digests of the image with this id: of its configuration, which the id is, and of its manifests.
    fn images(&self, id: &str) -> Result<Vec<String>, StateError> {
        let list: Vec<StoredImage> = read_list(&self.images)?;
        let Some(image) = list.into_iter().find(|image| !id.is_empty() && image.id == id) else {
            return Ok(Vec::new());
        };
        let manifests = image.parts.into_iter().filter(|(name, _)| name.starts_with("manifest"));
        let mut digests = vec![format!("sha256:{}", image.id)];
        digests.extend(image.digest.into_iter().chain(manifests.map(|(_, digest)| digest)));
        digests.sort();
        digests.dedup();
        Ok(digests)
    }
}

/// A list in a file; empty if there is no file.
fn read_list<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, StateError> {
    match fs::read(path) {
        Ok(text) => serde_json::from_slice(&text)
            .map_err(|source| StateError::Store { path: path.to_owned(), source }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(StateError::Read { path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states() {
        let state =
            State::parse(br#"{"ociVersion":"1.0.2","id":"a","status":"creating","pid":7,"bundle":"/b"}"#);
        let state = state.unwrap();
        assert_eq!((state.id.as_str(), state.pid, state.bundle.to_str()), ("a", 7, Some("/b")));
        let stopped = State::parse(br#"{"id":"a","status":"stopped","bundle":"/b"}"#).unwrap_err();
        assert!(matches!(stopped, StateError::NoProcess));
        assert!(matches!(State::parse(b"").unwrap_err(), StateError::State(_)));
        assert!(matches!(State::parse(br#"{"pid":7,"bundle":"/b"}"#).unwrap_err(), StateError::State(_)));
    }

    #[test]
    fn a_process_that_runs_has_a_cgroup() {
        let state = State { id: "none".into(), pid: std::process::id(), bundle: "/nowhere".into() };
        let request = state.request().unwrap();
        assert!(request.cgroup.starts_with('/'), "{request:?}");
        assert_eq!(request.container.name.as_deref(), Some("none"), "a bare runtime's name is the id");
    }

    #[test]
    fn podmans_store_knows_name_and_image() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("overlay-containers/containers.json", r#"[{"id":"other","names":["x"],"image":"1f"}]"#);
        write(
            "overlay-containers/volatile-containers.json",
            r#"[{"id":"abc","names":["web"],"image":"2e"}]"#,
        );
        write(
            "overlay-images/images.json",
            r#"[{"id":"1f","digest":"sha256:9"},{"id":"2e","digest":"sha256:7","big-data-digests":
               {"manifest":"sha256:7","manifest-sha256:8":"sha256:8","sha256:2e":"sha256:2e"}}]"#,
        );
        let bundle = |id: &str| root.path().join(format!("overlay-containers/{id}/userdata"));
        let container = |id: &str, bundle| State { id: id.into(), pid: 1, bundle }.container();
        let web = container("abc", bundle("abc")).unwrap();
        assert_eq!(web.name.as_deref(), Some("web"));
        assert_eq!(web.images, ["sha256:2e", "sha256:7", "sha256:8"]);
        // Another container's bundle is none of this one's, and one that is not in the store has no image.
        for (id, bundle) in [("abc", bundle("other")), ("new", bundle("new"))] {
            let unknown = container(id, bundle).unwrap();
            assert_eq!((unknown.name.as_deref(), unknown.images.len()), (Some(id), 0));
        }
        write("overlay-containers/containers.json", "[{");
        assert!(matches!(container("abc", bundle("abc")), Err(StateError::Store { .. })));
    }
}

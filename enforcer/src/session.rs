//! One installer's turn at the machine: the lock, the maps and the state file together.
#![forbid(unsafe_code)]

use std::{
    cell::OnceCell,
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use enforcer_common::hook::Hook;
use enforcer_containers::wire::Bind;

use crate::{
    bundle::verify::{Candidate, VerifiedBundle},
    cgroups::{self, CgroupError, Hierarchy},
    containers::admit::{AdmitError, Admitted, Asked, admit, check, unadmitted},
    kernel::{
        bind::{BindError, Rebound, rebind},
        btf::{BtfError, KernelTypes},
        install::{Desired, InstallError, Installed, install, observe, observe_policies, rehearse},
        maps::{BpfMaps, MapFault, OpenError},
        pin::{LinkSet, PinError, Pins},
        probe::Root,
        state::{Snapshot, StateFile},
        support::{self, Unsupported},
    },
};

/// Where locks and the state file live. Gone after a reboot, as the maps are.
pub const RUNTIME_DIR: &str = "/run/enforcer";

/// Programs that set workloads up, where they usually lie.
pub const LAUNCHERS: &[&str] = &[
    "/usr/lib/systemd/systemd",
    "/usr/lib/systemd/systemd-executor",
    "/usr/bin/runc",
    "/usr/sbin/runc",
    "/usr/local/sbin/runc",
    "/usr/bin/crun",
    "/usr/bin/conmon",
    "/usr/libexec/podman/conmon",
    "/usr/bin/containerd-shim-runc-v2",
];

/// A turn that could not be had or did not work out.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The directory of locks.
    #[error("cannot use {}: {source}; run as root", path.display())]
    Runtime {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody else has it.
    #[error("{} is held by another process for more than {} s; is another `enforcer` stuck?", path.display(), waited.as_secs())]
    Busy {
        /// The lock.
        path: PathBuf,
        /// How long it was waited for.
        waited: Duration,
    },
    /// A daemon runs.
    #[error("another `enforcer run` is active; stop it first, or use `enforcer apply`")]
    Daemon,
    /// Nobody signed them, and the machine is sealed.
    #[error("nobody signed these policies, and this machine is sealed: it takes signed ones only")]
    Sealed,
    /// The maps.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The kernel.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// The pins.
    #[error(transparent)]
    Pins(#[from] PinError),
    /// The installation.
    #[error(transparent)]
    Install(#[from] InstallError),
    /// The cgroups.
    #[error(transparent)]
    Cgroups(#[from] CgroupError),
    /// The bindings.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A container.
    #[error(transparent)]
    Admit(#[from] AdmitError),
    /// A map.
    #[error(transparent)]
    Map(#[from] MapFault),
}

/// The right to install, until dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    const PATIENCE: Duration = Duration::from_secs(60);

    /// Waits for the installers' lock.
    ///
    /// # Errors
    /// [`SessionError::Busy`] after a minute.
    pub fn acquire(runtime: &Path) -> Result<Self, SessionError> {
        let (file, path) = open_lock(runtime, "lock")?;
        let started = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::WouldBlock) if started.elapsed() < Self::PATIENCE => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(SessionError::Busy { path, waited: started.elapsed() });
                }
                Err(TryLockError::Error(source)) => return Err(SessionError::Runtime { path, source }),
            }
        }
    }
}

/// The right to be the daemon, until dropped.
#[derive(Debug)]
pub struct DaemonLock {
    _file: File,
}

impl DaemonLock {
    /// Takes it, if no daemon runs.
    ///
    /// # Errors
    /// [`SessionError::Daemon`] if one does.
    pub fn acquire(runtime: &Path) -> Result<Self, SessionError> {
        let (file, path) = open_lock(runtime, "daemon.lock")?;
        let started = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                // Somebody may just be asking whether a daemon runs, see `is_held`.
                Err(TryLockError::WouldBlock) if started.elapsed() < Duration::from_secs(1) => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(TryLockError::WouldBlock) => return Err(SessionError::Daemon),
                Err(TryLockError::Error(source)) => return Err(SessionError::Runtime { path, source }),
            }
        }
    }

    /// Whether a daemon runs.
    #[must_use]
    pub fn is_held(runtime: &Path) -> bool {
        File::open(runtime.join("daemon.lock"))
            .is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }
}

fn open_lock(runtime: &Path, name: &str) -> Result<(File, PathBuf), SessionError> {
    let path = runtime.join(name);
    let failed = |source| SessionError::Runtime { path: path.clone(), source };
    // While sealed one that is there can be read, and nothing be made, until this process is the daemon.
    let file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(runtime).map_err(failed)?;
            File::options().create(true).truncate(false).write(true).read(true).open(&path)
        }
        opened => opened,
    };
    Ok((file.map_err(failed)?, path))
}

/// The maps and the state, under the lock.
pub struct Session {
    maps: BpfMaps,
    state: StateFile,
    /// The pins that programs hang on.
    pins: Pins,
    types: OnceCell<KernelTypes>,
    _lock: Lock,
}

/// What a session did.
#[derive(Clone, Debug)]
pub struct Put {
    /// The installation.
    pub installed: Installed,
    /// The bindings.
    pub rebound: Rebound,
}

impl Session {
    /// Opens the pinned maps.
    ///
    /// # Errors
    /// [`SessionError::Open`] when enforcement is off.
    pub fn open(lock: Lock, runtime: &Path, pins: &Pins) -> Result<Self, SessionError> {
        let maps = BpfMaps::open(&pins.maps())?;
        let state = StateFile::in_directory(runtime);
        Ok(Self { maps, state, pins: pins.clone(), types: OnceCell::new(), _lock: lock })
    }

    /// The hooks that programs sit on.
    fn attached(&self) -> Result<Vec<Hook>, SessionError> {
        Ok(self.pins.link_sets()?.iter().flat_map(LinkSet::attached).collect())
    }

    /// What is in force.
    ///
    /// # Errors
    /// [`SessionError::Install`].
    pub fn observe(&self) -> Result<Option<Snapshot>, SessionError> {
        Ok(observe(&self.maps, &self.state)?)
    }

    /// Puts policies in force, and binds the cgroups that are there.
    ///
    /// # Errors
    /// [`SessionError`]. After one from installing, what was in force still is.
    pub fn put(&mut self, policies: &[VerifiedBundle], launchers: &[String]) -> Result<Put, SessionError> {
        support::check(policies, &self.attached()?, Root(Path::new("/")), || self.kernel_types())?;
        let installed = install(&mut self.maps, &mut self.state, &Desired { policies, launchers })?;
        let rebound = self.rebind()?;
        Ok(Put { installed, rebound })
    }

    /// Whether candidates could be put in force. Changes nothing.
    ///
    /// # Errors
    /// [`SessionError`], as [`Self::put`] would give it.
    pub fn rehearse(&self, policies: &[Candidate], launchers: &[String]) -> Result<(), SessionError> {
        support::check(policies, &self.attached()?, Root(Path::new("/")), || self.kernel_types())?;
        Ok(rehearse(&self.maps, &self.state, &Desired { policies, launchers })?)
    }

    fn kernel_types(&self) -> Result<&KernelTypes, BtfError> {
        if let Some(types) = self.types.get() {
            return Ok(types);
        }
        let types = KernelTypes::of_running_kernel()?;
        Ok(self.types.get_or_init(|| types))
    }

    /// Binds the cgroups that are there.
    ///
    /// # Errors
    /// [`SessionError`].
    pub fn rebind(&mut self) -> Result<Rebound, SessionError> {
        let hierarchy = Hierarchy::find()?;
        rebind(&mut self.maps, || hierarchy.walk().map_err(SessionError::from))
    }

    /// Whether a container that is yet to be made could be admitted.
    ///
    /// # Errors
    /// [`SessionError`]; then it should not be made.
    pub fn check(&self, bind: &Bind) -> Result<(), SessionError> {
        let hierarchy = Hierarchy::find()?;
        let snapshot = observe_policies(&self.maps, &self.state)?;
        Ok(check(&self.maps, snapshot.as_ref(), bind, |path| hierarchy.id(path))?)
    }

    /// Binds a container to the policy that admits it.
    ///
    /// # Errors
    /// [`SessionError`]; then the container must not start.
    pub fn admit(&mut self, asked: Asked<'_>) -> Result<Admitted, SessionError> {
        let hierarchy = Hierarchy::find()?;
        let snapshot = observe_policies(&self.maps, &self.state)?;
        let find = |path: &[u8]| hierarchy.id(path);
        let walk = |path: &[u8]| hierarchy.walk_from(path).map_err(SessionError::from);
        admit(&mut self.maps, snapshot.as_ref(), asked, find, walk)
    }

    /// Paths of containers that nobody has admitted, and in which more runs than their base policy has let start.
    ///
    /// # Errors
    /// [`SessionError`].
    pub fn unadmitted(&self) -> Result<Vec<Vec<u8>>, SessionError> {
        let hierarchy = Hierarchy::find()?;
        let labels = |path: &[u8]| {
            let mut labels = Vec::new();
            for pid in hierarchy.processes(path) {
                let label = self.maps.label(pid)?;
                // One without a label may just have ended.
                if label.is_some() || cgroups::of_process(pid).is_some() {
                    labels.push(label);
                }
            }
            Ok(labels)
        };
        Ok(unadmitted(&self.maps, &hierarchy.walk()?, labels)?)
    }
}

/// The launchers to install: those given, or the usual ones. What the kernel sees is a path without symbolic links, so
/// where a launcher is one its target is added.
#[must_use]
pub fn launchers(given: &[String]) -> Vec<String> {
    let asked: Vec<String> = if given.is_empty() {
        LAUNCHERS.iter().map(|path| (*path).to_owned()).collect()
    } else {
        given.to_vec()
    };
    let targets =
        asked.iter().filter_map(|path| fs::canonicalize(path).ok()?.into_os_string().into_string().ok());
    let mut all: Vec<String> = targets.chain(asked.iter().cloned()).collect();
    all.sort();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_daemon_at_a_time() {
        let runtime = tempfile::tempdir().unwrap();
        assert!(!DaemonLock::is_held(runtime.path()));
        let held = DaemonLock::acquire(runtime.path()).unwrap();
        assert!(DaemonLock::is_held(runtime.path()));
        assert!(matches!(DaemonLock::acquire(runtime.path()), Err(SessionError::Daemon)));
        drop(held);
        assert!(!DaemonLock::is_held(runtime.path()));
        let first = Lock::acquire(runtime.path()).unwrap();
        drop(first);
        Lock::acquire(runtime.path()).unwrap();
    }

    #[test]
    fn a_launcher_behind_a_link_is_known_by_both_names() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path().canonicalize().unwrap();
        fs::write(directory.join("runc-1.3"), "").unwrap();
        std::os::unix::fs::symlink("runc-1.3", directory.join("runc")).unwrap();
        let path = |name: &str| directory.join(name).to_str().unwrap().to_owned();
        assert_eq!(launchers(&[path("runc")]), [path("runc"), path("runc-1.3")]);
        assert_eq!(launchers(&["/nowhere/crun".to_owned()]), ["/nowhere/crun"]);
        assert!(launchers(&[]).contains(&"/usr/bin/runc".to_owned()));
    }
}

//! The maps, filled by the installer itself.

use std::path::Path;

use anyhow::{Context, Result};
use aya::{Ebpf, EbpfLoader};
use enforcer::bundle::anchors::Consent;
use enforcer::bundle::sources;
use enforcer::bundle::verify::{InsecureUnsigned, PolicySource, VerifiedBundle};
use enforcer::kernel::code::Code;
use enforcer::kernel::direct::DirectMaps;
use enforcer::kernel::install::{Desired, Installed, install};
use enforcer::kernel::maps::{BpfMaps, Maps as _, Sizes};
use enforcer::kernel::state::StateFile;
use enforcer_common::abi::Control;
use enforcer_common::maps as names;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;

/// Those that the installer opens, beside the one that the programs address directly.
const PINNED: &[&str] = &[
    names::HEADS,
    names::EXACT,
    names::PINS,
    names::ARENA,
    names::PREFIXES,
    names::PORTS,
    names::BINDINGS,
    names::COUNTERS,
    names::LABELS,
    names::EVENTS,
];

/// An object in the kernel, and its maps as the installer sees them.
pub(crate) struct Loaded {
    pub(crate) ebpf: Ebpf,
    maps: BpfMaps,
    /// Open until the programs are loaded, which is up to others.
    _direct: DirectMaps,
    state: StateFile,
    _directory: TempDir,
}

impl Loaded {
    pub(crate) fn new(object: &Path) -> Result<Self> {
        let directory = tempfile::tempdir_in("/dev/shm").context("a directory in memory, like /run")?;
        let pins = directory.path().join("bpf");
        let state = directory.path().join("state");
        for path in [&pins, &state] {
            std::fs::create_dir(path).with_context(|| format!("creating {}", path.display()))?;
        }
        mount_privately(&pins)?;
        let mut loader = EbpfLoader::new();
        // Programs of these types need none of the kernel's types.
        loader.btf(None);
        for name in PINNED {
            loader.map_pin_path(name, pins.join(name));
            if let Some(size) = Sizes::default().of(name) {
                loader.map_max_entries(name, size);
            }
        }
        let object = std::fs::read(object).with_context(|| format!("reading {}", object.display()))?;
        let mut code = Code::of(&object);
        let direct = DirectMaps::open(&[names::DIRECT_CONTROL], Some(&pins)).context("making a map")?;
        direct.resolve(&mut code)?;
        let ebpf = loader.load(code.bytes()).context("making the maps")?;
        let maps = BpfMaps::open(&pins)?;
        Ok(Self {
            ebpf,
            maps,
            _direct: direct,
            state: StateFile::in_directory(&state),
            _directory: directory,
        })
    }

    /// The generation that is in force, and the key of its names.
    pub(crate) fn control(&self) -> Result<Control> {
        Ok(self.maps.control()?)
    }

    /// Puts one policy in force, as `enforcer apply` does once it is compiled.
    pub(crate) fn install(&mut self, policy: &[VerifiedBundle]) -> Result<Installed> {
        let desired = Desired { policies: policy, launchers: &[] };
        install(&mut self.maps, &mut self.state, &desired).context("installing a policy")
    }
}

/// A BPF file system that goes with this process.
fn mount_privately(at: &Path) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("a mount namespace of our own")?;
    let nothing = None::<&str>;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)
        .context("keeping mounts to ourselves")?;
    mount(Some("bpf"), at, Some("bpf"), MsFlags::empty(), nothing).context("mounting a BPF file system")
}

/// From text to what can be installed.
pub(crate) fn compile(text: &str) -> Result<Vec<VerifiedBundle>> {
    let source = PolicySource { origin: "large.toml".to_owned(), bytes: text.as_bytes().to_vec() };
    let consent = InsecureUnsigned::of(true, Consent::Allow);
    sources::accept_unsigned(vec![source], consent).context("compiling a policy")
}

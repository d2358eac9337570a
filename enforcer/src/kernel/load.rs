//! The BPF object: what is embedded, how it is fitted to the running kernel, and what to say when the verifier refuses.

use std::{
    fmt, fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::OnceLock,
    time::Instant,
};

use super::{
    btf::{BtfError, FieldOffsets, KernelTypes},
    code::Code,
    direct::{DirectError, DirectMaps},
    fields::{self, Misfit},
    kfunc::{self, NoCall},
    maps::Sizes,
    pin::Pins,
    preemption,
    probe::Root,
    support::{loses_labels, may_miss, offers},
    symbols::{SymbolError, Symbols},
};
use crate::kernel::chain;
use aya::{
    Btf, Ebpf, EbpfError, EbpfLoader,
    programs::{BtfTracePoint, Lsm, Program, ProgramError, links::FdLink},
};
use enforcer_common::{
    field::Entry,
    hook::{Attach, Hook},
    kfunc::RDONLY_CAST,
    maps,
};
use sha2::{Digest as _, Sha256};

/// The BPF object, as `build.rs` built it.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/enforcer.bpf.o"));

/// Directory that gets the verifier's whole log when it refuses a program.
pub const VERIFIER_LOG_DIR: &str = "ENFORCER_VERIFIER_LOG_DIR";

/// Tasks under policies that there can be where labels are kept: eight times as many as `pid_max` lets there be by default.
const MOST_TASKS: u32 = 262_144;

/// Map of messages for people, by `aya-log`. Not part of the ABI: an object may do without.
const LOGS: &str = "AYA_LOGS";

/// First 16 digits of the object's SHA-256: tells whether running programs are this program's.
#[must_use]
pub const fn object_digest() -> &'static str {
    env!("ENFORCER_OBJECT_DIGEST")
}

/// The whole SHA-256 of the object that this program loads, of the very bytes.
#[must_use]
pub fn object_sha256() -> [u8; 32] {
    static DIGEST: OnceLock<[u8; 32]> = OnceLock::new();
    *DIGEST.get_or_init(|| Sha256::digest(OBJECT).into())
}

/// An object that cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The kernel's types do not fit.
    #[error(transparent)]
    Types(#[from] BtfError),
    /// aya could not read the kernel's types.
    #[error("cannot read the kernel's type information: {0}")]
    AyaBtf(aya::BtfError),
    /// The addresses of the kernel's locks cannot be told.
    #[error(transparent)]
    Symbols(#[from] SymbolError),
    /// The kernel may preempt programs where it must not.
    #[error("{0}")]
    Preemption(String),
    /// The kernel lacks hooks.
    #[error("this kernel lacks hooks that enforcement needs: {}; run `enforcer probe` for what follows", join(.0))]
    MissingHooks(Vec<Hook>),
    /// The object lacks programs: this binary was put together wrongly.
    #[error("the embedded object has no program for: {}", join(.0))]
    MissingPrograms(Vec<Hook>),
    /// The object lacks a call: this binary was put together wrongly.
    #[error(transparent)]
    Calls(#[from] NoCall),
    /// The object cannot be fitted to the kernel.
    #[error(transparent)]
    Fields(#[from] Misfit),
    /// A map that the object addresses directly cannot be had.
    #[error(transparent)]
    Direct(#[from] DirectError),
    /// The host's mount namespace cannot be told.
    #[error("cannot read /proc/1/ns/mnt: {0}; is /proc mounted, and does this process have CAP_SYS_PTRACE?")]
    MountNamespace(io::Error),
    /// Maps could not be made, or the object is broken.
    #[error("cannot prepare the BPF object: {}", chain(.0))]
    Object(Box<EbpfError>),
    /// The verifier refused a program.
    #[error("the kernel refuses program {hook}: {source}{log}")]
    Refused {
        /// The program.
        hook: Hook,
        /// The kernel's answer.
        source: io::Error,
        /// What the verifier said.
        log: VerifierTail,
    },
    /// A program could not be loaded or attached.
    #[error("cannot load or attach program {hook}: {source}")]
    Program {
        /// The program.
        hook: Hook,
        /// Why.
        source: ProgramError,
    },
}

/// The end of the verifier's log, where the complaint is.
#[derive(Debug)]
pub struct VerifierTail {
    lines: Vec<String>,
    whole: Option<PathBuf>,
}

impl VerifierTail {
    const LINES: usize = 40;

    fn of(hook: Hook, log: &str) -> Self {
        let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
        let tail = &lines[lines.len().saturating_sub(Self::LINES)..];
        let whole = std::env::var_os(VERIFIER_LOG_DIR).map(|directory| {
            let path = Path::new(&directory).join(format!("{}.log", hook.name()));
            if let Err(error) = fs::create_dir_all(&directory).and_then(|()| fs::write(&path, log)) {
                tracing::warn!(path = %path.display(), %error, "the verifier's log cannot be written");
            }
            path
        });
        Self { lines: tail.iter().map(|line| (*line).to_owned()).collect(), whole }
    }
}

impl fmt::Display for VerifierTail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.lines {
            write!(f, "\n    {line}")?;
        }
        match &self.whole {
            Some(path) => write!(f, "\nthe whole log is in {}", path.display()),
            None => write!(f, "\nset {VERIFIER_LOG_DIR} to a directory to get the whole log"),
        }
    }
}

/// The object in the kernel: its maps exist and are pinned, its programs are loaded if [`Object::load_programs`] ran.
pub struct Object {
    ebpf: Ebpf,
    btf: Btf,
    /// Open until the programs are loaded.
    _direct: DirectMaps,
}

/// The hooks that the running kernel offers to us, in the order to attach in.
///
/// # Errors
/// [`LoadError::MissingHooks`] when one that is needed is not there.
pub fn available_hooks(types: &KernelTypes) -> Result<Vec<Hook>, LoadError> {
    let (mut available, mut missing) = (Vec::new(), Vec::new());
    for hook in Hook::in_attach_order() {
        if offers(types, hook)? {
            available.push(hook);
        } else if may_miss(hook).is_none() {
            missing.push(hook);
        }
    }
    if missing.is_empty() { Ok(available) } else { Err(LoadError::MissingHooks(missing)) }
}

/// What is settled when the object is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetUp {
    /// How large the maps are, where they are not there yet.
    pub sizes: Sizes,
    /// Whether allows are remembered with files.
    pub remembers: bool,
}

/// Creates and pins the object's maps, or opens those that are pinned. Without `pins` the maps go when the object
/// goes. No program is loaded yet.
///
/// # Errors
/// [`LoadError`].
pub fn prepare(types: &KernelTypes, set_up: &SetUp, pins: Option<&Pins>) -> Result<Object, LoadError> {
    if let Some(why) = preemption::refusal(Root(Path::new("/"))) {
        return Err(LoadError::Preemption(why));
    }
    let offsets: FieldOffsets = types.field_offsets()?;
    let symbols = Symbols::of_running_kernel()?;
    let words = words_type(types)?;
    let remembers = u32::from(set_up.remembers);
    let loses = u32::from(loses_labels());
    // Without room a task cannot be born. Memory is taken as it is needed.
    let kept = if loses == 0 { 1 } else { MOST_TASKS };
    let host_mnt_ns = host_mount_namespace().map_err(LoadError::MountNamespace)?;
    let btf = Btf::from_sys_fs().map_err(LoadError::AyaBtf)?;
    let mut loader = EbpfLoader::new();
    loader
        .btf(Some(&btf))
        // Task and socket storage, of which user space reads the first by system calls of our own.
        .allow_unsupported_maps()
        .override_global(maps::RENAME_LOCK, &symbols.rename_lock, true)
        .override_global(maps::MOUNT_LOCK, &symbols.mount_lock, true)
        .override_global(maps::INIT_PID_NS, &symbols.init_pid_ns, true)
        .override_global(maps::WORDS_TYPE, &words, true)
        .override_global(maps::HOST_MNT_NS, &host_mnt_ns, true)
        .override_global(maps::REMEMBERS, &remembers, true)
        .override_global(maps::LOSES_LABELS, &loses, true);
    for name in maps::PINNED {
        let size = if *name == maps::KEPT { Some(kept) } else { set_up.sizes.of(name) };
        if let Some(size) = size {
            loader.map_max_entries(name, size);
        }
    }
    if let Some(pins) = pins {
        for name in maps::PINNED.iter().copied().chain([LOGS]) {
            loader.map_pin_path(name, pins.map(name));
        }
    }
    let mut code = Code::of(OBJECT);
    kfunc::resolve(&mut code, types)?;
    fields::resolve(&mut code, &offsets)?;
    let directory = pins.map(Pins::maps);
    let direct = DirectMaps::open(maps::DIRECT, directory.as_deref())?;
    direct.resolve(&mut code)?;
    let ebpf = loader.load(code.bytes()).map_err(|error| LoadError::Object(Box::new(error)))?;
    Ok(Object { ebpf, btf, _direct: direct })
}

impl Object {
    /// Loads the programs of these hooks.
    ///
    /// # Errors
    /// [`LoadError::MissingPrograms`] names all that the object lacks; [`LoadError::Refused`] has the verifier's words.
    pub fn load_programs(&mut self, hooks: &[Hook]) -> Result<(), LoadError> {
        let missing: Vec<Hook> =
            hooks.iter().copied().filter(|hook| self.ebpf.program(hook.name()).is_none()).collect();
        if !missing.is_empty() {
            return Err(LoadError::MissingPrograms(missing));
        }
        for hook in hooks {
            let started = Instant::now();
            self.load_program(*hook)?;
            let took = started.elapsed();
            // The kernel is asked only if somebody wants to know.
            let looked_at = || self.looked_at(*hook).unwrap_or_default();
            tracing::debug!(hook = hook.name(), looked_at = looked_at(), ?took, "program loaded");
        }
        Ok(())
    }

    fn load_program(&mut self, hook: Hook) -> Result<(), LoadError> {
        let btf = &self.btf;
        let Some(program) = self.ebpf.program_mut(hook.name()) else {
            return Err(LoadError::MissingPrograms(vec![hook]));
        };
        let result = match hook.attach() {
            // That a program may sleep is said by the section it lies in.
            Attach::Lsm | Attach::LsmSleepable => {
                <&mut Lsm>::try_from(program).and_then(|program| program.load(hook.target(), btf))
            }
            Attach::Tracepoint => {
                <&mut BtfTracePoint>::try_from(program).and_then(|program| program.load(hook.target(), btf))
            }
        };
        result.map_err(|error| match error {
            ProgramError::LoadError { io_error, verifier_log } => LoadError::Refused {
                hook,
                source: io_error,
                log: VerifierTail::of(hook, &verifier_log.to_string()),
            },
            source => LoadError::Program { hook, source },
        })
    }

    /// The loaded program that the verifier had most work with, and how many instructions it looked at (it gives up at a
    /// million); nothing if the kernel does not say (before 5.16).
    #[must_use]
    pub fn largest(&self) -> Option<(Hook, u32)> {
        let counts = Hook::in_attach_order().filter_map(|hook| Some((hook, self.looked_at(hook)?)));
        counts.max_by_key(|(_, count)| *count)
    }

    /// How many instructions the verifier looked at for a loaded program.
    fn looked_at(&self, hook: Hook) -> Option<u32> {
        let info = match self.ebpf.program(hook.name())? {
            Program::Lsm(program) => program.info(),
            Program::BtfTracePoint(program) => program.info(),
            _ => return None,
        };
        info.ok()?.verified_instruction_count()
    }

    /// Attaches a loaded program. Dropping the link detaches it unless it is pinned.
    ///
    /// # Errors
    /// [`LoadError::Program`].
    pub fn attach(&mut self, hook: Hook) -> Result<FdLink, LoadError> {
        let Some(program) = self.ebpf.program_mut(hook.name()) else {
            return Err(LoadError::MissingPrograms(vec![hook]));
        };
        attach(program).map_err(|source| LoadError::Program { hook, source })
    }

    /// The object as aya knows it, for `aya-log`.
    pub const fn ebpf(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }
}

fn attach(program: &mut Program) -> Result<FdLink, ProgramError> {
    match program {
        Program::Lsm(program) => {
            let id = program.attach()?;
            program.take_link(id).map(FdLink::from)
        }
        Program::BtfTracePoint(program) => {
            let id = program.attach()?;
            program.take_link(id).map(FdLink::from)
        }
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

/// The type by which programs may read any memory with plain loads; 0 where they have to call a helper.
fn words_type(types: &KernelTypes) -> Result<u32, BtfError> {
    if !types.has_function(RDONLY_CAST.name) {
        return Ok(0);
    }
    Ok(types.structure_with(Entry::RegsOrigAx)?.unwrap_or(0))
}

/// The inode number that the kernel keeps in `mnt_namespace.ns.inum`.
fn host_mount_namespace() -> io::Result<u32> {
    u32::try_from(fs::metadata("/proc/1/ns/mnt")?.ino()).map_err(io::Error::other)
}

fn join(hooks: &[Hook]) -> String {
    hooks.iter().map(|hook| hook.name()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_of_a_long_log_is_shown() {
        let log: String = (0..100).map(|line| format!("line {line}\n\n")).collect();
        let tail = VerifierTail::of(Hook::FileOpen, &log).to_string();
        assert!(tail.contains("line 99") && tail.contains("line 60") && !tail.contains("line 59\n"));
        assert!(tail.contains(VERIFIER_LOG_DIR));
    }

    #[test]
    fn the_digest_can_be_a_directory_name() {
        assert_eq!(object_digest().len(), 16);
        assert!(hex::encode(object_sha256()).starts_with(object_digest()), "the digest of other bytes");
        assert!(object_digest().bytes().all(|byte| byte.is_ascii_hexdigit()));
    }
}

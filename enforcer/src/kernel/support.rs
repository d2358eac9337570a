//! What policies may ask for that not every kernel can do, and the refusal of policies that ask in vain.
//!
//! A hook that guards a privilege may be missing where the privilege cannot be had either, or on a kernel that is too
//! old for it. Then a policy that leaves the privilege out would promise a refusal that never comes; it is refused
//! instead. The same goes for pins where the kernel does not compute SHA-256 of files, or does not tell fs-verity digests.
#![forbid(unsafe_code)]

use std::{fmt, fs};

use enforcer_common::{
    abi::Measure,
    field::Entry,
    hook::{Hook, Privilege},
    kfunc::FSVERITY_DIGEST,
    verdict::{Family, Mode},
};

use super::{
    btf::{BtfError, KernelTypes},
    probe::{Root, numbers},
};
use crate::{bundle::verify::Candidate, policy::image::PolicyImage};

/// In every kernel with IMA; `bpf_ima_file_hash` ends there.
pub(super) const IMA: &str = "ima_file_hash";
/// In every kernel with `io_uring`.
pub(super) const IO_URING: &str = "__io_uring_free";
/// In every kernel with keyrings.
pub(super) const KEYS: &str = "keyring_alloc";
/// In every kernel with perf events.
pub(super) const PERF: &str = "perf_event_create_kernel_counter";

/// A hook that some supported kernels lack.
#[derive(Clone, Copy, Debug)]
pub struct Optional {
    /// The hook.
    pub hook: Hook,
    /// What it guards.
    pub privilege: Privilege,
    /// A function of the kernel that is there if there is anything to guard. `None`: there always is.
    pub guarded: Option<&'static str>,
    /// Why enforcement may go on without.
    pub why: &'static str,
}

/// Hooks whose work another hook does on kernels that lack them, and which.
pub const COVERED: &[(Hook, &str)] = &[
    (Hook::InodeSetAcl, "before 6.2 access control lists are extended attributes like others"),
    (Hook::InodeRemoveAcl, "before 6.2 access control lists are extended attributes like others"),
    (Hook::InodeFileSetattr, "before 6.17 file flags are set by ioctls, which are judged"),
    (Hook::FilePermission, "since 6.5 `sendfile` and `splice` to a socket are sends like others"),
    (Hook::BprmCredsForExec, "before 6.14 nobody can ask whether a program would start"),
    (Hook::FileIoctlCompat, "before 6.8 ioctls of 32-bit programs are judged like others"),
    (Hook::TaskFree, "this kernel does not forget labels, so none are kept"),
];

/// Whether the kernel has a hook, and a program on it has something to do. One hook sees every read and write, another
/// every start of a program; they are not used where another does their work, or there is none.
///
/// # Errors
/// [`BtfError::Damaged`].
pub fn offers(types: &KernelTypes, hook: Hook) -> Result<bool, BtfError> {
    let needed = match hook {
        Hook::FilePermission => types.field_place("proto_ops", "sendpage")?.is_some(),
        Hook::BprmCredsForExec => {
            let question = Entry::BprmIsCheck;
            types.field_place(question.structure(), question.path())?.is_some()
        }
        Hook::TaskFree => loses_labels(),
        _ => true,
    };
    Ok(needed && types.has_hook(hook))
}

/// Whether a fork that fails may free what sticks to the parent, see [`maps::LOSES_LABELS`]. True where it is not known.
#[must_use]
pub fn loses_labels() -> bool {
    fs::read_to_string("/proc/sys/kernel/osrelease").map_or(true, |release| !keeps_labels(&release))
}

/// Whether a kernel of this release is known to leave what sticks to tasks alone (measured on 6.12.107 and 7.3.4). What a
/// distribution has mended without saying so in the release costs what it costs to be sure: 6.1.176 of Debian 12 calls
/// itself 6.1.0.
fn keeps_labels(release: &str) -> bool {
    let mut numbers = numbers(release);
    let mut next = || numbers.next().unwrap_or(0);
    match (next(), next(), next()) {
        (6, 12, patch) => patch >= 107,
        (major, minor, _) => (major, minor) >= (7, 3),
    }
}

/// Why a hook is allowed to be missing, if it is.
#[must_use]
pub fn may_miss(hook: Hook) -> Option<&'static str> {
    let covered = COVERED.iter().find(|(covered, _)| *covered == hook).map(|(_, why)| *why);
    covered.or_else(|| optional(hook).map(|optional| optional.why))
}

/// The hooks that may be missing with what they guard. Every other hook is needed, or covered.
pub const OPTIONAL: &[Optional] = &[
    Optional {
        hook: Hook::UsernsCreate,
        privilege: Privilege::UserNamespace,
        guarded: None,
        why: "kernels before 6.1 cannot refuse new user namespaces",
    },
    Optional {
        hook: Hook::UringCmd,
        privilege: Privilege::UringCommand,
        guarded: Some(IO_URING),
        why: "absent from kernels without io_uring, where there is nothing to guard",
    },
    Optional {
        hook: Hook::UringSqpoll,
        privilege: Privilege::UringCommand,
        guarded: Some(IO_URING),
        why: "absent from kernels without io_uring, where there is nothing to guard",
    },
    Optional {
        hook: Hook::UringOverrideCreds,
        privilege: Privilege::UringCommand,
        guarded: Some(IO_URING),
        why: "absent from kernels without io_uring, where there is nothing to guard",
    },
    Optional {
        hook: Hook::KeyAlloc,
        privilege: Privilege::Keyring,
        guarded: Some(KEYS),
        why: "absent from kernels without keyrings, where there is nothing to guard",
    },
    Optional {
        hook: Hook::KeyPermission,
        privilege: Privilege::Keyring,
        guarded: Some(KEYS),
        why: "absent from kernels without keyrings, where there is nothing to guard",
    },
    Optional {
        hook: Hook::PerfEventOpen,
        privilege: Privilege::Perf,
        guarded: Some(PERF),
        why: "absent from kernels without perf events, where there is nothing to guard",
    },
];

/// The entry of a hook, if it may be missing.
#[must_use]
pub fn optional(hook: Hook) -> Option<&'static Optional> {
    OPTIONAL.iter().find(|optional| optional.hook == hook)
}

impl Optional {
    /// Whether policies must do without the refusal that this hook is for.
    #[must_use]
    pub fn is_missed(&self, types: &KernelTypes) -> bool {
        self.guarded.is_none_or(|function| types.has_function(function))
    }
}

/// Where kernels keep fs-verity digests that have no function to ask for them.
const VERITY_FIELDS: &[Entry] =
    &[Entry::InodeVerity, Entry::VerityAlgorithm, Entry::VerityDigest, Entry::VerityAlgorithmSize];

/// How the kernel's fs-verity digests are had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verity {
    /// By its function (since 6.8).
    Asked,
    /// Read where it keeps them.
    Read,
}

/// How the programs get the fs-verity digests of files here.
///
/// # Errors
/// [`NoContent::NoVerity`].
pub fn verity(types: &KernelTypes) -> Result<Verity, NoContent> {
    if types.has_function(FSVERITY_DIGEST.name) {
        return Ok(Verity::Asked);
    }
    // Damaged type information has no fields, either.
    let is_there = |field: &Entry| matches!(types.field_place(field.structure(), field.path()), Ok(Some(_)));
    if VERITY_FIELDS.iter().all(is_there) { Ok(Verity::Read) } else { Err(NoContent::NoVerity) }
}

/// Why this kernel cannot tell what a file holds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoContent {
    /// IMA is not there.
    #[error("the kernel was built without IMA (CONFIG_IMA)")]
    NoIma,
    /// IMA uses another hash.
    #[error("IMA of this kernel hashes with {0}; boot with the kernel parameter `ima_hash=sha256`")]
    OtherHash(String),
    /// fs-verity is not there.
    #[error("the kernel has no fs-verity (CONFIG_FS_VERITY), or no way for programs to ask for its digests")]
    NoVerity,
}

/// Whether the kernel can compute SHA-256 of files for us.
///
/// # Errors
/// [`NoContent`]. Where IMA's hash cannot be told (securityfs is not mounted), nothing is said: should it be another,
/// every start of a pinned program is refused.
pub fn content(types: &KernelTypes, root: Root<'_>) -> Result<(), NoContent> {
    if !types.has_function(IMA) {
        return Err(NoContent::NoIma);
    }
    match ima_hash(root) {
        Some(hash) if hash != "sha256" => Err(NoContent::OtherHash(hash)),
        _ => Ok(()),
    }
}

/// The hash that IMA uses: that of the first measurement, which it takes of the boot itself, whatever its policy. Its
/// fourth field is `ALGORITHM:DIGEST`.
fn ima_hash(root: Root<'_>) -> Option<String> {
    let list = root.read("/sys/kernel/security/ima/ascii_runtime_measurements")?;
    let (hash, _) = list.lines().next()?.split_ascii_whitespace().nth(3)?.split_once(':')?;
    Some(hash.to_owned())
}

/// Whether IMA has a policy of its own: then its hashes are cached, see `docs/kernel-support.md`.
pub(super) fn has_ima_policy(root: Root<'_>) -> bool {
    let count = root.read("/sys/kernel/security/ima/runtime_measurements_count");
    count.and_then(|count| count.parse::<u64>().ok()).is_some_and(|count| count > 1)
}

/// A policy that this kernel cannot enforce.
#[derive(Debug, thiserror::Error)]
pub enum Unsupported {
    /// It leaves out a privilege that nothing here can refuse.
    #[error(
        "{policy} ({origin}) cannot be enforced here: it refuses `{}`, but the kernel lacks the hook {} to refuse it \
         with; use a kernel that has it, or accept that: `[privileges] allow = [\"{}\"]`, or `[mode] privilege = \
         \"audit\"`",
        .optional.privilege, .optional.hook, .optional.privilege
    )]
    Privilege {
        /// The policy.
        policy: String,
        /// Where it came from.
        origin: String,
        /// What is missing.
        optional: &'static Optional,
    },
    /// It pins programs to contents that nothing here can look at.
    #[error(
        "{policy} ({origin}) cannot be enforced here: it pins programs to contents (`{measure}`), but {why}; pin none, or \
         use a kernel that can"
    )]
    Content {
        /// The policy.
        policy: String,
        /// Where it came from.
        origin: String,
        /// By which digest.
        measure: Measure,
        /// What is missing.
        why: NoContent,
    },
    /// The kernel could not be asked.
    #[error("cannot tell what this kernel supports: {0}")]
    Types(#[from] BtfError),
}

/// Refuses policies that rely on what the kernel lacks. `attached` are the hooks that programs sit on; `types` is asked
/// for only if there is a question, as reading them takes a while.
///
/// # Errors
/// [`Unsupported`] for the first such policy.
pub fn check<'t, P: AsRef<Candidate>>(
    policies: &[P],
    attached: &[Hook],
    root: Root<'_>,
    types: impl Fn() -> Result<&'t KernelTypes, BtfError>,
) -> Result<(), Unsupported> {
    let policies: Vec<&Candidate> = policies.iter().map(AsRef::as_ref).collect();
    // Where nothing is attached nothing is enforced; `run` asks again when it has attached.
    let missing = |optional: &&Optional| !attached.is_empty() && !attached.contains(&optional.hook);
    for optional in OPTIONAL.iter().filter(missing) {
        let relies = |bundle: &&&Candidate| relies_on(bundle.image(), optional.privilege);
        if let Some(bundle) = policies.iter().find(relies)
            && optional.is_missed(types()?)
        {
            let (policy, origin) = named(bundle);
            return Err(Unsupported::Privilege { policy, origin, optional });
        }
    }
    for measure in Measure::ALL.iter().copied() {
        let Some(bundle) = policies.iter().find(|bundle| bundle.image().has_pins(measure)) else { continue };
        let found = match measure {
            Measure::Sha256 => content(types()?, root),
            Measure::FsVerity => verity(types()?).map(drop),
        };
        if let Err(why) = found {
            let (policy, origin) = named(bundle);
            return Err(Unsupported::Content { policy, origin, measure, why });
        }
    }
    Ok(())
}

/// Whether the privilege is to be refused.
fn relies_on(image: &PolicyImage, privilege: Privilege) -> bool {
    let mode = image.modes.get(usize::from(Family::Privilege.code())).copied().and_then(Mode::from_code);
    image.privileges & privilege.bit() == 0 && mode != Some(Mode::Audit)
}

fn named(bundle: &Candidate) -> (String, String) {
    (bundle.name().to_owned(), bundle.origin().to_owned())
}

impl fmt::Display for Optional {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "policies are refused unless they allow `{}`", self.privilege)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs};

    use super::*;
    use crate::bundle::verify::VerifiedBundle;
    use crate::kernel::{
        btf::tests::{Writer, types_with as types},
        testing::image_of,
    };

    fn bundle(change: impl FnOnce(&mut PolicyImage)) -> VerifiedBundle {
        let mut image = image_of("web", &[]);
        change(&mut image);
        VerifiedBundle::for_tests(image, "/web")
    }

    fn pinning(measure: Measure) -> VerifiedBundle {
        bundle(|image| image.pins = BTreeMap::from([((b"/bin/true".to_vec(), measure, [1; 32]), 0)]))
    }

    #[test]
    fn labels_are_kept_where_the_kernel_is_not_known_to_keep_them() {
        for keeping in
            ["6.12.107+deb13-cloud-amd64", "6.12.130", "7.3.4+deb13-cloud-amd64", "7.4.0-rc1", "8.0.0"]
        {
            assert!(keeps_labels(keeping), "{keeping}");
        }
        for losing in [
            "6.1.0-50-cloud-amd64",
            "6.12.0-55.el10",
            "6.12",
            "6.12.106",
            "6.18.15",
            "7.2.9",
            "5.15.217",
            "",
            "7",
        ] {
            assert!(!keeps_labels(losing), "{losing}");
        }
    }

    #[test]
    fn verity_pins_need_fs_verity() {
        let nowhere = tempfile::tempdir().unwrap();
        let ask = |kernel: &KernelTypes| {
            refusal(pinning(Measure::FsVerity), Hook::ALL, kernel, Root(nowhere.path()))
        };
        let said = ask(&types(&[IMA])).unwrap();
        for word in ["web", "`fsverity`", "CONFIG_FS_VERITY"] {
            assert!(said.contains(word), "{word}: {said}");
        }
        assert_eq!(ask(&types(&[FSVERITY_DIGEST.name])), None, "IMA is not needed");
        let keeping = |names: &[(&str, &str)]| {
            let mut writer = Writer::new();
            for (structure, member) in names {
                writer.structure(structure, &[(member, 0, 0)]);
            }
            KernelTypes::parse(writer.finish()).unwrap()
        };
        let fields = [
            ("inode", "i_verity_info"),
            ("fsverity_info", "file_digest"),
            ("fsverity_hash_alg", "digest_size"),
        ];
        // `tree_params.hash_alg` lies in a struct of its own, and is missing here: all of them are needed.
        assert_eq!(verity(&keeping(&fields)), Err(NoContent::NoVerity));
    }

    fn all_but(missing: Hook) -> Vec<Hook> {
        Hook::ALL.iter().copied().filter(|hook| *hook != missing).collect()
    }

    fn refusal(
        bundle: VerifiedBundle,
        attached: &[Hook],
        kernel: &KernelTypes,
        root: Root<'_>,
    ) -> Option<String> {
        check(&[bundle], attached, root, || Ok(kernel)).err().map(|error| error.to_string())
    }

    #[test]
    fn a_policy_that_needs_a_missing_hook_is_refused() {
        let nowhere = tempfile::tempdir().unwrap();
        let root = Root(nowhere.path());
        let kernel = types(&[IMA, IO_URING, KEYS, PERF]);
        for optional in OPTIONAL {
            let attached = all_but(optional.hook);
            let said = refusal(bundle(|_| {}), &attached, &kernel, root).unwrap();
            for word in ["web", optional.hook.name(), optional.privilege.name(), "privileges"] {
                assert!(said.contains(word), "{word}: {said}");
            }
            let allowing = bundle(|image| image.privileges = optional.privilege.bit());
            assert_eq!(refusal(allowing, &attached, &kernel, root), None, "{}", optional.hook);
            let audited =
                bundle(|image| image.modes[usize::from(Family::Privilege.code())] = Mode::Audit.code());
            assert_eq!(refusal(audited, &attached, &kernel, root), None, "{}", optional.hook);
            // Where there is nothing to guard, nothing is missed.
            let nothing = refusal(bundle(|_| {}), &attached, &types(&[]), root);
            assert_eq!(nothing.is_some(), optional.guarded.is_none(), "{}", optional.hook);
        }
        assert_eq!(refusal(bundle(|_| {}), Hook::ALL, &types(&[]), root), None);
    }

    #[test]
    fn the_hook_on_every_read_is_used_where_nothing_else_will_do() {
        let kernel = |with_sendpage| {
            let mut writer = Writer::new();
            writer.function("bpf_lsm_file_permission");
            writer.function("bpf_lsm_file_open");
            let members: &[(&str, u32, u32)] =
                if with_sendpage { &[("sendmsg", 0, 0), ("sendpage", 0, 64)] } else { &[("sendmsg", 0, 0)] };
            writer.structure("proto_ops", members);
            KernelTypes::parse(writer.finish()).unwrap()
        };
        for old in [true, false] {
            assert_eq!(offers(&kernel(old), Hook::FilePermission).unwrap(), old);
            assert!(offers(&kernel(old), Hook::FileOpen).unwrap());
            assert!(!offers(&kernel(old), Hook::MmapFile).unwrap(), "it is not there");
        }
        assert!(may_miss(Hook::FilePermission).is_some());
    }

    #[test]
    fn a_question_is_judged_where_it_can_be_asked() {
        let kernel = |members| {
            let mut writer = Writer::new();
            writer.function("bpf_lsm_bprm_creds_for_exec");
            writer.structure("linux_binprm", members);
            KernelTypes::parse(writer.finish()).unwrap()
        };
        assert!(offers(&kernel(&[("is_check", 0, 4)]), Hook::BprmCredsForExec).unwrap());
        assert!(!offers(&kernel(&[("argc", 0, 64)]), Hook::BprmCredsForExec).unwrap());
        assert!(may_miss(Hook::BprmCredsForExec).is_some());
    }

    #[test]
    fn pins_need_ima_with_sha256() {
        let machine = tempfile::tempdir().unwrap();
        let root = Root(machine.path());
        let pinning = || pinning(Measure::Sha256);
        let said = refusal(pinning(), Hook::ALL, &types(&[]), root).unwrap();
        assert!(said.contains("CONFIG_IMA") && said.contains("web"), "{said}");
        assert_eq!(refusal(bundle(|_| {}), Hook::ALL, &types(&[]), root), None, "no pins, no need");
        let kernel = types(&[IMA]);
        assert_eq!(refusal(pinning(), Hook::ALL, &kernel, root), None, "the list cannot be read");
        let list = machine.path().join("sys/kernel/security/ima");
        fs::create_dir_all(&list).unwrap();
        let boot =
            |hash: &str| format!("10 1d8d53 ima-ng {hash}:0000 boot_aggregate\n10 aa ima-ng sha512:11 /x\n");
        fs::write(list.join("ascii_runtime_measurements"), boot("sha256")).unwrap();
        assert_eq!(refusal(pinning(), Hook::ALL, &kernel, root), None);
        fs::write(list.join("ascii_runtime_measurements"), boot("sha1")).unwrap();
        let said = refusal(pinning(), Hook::ALL, &kernel, root).unwrap();
        assert!(said.contains("sha1") && said.contains("ima_hash=sha256"), "{said}");
        assert!(!has_ima_policy(root));
        fs::write(list.join("runtime_measurements_count"), "17\n").unwrap();
        assert!(has_ima_policy(root));
    }
}

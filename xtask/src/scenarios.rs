//! Stories that take several boots of one machine: one TPM that remembers, one directory that stays.
//!
//! A suite (`tests/vm/tests/NAME.rs`) that has an entry here is not run as a whole. Each boot runs one of its tests, or a
//! command; the next boot happens only if that went as expected. All boots have the same programs and hence the same
//! initramfs, so PCRs differ only where the table says that the boots do. `/share` is a directory of the story's own; what
//! else stays is the [`Kind`] of machine.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::package::Packages;
use crate::process;
use crate::provision::lock::is_prefix;
use crate::vm::TpmInterface;

/// A story.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Scenario {
    /// The suite that has its tests.
    pub(crate) suite: &'static str,
    /// Kernels to run it on unless the suite is asked for by name. Firmware makes each boot three times as long, and what
    /// a story is about hardly depends on the kernel.
    pub(crate) kernels: &'static [&'static str],
    /// The machine.
    pub(crate) machine: Kind,
    /// Its boots, in order.
    pub(crate) boots: &'static [Boot],
}

/// What a machine is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Boots through UEFI firmware, which measures. Its root is clean at each boot, so that the same boot measures the same.
    Measured,
    /// Boots without firmware, from a disk that keeps what was installed. The packages for hosts are in `/share`:
    /// `enforcer.deb`, and `next.deb`, which differs in its version.
    Installed,
}

/// One boot of a story.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Boot {
    /// What runs.
    pub(crate) run: Run,
    /// Appended to the kernel's command line.
    pub(crate) kernel_parameters: &'static str,
    /// How the machine's TPM is attached, if at all.
    pub(crate) tpm: Option<TpmInterface>,
}

/// What runs in a boot.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Run {
    /// One test of the suite, by its full name. It must be there and pass.
    Test(&'static str),
    /// A command, which must end with this status.
    Command {
        /// Program and arguments.
        argv: &'static [&'static str],
        /// Exit status.
        status: i32,
    },
}

/// All stories.
const SCENARIOS: &[Scenario] = &[
    Scenario {
        suite: "measured_boot",
        kernels: &["6.12"],
        machine: Kind::Measured,
        boots: &[
            Boot {
                run: Run::Test("the_log_replays_to_the_tpms_registers"),
                kernel_parameters: "lockdown=integrity",
                tpm: Some(TpmInterface::Tis),
            },
            Boot {
                run: Run::Test("another_command_line_is_named_and_the_tpm_remembers"),
                kernel_parameters: "lockdown=none",
                tpm: Some(TpmInterface::Tis),
            },
            Boot {
                run: Run::Test("the_first_boot_again_through_the_other_interface"),
                kernel_parameters: "lockdown=integrity",
                tpm: Some(TpmInterface::Crb),
            },
            Boot {
                run: Run::Command { argv: &["test", "!", "-e", "/dev/tpm0"], status: 0 },
                kernel_parameters: "lockdown=integrity",
                tpm: None,
            },
        ],
    },
    Scenario {
        suite: "signed_boots",
        kernels: &["6.12"],
        machine: Kind::Measured,
        boots: &[
            Boot {
                run: Run::Test("the_first_boot_enrols_admits_and_proves"),
                kernel_parameters: "lockdown=none",
                tpm: Some(TpmInterface::Tis),
            },
            Boot {
                run: Run::Test("another_command_line_is_refused_and_an_update_admits_both"),
                kernel_parameters: "lockdown=none quiet",
                tpm: Some(TpmInterface::Tis),
            },
            Boot {
                run: Run::Test("back_in_the_first_state_the_old_version_is_refused"),
                kernel_parameters: "lockdown=none",
                tpm: Some(TpmInterface::Crb),
            },
            Boot {
                run: Run::Test("without_a_tpm_nothing_is_admitted"),
                kernel_parameters: "lockdown=none",
                tpm: None,
            },
        ],
    },
    Scenario {
        suite: "systemd_trust",
        kernels: &["6.12"],
        machine: Kind::Measured,
        boots: &[Boot {
            run: Run::Test("from_nothing_to_a_signed_policy"),
            kernel_parameters: "",
            tpm: Some(TpmInterface::Crb),
        }],
    },
    Scenario {
        suite: "systemd_packages",
        kernels: &["6.12"],
        machine: Kind::Installed,
        boots: &[
            Boot {
                run: Run::Test("installed_configured_and_upgraded_under_attack"),
                kernel_parameters: "",
                tpm: None,
            },
            Boot {
                run: Run::Test("after_a_reboot_services_start_under_their_policies_until_the_purge"),
                kernel_parameters: "",
                tpm: None,
            },
        ],
    },
];

/// The story that this suite tells, if any.
pub(crate) fn of(suite: &str) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|scenario| scenario.suite == suite)
}

impl Scenario {
    /// Whether it belongs to a run with these kernels, suites and filter, as far as they are given. A filter that names one
    /// boot's test needs the boots before it, so it selects all.
    pub(crate) fn is_wanted(&self, kernel_version: &str, suites: &[String], filter: Option<&str>) -> bool {
        let by_name = suites.iter().any(|suite| suite == self.suite);
        let kernel = by_name || self.kernels.iter().any(|kernel| is_prefix(kernel, kernel_version));
        let named = |filter: &str| {
            self.suite.contains(filter) || self.boots.iter().any(|boot| boot.run.title().contains(filter))
        };
        kernel && filter.is_none_or(named)
    }
}

impl Run {
    /// What to call it.
    pub(crate) fn title(&self) -> String {
        match self {
            Self::Test(name) => (*name).to_owned(),
            Self::Command { argv, .. } => argv.join(" "),
        }
    }

    /// Program and arguments.
    pub(crate) fn argv(&self, suite: &str) -> Vec<String> {
        match self {
            Self::Test(name) => {
                [&format!("suite-{suite}"), "--test-threads=1", "--nocapture", "--exact", name]
                    .map(str::to_owned)
                    .to_vec()
            }
            Self::Command { argv, .. } => argv.iter().map(|word| (*word).to_owned()).collect(),
        }
    }
}

/// Directories that all boots of one story share.
pub(crate) struct Machine {
    directory: tempfile::TempDir,
}

impl Machine {
    /// A new machine, whose TPM has never been used.
    pub(crate) fn new() -> Result<Self> {
        let machine = Self { directory: tempfile::tempdir().context("creating a temporary directory")? };
        std::fs::create_dir(machine.share()).context("creating the shared directory")?;
        Ok(machine)
    }

    /// What is at `/share`.
    pub(crate) fn share(&self) -> PathBuf {
        self.directory.path().join("share")
    }

    /// What the TPM remembers.
    pub(crate) fn tpm(&self) -> PathBuf {
        self.directory.path().join("tpm")
    }

    /// Gives it a disk of its own, a copy of this image, and puts the packages into `/share`.
    pub(crate) fn install(&self, image: &Path, packages: &Packages) -> Result<PathBuf> {
        let disk = self.directory.path().join("disk");
        let mut copy = process::command("cp");
        process::output(copy.args(["--sparse=always", "--reflink=auto"]).arg(image).arg(&disk))?;
        std::fs::copy(&packages.deb, self.share().join("enforcer.deb")).context("sharing the package")?;
        packages.next_deb(&self.share().join("next.deb"))?;
        Ok(disk)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_story_is_told_where_it_belongs_or_is_asked_for() {
        let scenario = of("measured_boot").unwrap();
        let asked = ["measured_boot".to_owned()];
        for (version, suites, filter, wanted) in [
            ("6.12.107", &[][..], None, true),
            ("6.1.176", &[], None, false),
            ("6.1.176", &asked[..], None, true),
            ("6.12.107", &[], Some("measured"), true),
            ("6.12.107", &[], Some("the_tpm_remembers"), true),
            ("6.12.107", &[], Some("exec"), false),
        ] {
            assert_eq!(
                scenario.is_wanted(version, suites, filter),
                wanted,
                "{version} {suites:?} {filter:?}"
            );
        }
        assert_eq!(of("kernel"), None);
    }

    #[test]
    fn stories_tell_all_tests_of_their_suites_and_no_others() {
        for scenario in SCENARIOS {
            let file = crate::paths::workspace().join(format!("tests/vm/tests/{}.rs", scenario.suite));
            let source = std::fs::read_to_string(&file).unwrap();
            let tests: BTreeSet<String> = source
                .split("#[test]")
                .skip(1)
                .filter_map(|text| text.split_once("fn ")?.1.split_once('(').map(|(name, _)| name.to_owned()))
                .collect();
            let told: BTreeSet<String> = scenario
                .boots
                .iter()
                .filter(|boot| matches!(boot.run, Run::Test(_)))
                .map(|boot| boot.run.title())
                .collect();
            assert_eq!(told, tests, "the boots of {} and the tests in {}", scenario.suite, file.display());
        }
    }
}

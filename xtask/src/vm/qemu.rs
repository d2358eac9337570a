//! One QEMU process: its command line, its life.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context, Result};
use vm_guest::layout;

use crate::process;
use crate::provision::ovmf::Ovmf;

/// Kernel parameters of every guest.
///
/// Any oops must end the guest at once and visibly. `bpf` is not among Debian's default LSMs in every suite, so
/// the list is spelled out. The self-tests of the crypto code cost a second of emulated time and test nothing of ours. Without
/// mitigations of the processor's flaws, which an emulated one does not have, and without clearing pages that are handed out,
/// the emulator has a tenth less to do (6.12: 47 s of processor time rather than 51 for seven tests).
const KERNEL_PARAMETERS: &str = "console=ttyS0 loglevel=5 panic=-1 oops=panic \
    lsm=landlock,lockdown,yama,integrity,apparmor,bpf random.trust_cpu=on cryptomgr.notests \
    mitigations=off init_on_alloc=0 no_timer_check rcupdate.rcu_expedited=1 ipv6.disable_ipv6=0 rootfstype=tmpfs systemd.show_status=0";

/// What QEMU is started with.
pub(super) struct Machine {
    /// The QEMU to start.
    pub(super) program: PathBuf,
    /// CPU and accelerator options.
    pub(super) accel: Vec<String>,
    pub(super) kernel: PathBuf,
    pub(super) initramfs: PathBuf,
    /// UEFI firmware to boot through; QEMU starts the kernel itself otherwise.
    pub(super) firmware: Option<Ovmf>,
    /// Disk image that is the job.
    pub(super) job: PathBuf,
    /// Root disk image.
    pub(super) root: Option<RootDisk>,
    pub(super) share: Option<PathBuf>,
    pub(super) net: bool,
    pub(super) tpm: Vec<String>,
    pub(super) memory_mib: u32,
    /// Unix socket on which we listen for frames.
    pub(super) frames: PathBuf,
    pub(super) console: PathBuf,
    /// Whether the console also is the user's terminal.
    pub(super) interactive: bool,
    pub(super) extra_parameters: String,
}

/// A disk that a guest has its root on.
pub(super) enum RootDisk {
    /// The file itself is never written.
    Snapshot(PathBuf),
    /// What the guest writes stays, for the next boot.
    Kept(PathBuf),
}

impl Machine {
    fn arguments(&self) -> Vec<String> {
        let mut arguments: Vec<String> = Vec::new();
        let mut add = |option: &str, value: String| arguments.extend([option.to_owned(), value]);
        add("-machine", "pc".into());
        add("-m", self.memory_mib.to_string());
        if let Some(Ovmf { code, variables }) = &self.firmware {
            add("-drive", format!("if=pflash,unit=0,format=raw,readonly=on,file={}", code.display()));
            // A snapshot: the firmware keeps its boot order there, and each boot is to be the first.
            add("-drive", format!("if=pflash,unit=1,format=raw,snapshot=on,file={}", variables.display()));
        }
        add("-kernel", self.kernel.display().to_string());
        add("-initrd", self.initramfs.display().to_string());
        add("-append", format!("{KERNEL_PARAMETERS} {}", self.extra_parameters));
        let console = self.console.display();
        add(
            "-chardev",
            match self.interactive {
                true => format!("stdio,id=console,signal=off,logfile={console}"),
                false => format!("file,id=console,path={console}"),
            },
        );
        add("-serial", "chardev:console".into());
        add("-device", "virtio-serial-pci".into());
        add("-chardev", format!("socket,id=frames,path={}", self.frames.display()));
        add("-device", format!("virtserialport,chardev=frames,name={}", layout::PORT));
        add("-drive", drive(&self.job, "job", "readonly=on"));
        add("-device", format!("virtio-blk-pci,drive=job,serial={}", layout::JOB_SERIAL));
        if let Some(root) = &self.root {
            add(
                "-drive",
                match root {
                    RootDisk::Snapshot(image) => drive(image, "root", "snapshot=on,cache=unsafe"),
                    // The guest syncs before it reports its end, and the host's cache outlives QEMU.
                    RootDisk::Kept(image) => drive(image, "root", "cache=unsafe"),
                },
            );
            add("-device", format!("virtio-blk-pci,drive=root,serial={}", layout::ROOT_SERIAL));
        }
        if let Some(share) = &self.share {
            add("-drive", drive(share, "share", "cache=unsafe"));
            add("-device", format!("virtio-blk-pci,drive=share,serial={}", layout::SHARE_SERIAL));
        }
        if self.net {
            add("-nic", "user,model=virtio-net-pci".into());
        }
        arguments
            .extend(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"].map(str::to_owned));
        arguments.extend(self.accel.iter().cloned());
        arguments.extend(self.tpm.iter().cloned());
        arguments
    }

    /// Starts QEMU. Its messages go to `messages`, since our standard error belongs to the guest's command.
    pub(super) fn start(&self, messages: &Path) -> Result<Qemu> {
        let log =
            std::fs::File::create(messages).with_context(|| format!("creating {}", messages.display()))?;
        let mut command = dying_with_us(&self.program);
        command.args(self.arguments()).stderr(log);
        if self.interactive {
            command.stdin(Stdio::inherit()).stdout(Stdio::inherit());
        } else {
            command.stdin(Stdio::null()).stdout(Stdio::null());
        }
        Ok(Qemu { child: command.spawn().context("starting QEMU")? })
    }
}

fn drive(image: &Path, id: &str, options: &str) -> String {
    format!("file={},id={id},if=none,format=raw,{options}", image.display())
}

/// A command whose process the kernel kills when we die, however we die.
pub(super) fn dying_with_us(program: impl AsRef<OsStr>) -> Command {
    let mut command = process::command("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(program);
    command
}

/// A running QEMU; killed when dropped.
pub(super) struct Qemu {
    child: Child,
}

impl Qemu {
    /// Its exit status, once it has ended.
    pub(super) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().context("looking after QEMU")
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        // The process may have ended by itself; that is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

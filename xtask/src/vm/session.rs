//! One attempt to boot a guest and run its command: set up, converse, clean up.

use std::fs::{self, File, OpenOptions};
use std::io::{BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use vm_guest::frame::Frame;
use vm_guest::{Job, Share, Tier, layout};

use super::interrupt::{GuestRunning, interrupted};
use super::qemu::{Machine, Qemu, RootDisk};
use super::share::ShareDisk;
use super::tpm::Tpm;
use super::{Ending, Guest, Host, Report, Sink, TpmDevice, accel, console, initramfs};
use crate::provision::ovmf;
use crate::{paths, ui};

/// How long a boot may take. Measured: 3–5 s (initramfs) and 13–19 s (systemd) on an idle machine; busy ones
/// have been seen five times slower. Counting instructions takes three times as long.
fn boot_limit(host: &Host, guest: &Guest<'_>) -> Duration {
    if guest.counting.is_some() {
        return Duration::from_secs(600);
    }
    let usual = match guest.tier {
        Tier::Initramfs => Duration::from_secs(180),
        Tier::Systemd => Duration::from_secs(360),
    };
    let firmware = if guest.uefi { FIRMWARE_LIMIT } else { Duration::ZERO };
    host.boot_limit.unwrap_or(usual + firmware)
}

/// What firmware takes in addition, most of it for hashing the initramfs.
const FIRMWARE_LIMIT: Duration = Duration::from_secs(240);

/// How long a guest may take to turn itself off after its last word, when that matters.
const POWER_OFF_LIMIT: Duration = Duration::from_secs(60);

/// The guest enforces the command's time limit itself, so that it can still send its logs. If it cannot even do
/// that, we end it after this much more.
const GRACE: Duration = Duration::from_secs(30);

/// How often to look for interrupts and a dead QEMU.
const TICK: Duration = Duration::from_millis(100);

pub(super) fn run(host: &Host, guest: &Guest<'_>, sink: &mut dyn Sink) -> Result<Report> {
    let _running = GuestRunning::begin();
    let logs = log_directory(guest)?;
    // Short path: a socket's has to fit into 108 bytes.
    let scratch =
        tempfile::Builder::new().prefix("xtask-vm-").tempdir().context("creating a temporary directory")?;

    let share =
        guest.share.as_deref().map(|directory| ShareDisk::create(directory, scratch.path())).transpose()?;
    let tpm = guest.tpm.as_ref().map(|device| Tpm::start(device, scratch.path())).transpose()?;
    let machine = machine(host, guest, &scratch, &logs, share.as_ref(), tpm.as_ref())?;
    initramfs::write(&machine.initramfs, &host.cache, guest.kernel, &host.busybox, guest.programs)?;
    write_job(guest, &machine.job)?;

    let listener = UnixListener::bind(&machine.frames).context("listening for the guest")?;
    let started = Instant::now();
    let qemu = machine.start(&logs.join("qemu.log"))?;
    let mut conversation = Conversation { guest, sink, logs: &logs, started, boot: None };
    let ending = conversation.hold(qemu, &listener, boot_limit(host, guest))?;
    let boot = conversation.boot;

    // Whatever the command's status: what it wrote to the shared directory is part of its result.
    if let (Some(share), Ending::Exited(_)) = (&share, &ending) {
        share.copy_back(scratch.path())?;
    }
    if let (Some(tpm), Ending::Exited(_)) = (tpm, &ending) {
        tpm.keep_state()?;
    }
    let kernel_crash = console::kernel_crash(&console::read(&machine.console)).map(str::to_owned);
    Ok(Report { ending, boot, total: started.elapsed(), logs, kernel_crash })
}

fn machine(
    host: &Host,
    guest: &Guest<'_>,
    scratch: &TempDir,
    logs: &Path,
    share: Option<&ShareDisk>,
    tpm: Option<&Tpm>,
) -> Result<Machine> {
    let root = match guest.tier {
        Tier::Initramfs => None,
        Tier::Systemd => Some(match &guest.disk {
            Some(disk) => RootDisk::Kept(disk.clone()),
            None => RootDisk::Snapshot(host.rootfs()?),
        }),
    };
    Ok(Machine {
        program: guest.counting.map_or_else(|| "qemu-system-x86_64".into(), |qemu| qemu.program.clone()),
        accel: match guest.counting {
            Some(qemu) => accel::counting(&qemu.root),
            None => host.accel.options(&host.qemu, &guest.kernel.name),
        },
        kernel: guest.kernel.image(),
        initramfs: scratch.path().join("initramfs"),
        firmware: guest.uefi.then(ovmf::ensure).transpose()?,
        job: scratch.path().join("job"),
        root,
        share: share.map(|share| share.image().to_owned()),
        net: guest.net,
        tpm: tpm.map(Tpm::options).unwrap_or_default(),
        memory_mib: guest.memory_mib.unwrap_or(1024),
        frames: scratch.path().join("frames.sock"),
        console: logs.join("console.log"),
        interactive: guest.interactive,
        extra_parameters: guest.kernel_parameters.clone(),
    })
}

/// Writes the job as a disk.
fn write_job(guest: &Guest<'_>, file: &Path) -> Result<()> {
    let mut env = guest.env.clone();
    let about = [
        ("ENFORCER_VM", "1"),
        ("ENFORCER_VM_KERNEL", &guest.kernel.release),
        ("ENFORCER_VM_TIER", if guest.tier == Tier::Systemd { "systemd" } else { "initramfs" }),
        ("ENFORCER_VM_ARTIFACTS", layout::ARTIFACT_DIR),
        ("RUST_BACKTRACE", "1"),
    ];
    env.extend(about.map(|(name, value)| (name.to_owned(), value.to_owned())));
    if let Some(tpm) = &guest.tpm {
        env.insert("ENFORCER_VM_TPM".to_owned(), tpm.interface.name().to_owned());
    }
    let job = Job {
        tier: guest.tier,
        argv: guest.argv.clone(),
        env,
        share: if guest.share.is_some() { Share::Copy } else { Share::None },
        net: guest.net,
        interactive: guest.interactive,
        timeout_s: guest.timeout.as_secs(),
    };
    let mut disk = serde_json::to_vec_pretty(&job).context("formatting the job")?;
    disk.resize(disk.len().next_multiple_of(SECTOR), b' ');
    fs::write(file, disk).with_context(|| format!("writing {}", file.display()))
}

/// A disk's size is a multiple of it.
const SECTOR: usize = 512;

/// A fresh directory for this boot's logs. Old ones go, or the build directory grows for ever.
fn log_directory(guest: &Guest<'_>) -> Result<PathBuf> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    const KEPT: usize = 60;
    let root = paths::vm_logs();
    fs::create_dir_all(&root).with_context(|| format!("creating {}", root.display()))?;
    let mut old: Vec<PathBuf> = fs::read_dir(&root)?.flatten().map(|entry| entry.path()).collect();
    old.sort();
    for directory in old.iter().rev().skip(KEPT) {
        let _ = fs::remove_dir_all(directory);
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let (process, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let directory = root.join(format!("{now}-{}-{process}-{count}", guest.kernel.name));
    fs::create_dir_all(&directory).with_context(|| format!("creating {}", directory.display()))?;
    Ok(directory)
}

/// Listens to one guest until it has nothing more to say.
struct Conversation<'a> {
    guest: &'a Guest<'a>,
    sink: &'a mut dyn Sink,
    logs: &'a Path,
    started: Instant,
    boot: Option<Duration>,
}

impl Conversation<'_> {
    /// Takes QEMU along: it is killed when this returns, whatever happens.
    fn hold(&mut self, mut qemu: Qemu, listener: &UnixListener, boot_limit: Duration) -> Result<Ending> {
        let frames = receive(accept(listener, &mut qemu, &self.logs.join("qemu.log"))?);
        loop {
            match frames.recv_timeout(TICK) {
                Ok(Ok(Frame::Exit(status))) => {
                    if self.guest.tpm.as_ref().is_some_and(TpmDevice::is_kept) {
                        wait_for_power_off(&mut qemu)?;
                    }
                    return Ok(Ending::Exited(status));
                }
                Ok(Ok(frame)) => self.handle(frame)?,
                Ok(Err(error)) => return Ok(self.died(&format!("broken message from the guest: {error}"))),
                Err(RecvTimeoutError::Disconnected) => return Ok(self.died("the guest went away")),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if interrupted() {
                bail!("interrupted");
            }
            if let Some(ending) = self.out_of_time(boot_limit) {
                return Ok(ending);
            }
        }
    }

    fn handle(&mut self, frame: Frame) -> Result<()> {
        match frame {
            Frame::Hello(release) => {
                self.boot = Some(self.started.elapsed());
                if release != self.guest.kernel.release {
                    bail!("asked for kernel {}, the guest runs {release}", self.guest.kernel.release);
                }
                Ok(())
            }
            Frame::Stdout(data) => self.sink.stdout(&data),
            Frame::Stderr(data) => self.sink.stderr(&data),
            Frame::Note(text) => {
                ui::warn(&format!("guest {}: {text}", self.guest.kernel.name));
                Ok(())
            }
            Frame::Artifact { name, data } => self.store(&name, &data),
            Frame::Exit(_) => Ok(()),
        }
    }

    fn died(&self, how: &str) -> Ending {
        let log = console::read(&self.logs.join("console.log"));
        Ending::Died(console::panic_line(&log).unwrap_or(how).to_owned())
    }

    fn out_of_time(&self, boot_limit: Duration) -> Option<Ending> {
        let elapsed = self.started.elapsed();
        match self.boot {
            // A person at a terminal takes the time they need.
            Some(_) if self.guest.interactive => None,
            Some(boot) if elapsed > boot + self.guest.timeout + GRACE => Some(Ending::TimedOut(format!(
                "the command ran longer than {} s",
                self.guest.timeout.as_secs()
            ))),
            None if elapsed > boot_limit => {
                Some(Ending::TimedOut(format!("the guest did not come up within {} s", boot_limit.as_secs())))
            }
            _ => None,
        }
    }

    fn store(&self, name: &str, data: &[u8]) -> Result<()> {
        // The name comes from the guest, which tests attack code in: nothing of it may lead elsewhere.
        let name = name.replace('/', "_").replace("..", "_");
        let directory = self.logs.join("artifacts");
        fs::create_dir_all(&directory).context("creating the artifact directory")?;
        let file: Result<File, _> = OpenOptions::new().create(true).append(true).open(directory.join(&name));
        file.and_then(|mut file| file.write_all(data)).with_context(|| format!("storing artifact {name}"))
    }
}

/// Lets the guest tell its TPM that it turns off. A TPM that loses power unannounced counts that as an attack.
fn wait_for_power_off(qemu: &mut Qemu) -> Result<()> {
    let deadline = Instant::now() + POWER_OFF_LIMIT;
    while qemu.ended()?.is_none() {
        if interrupted() {
            bail!("interrupted");
        }
        if Instant::now() > deadline {
            bail!("the guest did not turn itself off within {} s", POWER_OFF_LIMIT.as_secs());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Waits for QEMU to connect, which it does before it runs guest code.
fn accept(listener: &UnixListener, qemu: &mut Qemu, messages: &Path) -> Result<UnixStream> {
    listener.set_nonblocking(true).context("making the socket non-blocking")?;
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).context("making the connection blocking")?;
                return Ok(stream);
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error).context("waiting for QEMU"),
        }
        if let Some(status) = qemu.ended()? {
            bail!("QEMU ended at once ({status}): {}", console::read(messages).trim_end());
        }
        if interrupted() {
            bail!("interrupted");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Reads frames on a thread of its own; it ends with the stream, that is with QEMU.
fn receive(stream: UnixStream) -> Receiver<std::io::Result<Frame>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut stream = BufReader::new(stream);
        while let Some(frame) = Frame::read_from(&mut stream).transpose() {
            let last = frame.is_err();
            if sender.send(frame).is_err() || last {
                break;
            }
        }
    });
    receiver
}

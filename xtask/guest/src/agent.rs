//! Runs the command of the job, reports over the frame port, powers off.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::mount::{MntFlags, umount2};
use nix::sys::reboot::{RebootMode, reboot};
use vm_guest::frame::Frame;
use vm_guest::{Job, Share, Tier, layout};

use crate::{boot, command, mounts};

/// Search path of the command: programs under test first.
pub(crate) const PATH: &str = "/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin";

/// An artifact is a log to be read by a person; more than this helps nobody.
const MAX_ARTIFACT: u64 = 4 << 20;

/// Reads the host's work order.
pub(crate) fn read_job() -> Result<Job> {
    let disk = mounts::disk_by_serial(layout::JOB_SERIAL)?;
    let text = fs::read_to_string(&disk).with_context(|| format!("reading {}", disk.display()))?;
    serde_json::from_str(&text).with_context(|| format!("parsing the job on {}", disk.display()))
}

/// Runs the job's command to its end and turns the machine off.
pub(crate) fn run_and_power_off() -> Result<()> {
    let job = read_job()?;
    let outcome = run(&job);
    if let Err(error) = &outcome {
        eprintln!("vm-guest: {error:#}");
    }
    nix::unistd::sync();
    // On success this does not return; without it the host still kills the machine after the last frame.
    reboot(RebootMode::RB_POWER_OFF).context("powering off")?;
    outcome
}

fn run(job: &Job) -> Result<()> {
    let mut port = open_port()?;
    let status = match prepare(job) {
        Ok(()) => {
            Frame::Hello(kernel_release()?).write_to(&mut port).context("greeting the host")?;
            command::run(job, &mut port)
        }
        Err(error) => Err(error),
    };
    let status = match status {
        Ok(status) => status,
        Err(error) => {
            Frame::Note(format!("{error:#}")).write_to(&mut port).context("reporting an error")?;
            126
        }
    };
    if status != 0 {
        send_artifacts(&mut port)?;
    }
    release_share(job);
    Frame::Exit(status).write_to(&mut port).context("reporting the exit status")
}

fn prepare(job: &Job) -> Result<()> {
    fs::create_dir_all(layout::ARTIFACT_DIR).context("creating the artifact directory")?;
    if job.share == Share::Copy {
        mounts::disk(layout::SHARE_SERIAL, layout::SHARE_DIR)?;
    }
    if job.net {
        configure_network(job.tier)?;
    }
    allow_unsigned_policies()
}

/// So that tests and people can say `--insecure-unsigned`: it also takes the consent of the machine's anchors.
fn allow_unsigned_policies() -> Result<()> {
    let anchors = Path::new("/etc/enforcer/anchors.toml");
    if anchors.exists() {
        return Ok(());
    }
    let written =
        fs::create_dir_all("/etc/enforcer").and_then(|()| fs::write(anchors, "unsigned = \"allow\"\n"));
    written.with_context(|| format!("writing {}", anchors.display()))
}

/// QEMU's user-mode network always has the same addresses, so nothing needs to ask for them.
fn configure_network(tier: Tier) -> Result<()> {
    let interface = first_ethernet()?;
    let commands: [&[&str]; 3] = [
        &["ip", "link", "set", &interface, "up"],
        &["ip", "address", "add", "10.0.2.15/24", "dev", &interface],
        &["ip", "route", "add", "default", "via", "10.0.2.2"],
    ];
    for arguments in commands {
        match tier {
            Tier::Initramfs => boot::busybox(arguments)?,
            Tier::Systemd => ip(arguments)?,
        }
    }
    fs::write("/etc/resolv.conf", "nameserver 10.0.2.3\n").context("writing /etc/resolv.conf")
}

fn ip(arguments: &[&str]) -> Result<()> {
    let status = std::process::Command::new(arguments[0]).args(&arguments[1..]).env("PATH", PATH).status();
    let status = status.with_context(|| arguments.join(" "))?;
    anyhow::ensure!(status.success(), "{}: {status}", arguments.join(" "));
    Ok(())
}

fn first_ethernet() -> Result<String> {
    for entry in fs::read_dir("/sys/class/net").context("listing network interfaces")? {
        let entry = entry?;
        if entry.path().join("device").exists() {
            return Ok(entry.file_name().to_string_lossy().into_owned());
        }
    }
    bail!("no network device: is virtio_net loaded?")
}

fn open_port() -> Result<File> {
    // The port's device node appears a moment after the driver has spoken with the host.
    for _ in 0..200 {
        if let Some(device) = find_port() {
            return OpenOptions::new()
                .read(true)
                .write(true)
                .open(&device)
                .with_context(|| format!("opening {}", device.display()));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    bail!("no virtio-serial port named {}", layout::PORT)
}

fn find_port() -> Option<PathBuf> {
    for entry in fs::read_dir("/sys/class/virtio-ports").ok()?.flatten() {
        let name = fs::read_to_string(entry.path().join("name")).unwrap_or_default();
        if name.trim() == layout::PORT {
            return Some(Path::new("/dev").join(entry.file_name()));
        }
    }
    None
}

fn kernel_release() -> Result<String> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").context("reading the kernel release")?;
    Ok(release.trim().to_owned())
}

fn send_artifacts(port: &mut File) -> Result<()> {
    for entry in fs::read_dir(layout::ARTIFACT_DIR).context("listing artifacts")?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let mut data = Vec::new();
        let read = File::open(entry.path()).and_then(|file| file.take(MAX_ARTIFACT).read_to_end(&mut data));
        if let Err(error) = read {
            Frame::Note(format!("artifact {name}: {error}")).write_to(port)?;
            continue;
        }
        for part in data.chunks(1 << 16) {
            Frame::Artifact { name: name.clone(), data: part.to_vec() }.write_to(port)?;
        }
    }
    Ok(())
}

/// Leaves the shared disk consistent on the host's side before the host is told that we are done.
fn release_share(job: &Job) {
    nix::unistd::sync();
    if job.share == Share::Copy && umount2(layout::SHARE_DIR, MntFlags::empty()).is_err() {
        // Something the command left behind still uses it: an emergency read-only remount also flushes.
        let _ = fs::write("/proc/sysrq-trigger", "u");
        std::thread::sleep(Duration::from_millis(500));
    }
}

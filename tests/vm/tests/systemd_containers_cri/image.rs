//! Images of the guest's own files, in the layout of the Open Container Initiative, and the policies for them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use enforcer::policy::digest::ContentDigest;
use enforcer_vm_tests::actor;
use enforcer_vm_tests::enforcer::SCRATCH;
use enforcer_vm_tests::policy::Policy;
use enforcer_vm_tests::scenario::copy_of_actor;
use enforcer_vm_tests::wait;
use serde_json::{Value, json};

use super::cri;

/// The image of all containers.
pub(crate) const ACTORS: &str = "localhost/actors:1";
/// The image that holds a pod's namespaces.
pub(crate) const PAUSE: &str = "localhost/pause:1";

/// The program that policies of these tests list.
pub(crate) const ACTOR: &str = "/bin/actor";
/// One that none lists.
pub(crate) const EVIL: &str = "/bin/evil";
/// What the base policy lists, and nobody else.
pub(crate) const HOLDER: &str = "/pause";

/// The base policy of all pods. Any image could have a program of this name, so it says which one.
pub(crate) fn base() -> Policy {
    let digest = ContentDigest::of(File::open(actor::program()).unwrap()).unwrap();
    Policy::bare("base", "container-roots", "kubernetes").pin(HOLDER, &[digest])
}

/// A policy for the container with this name in its pod.
pub(crate) fn named(name: &str) -> Policy {
    listing(Policy::bare(name, "container.container", name))
}

/// What the policies of these tests have in common.
pub(crate) fn listing(policy: Policy) -> Policy {
    policy.allow("exec.allow", ACTOR).allow("file.read", "/etc/listed")
}

/// Makes both images and hands them to containerd.
pub(crate) fn import() {
    let layout = PathBuf::from(SCRATCH).join("layout");
    let _ = fs::remove_dir_all(&layout);
    fs::create_dir_all(layout.join("blobs/sha256")).unwrap();
    let actors = tree("actors", &[ACTOR, EVIL, HOLDER]);
    fs::create_dir_all(actors.join("etc")).unwrap();
    fs::write(actors.join("etc/listed"), "listed").unwrap();
    fs::write(actors.join("etc/secret"), "secret").unwrap();
    let manifests = [
        manifest(&layout, ACTORS, &actors, &[ACTOR, "true"]),
        manifest(&layout, PAUSE, &tree("pause", &[HOLDER]), &[HOLDER, "pause"]),
    ];
    let index = json!({ "schemaVersion": 2, "manifests": manifests });
    fs::write(layout.join("index.json"), index.to_string()).unwrap();
    fs::write(layout.join("oci-layout"), json!({ "imageLayoutVersion": "1.0.0" }).to_string()).unwrap();
    let archive = PathBuf::from(SCRATCH).join("images.tar");
    pack(&layout, &archive);
    run(Command::new("ctr").args(["-n", "k8s.io", "images", "import"]).arg(&archive));
    for name in [ACTORS, PAUSE] {
        wait::until("CRI to know the image", wait::SOON, || cri::image_id(name));
    }
}

/// A file tree with the actor under these names: one file with several.
fn tree(name: &str, programs: &[&str]) -> PathBuf {
    let root = PathBuf::from(SCRATCH).join("tree").join(name);
    let _ = fs::remove_dir_all(&root);
    for directory in ["bin", "dev", "proc", "sys", "tmp"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    let inside = |path: &str| root.join(path.trim_start_matches('/'));
    let (first, rest) = programs.split_first().unwrap();
    copy_of_actor(&inside(first));
    for program in rest {
        fs::hard_link(inside(first), inside(program)).unwrap();
    }
    root
}

/// Writes an image's layer, configuration and manifest; returns the index's entry for it.
fn manifest(layout: &Path, name: &str, root: &Path, entrypoint: &[&str]) -> Value {
    let layer = PathBuf::from(SCRATCH).join("layer.tar");
    pack(root, &layer);
    let layer = store(layout, &layer, "application/vnd.oci.image.layer.v1.tar");
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": { "Entrypoint": entrypoint, "Env": ["PATH=/bin"] },
        "rootfs": { "type": "layers", "diff_ids": [layer["digest"]] },
    });
    let config = store_json(layout, &config, "application/vnd.oci.image.config.v1+json");
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({ "schemaVersion": 2, "mediaType": kind, "config": config, "layers": [layer] });
    let mut entry = store_json(layout, &manifest, kind);
    entry["annotations"] = json!({ "io.containerd.image.name": name });
    entry["platform"] = json!({ "architecture": "amd64", "os": "linux" });
    entry
}

fn store_json(layout: &Path, value: &Value, kind: &str) -> Value {
    let file = PathBuf::from(SCRATCH).join("blob.json");
    fs::write(&file, value.to_string()).unwrap();
    store(layout, &file, kind)
}

/// Moves a file to where its digest says, and describes it.
fn store(layout: &Path, file: &Path, kind: &str) -> Value {
    let digest = ContentDigest::of(File::open(file).unwrap()).unwrap();
    let size = fs::metadata(file).unwrap().len();
    fs::rename(file, layout.join(format!("blobs/sha256/{digest}"))).unwrap();
    json!({ "mediaType": kind, "digest": format!("sha256:{digest}"), "size": size })
}

fn pack(root: &Path, archive: &Path) {
    run(Command::new("tar").arg("-cf").arg(archive).arg("-C").arg(root).arg("."));
}

/// Runs a command that has to work; what it says.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

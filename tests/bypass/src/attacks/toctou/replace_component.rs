//! The object that is judged must be the object that is used, whatever happens to names in between.

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "replace-component",
    told: "change where a name leads while I open it",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    let storm = |what: &str| {
        ATTACK
            .row(&[what, "{dir}"])
            .directory("{dir}/public")
            .directory("{dir}/private")
            .directory("{dir}/spool")
            .prepared(contents)
            .given("file.read", "{dir}/public/*")
            .given("file.read", "{dir}/spool/**")
            .given("file.create", "{dir}/spool/**")
            .allowed_by("file.read", "{dir}/private/*")
            .refused(Hook::FileOpen, Family::File, Reason::NoRule)
            .needing("read")
            .about("{dir}/private/file")
            .repeatedly()
    };
    vec![storm("last"), storm("directory"), storm("exchange").given("privileges.allow", "rename-directory")]
}

fn run(words: &[&str]) -> Outcome {
    let [what, directory] = arguments(words)?;
    let at = |name: &str| format!("{directory}/{name}");
    let (current, other) = (at("spool/current"), at("spool/other"));
    let set = |target: &str, link: &str| std::os::unix::fs::symlink(target, link).at("symlink");
    let (opened, disturb): (String, Box<dyn Fn() + Sync>) = match what {
        // The name that is opened leads here and there.
        "last" | "directory" => {
            let (suffix, rest) = if what == "last" { ("/file", "") } else { ("", "/file") };
            let targets = [format!("../public{suffix}"), format!("../private{suffix}")];
            set(&targets[0], &current)?;
            let flip = {
                let (current, other) = (current.clone(), other.clone());
                move || {
                    for target in &targets {
                        // Each may fail without harm: the next round comes.
                        let _ = std::os::unix::fs::symlink(target, &other);
                        let _ = std::fs::rename(&other, &current);
                    }
                }
            };
            (format!("{current}{rest}"), Box::new(flip))
        }
        // A directory on the way is a directory of ours at one moment and a link to another one at the next.
        _ => {
            std::fs::create_dir(&current).at("mkdir")?;
            std::fs::write(format!("{current}/file"), "public").at("write")?;
            set("../private", &other)?;
            let opened = format!("{current}/file");
            let swap = move || {
                let flags = RenameFlags::RENAME_EXCHANGE;
                let _ = renameat2(AT_FDCWD, current.as_str(), AT_FDCWD, other.as_str(), flags);
            };
            (opened, Box::new(swap))
        }
    };
    calls::race::against(disturb, || calls::files::steal(&opened))
}

fn contents(directory: &Path) {
    std::fs::write(directory.join("public/file"), "public").expect("creating a file");
    std::fs::write(directory.join("private/file"), "secret").expect("creating a file");
}

//! The maintainer scripts: a few lines for each package's way of calling them, around functions that both share.

use std::fs;

use anyhow::{Context, Result, ensure};

use crate::paths;

/// The functions.
const SHARED: &str = "deploy/package/functions.sh";

/// Scripts of the `.deb`.
const DEB: &[&str] = &["postinst", "prerm", "postrm"];

/// Scripts of the `.rpm`, with their keys in its metadata.
const RPM: &[(&str, &str)] = &[
    ("post", "post_install_script"),
    ("preun", "pre_uninstall_script"),
    ("postun", "post_uninstall_script"),
];

/// Name and text of each script of the `.deb`.
pub(super) fn deb(units: &[String]) -> Result<Vec<(&'static str, String)>> {
    DEB.iter().map(|name| Ok((*name, script(&format!("deb/{name}"), units)?))).collect()
}

/// Key and text of each script of the `.rpm`.
pub(super) fn rpm(units: &[String]) -> Result<Vec<(&'static str, String)>> {
    RPM.iter().map(|(name, key)| Ok((*key, script(&format!("rpm/{name}"), units)?))).collect()
}

/// The functions, as every script has them.
pub(super) fn functions(units: &[String]) -> Result<String> {
    let text = read(SHARED)?;
    ensure!(text.contains("@UNITS@"), "{SHARED} has no place for the units");
    Ok(text.replace("@UNITS@", &units.join(" ")))
}

fn script(name: &str, units: &[String]) -> Result<String> {
    const PLACE: &str = "@FUNCTIONS@\n";
    let text = read(&format!("deploy/package/{name}"))?;
    ensure!(text.contains(PLACE), "{name} has no place for the functions");
    Ok(text.replace(PLACE, &functions(units)?))
}

fn read(file: &str) -> Result<String> {
    fs::read_to_string(paths::workspace().join(file)).with_context(|| format!("reading {file}"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn scripts_are_whole_and_a_shell_understands_them() {
        let units = ["enforcer.service".to_owned(), "other.service".to_owned()];
        let all = deb(&units).unwrap().into_iter().chain(rpm(&units).unwrap());
        for (name, text) in all {
            assert!(!text.contains("@UNITS@") && !text.contains("@FUNCTIONS@"), "{name}: a place is left");
            assert!(text.contains("UNITS=\"enforcer.service other.service\"\n"), "{name}");
            let mut shell = Command::new("sh").arg("-n").stdin(Stdio::piped()).spawn().unwrap();
            shell.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
            assert!(shell.wait().unwrap().success(), "{name}");
        }
    }
}

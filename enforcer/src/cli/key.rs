//! `enforcer key`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::Outcome;
use crate::bundle::key::{PublicKey, SecretKey};

/// Makes and shows keys that sign policies: ECDSA P-256, PKCS#8 and SPKI in PEM, as `openssl` writes and reads them.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make a key: FILE, which only its owner may read, and FILE.pub
    Gen {
        /// Where to
        file: PathBuf,
    },
    /// Print the public half of a key
    Pub {
        /// A key, or the public half of one
        file: PathBuf,
        /// Print the key's id (SHA-256 of its point) instead
        #[arg(long)]
        id: bool,
    },
}

pub(super) fn run(args: &Args) -> Result<Outcome> {
    match &args.command {
        Command::Gen { file } => generate(file),
        Command::Pub { file, id } => {
            let key = PublicKey::read(file).or_else(|_| SecretKey::read(file).map(|key| key.public()))?;
            if *id {
                println!("{}", key.id())
            } else {
                print!("{}", key.to_pem()?)
            }
            Ok(Outcome::Well)
        }
    }
}

fn generate(file: &Path) -> Result<Outcome> {
    let key = SecretKey::generate()?;
    key.write_new(file)?;
    let public = public_half(file);
    std::fs::write(&public, key.public().to_pem()?)
        .with_context(|| format!("cannot write {}", public.display()))?;
    println!("{} (keep it offline) and {}, id {}", file.display(), public.display(), key.public().id());
    Ok(Outcome::Well)
}

fn public_half(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".pub");
    name.into()
}

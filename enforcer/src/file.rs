//! Files that are replaced whole.
#![forbid(unsafe_code)]

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
};

/// Replaces a file, or makes it: a crash, even of the machine, leaves the old one or the new one.
///
/// # Errors
/// From the files; then the old one is still there.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let staged = path.with_added_extension("new");
    write(&staged, bytes)?;
    fs::rename(&staged, path)?;
    sync(directory_of(path))
}

/// Replaces a directory by one with just these files. A crash leaves the old one, none, or the new one: never a part.
///
/// # Errors
/// From the files.
pub fn replace_directory<'f>(
    directory: &Path,
    files: impl IntoIterator<Item = (&'f str, &'f [u8])>,
) -> io::Result<()> {
    let staged = directory.with_added_extension("new");
    remove_directory(&staged)?;
    fs::create_dir_all(&staged)?;
    for (name, bytes) in files {
        write(&staged.join(name), bytes)?;
    }
    sync(&staged)?;
    remove_directory(directory)?;
    fs::rename(&staged, directory)?;
    sync(directory_of(directory))
}

/// Removes a file, unless there is none.
///
/// # Errors
/// From the file.
pub fn remove(path: &Path) -> io::Result<()> {
    unless_gone(fs::remove_file(path))
}

/// Removes a directory with all that is in it, unless there is none.
///
/// # Errors
/// From the directory.
pub fn remove_directory(directory: &Path) -> io::Result<()> {
    unless_gone(fs::remove_dir_all(directory))
}

fn unless_gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// The directory that a relative or absolute path lies in.
fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn files_are_replaced_and_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.json");
        replace(&path, b"one, and more").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(names(directory.path()), ["a.json"], "nothing else is left");
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert_eq!(names(directory.path()), [""; 0]);
    }

    #[test]
    fn what_cannot_be_replaced_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        fs::create_dir(&path).unwrap();
        replace(&path, b"a file").unwrap_err();
        assert!(path.is_dir());
        replace(&directory.path().join("missing/a"), b"").unwrap_err();
        remove(&path).unwrap_err();
    }

    #[test]
    fn a_path_without_a_directory_lies_in_this_one() {
        assert_eq!(directory_of(Path::new("a")), Path::new("."));
        assert_eq!(directory_of(Path::new("/a")), Path::new("/"));
    }

    #[test]
    fn directories_are_replaced_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kept");
        replace_directory(&path, [("a", &b"1"[..]), ("b", b"2")]).unwrap();
        // What a crash left.
        fs::create_dir(directory.path().join("kept.new")).unwrap();
        fs::write(directory.path().join("kept.new/part"), "").unwrap();
        replace_directory(&path, [("b", &b"3"[..])]).unwrap();
        assert_eq!(names(&path), ["b"]);
        assert_eq!(fs::read(path.join("b")).unwrap(), b"3");
        assert_eq!(names(directory.path()), ["kept"]);
        remove_directory(&path).unwrap();
        remove_directory(&path).unwrap();
    }
}

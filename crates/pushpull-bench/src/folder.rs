//! Folders for what servers are given in files.

use std::{
    env, fs, io,
    ops::Deref,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

/// A folder that goes, with all that is in it, when this does.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// Makes a new folder that only its owner may look into, and of which nobody else has the name.
    pub(crate) fn new(what: &str) -> io::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        loop {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let folder = env::temp_dir().join(format!("pushpull-bench-{what}-{}-{number}", process::id()));
            match fs::DirBuilder::new().mode(0o700).create(&folder) {
                Ok(()) => return Ok(Self(folder)),
                // Left there by a program of the same number that was killed.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Deref for Folder {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_taken_is_passed_over() {
        let first = Folder::new("test").unwrap();
        let name = first.file_name().unwrap().to_str().unwrap().rsplit_once('-').unwrap();
        let next = first.with_file_name(format!("{}-{}", name.0, name.1.parse::<u32>().unwrap() + 1));
        fs::create_dir(&next).unwrap();
        let second = Folder::new("test").unwrap();
        assert!(second.exists() && *second != *next);
        fs::remove_dir(&next).unwrap();
        let places = [&first, &second].map(|folder| folder.to_path_buf());
        drop((first, second));
        assert!(!places.iter().any(|place| place.exists()));
    }
}

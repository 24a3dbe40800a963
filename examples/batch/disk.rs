//! The little that an output asks of a file system: a seam, so that a test can be one whose power fails.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, ErrorKind, Write},
    path::Path,
};

/// Files by their names. Nothing is on the disk before `sync`, and no name before `sync_folder`.
pub(crate) trait Disk {
    type File;

    /// Opens a file for this process alone; it is made if it is not there.
    fn open(&self, path: &Path) -> io::Result<Self::File>;
    /// Opens a file and empties it; it is made if it is not there.
    fn create(&self, path: &Path) -> io::Result<Self::File>;
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    fn length(&self, file: &Self::File) -> io::Result<u64>;
    fn cut(&self, file: &Self::File, length: u64) -> io::Result<()>;
    fn append(&self, file: &Self::File, bytes: &[u8]) -> io::Result<()>;
    fn sync(&self, file: &Self::File) -> io::Result<()>;
    /// Gives a file another name, in one step, and takes that from who had it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
}

/// The system's own.
pub(crate) struct System;

impl Disk for System {
    type File = File;

    /// The system gives the lock up with the process, however that ends.
    fn open(&self, path: &Path) -> io::Result<File> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => {
                Err(io::Error::new(ErrorKind::WouldBlock, "another batch writes to it"))
            }
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn create(&self, path: &Path) -> io::Result<File> {
        File::create(path)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn length(&self, file: &File) -> io::Result<u64> {
        Ok(file.metadata()?.len())
    }

    fn cut(&self, file: &File, length: u64) -> io::Result<()> {
        file.set_len(length)
    }

    fn append(&self, mut file: &File, bytes: &[u8]) -> io::Result<()> {
        file.write_all(bytes)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}

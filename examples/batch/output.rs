//! A file of records that agrees with its checkpoint, whatever the process dies of.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, ErrorKind, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use pushpull::Cursor;
use serde::{Deserialize, Serialize};

/// How much of the output counts, and where to go on from. They are kept as one, since neither is true alone.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Checkpoint {
    /// Everything up to here is in the output; `None` before the first answer.
    pub(crate) cursor: Option<Cursor>,
    /// Bytes of the output that count. What lies behind them was being written when the process died.
    length: u64,
    /// How many records the output holds.
    pub(crate) records: u64,
    /// How many gaps were told on the way.
    pub(crate) gaps: u64,
}

/// The output, open behind its last record that counts.
pub(crate) struct Output {
    file: File,
    checkpoint_path: PathBuf,
    committed: Checkpoint,
}

impl Output {
    /// Opens `path`, cuts off what its checkpoint does not vouch for, and keeps every other process out.
    ///
    /// # Errors
    /// A sentence: no file of ours, fewer bytes than the checkpoint vouches for, in use, or not to be written.
    pub(crate) fn open(path: &Path) -> Result<Self, String> {
        let checkpoint_path = beside(path, ".checkpoint");
        let file = open_alone(path)?;
        let length = file.metadata().map_err(at(path))?.len();
        let known = read(&checkpoint_path).map_err(at(&checkpoint_path))?;
        if known.is_none() && length > 0 {
            let (path, checkpoint) = (path.display(), checkpoint_path.display());
            return Err(format!(
                "{path} holds something, but there is no {checkpoint}: name another --output"
            ));
        }
        let committed = known.unwrap_or_default();
        if committed.length > length {
            let (path, checkpoint, vouched) = (path.display(), checkpoint_path.display(), committed.length);
            return Err(format!("{path} has {length} bytes, but {checkpoint} vouches for {vouched}"));
        }
        let mut output = Self { file, checkpoint_path, committed };
        output.rewind().map_err(at(path))?;
        Ok(output)
    }

    /// What counts so far.
    pub(crate) fn committed(&self) -> &Checkpoint {
        &self.committed
    }

    /// Appends `lines`; they and `next` count from when this returns, both or neither.
    ///
    /// # Errors
    /// A sentence. What counted before still does; open the output anew to go on.
    pub(crate) fn commit(&mut self, lines: &[u8], mut next: Checkpoint) -> Result<(), String> {
        next.length = self.committed.length + lines.len() as u64;
        self.append(lines, &next).map_err(at(&self.checkpoint_path))?;
        self.committed = next;
        Ok(())
    }

    /// The order is what makes it safe: a checkpoint must never vouch for bytes that are not on the disk yet.
    fn append(&mut self, lines: &[u8], next: &Checkpoint) -> io::Result<()> {
        if !lines.is_empty() {
            self.file.write_all(lines)?;
            self.file.sync_all()?;
        }
        keep(&self.checkpoint_path, next)
    }

    fn rewind(&mut self) -> io::Result<()> {
        self.file.set_len(self.committed.length)?;
        self.file.seek(SeekFrom::End(0))?;
        // From now on a file that holds something has a checkpoint.
        keep(&self.checkpoint_path, &self.committed)
    }
}

/// The system gives the lock up with the process, however that ends.
fn open_alone(path: &Path) -> Result<File, String> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path).map_err(at(path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(format!("{} is being written by another batch", path.display())),
        Err(TryLockError::Error(error)) => Err(at(path)(error)),
    }
}

fn read(path: &Path) -> io::Result<Option<Checkpoint>> {
    match fs::read(path) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Puts a new checkpoint in the place of the old one, in one step: whoever reads it finds one of the two, whole.
fn keep(path: &Path, checkpoint: &Checkpoint) -> io::Result<()> {
    let new = beside(path, ".new");
    let mut file = File::create(&new)?;
    file.write_all(&serde_json::to_vec(checkpoint)?)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    // The names, the output's own among them, are kept by the folder.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

fn at(path: &Path) -> impl Fn(io::Error) -> String {
    let path = path.display().to_string();
    move |error| format!("{path}: {error}")
}

//! A file of records that agrees with its checkpoint, whatever the process dies of.

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    ffi::OsString,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use pushpull::{Cursor, Topics};
use serde::{Deserialize, Serialize};

use crate::disk::Disk;

/// How much of the output counts, and where to go on from. They are kept as one, since neither is true alone.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct Checkpoint {
    /// What was asked for: of any other topic the cursor would skip what lies before it, in silence.
    topics: BTreeSet<String>,
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
pub(crate) struct Output<D: Disk> {
    disk: D,
    file: D::File,
    checkpoint_path: PathBuf,
    committed: Checkpoint,
}

impl<D: Disk> Output<D> {
    /// Opens `path` for records of `topics`, cuts off what its checkpoint does not vouch for, and keeps every other
    /// process out.
    ///
    /// # Errors
    /// A sentence: no file of ours, or of other topics, fewer bytes than the checkpoint vouches for, in use, or not
    /// to be written.
    pub(crate) fn open(disk: D, path: &Path, topics: &Topics) -> Result<Self, String> {
        let checkpoint_path = beside(path, ".checkpoint");
        let file = disk.open(path).map_err(at(path))?;
        let length = disk.length(&file).map_err(at(path))?;
        let known = read(&disk, &checkpoint_path).map_err(at(&checkpoint_path))?;
        let (name, checkpoint) = (path.display(), checkpoint_path.display());
        if known.is_none() && length > 0 {
            return Err(format!(
                "{name} holds something, but there is no {checkpoint}: name another --output"
            ));
        }
        let topics: BTreeSet<String> = topics.iter().map(|pattern| pattern.as_str().to_owned()).collect();
        let committed = known.unwrap_or_else(|| Checkpoint { topics: topics.clone(), ..Default::default() });
        if committed.topics != topics {
            let (has, asked) = (listed(&committed.topics), listed(&topics));
            return Err(format!("{name} is of {has}, not of {asked}: name another --output"));
        }
        if committed.length > length {
            let vouched = committed.length;
            return Err(format!("{name} has {length} bytes, but {checkpoint} vouches for {vouched}"));
        }
        let output = Self { disk, file, checkpoint_path, committed };
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
    fn append(&self, lines: &[u8], next: &Checkpoint) -> io::Result<()> {
        if !lines.is_empty() {
            self.disk.append(&self.file, lines)?;
            self.disk.sync(&self.file)?;
        }
        self.keep(next)
    }

    fn rewind(&self) -> io::Result<()> {
        self.disk.cut(&self.file, self.committed.length)?;
        // From now on a file that holds something has a checkpoint.
        self.keep(&self.committed)
    }

    /// Puts a new checkpoint in the place of the old one, in one step: whoever reads it finds one of the two, whole.
    fn keep(&self, checkpoint: &Checkpoint) -> io::Result<()> {
        let new = beside(&self.checkpoint_path, ".new");
        let file = self.disk.create(&new)?;
        self.disk.append(&file, &serde_json::to_vec(checkpoint)?)?;
        self.disk.sync(&file)?;
        self.disk.rename(&new, &self.checkpoint_path)?;
        // The names, the output's own among them, are kept by the folder.
        let folder = self.checkpoint_path.parent().filter(|folder| !folder.as_os_str().is_empty());
        self.disk.sync_folder(folder.unwrap_or(Path::new(".")))
    }
}

fn read(disk: &impl Disk, path: &Path) -> io::Result<Option<Checkpoint>> {
    match disk.read(path) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn listed(topics: &BTreeSet<String>) -> String {
    topics.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
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

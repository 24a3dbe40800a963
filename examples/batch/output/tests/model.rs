//! A disk in memory whose power fails.

use std::{
    cell::{RefCell, RefMut},
    collections::HashMap,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    rc::Rc,
};

use crate::disk::Disk;

/// What a machine finds again of what it had not synced.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Lost {
    Nothing,
    /// The length was kept, what it counts was not.
    Zeroed,
    Unsynced,
}

/// Files in memory, and of each what a power failure leaves. It fails at a step, and from there on.
#[derive(Clone, Default)]
pub(super) struct Model(Rc<RefCell<State>>);

#[derive(Default)]
struct State {
    names: HashMap<PathBuf, usize>,
    synced_names: HashMap<PathBuf, usize>,
    files: Vec<Bytes>,
    steps: Vec<String>,
    fails_at: Option<usize>,
}

#[derive(Clone, Default)]
struct Bytes {
    now: Vec<u8>,
    synced: Vec<u8>,
}

impl State {
    fn file(&mut self, path: &Path) -> usize {
        let next = self.files.len();
        let file = *self.names.entry(path.to_owned()).or_insert(next);
        self.files.resize(next.max(file + 1), Bytes::default());
        file
    }
}

impl Model {
    fn step(&self, step: String) -> io::Result<RefMut<'_, State>> {
        let mut state = self.0.borrow_mut();
        match state.fails_at {
            Some(at) if at <= state.steps.len() => return Err(io::Error::other("no power")),
            _ => state.steps.push(step),
        }
        Ok(state)
    }

    pub(super) fn failing_at(step: usize) -> Self {
        let model = Self::default();
        model.0.borrow_mut().fails_at = Some(step);
        model
    }

    /// The steps so far.
    pub(super) fn steps(&self) -> Vec<String> {
        self.0.borrow().steps.clone()
    }

    /// What the machine finds when it is up again.
    pub(super) fn after(&self, names: Lost, bytes: Lost) -> Self {
        let state = self.0.borrow();
        let found = |file: &Bytes| {
            let mut found = if bytes == Lost::Nothing { file.now.clone() } else { file.synced.clone() };
            if bytes == Lost::Zeroed {
                found.resize(file.now.len(), 0);
            }
            found
        };
        let files = state.files.iter().map(|file| Bytes { now: found(file), synced: found(file) }).collect();
        let names = if names == Lost::Nothing { &state.names } else { &state.synced_names };
        Self(Rc::new(RefCell::new(State {
            names: names.clone(),
            synced_names: names.clone(),
            files,
            ..State::default()
        })))
    }
}

impl Disk for Model {
    type File = usize;

    fn open(&self, path: &Path) -> io::Result<usize> {
        let mut state = self.step(format!("open {}", path.display()))?;
        Ok(state.file(path))
    }

    fn create(&self, path: &Path) -> io::Result<usize> {
        let mut state = self.step(format!("create {}", path.display()))?;
        let file = state.file(path);
        state.files[file].now.clear();
        Ok(file)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let state = self.0.borrow();
        let file = state.names.get(path).ok_or(ErrorKind::NotFound)?;
        Ok(state.files[*file].now.clone())
    }

    fn length(&self, file: &usize) -> io::Result<u64> {
        Ok(self.0.borrow().files[*file].now.len() as u64)
    }

    fn cut(&self, file: &usize, length: u64) -> io::Result<()> {
        let mut state = self.step(format!("cut {file} to {length}"))?;
        state.files[*file].now.truncate(length as usize);
        Ok(())
    }

    /// Half of it is written where it fails.
    fn append(&self, file: &usize, bytes: &[u8]) -> io::Result<()> {
        let step = self.step(format!("append to {file}")).map(drop);
        let written = if step.is_ok() { bytes } else { &bytes[..bytes.len() / 2] };
        self.0.borrow_mut().files[*file].now.extend(written);
        step
    }

    fn sync(&self, file: &usize) -> io::Result<()> {
        let mut state = self.step(format!("sync {file}"))?;
        state.files[*file].synced = state.files[*file].now.clone();
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.step(format!("rename {} to {}", from.display(), to.display()))?;
        let file = state.names.remove(from).ok_or(ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), file);
        Ok(())
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.step(format!("sync the names in {}", path.display()))?;
        state.synced_names = state.names.clone();
        Ok(())
    }
}

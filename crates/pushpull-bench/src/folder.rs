//! Folders for what servers are given in files.

use std::{
    env, fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::PathBuf,
    process,
    sync::atomic::{AtomicU32, Ordering},
};

/// Makes a new folder that only its owner may look into, and of which nobody else has the name. Whoever asked for it
/// removes it.
pub(crate) fn new(what: &str) -> io::Result<PathBuf> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let folder = env::temp_dir().join(format!("pushpull-bench-{what}-{}-{number}", process::id()));
    fs::DirBuilder::new().mode(0o700).create(&folder)?;
    Ok(folder)
}

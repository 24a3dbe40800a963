//! A file as it grows, is truncated, and is rotated.

use std::{
    io::{self, ErrorKind, SeekFrom},
    os::unix::fs::MetadataExt,
    path::Path,
};

use tokio::{
    fs::{self, File},
    io::{AsyncReadExt, AsyncSeekExt},
};

/// Most bytes of a line; what is longer is cut into several.
const MAX_LINE: usize = 64 * 1024;

/// An open file, and where in it.
#[derive(Default)]
pub(crate) struct Tail {
    file: Option<File>,
    inode: u64,
    offset: u64,
    /// The beginning of a line whose end was not written yet.
    unfinished: Vec<u8>,
}

impl Tail {
    /// A file that is not there yet is waited for; what can never be read as one is refused.
    pub(crate) async fn open(path: &Path, from_start: bool) -> io::Result<Self> {
        let file = match File::open(path).await {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            opened => opened?,
        };
        let meta = file.metadata().await?;
        if meta.is_dir() {
            return Err(ErrorKind::IsADirectory.into());
        }
        let offset = if from_start { 0 } else { meta.len() };
        Ok(Self { file: Some(file), inode: meta.ino(), offset, ..Self::default() })
    }

    /// The lines that were finished since the last look.
    pub(crate) async fn look(&mut self, path: &Path) -> io::Result<Vec<String>> {
        let mut lines = self.read_on().await?;
        let meta = fs::metadata(path).await.ok();
        // Rotated: the old file was read to its end above.
        if let Some(meta) = meta.filter(|meta| self.file.is_none() || meta.ino() != self.inode) {
            lines.extend(self.cut());
            *self = Self { file: File::open(path).await.ok(), inode: meta.ino(), ..Self::default() };
            lines.extend(self.read_on().await?);
        }
        Ok(lines)
    }

    async fn read_on(&mut self) -> io::Result<Vec<String>> {
        let Some(file) = &mut self.file else { return Ok(Vec::new()) };
        if file.metadata().await?.len() < self.offset {
            self.offset = 0;
            self.unfinished.clear();
        }
        file.seek(SeekFrom::Start(self.offset)).await?;
        let mut lines = Vec::new();
        let mut room = vec![0; MAX_LINE];
        loop {
            let taken = file.read(&mut room).await?;
            if taken == 0 {
                return Ok(lines);
            }
            self.offset += taken as u64;
            for byte in &room[..taken] {
                match byte {
                    b'\n' => lines.push(text(&std::mem::take(&mut self.unfinished))),
                    _ => self.unfinished.push(*byte),
                }
                if self.unfinished.len() == MAX_LINE {
                    lines.push(text(&std::mem::take(&mut self.unfinished)));
                }
            }
        }
    }

    fn cut(&mut self) -> Option<String> {
        let rest = std::mem::take(&mut self.unfinished);
        (!rest.is_empty()).then(|| text(&rest))
    }
}

fn text(line: &[u8]) -> String {
    String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned()
}

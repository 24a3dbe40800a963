//! Follows a file, as `tail -F` does, and serves its lines by Server-Sent Events: a reader that was away comes back
//! with its last id and gets what it missed.
//!
//!     cargo run --release --example logtail -- /var/log/syslog
//!     curl -N 'http://127.0.0.1:8080/sse?topic=log&start=earliest'

use std::{
    error::Error,
    io::{self, ErrorKind, SeekFrom, Write},
    net::SocketAddr,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::Parser;
use pushpull::{Broker, Message, ProducerExt, Server, Topic};
use pushpull_examples::{address, end, not_bound, stopped};
use tokio::{
    fs::{self, File},
    io::{AsyncReadExt, AsyncSeekExt},
    time::{MissedTickBehavior, interval},
};

/// How often the file is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// Most bytes of a line; what is longer is cut into several.
const MAX_LINE: usize = 64 * 1024;

#[derive(Debug, Parser)]
struct Flags {
    /// File to follow; it may come into being later, be truncated, or be rotated.
    file: PathBuf,
    /// Topic to publish its lines to.
    #[arg(long, default_value = "log")]
    topic: Topic,
    /// Begin with the lines that are there already.
    #[arg(long)]
    from_start: bool,
    /// Address to listen on; port 0 picks a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080", value_parser = address)]
    listen: SocketAddr,
}

#[tokio::main]
async fn main() -> ExitCode {
    end(run().await)
}

async fn run() -> Result<(), Box<dyn Error>> {
    let flags = Flags::parse();
    let broker = Broker::memory();
    let tail = Tail::open(&flags.file, flags.from_start).await.map_err(in_file(&flags.file))?;
    let server = Server::new(broker.clone())
        .with_drain(Duration::from_secs(5))
        .bind(flags.listen)
        .await
        .map_err(not_bound(flags.listen))?;
    let signalled = stopped()?;
    writeln!(io::stdout(), "listening on {}", server.url())?;
    writeln!(io::stdout(), "curl -N '{}/sse?topic={}&start=earliest'", server.url(), flags.topic)?;
    let mut followed = Ok(());
    let stopped = async {
        tokio::select! {
            () = signalled => {}
            ended = follow(tail, &flags, &broker) => followed = ended,
        }
    };
    server.serve_until(stopped).await;
    Ok(followed?)
}

/// Returns only when it fails.
async fn follow(mut tail: Tail, flags: &Flags, broker: &Broker) -> Result<(), String> {
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let lines = tail.look(&flags.file).await.map_err(in_file(&flags.file))?;
        for line in lines {
            broker.publish_one(&flags.topic, Message::text(line)).await.map_err(|error| error.to_string())?;
        }
    }
}

/// An open file, and where in it.
#[derive(Default)]
struct Tail {
    file: Option<File>,
    inode: u64,
    offset: u64,
    /// The beginning of a line whose end was not written yet.
    unfinished: Vec<u8>,
}

impl Tail {
    /// A file that is not there yet is waited for; what can never be read as one is refused.
    async fn open(path: &Path, from_start: bool) -> io::Result<Self> {
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
    async fn look(&mut self, path: &Path) -> io::Result<Vec<String>> {
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

fn in_file(path: &Path) -> impl FnOnce(io::Error) -> String {
    move |error| format!("cannot follow {}: {error}", path.display())
}

fn text(line: &[u8]) -> String {
    String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned()
}

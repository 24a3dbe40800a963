//! The publisher: POSTs over one connection that is kept alive.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    ops::Range,
};

use crate::{
    dialect::{Address, Dialect},
    shape::Shape,
    stamp::Stamp,
    stream::{Stream, connect},
    tls::Protocol,
    wire::http::{answer, last_member, seq},
};

/// The topic of every figure.
pub(crate) const TOPIC: &str = "bench";

/// Publishes over one connection, one message at a time.
pub(crate) struct Publisher {
    stream: Stream<TcpStream>,
    dialect: Dialect,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Publisher {
    pub(crate) fn connect(address: Address) -> io::Result<Self> {
        let stream = connect(address, Protocol::Http1)?;
        stream.wait_for_ever()?;
        Ok(Self { stream, dialect: address.dialect, request: Vec::new(), answer: vec![0; 4096] })
    }

    /// Publishes the message of `stamp` and waits until it is acknowledged.
    pub(crate) fn publish(&mut self, shape: &Shape, stamp: Stamp) -> io::Result<()> {
        self.request.clear();
        put_publish(&mut self.request, TOPIC, shape, stamp)?;
        self.stream.write_all(&self.request)?;
        self.read_answer().map(drop)
    }

    /// Publishes the messages of these `numbers` by one request, each a line that is JSON, and returns the seq of the
    /// last.
    pub(crate) fn publish_lines(&mut self, shape: &Shape, numbers: Range<u64>) -> io::Result<u64> {
        let mut lines = Vec::new();
        for number in numbers {
            shape.put(&mut lines, Stamp { number, sent: 0 });
            lines.push(b'\n');
        }
        self.request.clear();
        let path = format!("{TOPIC}?batch=ndjson");
        put_head(&mut self.request, &path, "application/x-ndjson", lines.len())?;
        self.stream.write_all(&self.request)?;
        self.stream.write_all(&lines)?;
        let body = self.read_answer()?;
        let last = last_member(body.as_bytes(), b"\"last\":\"", b'"').and_then(seq);
        last.ok_or_else(|| io::Error::other(format!("no last cursor: {body}")))
    }

    /// Reads an answer, and returns its body.
    fn read_answer(&mut self) -> io::Result<String> {
        let mut filled = 0;
        loop {
            let read = self.stream.read(&mut self.answer[filled..])?;
            filled += read;
            let bytes = &self.answer[..filled];
            if let Some(answer) = answer(bytes)? {
                self.dialect.published(answer.status, bytes)?;
                return Ok(String::from_utf8_lossy(answer.body).into_owned());
            }
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// Writes the request that publishes the message of `stamp` to `topic`.
pub(crate) fn put_publish(into: &mut Vec<u8>, topic: &str, shape: &Shape, stamp: Stamp) -> io::Result<()> {
    put_head(into, topic, shape.content_type(), shape.length())?;
    shape.put(into, stamp);
    Ok(())
}

fn put_head(into: &mut Vec<u8>, topic: &str, content_type: &str, length: usize) -> io::Result<()> {
    write!(
        into,
        "POST /topics/{topic} HTTP/1.1\r\nHost: bench\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n"
    )
}

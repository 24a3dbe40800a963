//! The publisher: POSTs over one connection that is kept alive.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
};

use crate::{
    dialect::{Address, Dialect},
    wire::http::answer,
};

/// The topic of every figure.
pub(crate) const TOPIC: &str = "bench";

/// Publishes over one connection, one message at a time.
pub(crate) struct Publisher {
    stream: TcpStream,
    dialect: Dialect,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Publisher {
    pub(crate) fn connect(address: Address) -> io::Result<Self> {
        let stream = TcpStream::connect(address.socket)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, dialect: address.dialect, request: Vec::new(), answer: vec![0; 4096] })
    }

    /// Publishes `payload` and waits until it is acknowledged.
    pub(crate) fn publish(&mut self, payload: &[u8]) -> io::Result<()> {
        self.request.clear();
        put_publish(&mut self.request, payload)?;
        self.stream.write_all(&self.request)?;
        self.read_answer()
    }

    fn read_answer(&mut self) -> io::Result<()> {
        let mut filled = 0;
        loop {
            let read = self.stream.read(&mut self.answer[filled..])?;
            filled += read;
            let bytes = &self.answer[..filled];
            if let Some(answer) = answer(bytes)? {
                return self.dialect.published(answer.status, bytes);
            }
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// Writes the request that publishes `payload`.
pub(crate) fn put_publish(into: &mut Vec<u8>, payload: &[u8]) -> io::Result<()> {
    write!(
        into,
        "POST /topics/{TOPIC} HTTP/1.1\r\nHost: bench\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n",
        payload.len()
    )?;
    into.write_all(payload)
}

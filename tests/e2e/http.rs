//! The little HTTP/1.1 that the tests speak themselves.

use std::{
    io::{BufRead, BufReader, Error, ErrorKind, Read, Result, Write},
    net::TcpStream,
    time::Duration,
};

use serde_json::Value;

/// More than anything waits for here, a browser's start included.
const PATIENCE: Duration = Duration::from_secs(90);

pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    pub(crate) url: &'a str,
    pub(crate) content_type: &'a str,
    pub(crate) body: &'a str,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

/// Publishes `text` and asserts that it was acknowledged.
pub(crate) fn publish(url: &str, text: &str) {
    let request = Request { method: "POST", url, content_type: "text/plain", body: text };
    let answer = request.send().unwrap_or_else(|error| panic!("{url}: {error}"));
    assert_eq!(answer.status, 201, "{url}: {}", String::from_utf8_lossy(&answer.body));
}

/// The JSON at `url`.
pub(crate) fn json(url: &str) -> Value {
    let request = Request { method: "GET", url, content_type: "application/json", body: "" };
    let answer = request.send().unwrap_or_else(|error| panic!("{url}: {error}"));
    assert_eq!(answer.status, 200, "{url}: {}", String::from_utf8_lossy(&answer.body));
    serde_json::from_slice(&answer.body).unwrap_or_else(|error| panic!("{url}: {error}"))
}

impl Request<'_> {
    /// Goes by `Content-Length`, not by the connection's end: a browser inherits its driver's sockets, which
    /// therefore stay open.
    pub(crate) fn send(&self) -> Result<Answer> {
        let Self { method, url, content_type, body } = self;
        let (address, path) =
            url.strip_prefix("http://").and_then(|rest| rest.split_once('/')).ok_or_else(invalid)?;
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let length = body.len();
        write!(
            stream,
            "{method} /{path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
             Content-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n{body}"
        )?;
        let mut stream = BufReader::new(stream);
        let status = line(&mut stream)?
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .ok_or_else(invalid)?;
        let mut length = 0;
        loop {
            let header = line(&mut stream)?.to_ascii_lowercase();
            match header.strip_prefix("content-length:") {
                Some(value) => length = value.trim().parse().map_err(|_| invalid())?,
                None if header.is_empty() => break,
                None => {}
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        Ok(Answer { status, body })
    }
}

fn line(stream: &mut impl BufRead) -> Result<String> {
    let mut line = String::new();
    match stream.read_line(&mut line)? {
        0 => Err(ErrorKind::UnexpectedEof.into()),
        _ => Ok(line.trim_end().to_owned()),
    }
}

fn invalid() -> Error {
    ErrorKind::InvalidData.into()
}

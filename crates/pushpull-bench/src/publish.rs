//! Messages that nobody listens to, published as fast as they are acknowledged.

use std::{
    io::{self, Read as _, Write as _},
    time::Duration,
};

use clap::Args;

use crate::{
    arguments,
    dialect::{Dialect, nchan},
    http::{TOPIC, put_publish},
    process::Server,
    report::Run,
    requests::Requests,
    shape::{Content, Shape},
    stamp::Stamp,
    stream::connect,
    subscriber::place,
    tls::Protocol,
    wire::{
        From, Transport,
        http::{answer, last_member, refused, seq},
    },
};

#[derive(Args)]
pub(crate) struct Publish {
    /// Connections that are kept alive, each with one POST under way.
    #[arg(long, default_value_t = 16, value_parser = arguments::count)]
    connections: usize,
    /// How long is published.
    #[arg(long, default_value_t = 8, value_parser = arguments::seconds)]
    seconds: u64,
    /// Bytes of a payload, at least 40.
    #[arg(long, default_value_t = 128, value_parser = arguments::payload)]
    payload: usize,
}

impl Publish {
    /// The sequence must grow by one a request, and each connection be told a higher place each time, where the
    /// server tells.
    pub(crate) fn run(&self, server: &Server) -> io::Result<Run> {
        let before = head(server)?;
        let mut request = Vec::new();
        let shape = Shape::new(Content::Text, self.payload);
        put_publish(&mut request, TOPIC, &shape, Stamp { number: 0, sent: 0 })?;
        let dialect = server.address.dialect;
        let status = if dialect == Dialect::Nchan { 202 } else { 201 };
        let time = Duration::from_secs(self.seconds);
        let requests = Requests { request, status, connections: self.connections, time };
        let first = if dialect == Dialect::Pushpull { before } else { 0 };
        let mut seqs = vec![first; self.connections];
        let answers = requests.run(server, &mut |number, body| rises(dialect, body, &mut seqs[number]))?;
        let done = match dialect {
            Dialect::Plain => answers.number(),
            _ => head(server)?.saturating_sub(before),
        };
        Ok(answers.told("acknowledgements", done))
    }

    /// What a row of the table begins with.
    pub(crate) fn label(&self) -> String {
        format!("publish × {}", self.connections)
    }
}

/// The newest sequence number, or how many were published; 0 where the server does not tell.
fn head(server: &Server) -> io::Result<u64> {
    match server.address.dialect {
        Dialect::Pushpull => {}
        Dialect::Plain => return Ok(0),
        Dialect::Nchan => return published(server),
    }
    let mut poller = connect(server.address, Protocol::Http1)?;
    poller.write_all(&Transport::HttpPoll.request(server.address, TOPIC, From::Now))?;
    let cursor = place(&mut poller)?;
    seq(&cursor).ok_or_else(|| io::Error::other(format!("no cursor: {cursor}")))
}

/// How many messages Nchan was given.
fn published(server: &Server) -> io::Result<u64> {
    let mut asking = connect(server.address, Protocol::Http1)?;
    write!(asking, "GET /status HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", server.address)?;
    let mut bytes = Vec::new();
    asking.read_to_end(&mut bytes)?;
    let published = answer(&bytes)?.and_then(|answer| nchan::published(answer.body));
    published.ok_or_else(|| refused(&bytes))
}

/// Whether an acknowledgement tells a place behind the `last` one, which it then is. Where places are not told, it has
/// no body.
fn rises(dialect: Dialect, body: &[u8], last: &mut u64) -> bool {
    let told = match dialect {
        Dialect::Plain => return body.is_empty(),
        Dialect::Nchan => nchan::acknowledged(body),
        Dialect::Pushpull => last_member(body, b"{\"cursor\":\"", b'"').and_then(seq),
    };
    // Nchan tells the second only.
    let rises = told.is_some_and(|place| place > *last || dialect == Dialect::Nchan && place == *last);
    *last = told.unwrap_or(*last);
    rises
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_acknowledgement_lies_behind_the_last() {
        let mut last = 7;
        let judged = [&br#"{"cursor":"a-8"}"#[..], br#"{"cursor":"a-10"}"#, br#"{"cursor":"a-10"}"#, b"{}"];
        assert_eq!(judged.map(|body| rises(Dialect::Pushpull, body, &mut last)), [true, true, false, false]);
        assert_eq!(last, 10);
    }

    #[test]
    fn each_dialect_acknowledges_in_its_own_way() {
        let judged = |dialect, body: &[u8], mut last| (rises(dialect, body, &mut last), last);
        assert_eq!(judged(Dialect::Plain, b"", 7), (true, 7));
        assert!(!judged(Dialect::Plain, b"what", 7).0);
        let nchan = b"active subscribers: 0\nlast message id: 3:1";
        assert_eq!(judged(Dialect::Nchan, nchan, 2), (true, 3));
        assert!(judged(Dialect::Nchan, nchan, 3).0 && !judged(Dialect::Nchan, nchan, 4).0);
        assert!(!judged(Dialect::Nchan, b"", 0).0);
    }
}

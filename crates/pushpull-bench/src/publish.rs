//! Messages that nobody listens to, published as fast as they are acknowledged.

use std::{
    io::{self, Write as _},
    time::Duration,
};

use clap::Args;

use crate::{
    http::{TOPIC, put_publish},
    process::Server,
    report::Run,
    requests::Requests,
    shape::{Content, Shape},
    stamp::Stamp,
    subscriber::{connect, place},
    wire::{
        From, Transport,
        http::{last_member, seq},
    },
};

#[derive(Args)]
pub(crate) struct Publish {
    /// Connections that are kept alive, each with one POST under way.
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// How long is published.
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// Bytes of a payload, at least 40.
    #[arg(long, default_value_t = 128)]
    payload: usize,
}

impl Publish {
    /// The sequence must grow by one a request, and each connection be told a higher place each time.
    pub(crate) fn run(&self, server: &Server) -> io::Result<Run> {
        let before = head(server)?;
        let mut request = Vec::new();
        let shape = Shape::new(Content::Text, self.payload);
        put_publish(&mut request, TOPIC, &shape, Stamp { number: 0, sent: 0 })?;
        let time = Duration::from_secs(self.seconds);
        let requests = Requests { request, status: 201, connections: self.connections, time };
        let mut seqs = vec![before; self.connections];
        let answers = requests.run(server, &mut |number, body| rises(body, &mut seqs[number]))?;
        let after = head(server)?;
        Ok(answers.told("answers 201", after.saturating_sub(before)))
    }

    /// What a row of the table begins with.
    pub(crate) fn label(&self) -> String {
        format!("publish × {}", self.connections)
    }
}

/// The newest sequence number.
fn head(server: &Server) -> io::Result<u64> {
    let mut poller = connect(server.address)?;
    poller.write_all(&Transport::HttpPoll.request(server.address, TOPIC, From::Now))?;
    let cursor = place(&mut poller)?;
    seq(&cursor).ok_or_else(|| io::Error::other(format!("no cursor: {cursor}")))
}

/// Whether an acknowledgement tells a place behind the `last` one, which it then is.
fn rises(body: &[u8], last: &mut u64) -> bool {
    let told = last_member(body, b"{\"cursor\":\"", b'"').and_then(seq);
    let rises = told.is_some_and(|seq| seq > *last);
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
        assert_eq!(judged.map(|body| rises(body, &mut last)), [true, true, false, false]);
        assert_eq!(last, 10);
    }
}

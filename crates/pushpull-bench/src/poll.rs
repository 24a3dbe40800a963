//! Polls as fast as they are answered.

use std::{
    io::{self, Write as _},
    time::Duration,
};

use clap::Args;

use crate::{
    http::{Publisher, TOPIC},
    process::Server,
    report::Run,
    requests::Requests,
    shape::{Content, Shape},
    stamp::Stamp,
    subscriber::{connect, place},
    wire::{self, From, Transport},
};

#[derive(Args)]
pub(crate) struct Poll {
    /// Connections that are kept alive, each with one poll under way.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// How many events each poll is behind, and is answered with; caught up and answered with 304 if left out.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub(crate) behind: Option<u64>,
    /// How long is polled.
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// Bytes of a payload, at least 40.
    #[arg(long, default_value_t = 128)]
    payload: usize,
}

impl Poll {
    pub(crate) fn run(&self, server: &Server) -> io::Result<Run> {
        let (shape, behind) = (Shape::new(Content::Text, self.payload), self.behind.unwrap_or(0));
        let mut publisher = Publisher::connect(server.address)?;
        let mut publish = |number| publisher.publish(&shape, Stamp { number, sent: 0 });
        publish(0)?;
        let mut poller = connect(server.address)?;
        poller.write_all(&Transport::HttpPoll.request(server.address, TOPIC, From::Now))?;
        let cursor = place(&mut poller)?;
        (0..behind).try_for_each(&mut publish)?;
        let (status, count) = if behind == 0 { (304, "answers 304") } else { (200, "answers 200") };
        let request = format!(
            "GET /poll?topic={TOPIC}&limit=1000 HTTP/1.1\r\nHost: {}\r\nIf-None-Match: \"{cursor}\"\r\n\r\n",
            server.address
        );
        let time = Duration::from_secs(self.seconds);
        let requests =
            Requests { request: request.into_bytes(), status, connections: self.connections, time };
        let answers = requests.run(server, &mut |_, body| holds(body, behind, &shape))?;
        Ok(answers.told(count, answers.number()))
    }

    /// What a row of the table begins with.
    pub(crate) fn label(&self) -> String {
        let behind = self.behind.map_or_else(|| "304".to_owned(), |behind| format!("{behind} behind"));
        format!("http-poll × {}, {behind}", self.connections)
    }
}

/// Whether an answer's body has the first `count` events, in order, each as it was sent.
fn holds(body: &[u8], count: u64, shape: &Shape) -> bool {
    let (mut next, mut is_right) = (0, true);
    wire::objects(body, None, &mut |data| {
        is_right &= shape.read(data).is_some_and(|stamp| stamp.number == next);
        next += 1;
    });
    is_right && next == count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_all_events_in_order() {
        let shape = |length| Shape::new(Content::Text, length);
        let page = |numbers: &[u64]| {
            let event =
                |number: &u64| format!("{{\"data\":\"{}\"}}", Stamp { number: *number, sent: 0 }.payload(40));
            let events: Vec<String> = numbers.iter().map(event).collect();
            format!("{{\"events\":[{}],\"cursor\":\"a-9\",\"more\":false}}", events.join(","))
        };
        assert!(holds(page(&[0, 1, 2]).as_bytes(), 3, &shape(40)));
        assert!(holds(b"", 0, &shape(40)));
        for numbers in [&[0, 1][..], &[0, 1, 2, 3], &[0, 2, 1], &[1, 2, 3], &[]] {
            assert!(!holds(page(numbers).as_bytes(), 3, &shape(40)), "{numbers:?}");
        }
        assert!(!holds(page(&[0, 1, 2]).as_bytes(), 3, &shape(41)));
    }
}

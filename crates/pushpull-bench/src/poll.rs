//! Polls as fast as they are answered.

use std::{
    io::{self, Write as _},
    time::Duration,
};

use clap::Args;

use crate::{
    arguments,
    dialect::{Address, Dialect, nchan},
    http::{Publisher, TOPIC},
    process::Server,
    report::Run,
    requests::Requests,
    shape::{Content, Shape},
    stamp::Stamp,
    stream::connect,
    subscriber::place,
    tls::Protocol,
    wire::{self, From, Transport},
};

#[derive(Args)]
pub(crate) struct Poll {
    /// Connections that are kept alive, each with one poll under way.
    #[arg(long, default_value_t = 64, value_parser = arguments::count)]
    connections: usize,
    /// How many events each poll is behind, and is answered with; caught up and answered with 304 if left out.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub(crate) behind: Option<u64>,
    /// How long is polled.
    #[arg(long, default_value_t = 8, value_parser = arguments::seconds)]
    seconds: u64,
    /// Bytes of a payload, at least 40.
    #[arg(long, default_value_t = 128, value_parser = arguments::payload)]
    payload: usize,
}

impl Poll {
    pub(crate) fn run(&self, server: &Server) -> io::Result<Run> {
        let (shape, behind) = (Shape::new(Content::Text, self.payload), self.behind.unwrap_or(0));
        let mut publisher = Publisher::connect(server.address)?;
        let mut publish = |number| publisher.publish(&shape, Stamp { number, sent: 0 });
        publish(0)?;
        let place = first_place(server.address)?;
        (0..behind).try_for_each(&mut publish)?;
        let (status, count) = if behind == 0 { (304, "answers 304") } else { (200, "answers 200") };
        let dialect = server.address.dialect;
        let request = request(server.address, &place);
        let time = Duration::from_secs(self.seconds);
        let requests = Requests { request, status, connections: self.connections, time };
        let answers = requests.run(server, &mut |_, body| holds(dialect, body, behind, &shape))?;
        Ok(answers.told(count, answers.number()))
    }

    /// What a row of the table begins with.
    pub(crate) fn label(&self) -> String {
        let behind = self.behind.map_or_else(|| "304".to_owned(), |behind| format!("{behind} behind"));
        format!("http-poll × {}, {behind}", self.connections)
    }
}

/// The place of the newest event.
fn first_place(server: Address) -> io::Result<String> {
    let mut poller = connect(server, Protocol::Http1)?;
    poller.write_all(&Transport::HttpPoll.request(server, TOPIC, From::Now))?;
    match server.dialect {
        Dialect::Nchan => nchan::read_place(&mut poller),
        _ => place(&mut poller),
    }
}

/// Asks for what follows `place`, to be answered with 304 if there is nothing.
fn request(server: Address, place: &str) -> Vec<u8> {
    let validators = match server.dialect {
        Dialect::Nchan => nchan::validators(place),
        _ => format!("If-None-Match: \"{place}\"\r\n"),
    };
    format!("GET /poll?topic={TOPIC}&limit=1000 HTTP/1.1\r\nHost: {server}\r\n{validators}\r\n").into_bytes()
}

/// Whether an answer's body has the first `count` events, in order, each as it was sent.
fn holds(dialect: Dialect, body: &[u8], count: u64, shape: &Shape) -> bool {
    if dialect == Dialect::Nchan && count > 0 {
        return count == 1 && shape.read(body).is_some_and(|stamp| stamp.number == 0);
    }
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
        assert!(holds(Dialect::Pushpull, page(&[0, 1, 2]).as_bytes(), 3, &shape(40)));
        assert!(holds(Dialect::Nchan, b"", 0, &shape(40)));
        for numbers in [&[0, 1][..], &[0, 1, 2, 3], &[0, 2, 1], &[1, 2, 3], &[]] {
            assert!(!holds(Dialect::Pushpull, page(numbers).as_bytes(), 3, &shape(40)), "{numbers:?}");
        }
        assert!(!holds(Dialect::Pushpull, page(&[0, 1, 2]).as_bytes(), 3, &shape(41)));
        let message = |number| Stamp { number, sent: 0 }.payload(40);
        assert!(holds(Dialect::Nchan, message(0).as_bytes(), 1, &shape(40)));
        assert!(!holds(Dialect::Nchan, message(1).as_bytes(), 1, &shape(40)));
    }
}

//! A history, and one subscriber who wants all of it, or the newest part.

use std::{
    io::{self, Write as _},
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Args;

use crate::{
    arguments,
    http::{Publisher, TOPIC},
    launch::Needs,
    meter::{Meter, TAIL},
    process::Server,
    report::Run,
    shape::{Content, Shape},
    stamp::Stamp,
    stream::connect,
    subscriber::{Received, Subscribers, Target, place},
    tls::Protocol,
    wire::{From, Transport},
};

/// How long nothing may come before the rest is given up.
const SETTLE: Duration = Duration::from_secs(5);
/// Lines of a batch.
const BATCH: u64 = 1000;
/// Bytes that the hub may need for an event besides its payload.
const OVERHEAD: u64 = 1024;

#[derive(Args)]
pub(crate) struct Catchup {
    /// How the subscriber is connected.
    #[arg(long, value_enum, default_value = "ws-json")]
    pub(crate) transport: Transport,
    /// How many messages he takes.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    messages: u64,
    /// How many were published before, at least as many, by POSTs of 1,000 lines of JSON (`batch=ndjson`), whose rate
    /// is told, too; he begins at a cursor. If left out, what he takes is all there is, by a POST each, and he begins
    /// at the earliest.
    #[arg(long)]
    history: Option<u64>,
    /// Lets another subscriber take the same first, so that encodings are made, and kept as far as the server keeps
    /// them (the hub: `--encoded-messages`, `--encoded-bytes`).
    #[arg(long)]
    warm: bool,
    /// Bytes of a payload, at least 40.
    #[arg(long, default_value_t = 128, value_parser = arguments::payload)]
    payload: usize,
}

/// What publishing the history told.
struct History {
    /// Where the subscriber begins; at the earliest if nowhere.
    cursor: Option<String>,
    /// The number of the first message he takes.
    first: u64,
    /// Messages a second, and seconds of the server a million, where they came in batches.
    batches: Option<(f64, f64)>,
}

impl Catchup {
    pub(crate) fn run(&self, server: &Server) -> io::Result<Run> {
        let content = if self.history.is_some() { Content::Line } else { Content::Text };
        let target =
            Target::new(self.transport, server.address, Arc::new(Shape::fitting(content, self.payload)?));
        let history = self.publish(server, &target.shape)?;
        if self.warm {
            self.take(target.clone(), &history, Instant::now())?;
        }
        let meter = Meter::start(server);
        let (mut subscriber, received, seconds) = self.take(target, &history, Instant::now())?;
        let mut later = received;
        subscriber.rest(TAIL, &mut later)?;
        let cost = meter.stop();
        let events = received.events as f64;
        let mut figures = vec![
            ("messages/s", events / seconds),
            ("server CPU s/M messages", cost.server_seconds / events * 1e6),
            ("milliseconds", seconds * 1e3),
            ("events a read", events / received.reads.max(1) as f64),
        ];
        if let Some((rate, cost)) = history.batches {
            figures.extend([("published/s in batches", rate), ("server CPU s/M published", cost)]);
        }
        let faults = subscriber.judged(later, self.messages)?;
        Ok(Run { figures, foreign_cores: cost.foreign_cores, faults })
    }

    /// Takes the messages from where they begin, and returns how long that took since `origin`, by the read that
    /// brought the last.
    fn take(
        &self,
        target: Target,
        history: &History,
        origin: Instant,
    ) -> io::Result<(Subscribers, Received, f64)> {
        let from = history.cursor.as_deref().map_or(From::Earliest, From::After);
        let mut subscriber = Subscribers::open_behind(target, 1, 1, from, history.first)?;
        subscriber.begin(origin);
        let (mut received, mut last) = (Received::default(), 0);
        while received.events < self.messages && origin.elapsed() < Duration::from_nanos(last) + SETTLE {
            subscriber.read(Duration::from_millis(20), &mut received, &mut |_, now| last = now)?;
        }
        Ok((subscriber, received, last as f64 / 1e9))
    }

    fn publish(&self, server: &Server, shape: &Shape) -> io::Result<History> {
        let mut publisher = Publisher::connect(server.address)?;
        let Some(history) = self.history else {
            for number in 0..self.messages {
                publisher.publish(shape, Stamp { number, sent: 0 })?;
            }
            return Ok(History { cursor: None, first: 0, batches: None });
        };
        if history < self.messages {
            return Err(io::Error::other(format!("{} messages of {history}", self.messages)));
        }
        let epoch = epoch(server)?;
        let (meter, began) = (Meter::start(server), Instant::now());
        let mut last = 0;
        for number in (0..history).step_by(BATCH as usize) {
            last = publisher.publish_lines(shape, number..(number + BATCH).min(history))?;
        }
        let (seconds, cost) = (began.elapsed().as_secs_f64(), meter.stop());
        let batches = (history as f64 / seconds, cost.server_seconds / history as f64 * 1e6);
        let cursor = Some(format!("{epoch}-{}", last - self.messages));
        Ok(History { cursor, first: history - self.messages, batches: Some(batches) })
    }

    /// The flags that the server needs to keep the history.
    pub(crate) fn needs(&self) -> Needs {
        let kept = self.history.unwrap_or(self.messages);
        let bytes = kept * (self.payload as u64 + OVERHEAD);
        let least = |name, value, allowed| Some((name, value)).filter(|_| value > allowed);
        let needs = [
            least("--retain-messages", kept, 20_000),
            least("--retain-topic-bytes", bytes, 64 << 20),
            least("--retain-bytes", bytes, 256 << 20),
        ];
        needs.into_iter().flatten().collect()
    }

    /// What a row of the table begins with.
    pub(crate) fn label(&self) -> String {
        let of = self.history.map_or_else(String::new, |history| format!(" of {history}"));
        let warm = if self.warm { ", encoded before" } else { "" };
        format!("{} × {} messages{of}{warm}", self.transport.name(), self.messages)
    }
}

/// The server's epoch, which all its cursors begin with.
pub(crate) fn epoch(server: &Server) -> io::Result<String> {
    let mut poller = connect(server.address, Protocol::Http1)?;
    poller.write_all(&Transport::HttpPoll.request(server.address, TOPIC, From::Now))?;
    let cursor = place(&mut poller)?;
    let epoch = cursor.rsplit_once('-').map(|(epoch, _)| epoch.to_owned());
    epoch.ok_or_else(|| io::Error::other(format!("no cursor: {cursor}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs(messages: u64, history: Option<u64>) -> Needs {
        Catchup { transport: Transport::Ws, messages, history, warm: false, payload: 128 }.needs()
    }

    #[test]
    fn a_history_that_is_small_needs_nothing() {
        assert_eq!(needs(10_000, None), []);
        assert_eq!(needs(10_000, Some(20_000)), []);
    }

    #[test]
    fn a_long_history_needs_room() {
        let bytes = 1_000_000 * 1152;
        let all =
            [("--retain-messages", 1_000_000), ("--retain-topic-bytes", bytes), ("--retain-bytes", bytes)];
        assert_eq!(needs(10_000, Some(1_000_000)), all);
        assert_eq!(
            needs(30_000, None),
            all[..1].iter().map(|_| ("--retain-messages", 30_000)).collect::<Vec<_>>()
        );
    }
}

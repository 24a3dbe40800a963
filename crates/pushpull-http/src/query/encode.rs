//! The inverse of the parser, for client halves.

use std::fmt::{Display, Write};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use pushpull_core::{Conflate, Fetch, Overflow, Start, StartAt, Subscribe, Topics};

use super::{Endpoint, Format};

const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The query that asks for `subscribe` at `endpoint`.
///
/// Always asks for JSON events where the format can be chosen. What the transport does not know (`window`
/// outside WebSocket, `rate` outside streams) is left out: [`Subscription`](pushpull_core::Subscription)
/// keeps it at the consumer's side.
pub fn encode_query(subscribe: &Subscribe, endpoint: Endpoint) -> String {
    let mut out = Pairs::default();
    out.common(&subscribe.topics, subscribe.start, subscribe.overflow, subscribe.conflate);
    if let Some(rate) = subscribe.rate.filter(|_| endpoint.is_stream()) {
        out.pair("rate", rate.as_f64());
    }
    if let Some(window) = subscribe.window.filter(|_| endpoint == Endpoint::WsSubprotocol) {
        out.pair("window", window);
    }
    if endpoint == Endpoint::Sse {
        out.pair("format", Format::Json.as_str());
    }
    out.0
}

/// The query that asks for `fetch` at `endpoint`, which is [`Endpoint::Poll`] or [`Endpoint::Longpoll`].
///
/// A wait is rounded down to whole seconds and left out at [`Endpoint::Poll`].
pub fn encode_fetch(fetch: &Fetch, endpoint: Endpoint) -> String {
    let mut out = Pairs::default();
    out.common(&fetch.topics, fetch.start, fetch.overflow, fetch.conflate);
    out.pair("limit", fetch.limit);
    if endpoint == Endpoint::Longpoll {
        out.pair("wait", fetch.wait.min(Fetch::MAX_WAIT).as_secs());
    }
    out.0
}

#[derive(Default)]
struct Pairs(String);

impl Pairs {
    fn common(&mut self, topics: &Topics, start: StartAt, overflow: Overflow, conflate: Conflate) {
        topics.iter().for_each(|topic| self.pair("topic", topic));
        match start {
            StartAt::After(cursor) => self.pair("after", cursor),
            StartAt::Start(Start::Latest) => {}
            StartAt::Start(start) => self.pair("start", start.as_str()),
        }
        if overflow != Overflow::default() {
            self.pair("overflow", overflow.as_str());
        }
        if conflate == Conflate::Key {
            self.pair("conflate", "key");
        }
    }

    fn pair(&mut self, name: &str, value: impl Display) {
        let value = value.to_string();
        let separator = if self.0.is_empty() { "" } else { "&" };
        // Writing to a String cannot fail.
        let _ = write!(self.0, "{separator}{name}={}", utf8_percent_encode(&value, UNRESERVED));
    }
}

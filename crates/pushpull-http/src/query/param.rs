//! The parameters of a query by name, and their texts.

use std::{borrow::Cow, ops::RangeInclusive};

use percent_encoding::percent_decode_str;
use pushpull_core::Problem;

use super::Endpoint;

const SHOWN_NAME: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Param {
    Topic,
    After,
    LastEventId,
    Start,
    Limit,
    Wait,
    Overflow,
    Conflate,
    Rate,
    Window,
    Format,
    Keepalive,
    AccessToken,
    Batch,
}

impl Param {
    pub(super) const ALL: [Self; 14] = [
        Self::Topic,
        Self::After,
        Self::LastEventId,
        Self::Start,
        Self::Limit,
        Self::Wait,
        Self::Overflow,
        Self::Conflate,
        Self::Rate,
        Self::Window,
        Self::Format,
        Self::Keepalive,
        Self::AccessToken,
        Self::Batch,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::After => "after",
            Self::LastEventId => "lastEventId",
            Self::Start => "start",
            Self::Limit => "limit",
            Self::Wait => "wait",
            Self::Overflow => "overflow",
            Self::Conflate => "conflate",
            Self::Rate => "rate",
            Self::Window => "window",
            Self::Format => "format",
            Self::Keepalive => "keepalive",
            Self::AccessToken => "access_token",
            Self::Batch => "batch",
        }
    }

    /// The parameter of that name, if it belongs at `endpoint`.
    pub(super) fn at(name: &str, endpoint: Endpoint) -> Result<Self, Problem> {
        let found = Self::ALL.into_iter().find(|param| param.name() == name);
        let param = found.ok_or_else(|| Problem::invalid(shown(name), "there is no such parameter"))?;
        match param.belongs(endpoint) {
            true => Ok(param),
            false => Err(param.problem("it does not belong here")),
        }
    }

    fn belongs(self, endpoint: Endpoint) -> bool {
        match self {
            Self::AccessToken => true,
            Self::Batch => endpoint == Endpoint::Publish,
            Self::Limit => endpoint.is_poll(),
            Self::Wait => endpoint == Endpoint::Longpoll,
            Self::Rate => endpoint.is_stream(),
            Self::Window => endpoint == Endpoint::WsSubprotocol,
            Self::Format => matches!(endpoint, Endpoint::WsRaw | Endpoint::Sse),
            Self::Keepalive => endpoint == Endpoint::Sse,
            _ => endpoint.is_stream() || endpoint.is_poll(),
        }
    }

    fn expected(self) -> &'static str {
        match self {
            Self::Topic => "it must be a topic or a pattern",
            Self::After | Self::LastEventId => "it must be a cursor, as in 6qz3k1-1042",
            Self::Start => "it must be latest, earliest, last or snapshot",
            Self::Limit => "it must be a whole number from 1 to 1000",
            Self::Wait => "it must be a whole number of seconds from 0 to 60",
            Self::Overflow => "it must be gap, close or latest",
            Self::Conflate => "it must be key",
            Self::Rate => "it must be a number from 0.1 to 1000",
            Self::Window => "it must be a whole number from 1 to 4294967295",
            Self::Format => "it must be raw or json",
            Self::Keepalive => "it must be place or comment",
            Self::AccessToken => "it must be a bearer token",
            Self::Batch => "it must be ndjson",
        }
    }

    pub(super) fn problem(self, detail: &'static str) -> Problem {
        Problem::invalid(self.name(), detail)
    }

    pub(super) fn bad_value(self) -> Problem {
        self.problem(self.expected())
    }
}

/// A name from outside, as far as it is worth repeating.
fn shown(name: &str) -> String {
    name.chars().take(SHOWN_NAME).collect()
}

/// Percent-decodes `text`, with `plus` for each `+`. `None` if that is no UTF-8.
pub(super) fn decode(text: &str, plus: char) -> Option<Cow<'_, str>> {
    if memchr::memchr2(b'%', b'+', text.as_bytes()).is_none() {
        return Some(text.into());
    }
    if plus == '+' || !text.contains('+') {
        return percent_decode_str(text).decode_utf8().ok();
    }
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8().ok().map(|decoded| Cow::Owned(decoded.into_owned()))
}

/// A whole number in plain decimal form, without sign or leading zeros.
pub(super) fn plain_number(text: &str, range: RangeInclusive<u64>) -> Option<u64> {
    let number = is_plain(text).then(|| text.parse().ok())??;
    range.contains(&number).then_some(number)
}

/// A number in plain decimal form that may have a fraction.
pub(super) fn plain_decimal(text: &str) -> Option<f64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let has_fraction = !fraction.is_empty() && fraction.bytes().all(|byte| byte.is_ascii_digit());
    (is_plain(whole) && has_fraction).then(|| text.parse().ok())?
}

fn is_plain(text: &str) -> bool {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits && (text == "0" || !text.starts_with('0'))
}

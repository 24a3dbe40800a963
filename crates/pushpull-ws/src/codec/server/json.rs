//! `pushpull.v1.json`: client frames read, server frames written.

use std::{borrow::Cow, fmt};

use pushpull_core::{Cursor, Message, Outcome, Problem, Topic, Topics};
use pushpull_http::{
    Endpoint, Query,
    json::{gap_json, parse_payload},
    problem::{problem_json, status_of},
};
use serde::{Deserialize, Deserializer, de};
use serde_json::value::RawValue;

use super::{Asked, ClientFrame, Id, Said, Unread, credit_of};

/// Members of `subscribe` that are parameters of a query. Whether each belongs there, the query says.
const PARAMETERS: [&str; 13] = [
    "topic",
    "after",
    "lastEventId",
    "start",
    "overflow",
    "conflate",
    "rate",
    "window",
    "limit",
    "wait",
    "format",
    "keepalive",
    "batch",
];

type Parsed<T> = Result<T, Unread>;

/// Reads one object.
///
/// # Errors
/// If it is no frame.
pub(super) fn parse(text: &[u8]) -> Parsed<ClientFrame> {
    parse_client_frame(&serde_json::from_slice(text).map_err(|_| Unread::NoFrame)?)
}

/// An object whose members are not looked into.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members: Vec<(Cow<'de, str>, &'de RawValue)> = Vec::new();
                while let Some((Name(name), value)) = map.next_entry()? {
                    if members.iter().any(|(known, _)| *known == name) {
                        return Err(de::Error::custom("a member is given twice"));
                    }
                    members.push((name, value));
                    if members.len() > 64 {
                        return Err(de::Error::custom("too many members"));
                    }
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

fn members(value: &RawValue) -> Parsed<Members<'_>> {
    serde_json::from_str(value.get()).map_err(|_| Unread::NoFrame)
}

fn parse_client_frame(frame: &Members<'_>) -> Parsed<ClientFrame> {
    let [(kind, inner)] = &frame.0[..] else { return Err(Unread::NoFrame) };
    let mut inner = members(inner)?;
    let id = inner.take("id").map(parse_id).transpose()?.flatten();
    let asked = match &**kind {
        "subscribe" => parse_subscribe(inner)?,
        "unsubscribe" => parse_unsubscribe(inner)?,
        "publish" => parse_publish(inner)?,
        "credit" => parse_credit(inner)?,
        _ => return Err(Unread::NoFrame),
    };
    Ok(ClientFrame { id, asked })
}

impl<'a> Members<'a> {
    fn take(&mut self, name: &str) -> Option<&'a RawValue> {
        let at = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.swap_remove(at).1)
    }

    /// A string; `null` is none.
    fn take_text(&mut self, name: &str) -> Parsed<Option<String>> {
        let Some(value) = self.take(name) else { return Ok(None) };
        serde_json::from_str(value.get()).map_err(|_| Unread::NoFrame)
    }

    fn finish(self) -> Parsed<()> {
        if self.0.is_empty() { Ok(()) } else { Err(Unread::NoFrame) }
    }
}

fn parse_id(value: &RawValue) -> Parsed<Option<Id>> {
    match value.get().as_bytes()[0] {
        b'n' => Ok(None),
        b'"' | b'-' | b'0'..=b'9' => Ok(Some(Id::Json(value.get().into()))),
        _ => Err(Unread::NoFrame),
    }
}

fn parse_texts(value: &RawValue) -> Parsed<Vec<String>> {
    serde_json::from_str(value.get()).map_err(|_| Unread::NoFrame)
}

/// The text of a string or a number, as a query would have it.
fn scalar(value: &RawValue) -> Parsed<String> {
    match value.get().as_bytes()[0] {
        b'"' => serde_json::from_str(value.get()).map_err(|_| Unread::NoFrame),
        b'-' | b'0'..=b'9' => Ok(value.get().to_owned()),
        _ => Err(Unread::NoFrame),
    }
}

fn parse_subscribe(mut inner: Members<'_>) -> Parsed<Asked> {
    let topics = inner.take("topics").map(parse_texts).transpose()?.unwrap_or_default();
    let mut pairs: Vec<(Cow<'_, str>, String)> =
        topics.into_iter().map(|topic| ("topic".into(), topic)).collect();
    let options: Vec<_> = inner.0.into_iter().filter(|(name, _)| !name.starts_with('_')).collect();
    let option = options.first().map(|(name, _)| name.clone().into_owned());
    for (name, value) in options {
        if name == "access_token" {
            let detail = "it belongs into the query or the header";
            return Ok(Asked::Subscribe { wanted: Err(Problem::invalid("access_token", detail)), option });
        }
        if !PARAMETERS.contains(&&*name) {
            return Err(Unread::NoFrame);
        }
        pairs.push((name, scalar(value)?));
    }
    let query = Query::from_pairs(pairs, Endpoint::WsSubprotocol);
    let wanted = query.and_then(|query| query.subscribe(None)).map(Box::new);
    Ok(Asked::Subscribe { wanted, option })
}

fn parse_unsubscribe(mut inner: Members<'_>) -> Parsed<Asked> {
    let topics = inner.take("topics").map(parse_texts).transpose()?.unwrap_or_default();
    inner.finish()?;
    let entries: Result<Vec<_>, _> = topics.iter().map(|topic| topic.parse()).collect();
    Ok(Asked::Unsubscribe(entries.and_then(Topics::new).map_err(Problem::from)))
}

fn parse_credit(mut inner: Members<'_>) -> Parsed<Asked> {
    let events = inner.take("events").map(scalar).transpose()?.unwrap_or_default();
    inner.finish()?;
    Ok(Asked::Credit(credit_of(events.parse().ok())))
}

fn parse_publish(mut inner: Members<'_>) -> Parsed<Asked> {
    let mut text = |name| inner.take_text(name);
    let (topic, content_type, data64) = (text("topic")?, text("type")?, text("data64")?);
    let (event, key, idempotency) = (text("event")?, text("key")?, text("idempotency")?);
    let data = inner.take("data");
    inner.finish()?;
    let made = || {
        let topic = Topic::new(&topic.unwrap_or_default())?;
        let content_type = content_type.unwrap_or_else(|| "application/json".to_owned());
        let payload = parse_payload(&content_type, data, data64.as_deref())
            .map_err(|problem| Problem::invalid("data", problem.detail().to_owned()))?;
        let mut message = Message::new(payload).with_content_type(content_type);
        if let Some(event) = event {
            message = message.with_name(event);
        }
        if let Some(key) = key {
            message = message.with_key(key);
        }
        if let Some(id) = idempotency {
            message = message.with_idempotency(id);
        }
        Ok((topic, vec![message.check()?]))
    };
    Ok(Asked::Publish(made()))
}

/// The object that says it.
pub(super) fn write(said: &Said<'_>) -> String {
    match *said {
        Said::Gap(gap) => gap_json(gap),
        Said::Ok { id, place } => format!(r#"{{"ok":{{"id":{id}{}}}}}"#, Behind(place)),
        Said::Published { id, published } => {
            format!(r#"{{"published":{{"id":{id},"cursor":"{}"}}}}"#, published.last)
        }
        Said::Heartbeat { place: Some(place), conflated } => {
            format!(r#"{{"heartbeat":{{"cursor":"{place}","conflated":{conflated}}}}}"#)
        }
        Said::Heartbeat { place: None, conflated } => {
            format!(r#"{{"heartbeat":{{"conflated":{conflated}}}}}"#)
        }
        Said::Error { id, problem, outcome } => error(id, problem, outcome),
        Said::Goaway { retry, place } => {
            format!(r#"{{"goaway":{{"retry":{}{}}}}}"#, retry.as_millis(), Behind(place))
        }
    }
}

fn error(id: Option<&Id>, problem: &Problem, outcome: Option<Outcome>) -> String {
    let members = problem_json(status_of(problem, outcome), problem, outcome);
    match id {
        Some(id) => format!(r#"{{"error":{{"id":{id},{}}}"#, &members[1..]),
        None => format!(r#"{{"error":{members}}}"#),
    }
}

/// The member `cursor` behind others, if there is a place.
struct Behind(Option<Cursor>);

impl fmt::Display for Behind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |place| write!(f, r#","cursor":"{place}""#))
    }
}

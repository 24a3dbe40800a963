//! The answer of a poll (wire contract, section 4).

use bytes::Bytes;
use pushpull_core::{Batch, Cursor, Delivery, ErrorKind, Problem};
use serde::Deserialize;

use super::{Item, Wire, event_json, gap_json, write_value};

/// Bytes of a page around its events: the words, and a cursor of at most 34.
const FRAME: usize = 72;

#[derive(Deserialize)]
struct WirePage<'a> {
    #[serde(borrow)]
    events: Vec<Wire<'a>>,
    cursor: Cursor,
    more: bool,
}

/// The body of a poll's answer: `{"events":[...],"cursor":"...","more":false}`.
///
/// Places and links among the deliveries are left out; where to go on from is `batch.place`.
pub fn page_json(batch: &Batch) -> Bytes {
    let payload = |delivery: &Delivery| match delivery {
        Delivery::Event(event) => event.payload().len() + 192,
        _ => 192,
    };
    let mut out = Vec::with_capacity(batch.deliveries.iter().map(payload).sum::<usize>() + 64);
    out.extend(br#"{"events":["#);
    let start = out.len();
    for delivery in &batch.deliveries {
        let before = out.len();
        if before > start {
            out.push(b',');
        }
        match delivery {
            Delivery::Event(event) => out.extend(&event_json(event)[..]),
            Delivery::Gap(gap) => out.extend(gap_json(gap).as_bytes()),
            _ => out.truncate(before),
        }
    }
    match batch.place {
        Some(place) => write_value(r#"],"cursor":""#, &place, &mut out),
        None => out.extend(br#"],"cursor":"#),
    }
    out.extend(if batch.place.is_some() { &b"\",\"more\":"[..] } else { b"null,\"more\":" });
    out.extend(if batch.more { &b"true}"[..] } else { b"false}" });
    out.into()
}

/// Cuts `batch` so that its page has at most `max` bytes; one event is kept even if it is larger. The place is
/// then that of the last event kept, and `more` is set.
///
/// A snapshot must not be cut: its events are no places to go on from.
pub fn cut_page(batch: &mut Batch, max: usize) {
    let mut bytes = FRAME;
    let mut kept = None;
    for (at, delivery) in batch.deliveries.iter().enumerate() {
        bytes += 1 + match delivery {
            Delivery::Event(event) => event_json(event).len(),
            Delivery::Gap(gap) => gap_json(gap).len(),
            _ => continue,
        };
        if let (true, Some((end, place))) = (bytes > max, kept) {
            // A gap that stood last is told again to who goes on from the event before it.
            batch.deliveries.truncate(end);
            batch.place = Some(place);
            batch.more = true;
            return;
        }
        if let Delivery::Event(event) = delivery {
            kept = Some((at + 1, event.cursor()));
        }
    }
}

/// Reads the body of a poll's answer. Unknown members are ignored.
///
/// # Errors
/// [`ErrorKind::Protocol`] if it is none.
pub fn parse_page(text: &[u8]) -> Result<Batch, Problem> {
    let page: WirePage<'_> = serde_json::from_slice(text).map_err(|error| {
        Problem::new(ErrorKind::Protocol, "the answer of a poll does not read").with_source(error)
    })?;
    let mut batch = Batch::default();
    for wire in page.events {
        batch.deliveries.push(match Item::try_from(wire)? {
            Item::Event(event) => Delivery::Event(event),
            Item::Gap(gap) => Delivery::Gap(gap),
        });
    }
    batch.place = Some(page.cursor);
    batch.more = page.more;
    Ok(batch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pushpull_core::{Event, EventParts, Gap, GapReason, Link, Message, Prev};

    fn at(text: &str) -> Cursor {
        text.parse().unwrap()
    }

    fn batch() -> Batch {
        let event = |seq: &str| {
            Delivery::Event(Event::new(EventParts {
                topic: "a.b".parse().unwrap(),
                cursor: at(seq),
                prev: Prev::Unknown,
                time_ms: 5,
                message: Message::json(&1).unwrap(),
            }))
        };
        let gap = Gap::new(at("e-1"), at("e-3"), at("e-1"), GapReason::Evicted);
        let mut batch = Batch::default();
        batch.deliveries = vec![
            Delivery::Place(at("e-1")),
            Delivery::Gap(gap),
            event("e-3"),
            Delivery::Link(Link::Connected),
            event("e-4"),
        ];
        batch.place = Some(at("e-9"));
        batch.more = true;
        batch
    }

    #[test]
    fn a_page_is_written_and_read_back() {
        let text = page_json(&batch());
        let event = |seq| {
            format!(r#"{{"topic":"a.b","cursor":"e-{seq}","time":5,"type":"application/json","data":1}}"#)
        };
        let expected = format!(
            r#"{{"events":[{{"gap":{{"after":"e-1","before":"e-3","cursor":"e-1","reason":"evicted"}}}},{},{}],"cursor":"e-9","more":true}}"#,
            event(3),
            event(4)
        );
        assert_eq!(std::str::from_utf8(&text).unwrap(), expected);
        let read = parse_page(&text).unwrap();
        assert_eq!((read.place, read.more, read.deliveries.len()), (Some(at("e-9")), true, 3));
        assert_eq!(page_json(&read), text);
    }

    #[test]
    fn an_empty_page_has_its_place() {
        let mut empty = Batch::default();
        assert_eq!(page_json(&empty), r#"{"events":[],"cursor":null,"more":false}"#);
        empty.place = Some(at("e-0"));
        assert_eq!(page_json(&empty), r#"{"events":[],"cursor":"e-0","more":false}"#);
    }

    #[test]
    fn a_page_is_cut_after_its_last_whole_event() {
        let full = page_json(&batch()).len();
        let cut = |max| {
            let mut cut = batch();
            cut.more = false;
            cut_page(&mut cut, max);
            (cut.events(), cut.place.map(|place| place.seq()), cut.more, page_json(&cut).len())
        };
        assert_eq!(cut(full + FRAME), (2, Some(9), false, full + 1));
        let (events, place, more, bytes) = cut(full - 1);
        assert_eq!((events, place, more), (1, Some(3), true));
        assert!(bytes < full - 1);
        assert_eq!(cut(0).0, 1, "one event comes however large it is");
        let mut ended = batch();
        ended.deliveries.swap(2, 4);
        ended.deliveries.swap(3, 1);
        cut_page(&mut ended, 0);
        assert!(matches!(ended.deliveries.last(), Some(Delivery::Event(_))), "no gap stands last");
    }

    #[test]
    fn what_is_no_page_is_refused() {
        for bad in [
            "",
            "{}",
            "[]",
            r#"{"events":[],"more":false}"#,
            r#"{"events":[{}],"cursor":"e-1","more":false}"#,
        ] {
            assert_eq!(parse_page(bad.as_bytes()).unwrap_err().kind(), ErrorKind::Protocol, "{bad}");
        }
    }
}

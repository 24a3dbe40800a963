//! The protobuf messages of the wire contract, section 5, and what lies between them and what the core says.
//!
//! [`v1`] is the package `pushpull.v1`, generated from `proto/pushpull/v1/pushpull.proto`. Each adapter whose messages
//! are protobuf speaks by these functions, whatever it wraps them in; see `docs/decisions/0011`.

mod ask;
mod asked;
mod bounded;
mod frame;
mod received;

#[rustfmt::skip]
#[path = "gen/pushpull.v1.rs"]
#[allow(missing_docs, unused_qualifications, unreachable_pub, clippy::all, clippy::use_self, clippy::allow_attributes_without_reason, reason = "generated")]
pub mod v1;

pub use {
    ask::{ask_fetch, ask_publish, ask_subscribe},
    asked::{fetch_of, messages_of, option_given, subscribe_of, topics_of},
    bounded::{Counted, client_frame_in, is_bounded},
    frame::{error, event_frame, gap_frame, goaway, heartbeat, ok, published},
    received::{Frame, cursor_in, frame_in, place_in},
};

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU32, time::Duration};

    use prost::Message as _;
    use pushpull_core::{
        Conflate, Cursor, Delivery, Epoch, ErrorKind, Event, EventParts, Fetch, Gap, GapReason, Message,
        Overflow, Prev, Rate, Start, StartAt, Subscribe, View,
    };

    use super::v1::ServerFrame;
    use super::*;
    use crate::problem::MAX_BATCH;

    fn at(seq: u64) -> Cursor {
        Cursor::new(Epoch::from_random(7), seq)
    }

    fn arrived(frame: &ServerFrame) -> Delivery {
        match frame_in(ServerFrame::decode(&frame.encode_to_vec()[..]).unwrap()).unwrap() {
            Frame::Delivery(delivery) => delivery,
            other => panic!("no delivery: {other:?}"),
        }
    }

    #[test]
    fn an_event_arrives_as_it_was_sent() {
        let plain = Message::new(vec![0, 255]);
        let full = Message::text("ü").with_name("trade").with_key("K");
        for (message, prev, view) in [
            (plain.clone(), Prev::First, View::Plain),
            (full.clone(), Prev::At(at(2)), View::Plain),
            (full.clone(), Prev::At(at(2)), View::Thinned),
            (plain, Prev::Unknown, View::Plain),
            (full, Prev::First, View::Snapshot),
        ] {
            let topic = "a.b".parse().unwrap();
            let sent = EventParts { topic, cursor: at(3), prev, time_ms: 17, message };
            let sent = Event::new(sent).shown(view);
            let Delivery::Event(got) = arrived(&event_frame(&sent)) else { panic!("no event") };
            let seen = |event: &Event| {
                let texts =
                    [Some(event.content_type()), event.name(), event.key()].map(|it| it.map(str::to_owned));
                (event.topic().clone(), event.cursor(), event.prev(), event.time_ms(), texts)
            };
            assert_eq!(seen(&got), seen(&sent));
            assert_eq!((got.payload(), got.is_snapshot()), (sent.payload(), sent.is_snapshot()));
        }
    }

    #[test]
    fn a_gap_arrives_as_it_was_sent() {
        for reason in GapReason::ALL {
            let sent = Gap::new(at(1), at(9), at(4), reason);
            assert!(matches!(arrived(&gap_frame(&sent)), Delivery::Gap(got) if got == sent), "{reason}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..64)) {
            use v1::client_frame::Frame as Asked;
            // As it is, and as the inside of each thing a frame may say.
            let inside = (1..8).map(|number| [&[number << 3 | 2, bytes.len() as u8], &bytes[..]].concat());
            for bytes in inside.chain([bytes.clone()]) {
                if let Some(said) = client_frame_in(bytes.clone().into()).ok().and_then(|frame| frame.frame) {
                    let _ = match said {
                        Asked::Subscribe(asked) => subscribe_of(&asked).map(drop),
                        Asked::Unsubscribe(asked) => topics_of(&asked.topics).map(drop),
                        Asked::Publish(asked) => messages_of(asked).map(drop),
                        Asked::Credit(_) => Ok(()),
                    };
                }
                let _ = ServerFrame::decode(&bytes[..]).map(frame_in);
            }
        }
    }

    #[test]
    fn a_payload_keeps_nothing_of_the_frame_it_came_in() {
        let one = v1::Message { payload: vec![7; 100].into(), ..v1::Message::default() };
        let asked = v1::PublishRequest { topic: "a".into(), messages: vec![one; 2], ..Default::default() };
        let bytes = bytes::Bytes::from(asked.encode_to_vec());
        let frame = bytes.as_ptr_range();
        let (_, messages) = messages_of(v1::PublishRequest::decode(bytes).unwrap()).unwrap();
        assert_eq!(messages.len(), 2);
        for message in messages {
            assert_eq!(message.payload()[..], [7; 100]);
            assert!(!frame.contains(&message.payload().as_ptr()));
        }
    }

    #[test]
    fn a_batch_of_too_many_messages_is_too_large() {
        let asked = |count| v1::PublishRequest {
            topic: "a".into(),
            messages: vec![v1::Message::default(); count],
            ..Default::default()
        };
        assert_eq!(messages_of(asked(MAX_BATCH)).unwrap().1.len(), 10_000);
        let problem = messages_of(asked(MAX_BATCH + 1)).unwrap_err();
        assert_eq!((problem.kind(), problem.parameter()), (ErrorKind::TooLarge, Some("messages")));
    }

    #[test]
    fn what_is_asked_for_arrives() {
        for start in [
            StartAt::After(at(5)),
            Start::Latest.into(),
            Start::Earliest.into(),
            Start::Last.into(),
            Start::Snapshot.into(),
        ] {
            for overflow in [Overflow::Gap, Overflow::Close, Overflow::Latest] {
                let mut asked = Subscribe::to("a.*").unwrap().and("b").unwrap().from(start);
                (asked.overflow, asked.conflate) = (overflow, Conflate::Key);
                (asked.rate, asked.window) = (Rate::per_second(2.5), NonZeroU32::new(3));
                let got = subscribe_of(&ask_subscribe(&asked)).unwrap();
                assert_eq!(format!("{got:?}"), format!("{asked:?}"));
                let mut fetch = Fetch::like(&asked).with_limit(7).with_wait(Duration::from_secs(9));
                fetch.conflate = Conflate::Off;
                match fetch_of(&ask_fetch(&fetch)) {
                    Ok(got) => assert_eq!(format!("{got:?}"), format!("{fetch:?}")),
                    Err(problem) => {
                        assert_eq!((problem.parameter(), overflow), (Some("overflow"), Overflow::Latest))
                    }
                }
            }
        }
    }
}

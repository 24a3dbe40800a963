use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::frame::{self, BINARY, TEXT};

const KEY: [u8; 4] = [1, 2, 3, 4];

fn server() -> Decoder {
    Decoder::new(Side::Server, 1 << 20)
}

/// All messages of `bytes`, fed in pieces that end at `cuts`, and the fault that ended it.
fn decoded(decoder: &mut Decoder, bytes: &[u8], cuts: &[usize]) -> (Vec<Message>, Option<Fault>) {
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    ends.push(bytes.len());
    ends.sort_unstable();
    let (mut messages, mut from) = (Vec::new(), 0);
    for end in ends {
        let mut piece = &bytes[from..end];
        from = end;
        loop {
            match decoder.decode(&mut piece) {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(fault) => return (messages, Some(fault)),
            }
        }
        assert!(piece.is_empty());
    }
    (messages, None)
}

#[test]
fn a_client_takes_unmasked_frames_only() {
    let mut client = Decoder::new(Side::Client, 100);
    let told = decoded(&mut client, b"\x81\x02hi\x89\x00\x88\x02\x03\xe9", &[]);
    let closing = Message::Close(Some(Closing::new(1001, "")));
    assert_eq!(told, (vec![Message::Text("hi".into()), Message::Ping(Bytes::new()), closing], None));
    let masked = frame::encode(TEXT, b"hi", Some(KEY));
    assert_eq!(decoded(&mut Decoder::new(Side::Client, 100), &masked, &[]).1.unwrap().code, 1002);
}

#[test]
fn fragments_are_counted() {
    let mut bytes = vec![0x02, 0x80, 0, 0, 0, 0];
    bytes.extend([0x00, 0x80, 0, 0, 0, 0].repeat(MAX_FRAGMENTS as usize - 1));
    let mut decoder = server();
    assert_eq!(decoded(&mut decoder, &bytes, &[]), (vec![], None));
    assert_eq!(decoded(&mut decoder, &[0x80, 0x80, 0, 0, 0, 0], &[]).1.unwrap().code, 1008);
}

#[test]
fn a_message_is_at_most_what_was_said_and_four_gibibytes() {
    let most = u64::from(u32::MAX);
    for (limit, most) in [(0, 0), (70_000, 70_000), (usize::MAX, most), (u32::MAX as usize, most)] {
        for (length, code) in [(most, None), (most + 1, Some(close::TOO_BIG))] {
            let mut bytes = vec![0x82];
            match length {
                0..=125 => bytes.push(u8::try_from(length).unwrap()),
                _ => bytes.extend([&[127][..], &length.to_be_bytes()].concat()),
            }
            let (_, fault) = decoded(&mut Decoder::new(Side::Client, limit), &bytes, &[]);
            assert_eq!(fault.map(|fault| fault.code), code, "{length} bytes of {limit}");
        }
    }
}

#[test]
fn between_two_messages_it_holds_nothing() {
    let mut decoder = server();
    decoded(&mut decoder, &frame::encode(BINARY, &[7; 5000], Some(KEY)), &[17, 900]);
    assert!(decoder.begun.is_none());
}

#[test]
fn a_declared_length_reserves_nothing() {
    let mut decoder = server();
    let mut head: &[u8] = &[0x82, 0xff, 0, 0, 0, 0, 0, 0x10, 0, 0, 1, 2, 3, 4, 5];
    assert_eq!(decoder.decode(&mut head), Ok(None));
    assert!(decoder.begun.as_ref().unwrap().message.as_ref().unwrap().payload.capacity() < 100);
}

#[derive(Clone, Debug)]
enum Sent {
    Data(bool, Vec<Vec<u8>>),
    Ping(Vec<u8>),
}

fn sent() -> impl Strategy<Value = Sent> {
    prop_oneof![
        proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 1..4)
            .prop_map(|parts| Sent::Data(false, parts)),
        "\\PC{0,40}".prop_flat_map(|text| (Just(text), any::<prop::sample::Index>())).prop_map(
            |(text, cut)| {
                let cut = cut.index(text.len() + 1);
                let (first, second) = text.as_bytes().split_at(cut);
                Sent::Data(true, vec![first.to_vec(), second.to_vec()])
            }
        ),
        proptest::collection::vec(any::<u8>(), 0..=125).prop_map(Sent::Ping),
    ]
}

/// The frames of `sent` by a writer that shares nothing with the reader but the standard.
fn written(sent: &[Sent]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut frame = |first: u8, payload: &[u8]| {
        out.push(first);
        match payload.len() {
            length @ 0..=125 => out.push(0x80 | length as u8),
            length => {
                out.push(0x80 | 126);
                out.extend((length as u16).to_be_bytes());
            }
        }
        out.extend(KEY);
        out.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ KEY[at % 4]));
    };
    for one in sent {
        match one {
            Sent::Ping(payload) => frame(0x89, payload),
            Sent::Data(is_text, parts) => {
                for (at, part) in parts.iter().enumerate() {
                    let opcode = if at > 0 { 0 } else { 2 - u8::from(*is_text) };
                    frame(opcode | if at + 1 == parts.len() { 0x80 } else { 0 }, part);
                }
            }
        }
    }
    out
}

proptest! {
    #[test]
    fn messages_survive_any_cut(
        sent in proptest::collection::vec(sent(), 0..6),
        cuts in proptest::collection::vec(any::<usize>(), 0..12),
    ) {
        let expected: Vec<Message> = sent.iter().map(|one| match one {
            Sent::Data(true, parts) => Message::Text(parts.concat().into()),
            Sent::Data(false, parts) => Message::Binary(parts.concat().into()),
            Sent::Ping(payload) => Message::Ping(payload.clone().into()),
        }).collect();
        prop_assert_eq!(decoded(&mut server(), &written(&sent), &cuts), (expected, None));
    }

    #[test]
    fn no_bytes_make_it_panic_and_cuts_change_nothing(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        cuts in proptest::collection::vec(any::<usize>(), 0..12),
        deflate: bool,
    ) {
        let decoder = || Decoder::new(Side::Server, 100).with_deflate(deflate);
        let whole = decoded(&mut decoder(), &bytes, &[]);
        prop_assert_eq!(decoded(&mut decoder(), &bytes, &cuts), whole);
    }
}

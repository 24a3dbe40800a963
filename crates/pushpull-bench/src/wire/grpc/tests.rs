use super::{
    super::{
        http2::CALL,
        protobuf::tests::{bytes_field, event_frame},
    },
    *,
};

fn frame(kind: Kind, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    http2::put(&mut bytes, kind, flags, stream, payload);
    bytes
}

fn settings() -> Vec<u8> {
    frame(Kind::Settings, 0, 0, b"\0\x03\0\0\0\x64")
}

fn head() -> Vec<u8> {
    frame(Kind::Headers, END_HEADERS, CALL, b"\x20\x88\x40")
}

fn place() -> Vec<u8> {
    message(&bytes_field(3, &bytes_field(1, b"a-1")))
}

fn data(bytes: &[u8]) -> Vec<u8> {
    frame(Kind::Data, 0, CALL, bytes)
}

fn event(cursor: &str, payload: &[u8]) -> Vec<u8> {
    message(&event_frame("t", cursor, payload))
}

/// What a server sends, the messages cut into DATA frames of `size` bytes.
fn stream(size: usize, messages: &[u8]) -> Vec<u8> {
    let data = messages.chunks(size).flat_map(data).collect();
    [settings(), frame(Kind::Settings, ACK, 0, &[]), frame(Kind::WindowUpdate, 0, 0, &[0; 4]), head(), data]
        .concat()
}

fn read(bytes: &[u8]) -> io::Result<(Reader, Vec<Vec<u8>>)> {
    let (mut reader, mut payloads) = (Reader::default(), Vec::new());
    assert_eq!(reader.take(bytes, "t", &mut |payload| payloads.push(payload.to_vec()))?, bytes.len());
    Ok((reader, payloads))
}

/// How a server answers a call: the place, and events of `topic` with `payloads`, one after the other, the first in
/// the place's frame; then a ping.
pub(crate) fn answered(topic: &str, payloads: &[&[u8]]) -> Vec<u8> {
    let event = |(payload, seq)| message(&event_frame(topic, &format!("a-{seq}"), payload));
    let events = payloads.iter().copied().zip(2..).flat_map(event).collect();
    [stream(200, &[place(), events].concat()), frame(Kind::Ping, 0, 0, b"pingpong")].concat()
}

fn refused(bytes: &[u8]) -> String {
    read(bytes).map(|(_, payloads)| payloads).unwrap_err().to_string()
}

#[test]
fn events_span_frames_and_frames_span_reads() {
    let long = vec![b'l'; 150];
    let padding = message(&bytes_field(15, b"    "));
    let messages = [place(), event("a-2", b"one"), padding, event("a-3", &long), event("a-9", b"")].concat();
    for size in [1, 5, 6, 200, messages.len()] {
        let bytes = stream(size, &messages);
        for cut in 0..bytes.len() {
            let (mut reader, mut payloads) = (Reader::default(), Vec::new());
            let mut take = |payload: &[u8]| payloads.push(payload.to_vec());
            let done = reader.take(&bytes[..cut], "t", &mut take).unwrap();
            assert_eq!(reader.take(&bytes[done..], "t", &mut take).unwrap(), bytes.len() - done);
            assert_eq!(payloads, [b"one".to_vec(), long.clone(), Vec::new()], "{size} bytes, cut at {cut}");
            assert_eq!(reader.stage(), Stage::Stands);
        }
    }
}

#[test]
fn the_call_stands_once_its_place_is_told() {
    let bytes = stream(64, &place());
    let stages: Vec<Stage> = [0, settings().len(), bytes.len() - data(&place()).len(), bytes.len()]
        .map(|end| read(&bytes[..end]).unwrap().0.stage())
        .into();
    assert_eq!(stages, [Stage::Called, Stage::Connected, Stage::Accepted, Stage::Stands]);
}

#[test]
fn settings_and_pings_are_acknowledged() {
    let ping = frame(Kind::Ping, 0, 0, b"12345678");
    let acknowledged = frame(Kind::Ping, ACK, 0, b"87654321");
    let unknown = [0, 0, 1, 0x20, 0xff, 0, 0, 0, 5, 7];
    let bytes = [settings(), ping, acknowledged, unknown.to_vec()].concat();
    let (mut reader, _) = read(&bytes).unwrap();
    let wanted = [frame(Kind::Settings, ACK, 0, &[]), frame(Kind::Ping, ACK, 0, b"12345678")].concat();
    assert_eq!((reader.replies(), reader.replies()), (wanted, Vec::new()));
}

#[test]
fn half_a_window_is_granted_again_and_a_whole_one_is_the_most() {
    let (mut reader, _) = read(&stream(64, &place())).unwrap();
    let began = place().len();
    reader.replies();
    let padding = data(&message(&bytes_field(15, &[0; 8000])));
    let (mut sent, mut granted) = (began, Vec::new());
    while granted.is_empty() {
        reader.take(&padding, "t", &mut |_| {}).unwrap();
        sent += padding.len() - 9;
        granted = reader.replies();
    }
    assert!((WINDOW as usize / 2..WINDOW as usize / 2 + 16_384).contains(&sent), "{sent}");
    let wanted = [0, CALL].map(|stream| frame(Kind::WindowUpdate, 0, stream, &(sent as u32).to_be_bytes()));
    assert_eq!(granted, wanted.concat());
    let all = data(&[0; 16_384]);
    reader.owed = WINDOW - 16_384;
    reader.take(&all, "t", &mut |_| {}).unwrap();
    reader.owed = WINDOW - 16_383;
    assert!(reader.take(&all, "t", &mut |_| {}).is_err());
}

#[test]
fn an_event_out_of_its_place_is_an_error() {
    let out_of_place = "an event out of its place";
    let twice = [place(), event("a-2", b"x"), event("a-2", b"x")].concat();
    let foreign = [place(), message(&event_frame("u", "a-2", b"x"))].concat();
    for messages in [twice, foreign, event("a-2", b"x"), [place(), event("a2", b"x")].concat()] {
        let error = refused(&stream(64, &messages));
        assert!(error.starts_with(out_of_place), "{error}");
    }
}

#[test]
fn the_end_of_a_call_is_an_error_that_names_it() {
    let begun = stream(64, &place());
    let ended = |bytes: Vec<u8>| refused(&[begun.clone(), bytes].concat());
    let trailers = b"\x00\x88\x9a\xca\xc8\xb2\x12\x34\xda\x8f\x82\x0b\x5f";
    let flags = END_HEADERS | END_STREAM;
    assert_eq!(
        ended(frame(Kind::Headers, flags, CALL, trailers)),
        "the server ended the call, by UNAVAILABLE"
    );
    assert_eq!(ended(frame(Kind::Reset, 0, CALL, &[0, 0, 0, 8])), "the server sent RST_STREAM: CANCEL ");
    assert_eq!(ended(frame(Kind::GoAway, 0, 0, &[0; 8])), "the server sent GOAWAY: NO_ERROR ");
    assert!(ended(data(&message(&bytes_field(2, b"")))).starts_with("the server said gap"));
}

#[test]
fn what_may_not_be_is_an_error() {
    for bytes in [
        head(),
        frame(Kind::Settings, ACK, 0, &[]),
        [settings(), data(&place())].concat(),
        [settings(), frame(Kind::Headers, END_HEADERS, CALL, b"\x8d")].concat(),
        [settings(), frame(Kind::Headers, 0, CALL, b"\x88")].concat(),
        [settings(), head(), head()].concat(),
        [settings(), head(), frame(Kind::Data, END_STREAM, CALL, &place())].concat(),
        [settings(), frame(Kind::Push, 0, CALL, &[0; 8])].concat(),
        [settings(), head(), data(b"\x01\0\0\0\0")].concat(),
        [settings(), head(), data(b"\0\0\x40\0\x01")].concat(),
    ] {
        let error = refused(&bytes);
        assert!(error.starts_with("HTTP/2 that may not be"), "{error}");
    }
}

#[test]
fn a_request_is_one_message() {
    let bytes = request(([127, 0, 0, 1], 80).into(), "t", From::Earliest);
    assert!(bytes.ends_with(b"\0\0\x0a\0\x01\0\0\0\x01\0\0\0\0\x05\x0a\x01t\x18\x02"));
    assert!(bytes.windows(32).any(|part| part == b"\x1f/pushpull.v1.Delivery/Subscribe"));
}

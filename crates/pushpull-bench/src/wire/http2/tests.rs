use super::*;

#[test]
fn a_frame_is_whole_or_not_there() {
    let mut bytes = Vec::new();
    put(&mut bytes, Kind::Data, END_STREAM, CALL, b"payload");
    let cut = bytes.clone();
    for cut in (0..bytes.len()).map(|at| &cut[..at]) {
        assert_eq!(frame(cut).unwrap(), None);
    }
    bytes.extend_from_slice(b"next");
    bytes[5] |= 0x80; // A bit that means nothing (4.1).
    let whole = frame(&bytes).unwrap().unwrap();
    assert_eq!(whole.length(), bytes.len() - 4);
    assert_eq!(whole, Frame { kind: Some(Kind::Data), flags: 1, stream: 1, payload: b"payload" });
}

#[test]
fn no_frame_is_longer_than_agreed() {
    assert_eq!(length(&[0, 0x40, 0]).unwrap(), Some(HEADER + 16_384));
    assert!(length(&[0, 0x40, 1]).is_err());
    assert!(frame(&[0x01, 0, 0, 0, 0, 0, 0, 0, 1]).is_err());
}

#[test]
fn padding_is_no_content() {
    let padded = |payload| Frame { kind: Some(Kind::Data), flags: PADDED, stream: CALL, payload };
    assert_eq!(padded(b"\x02text\0\0").content().unwrap(), b"text");
    assert_eq!(padded(b"\x04text").content().unwrap(), b"");
    assert!(padded(b"\x05text").content().is_err());
    assert!(padded(b"").content().is_err());
}

#[test]
fn frames_have_the_length_and_stream_of_their_kind() {
    let checked = |kind, flags, stream, length: usize| {
        Frame { kind, flags, stream, payload: &[0; 12][..length] }.check().is_ok()
    };
    for (kind, flags, stream, length) in [
        (Kind::Data, 0, 1, 0),
        (Kind::Headers, END_HEADERS, 1, 3),
        (Kind::Reset, 0, 1, 4),
        (Kind::Settings, 0, 0, 12),
        (Kind::Settings, ACK, 0, 0),
        (Kind::Ping, 0, 0, 8),
        (Kind::GoAway, 0, 0, 8),
        (Kind::WindowUpdate, 0, 1, 4),
    ] {
        assert!(checked(Some(kind), flags, stream, length), "{kind:?}");
        assert!(!checked(Some(kind), flags, 3, length), "{kind:?} on another stream");
    }
    for (kind, flags, stream, length) in [
        (Kind::Headers, END_HEADERS | PRIORITY, 1, 12),
        (Kind::Reset, 0, 1, 5),
        (Kind::Settings, 0, 0, 11),
        (Kind::Settings, ACK, 0, 6),
        (Kind::Ping, 0, 0, 7),
        (Kind::GoAway, 0, 0, 7),
        (Kind::WindowUpdate, 0, 0, 3),
        (Kind::Push, 0, 1, 4),
        (Kind::Continuation, 0, 1, 4),
    ] {
        assert!(!checked(Some(kind), flags, stream, length), "{kind:?} of {length}");
    }
    assert!(checked(None, 0, 7, 5), "an unknown kind is passed over");
}

#[test]
fn a_refusal_is_named() {
    let named =
        |kind, payload| Frame { kind: Some(kind), flags: 0, stream: 0, payload }.refusal().to_string();
    let told = named(Kind::GoAway, b"\0\0\0\x01\0\0\0\x0btoo many");
    assert_eq!(told, "the server sent GOAWAY: ENHANCE_YOUR_CALM too many");
    assert_eq!(named(Kind::Reset, b"\0\0\0\x07"), "the server sent RST_STREAM: REFUSED_STREAM ");
    assert_eq!(named(Kind::Reset, b"\0\0\0\x0e"), "the server sent RST_STREAM: code 0xe ");
}

#[test]
fn a_call_is_preface_settings_head_and_message() {
    let bytes = call(([127, 0, 0, 1], 80).into(), "/a.B/C", b"asked");
    let mut rest = bytes.strip_prefix(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    let mut frames = Vec::new();
    while let Some(frame) = frame(rest).unwrap() {
        rest = &rest[frame.length()..];
        frame.check().unwrap();
        frames.push(frame);
    }
    assert!(rest.is_empty());
    let [settings, grant, head, message] = &frames[..] else { panic!("{frames:?}") };
    assert_eq!(settings.payload, b"\0\x01\0\0\0\0\0\x02\0\0\0\0\0\x04\0\x80\0\0");
    assert_eq!(grant.payload, (8u32 * 1024 * 1024 - 65_535).to_be_bytes());
    assert_eq!(head.flags, END_HEADERS);
    let block = b"\x83\x86\x04\x06/a.B/C\x01\x0c127.0.0.1:80\x0f\x10\x10application/grpc\0\x02te\x08trailers";
    assert_eq!(head.payload, block);
    assert_eq!((message.flags, message.payload), (END_STREAM, &b"asked"[..]));
}

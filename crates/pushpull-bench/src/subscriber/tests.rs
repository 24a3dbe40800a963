use std::{
    io::{BufRead, BufReader, Read, Write},
    net, thread,
};

use rustls::{ServerConnection, StreamOwned};

use super::*;
use crate::{shape::Content, stream::PATIENCE, tls::Identity, wire::grpc::tests::answered};

/// A server that answers one connection's requests by `answers` in turn and ends it. Returns all request lines.
fn script(answers: Vec<String>) -> (Address, thread::JoinHandle<Vec<String>>) {
    let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = listener.local_addr().unwrap().into();
    let told = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map(Result::unwrap);
        let mut next = || lines.by_ref().take_while(|line| !line.is_empty()).collect::<Vec<_>>().remove(0);
        let mut asked = Vec::new();
        for answer in answers {
            asked.push(next());
            stream.write_all(answer.as_bytes()).unwrap();
        }
        stream.shutdown(net::Shutdown::Write).unwrap();
        asked.extend(lines.filter(|line| line.starts_with("GET ")));
        asked
    });
    (server, told)
}

fn read_all(target: Target, from: From<'_>) -> (Received, Vec<Stamp>) {
    let mut subscribers = Subscribers::open(target, 1, 1, from).unwrap();
    let (mut received, mut stamps) = (Received::default(), Vec::new());
    let deadline = Instant::now() + PATIENCE;
    while received.closed == 0 && Instant::now() < deadline {
        let mut each = |stamp, _| stamps.push(stamp);
        subscribers.read(Duration::from_millis(100), &mut received, &mut each).unwrap();
    }
    (received, stamps)
}

fn target(transport: Transport, server: Address) -> Target {
    Target::new(transport, server, Arc::new(Shape::new(Content::Text, 64)))
}

fn payload(number: u64) -> String {
    Stamp { number, sent: 5 }.payload(64)
}

#[test]
fn a_stream_is_judged_event_by_event() {
    let block = |text: String| format!("id: a-1\ndata: {text}\n\n");
    let blocks = [payload(0), payload(1), payload(3), "short".to_owned()].map(block).concat();
    let (server, _) = script(vec![format!("HTTP/1.1 200 OK\r\n\r\n{blocks}")]);
    let target = target(Transport::Sse, server);
    let (received, stamps) = read_all(target, From::Now);
    assert_eq!((received.events, received.out_of_order), (3, 1));
    assert_eq!((received.garbled, received.closed), (1, 1));
    assert_eq!(stamps, [0, 1, 3].map(|number| Stamp { number, sent: 5 }));
}

#[test]
fn what_comes_behind_the_last_event_is_judged() {
    let block = |number| format!("id: a-1\ndata: {}\n\n", payload(number));
    let judged = |behind: String, ends: bool| {
        let (mut stream, mut subscribers) = one_stream(&block(0));
        let mut received = Received::default();
        subscribers.read(PATIENCE, &mut received, &mut |_, _| {}).unwrap();
        assert_eq!((received.events, received.closed), (1, 0));
        stream.write_all(behind.as_bytes()).unwrap();
        let open = (!ends).then_some(stream);
        let faults = subscribers.judged(received, 1).unwrap();
        drop(open);
        faults
    };
    assert!(judged(String::new(), false).is_none());
    let repeated = Received { events: 2, out_of_order: 1, ..Received::default() };
    assert_eq!(judged(block(0), false), Faults::of(&repeated, 1));
    let closed = Received { events: 1, closed: 1, ..Received::default() };
    assert_eq!(judged(String::new(), true), Faults::of(&closed, 1));
}

/// A stream of the server's that begins with `text`, and who reads it.
fn one_stream(text: &str) -> (net::TcpStream, Subscribers) {
    let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
    let target = target(Transport::Sse, listener.local_addr().unwrap().into());
    let answer = format!("HTTP/1.1 200 OK\r\n\r\n{text}");
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map(Result::unwrap);
        lines.by_ref().take_while(|line| !line.is_empty()).for_each(drop);
        stream.write_all(answer.as_bytes()).unwrap();
        stream
    });
    let subscribers = Subscribers::open(target, 1, 1, From::Now).unwrap();
    (server.join().unwrap(), subscribers)
}

fn page(numbers: &[u64], cursor: &str, more: bool) -> String {
    let event = |number: &u64| format!("{{\"cursor\":\"a-1\",\"data\":\"{}\"}}", payload(*number));
    let events = numbers.iter().map(event).collect::<Vec<_>>().join(",");
    let body = format!("{{\"events\":[{events}],\"cursor\":\"{cursor}\",\"more\":{more}}}");
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[test]
fn a_poller_asks_while_there_is_more() {
    let (server, asked) = script(vec![page(&[0, 1], "a-9", true), page(&[2], "a-10", false)]);
    let target = target(Transport::HttpPoll, server);
    let (received, _) = read_all(target, From::Earliest);
    assert_eq!((received.events, received.out_of_order, received.garbled), (3, 0, 0));
    let asked = asked.join().unwrap();
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert!(asked[0].contains("&start=earliest ") && asked[1].contains("&after=a-9 "), "{asked:?}");
}

#[test]
fn a_poll_goes_on_where_the_last_one_ended() {
    let pages = [page(&[], "a-7", false), page(&[0, 1], "a-9", false), page(&[2], "a-10", false)];
    let (server, asked) = script(pages.into());
    let target = target(Transport::Longpoll, server);
    let (received, stamps) = read_all(target, From::Now);
    assert_eq!((received.events, received.out_of_order, received.garbled), (3, 0, 0));
    assert_eq!(stamps.len(), 3);
    let asked = asked.join().unwrap();
    for (line, end) in asked.iter().zip(["&wait=0 ", "&after=a-7 ", "&after=a-9 "]) {
        assert!(line.contains(end), "{line} should have {end}");
    }
}

/// A server of one call that says `answer`, then nothing more. Returns all that it was sent.
fn called(answer: Vec<u8>) -> (Address, thread::JoinHandle<Vec<u8>>) {
    let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = listener.local_addr().unwrap().into();
    let told = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(&answer).unwrap();
        stream.shutdown(net::Shutdown::Write).unwrap();
        let mut asked = Vec::new();
        stream.read_to_end(&mut asked).unwrap();
        asked
    });
    (server, told)
}

#[test]
fn a_call_is_read_from_its_place_on() {
    let payloads = [0, 1, 3].map(payload);
    let payloads: Vec<&[u8]> = payloads.iter().map(String::as_bytes).chain([&b"short"[..]]).collect();
    let (server, told) = called(answered(TOPIC, &payloads));
    let target = target(Transport::Grpc, server);
    let (received, stamps) = read_all(target, From::Earliest);
    assert_eq!((received.events, received.out_of_order), (3, 1));
    assert_eq!((received.garbled, received.closed), (1, 1));
    assert_eq!(stamps.len(), 3);
    let acknowledged = b"\0\0\0\x04\x01\0\0\0\0\0\0\x08\x06\x01\0\0\0\0pingpong";
    assert!(told.join().unwrap().ends_with(acknowledged), "settings and ping");
}

#[test]
fn an_event_before_anything_was_published_is_an_error() {
    let (server, _) = called(answered(TOPIC, &[payload(0).as_bytes()]));
    let target = target(Transport::Grpc, server);
    let error = Subscribers::open(target, 1, 1, From::Now).err().unwrap();
    assert!(error.to_string().contains("before anything was published"), "{error}");
}

#[test]
fn a_call_that_is_not_accepted_is_an_error() {
    let settings = b"\0\0\0\x04\0\0\0\0\0";
    for end in [&b""[..], b"\0\0\x04\x03\0\0\0\0\x01\0\0\0\x07", b"\0\0\0\0\0\0\0\0\x01"] {
        let (server, _) = called([settings, end].concat());
        let target = target(Transport::Grpc, server);
        assert!(Subscribers::open(target, 1, 1, From::Now).is_err(), "{end:?}");
    }
}

#[test]
fn a_refused_subscription_is_an_error() {
    let (server, _) = script(vec!["HTTP/1.1 503 Service Unavailable\r\n\r\n".to_owned()]);
    let target = target(Transport::Ws, server);
    assert!(Subscribers::open(target, 1, 1, From::Now).is_err());
}

#[test]
fn who_negotiates_no_deflate_is_told_from_who_does() {
    let open = |extension: &str| {
        let (server, _) = script(vec![format!("HTTP/1.1 101 Switching Protocols\r\n{extension}\r\n")]);
        let target = Target { deflate: true, ..target(Transport::Ws, server) };
        Subscribers::open(target, 1, 1, From::Now).err().map(|error| error.to_string())
    };
    assert_eq!(open("").as_deref(), Some("the server negotiates no permessage-deflate"));
    assert_eq!(open("Sec-WebSocket-Extensions: permessage-deflate\r\n"), None);
}

#[test]
fn messages_to_another_topic_are_out_of_order() {
    let judged = |numbers: [[u64; 2]; 2]| {
        let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap().into();
        let answering = thread::spawn(move || {
            numbers.map(|numbers| {
                let (mut stream, _) = listener.accept().unwrap();
                let blocks = numbers.map(|number| format!("data: {}\n\n", payload(number))).concat();
                stream.write_all(format!("HTTP/1.1 200 OK\r\n\r\nid: a-0\n\n{blocks}").as_bytes()).unwrap();
                stream
            })
        });
        let target = target(Transport::Sse, server);
        let mut subscribers = Subscribers::open(target, 2, 2, From::Now).unwrap();
        let (mut received, deadline) = (Received::default(), Instant::now() + PATIENCE);
        while received.events < 4 && Instant::now() < deadline {
            subscribers.read(Duration::from_millis(100), &mut received, &mut |_, _| {}).unwrap();
        }
        drop(answering.join().unwrap());
        (received.events, received.out_of_order)
    };
    assert_eq!(judged([[0, 2], [1, 3]]), (4, 0));
    assert_eq!(judged([[1, 3], [0, 2]]), (4, 2));
}

#[test]
fn over_tls_what_came_with_the_head_is_read() {
    let identity = Identity::new().unwrap();
    let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = Address { tls: Some(identity), ..listener.local_addr().unwrap().into() };
    let config = Arc::new(identity.server_config(&[b"http/1.1"]));
    let served = thread::spawn(move || {
        let (socket, _) = listener.accept().unwrap();
        let mut stream = StreamOwned::new(ServerConnection::new(config).unwrap(), socket);
        let mut lines = BufReader::new(&mut stream).lines().map(Result::unwrap);
        lines.by_ref().take_while(|line| !line.is_empty()).for_each(drop);
        let blocks = [0, 1].map(|number| format!("data: {}\n\n", payload(number))).concat();
        // One record: nothing more wakes who reads it.
        stream.write_all(format!("HTTP/1.1 200 OK\r\n\r\n{blocks}").as_bytes()).unwrap();
        stream
    });
    let mut subscribers = Subscribers::open(target(Transport::Sse, server), 1, 1, From::Now).unwrap();
    let open = served.join().unwrap();
    let mut received = Received::default();
    subscribers.read(PATIENCE, &mut received, &mut |_, _| {}).unwrap();
    assert_eq!((received.events, received.out_of_order, received.garbled, received.closed), (2, 0, 0, 0));
    drop(open);
    assert_eq!(subscribers.judged(received, 2).unwrap(), Faults::of(&Received { closed: 1, ..received }, 2));
}

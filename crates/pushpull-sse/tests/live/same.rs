//! The lane and hyper stream the same.

use bytes::Bytes;
use http::{Request, Version};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use pushpull_broker::Broker;
use pushpull_core::{Context, Message, Producer};
use pushpull_http::{Gate, ListenerConfig};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::client::{Client, Served, within};

/// How a client speaks.
#[derive(Clone, Copy, Debug)]
enum Spoken {
    /// By the lane, or by hyper without it.
    Http11 {
        lane: bool,
    },
    Http10,
    Http2,
}

/// The whole body that such a client gets, of a stream that tells several things and ends with the broker.
async fn told(spoken: Spoken) -> String {
    let lane = !matches!(spoken, Spoken::Http11 { lane: false });
    let config = ListenerConfig::default().with_lane(lane);
    let served = Served::start_with(Broker::memory(), Gate::builder(), config).await;
    let body = match spoken {
        Spoken::Http11 { .. } => over_http11(&served).await,
        Spoken::Http10 => over_http10(&served).await,
        Spoken::Http2 => over_http2(&served).await,
    };
    let epoch = served.broker.place().epoch().to_string();
    body.replace(&epoch, "epoch").lines().map(without_jitter).collect::<Vec<_>>().join("\n")
}

/// The first delay is drawn by lot.
fn without_jitter(line: &str) -> &str {
    if line.starts_with("retry: ") { "retry" } else { line }
}

async fn go_on(served: &Served) {
    served.publish("one").await;
    served.publish("two\r\nlines\n").await;
    let topic = "a".parse().unwrap();
    let messages = [Message::text("named").with_name("trade"), Message::new(vec![0, 159, 146])];
    served.broker.publish(&Context::default(), &topic, &messages).await.unwrap();
    served.publish("last").await;
}

async fn over_http11(served: &Served) -> String {
    let mut client = Client::follow(served.address, "", "").await;
    go_on(served).await;
    client.take_to("data: last\n\n").await;
    served.broker.close();
    client.take_all().await;
    client.text
}

async fn over_http10(served: &Served) -> String {
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(b"GET /sse?topic=a HTTP/1.0\r\n\r\n").await.unwrap();
    let mut taken = Vec::new();
    read_to(&mut stream, &mut taken, "-0\n\n").await;
    go_on(served).await;
    read_to(&mut stream, &mut taken, "data: last\n\n").await;
    served.broker.close();
    within(stream.read_to_end(&mut taken)).await.unwrap();
    let text = String::from_utf8(taken).unwrap();
    assert!(!text.contains("chunked"), "{text}");
    text.split_once("\r\n\r\n").unwrap().1.to_owned()
}

async fn read_to(stream: &mut TcpStream, taken: &mut Vec<u8>, end: &str) {
    while !taken.ends_with(end.as_bytes()) {
        assert!(within(stream.read_buf(taken)).await.unwrap() > 0);
    }
}

async fn over_http2(served: &Served) -> String {
    let io = TokioIo::new(TcpStream::connect(served.address).await.unwrap());
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get(format!("http://{}/sse?topic=a", served.address));
    let answer = within(client.send_request(request.body(Empty::<Bytes>::new()).unwrap())).await.unwrap();
    assert_eq!(answer.version(), Version::HTTP_2);
    let mut body = answer.into_body();
    let mut text = String::new();
    let (mut has_gone_on, mut is_closed) = (false, false);
    while let Some(frame) = within(body.frame()).await {
        text.push_str(std::str::from_utf8(&frame.unwrap().into_data().unwrap()).unwrap());
        if !std::mem::replace(&mut has_gone_on, true) {
            go_on(served).await;
        }
        if text.ends_with("data: last\n\n") && !std::mem::replace(&mut is_closed, true) {
            served.broker.close();
        }
    }
    text
}

#[tokio::test]
async fn whatever_is_spoken_the_stream_is_the_same() {
    let by_lane = told(Spoken::Http11 { lane: true }).await;
    let ends =
        [":\nretry\nid: epoch-0\n\nid: epoch-1\ndata: one\n\n", "data: last\n\n:\nretry\nid: epoch-5\n"];
    assert!(by_lane.starts_with(ends[0]) && by_lane.ends_with(ends[1]), "{by_lane}");
    for spoken in [Spoken::Http11 { lane: false }, Spoken::Http10, Spoken::Http2] {
        assert_eq!(told(spoken).await, by_lane, "{spoken:?}");
    }
}

//! `Attach` against a stock client.

use pushpull_broker::Broker;
use pushpull_core::Cursor;
use pushpull_grpc_stream::proto::{
    ClientFrame, Credit, Message, Ok, PublishRequest, ServerFrame, Start, SubscribeRequest, Unsubscribe,
    client_frame::Frame as Says, server_frame::Frame,
};
use pushpull_http::Transport;
use tokio::sync::mpsc;
use tonic::{Code, Streaming};

use crate::support::{Node, bearing, beat, end, event, guarded, next, publish, soon, topics, until};

/// Both directions of one stream.
struct Line {
    says: mpsc::UnboundedSender<ClientFrame>,
    hears: Streaming<ServerFrame>,
}

impl Line {
    async fn open(node: &Node) -> Self {
        let (says, frames) = mpsc::unbounded_channel();
        let frames = Spoken(frames);
        let hears = node.client().await.attach(frames).await.unwrap().into_inner();
        Self { says, hears }
    }

    fn say(&self, frame: Says) {
        self.says.send(ClientFrame { frame: Some(frame) }).unwrap();
    }

    async fn hear(&mut self) -> Frame {
        next(&mut self.hears).await
    }

    async fn hear_error(&mut self) -> (Option<u64>, String, String, u32) {
        match self.hear().await {
            Frame::Error(error) => {
                let slug = error.r#type.rsplit('/').next().unwrap().to_owned();
                (error.id, slug, error.parameter, error.status)
            }
            other => panic!("no error: {other:?}"),
        }
    }
}

struct Spoken(mpsc::UnboundedReceiver<ClientFrame>);

impl futures_core::Stream for Spoken {
    type Item = ClientFrame;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<ClientFrame>> {
        self.0.poll_recv(cx)
    }
}

fn subscribe(id: u64, list: &[&str]) -> SubscribeRequest {
    SubscribeRequest { id: Some(id), ..topics(list) }
}

fn ok(id: u64, cursor: Cursor) -> Frame {
    Frame::Ok(Ok { id: Some(id), cursor: cursor.to_string() })
}

fn bad(id: u64, field: &str) -> (Option<u64>, String, String, u32) {
    (Some(id), "bad-request".into(), field.into(), 400)
}

#[tokio::test]
async fn it_subscribes_adds_and_removes() {
    let node = Node::open().await;
    let start = publish(&node.broker, "a", 1).await;
    let mut line = Line::open(&node).await;
    line.say(Says::Subscribe(subscribe(1, &["a"])));
    assert_eq!(line.hear().await, beat(start), "the starting place comes first");
    assert_eq!(line.hear().await, ok(1, start));
    line.say(Says::Subscribe(subscribe(2, &["b.*"])));
    assert_eq!(line.hear().await, ok(2, start));
    let place = publish(&node.broker, "b.c", 1).await;
    assert_eq!(event(line.hear().await).topic, "b.c");
    line.say(Says::Subscribe(SubscribeRequest { after: start.to_string(), ..subscribe(3, &["c"]) }));
    assert_eq!(line.hear_error().await, bad(3, "after"));
    line.say(Says::Subscribe(subscribe(4, &["b..c"])));
    assert_eq!(line.hear_error().await, bad(4, "topics"));
    line.say(Says::Unsubscribe(Unsubscribe { id: Some(5), topics: vec!["a".into()] }));
    assert_eq!(line.hear().await, ok(5, place));
    publish(&node.broker, "a", 1).await;
    let last = publish(&node.broker, "b.d", 1).await;
    assert_eq!(event(line.hear().await).topic, "b.d", "what was removed does not come");
    line.say(Says::Unsubscribe(Unsubscribe { id: Some(6), topics: vec!["b.*".into()] }));
    assert_eq!(line.hear().await, ok(6, last));
    line.say(Says::Subscribe(SubscribeRequest { start: Start::Earliest.into(), ..subscribe(7, &["a"]) }));
    assert!(matches!(line.hear().await, Frame::Heartbeat(_)));
    assert_eq!(line.hear().await, ok(7, Cursor::new(last.epoch(), 0)));
    assert_eq!(event(line.hear().await).cursor, start.to_string());
}

#[tokio::test]
async fn it_publishes_and_tells_what_came_of_it() {
    let node = Node::open().await;
    let mut line = Line::open(&node).await;
    let asked = |id, topic: &str| PublishRequest { id, topic: topic.into(), ..PublishRequest::default() };
    line.say(Says::Publish(asked(None, "a")));
    line.say(Says::Publish(asked(Some(0), "a")));
    let Frame::Published(published) = line.hear().await else { panic!("not published") };
    assert_eq!((published.id, published.count), (Some(0), 1), "without an id there is no answer");
    assert_eq!(published.cursor, node.broker.place().to_string());
    assert!(published.cursor.ends_with("-2"));
    line.say(Says::Publish(asked(None, "a.>")));
    let Frame::Error(error) = line.hear().await else { panic!("no error") };
    assert_eq!((error.id, error.parameter.as_str(), error.outcome.as_str()), (None, "topic", "not-applied"));
    assert!(!error.title.is_empty() && !error.detail.is_empty());
}

#[tokio::test]
async fn credit_holds_events_back() {
    let node = Node::open().await;
    let mut line = Line::open(&node).await;
    line.say(Says::Credit(Credit { id: Some(1), events: 5 }));
    assert_eq!(line.hear_error().await, bad(1, "events"));
    line.say(Says::Subscribe(SubscribeRequest { window: 2, ..topics(&["a"]) }));
    assert!(matches!(line.hear().await, Frame::Heartbeat(_)));
    publish(&node.broker, "a", 5).await;
    for seq in 1..=2 {
        assert!(event(line.hear().await).cursor.ends_with(&format!("-{seq}")));
    }
    // Its answer comes before any further event: there was no credit.
    line.say(Says::Publish(PublishRequest { id: Some(2), topic: "b".into(), ..PublishRequest::default() }));
    assert!(matches!(line.hear().await, Frame::Published(_)));
    line.say(Says::Credit(Credit { id: Some(3), events: 2 }));
    let Frame::Ok(answer) = line.hear().await else { panic!("not granted") };
    assert!(answer.cursor.ends_with("-2"), "its place is behind what came");
    for seq in 3..=4 {
        assert!(event(line.hear().await).cursor.ends_with(&format!("-{seq}")));
    }
    line.say(Says::Credit(Credit { id: Some(4), events: 0 }));
    assert_eq!(line.hear_error().await, bad(4, "events"));
    line.say(Says::Credit(Credit { id: Some(5), events: u64::MAX }));
    assert!(matches!(line.hear().await, Frame::Ok(_)), "a credit may be of any number");
}

#[tokio::test]
async fn a_frame_that_says_nothing_ends_the_stream() {
    let node = Node::open().await;
    let mut line = Line::open(&node).await;
    line.says.send(ClientFrame { frame: None }).unwrap();
    let status = end(&mut line.hears).await;
    assert_eq!((status.code(), status.message().starts_with("frame")), (Code::InvalidArgument, true));
    until(|| node.gate.metrics().connections(Transport::Grpc) == 0).await;
}

#[tokio::test]
async fn who_says_nothing_more_may_still_listen() {
    let node = Node::open().await;
    let Line { says, mut hears } = Line::open(&node).await;
    says.send(ClientFrame { frame: Some(Says::Subscribe(topics(&["a"]))) }).unwrap();
    drop(says);
    assert!(matches!(next(&mut hears).await, Frame::Heartbeat(_)));
    publish(&node.broker, "a", 1).await;
    assert_eq!(event(next(&mut hears).await).topic, "a");
    let Line { says, mut hears } = Line::open(&node).await;
    drop(says);
    assert!(soon(hears.message()).await.unwrap().is_none(), "nothing to say and nothing to hear");
}

#[tokio::test]
async fn it_is_refused_what_it_may_not_and_goes_on() {
    let node = Node::start(&Broker::memory(), guarded()).await;
    let frames = [
        Says::Subscribe(subscribe(1, &["a"])),
        Says::Publish(PublishRequest { id: Some(2), topic: "a".into(), ..PublishRequest::default() }),
    ];
    let frames = frames.map(|frame| ClientFrame { frame: Some(frame) });
    let frames = tonic::codegen::tokio_stream::iter(frames);
    let mut hears = node.client().await.attach(bearing("stranger", frames)).await.unwrap().into_inner();
    for id in [1, 2] {
        let Frame::Error(error) = next(&mut hears).await else { panic!("no error") };
        assert_eq!((error.id, error.status), (Some(id), 403));
        assert!(error.r#type.ends_with("/forbidden"));
    }
}

#[tokio::test]
async fn a_drain_is_told_to_it_too() {
    let node = Node::open().await;
    let mut line = Line::open(&node).await;
    line.say(Says::Subscribe(subscribe(1, &["a"])));
    line.hear().await;
    line.hear().await;
    let place = publish(&node.broker, "other", 2).await;
    let drained = tokio::spawn(node.drain());
    let Frame::Goaway(away) = line.hear().await else { panic!("no goaway") };
    assert_eq!(away.cursor, place.to_string(), "the place of a quiet subscription moves along");
    assert_eq!(end(&mut line.hears).await.code(), Code::Unavailable);
    assert!(soon(drained).await.unwrap());
}

#[tokio::test]
async fn a_flood_of_empty_messages_is_refused_before_it_is_read() {
    let broker = Broker::memory();
    let node = Node::start(&broker, pushpull_http::Gate::open()).await;
    let asked = |count| {
        let messages = vec![Message::default(); count];
        PublishRequest { id: Some(1), topic: "a".into(), messages, ..PublishRequest::default() }
    };
    let mut client = node.client().await;
    for count in [10_001, 10_101] {
        let status = client.publish(asked(count)).await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted, "{count}");
    }
    let mut line = Line::open(&node).await;
    line.say(Says::Publish(asked(10_001)));
    let too_large = (Some(1), "too-large".to_owned(), "messages".to_owned(), 413);
    assert_eq!(line.hear_error().await, too_large);
    line.say(Says::Publish(asked(10_101)));
    assert_eq!(end(&mut line.hears).await.code(), Code::ResourceExhausted);
    assert_eq!(broker.place().seq(), 0);
}

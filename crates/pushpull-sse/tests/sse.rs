//! Both halves over the broker: the server at the level of its body, the client over sockets.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use pushpull_broker::{Broker, Retention};
use pushpull_core::{
    Cursor, Delivery, Epoch, Identity, Link, Message, Overflow, ProducerExt, PushExt, Start, Subscribe,
    Subscription,
};
use pushpull_http::{Body, Gate, Listener};
use pushpull_sse::{SseClient, SseService};
use tokio::{sync::oneshot, task::JoinHandle, time::Instant};
use tower_service::Service;

async fn publish(broker: &Broker, topic: &str, count: usize) -> Cursor {
    let mut last = broker.place();
    for _ in 0..count {
        last = broker.publish_one(&topic.parse().unwrap(), Message::text("x")).await.unwrap();
    }
    last
}

fn at(broker: &Broker, seq: u64) -> Cursor {
    Cursor::new(broker.place().epoch(), seq)
}

async fn ask(broker: &Broker, gate: &Gate, query: &str, headers: &[(&str, &str)]) -> Response<Body> {
    let mut request = Request::builder().uri(format!("/sse?{query}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut service = SseService::new(Arc::new(broker.clone()), gate.clone());
    service.call(request.body(()).unwrap()).await.unwrap()
}

/// The next frame, as text; `None` at the end.
async fn frame(body: &mut Body) -> Option<String> {
    let frame = tokio::time::timeout(Duration::from_secs(100), body.frame()).await.unwrap()?;
    Some(String::from_utf8(frame.unwrap().into_data().unwrap().to_vec()).unwrap())
}

/// The first frame without the delay it begins with, which is random.
async fn first(body: &mut Body) -> String {
    let frame = frame(body).await.unwrap();
    let rest = frame.strip_prefix(":\nretry: ").unwrap();
    let (delay, rest) = rest.split_once('\n').unwrap();
    assert!((1000..=3000).contains(&delay.parse::<u64>().unwrap()));
    rest.to_owned()
}

#[tokio::test]
async fn the_first_block_tells_the_place_and_events_follow() {
    let broker = Broker::memory();
    publish(&broker, "a", 2).await;
    let epoch = broker.place().epoch();
    let response = ask(&broker, &Gate::open(), "topic=a", &[]).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert_eq!(response.headers()["cache-control"], "no-cache, no-transform");
    assert_eq!(response.headers()["x-accel-buffering"], "no");
    let mut body = response.into_body();
    assert_eq!(first(&mut body).await, format!("id: {epoch}-2\n\n"));
    publish(&broker, "a", 2).await;
    let expected = format!("id: {epoch}-3\ndata: x\n\nid: {epoch}-4\ndata: x\n\n");
    assert_eq!(frame(&mut body).await.unwrap(), expected);
}

#[tokio::test]
async fn a_header_beats_the_query_and_a_malformed_one_is_a_reset() {
    let broker = Broker::memory();
    publish(&broker, "a", 3).await;
    let epoch = broker.place().epoch();
    let query = format!("topic=a&after={epoch}-1");
    let mut body =
        ask(&broker, &Gate::open(), &query, &[("last-event-id", &format!("{epoch}-2"))]).await.into_body();
    assert_eq!(first(&mut body).await, format!("id: {epoch}-2\n\nid: {epoch}-3\ndata: x\n\n"));
    let mut body =
        ask(&broker, &Gate::open(), "topic=a", &[("last-event-id", "bad cursor")]).await.into_body();
    let told = first(&mut body).await;
    let gap = format!(
        "\nid: {epoch}-0\nevent: pushpull-gap\ndata: {{\"gap\":{{\"after\":\"0-0\",\"before\":\"{epoch}-1\",\
         \"cursor\":\"{epoch}-0\",\"reason\":\"reset\"}}}}\n\n"
    );
    assert!(told.starts_with(&gap), "the gap is the first that has a place: {told}");
    assert!(told.ends_with(&format!("id: {epoch}-3\ndata: x\n\n")));
    let mut body = ask(&broker, &Gate::open(), "topic=a", &[("last-event-id", "")]).await.into_body();
    assert_eq!(first(&mut body).await, format!("id: {epoch}-3\n\n"), "an empty one is none");
}

#[tokio::test]
async fn a_snapshot_bears_no_id_before_it_is_complete() {
    let broker = Broker::memory();
    for key in ["k1", "k2"] {
        let message = Message::text(key).with_key(key);
        broker.publish_one(&"a".parse().unwrap(), message).await.unwrap();
    }
    let epoch = broker.place().epoch();
    let mut body = ask(&broker, &Gate::open(), "topic=a&start=snapshot", &[]).await.into_body();
    assert_eq!(first(&mut body).await, format!("\ndata: k1\n\ndata: k2\n\n:\nid: {epoch}-2\n\n"));
}

#[tokio::test(start_paused = true)]
async fn a_keep_alive_moves_the_place_of_a_quiet_topic() {
    let broker = Broker::memory();
    let epoch = broker.place().epoch();
    let gate = Gate::open();
    let mut quiet = ask(&broker, &gate, "topic=quiet", &[]).await.into_body();
    let mut comments = ask(&broker, &gate, "topic=quiet&keepalive=comment", &[]).await.into_body();
    first(&mut quiet).await;
    first(&mut comments).await;
    publish(&broker, "busy", 5).await;
    let begun = Instant::now();
    assert_eq!(frame(&mut quiet).await.unwrap(), format!(":\nid: {epoch}-5\n\n"));
    assert_eq!(begun.elapsed().as_secs(), 15);
    assert_eq!(frame(&mut quiet).await.unwrap(), ":\n\n", "it did not move");
    assert_eq!(frame(&mut comments).await.unwrap(), ":\n\n");
}

#[tokio::test]
async fn a_drain_tells_when_and_from_where_to_come_back() {
    let broker = Broker::memory();
    let gate = Gate::open();
    let epoch = broker.place().epoch();
    let mut body = ask(&broker, &gate, "topic=a", &[]).await.into_body();
    first(&mut body).await;
    publish(&broker, "a", 1).await;
    frame(&mut body).await;
    gate.drain().begin();
    let last = frame(&mut body).await.unwrap();
    assert!(last.starts_with(":\nretry: ") && last.ends_with(&format!("\nid: {epoch}-1\n\n")), "{last}");
    assert_eq!(frame(&mut body).await, None);
    let browser = ask(&broker, &gate, "topic=a", &[("accept", "text/event-stream")]).await;
    assert_eq!(
        (browser.status(), &browser.headers()["content-type"]),
        (StatusCode::OK, &"text/event-stream".parse().unwrap())
    );
    let told = String::from_utf8(browser.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap();
    assert!(told.starts_with(":\nretry: "), "{told}");
    let other = ask(&broker, &gate, "topic=a", &[]).await;
    assert_eq!(other.status(), StatusCode::SERVICE_UNAVAILABLE);
    let retry: u64 = other.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=5).contains(&retry), "a part of the default spread of 5 s, in whole seconds: {retry}");
    drop(body);
    gate.drain().idle().await;
}

#[tokio::test(start_paused = true)]
async fn a_drain_tells_the_place_that_no_keep_alive_told() {
    let broker = Broker::memory();
    let gate = Gate::open();
    let epoch = broker.place().epoch();
    let mut body = ask(&broker, &gate, "topic=quiet&keepalive=comment", &[]).await.into_body();
    first(&mut body).await;
    publish(&broker, "busy", 3).await;
    assert_eq!(frame(&mut body).await.unwrap(), ":\n\n");
    gate.drain().begin();
    let last = frame(&mut body).await.unwrap();
    assert!(last.ends_with(&format!("\nid: {epoch}-3\n\n")), "{last}");
}

#[tokio::test]
async fn a_gap_at_the_head_of_a_snapshot_bears_no_id() {
    let broker = Broker::memory_with(Retention::default().with_keys(1));
    for key in ["k1", "k2"] {
        let message = Message::text(key).with_key(key);
        broker.publish_one(&"a".parse().unwrap(), message).await.unwrap();
    }
    let epoch = broker.place().epoch();
    let mut body = ask(&broker, &Gate::open(), "topic=a&start=snapshot", &[]).await.into_body();
    let told = first(&mut body).await;
    assert!(told.starts_with("\nevent: pushpull-gap\ndata: {\"gap\":"), "{told}");
    assert!(told.ends_with(&format!("\n\ndata: k2\n\n:\nid: {epoch}-2\n\n")), "{told}");
    assert_eq!(told.matches("\nid: ").count(), 1, "{told}");
}

#[tokio::test]
async fn overflow_close_ends_and_a_browser_that_comes_back_is_stopped() {
    let broker = Broker::memory_with(Retention::default().with_messages(2));
    publish(&broker, "a", 5).await;
    let epoch = broker.place().epoch();
    let query = format!("topic=a&overflow=close&after={epoch}-1");
    let mut body = ask(&broker, &Gate::open(), &query, &[]).await.into_body();
    let told = first(&mut body).await;
    assert!(told.contains(&format!("id: {epoch}-1\nevent: pushpull-gap\n")), "{told}");
    assert_eq!(frame(&mut body).await, None);
    let back = ask(&broker, &Gate::open(), &query, &[("last-event-id", &format!("{epoch}-1"))]).await;
    assert_eq!(back.status(), StatusCode::NO_CONTENT);
    let fresh = ask(&broker, &Gate::open(), &query, &[("last-event-id", &format!("{epoch}-5"))]).await;
    assert_eq!(fresh.status(), StatusCode::OK, "who missed nothing goes on");
}

#[tokio::test]
async fn bad_requests_are_named_and_head_does_not_hang() {
    let broker = Broker::memory();
    for (query, parameter) in
        [("", "topic"), ("topic=a&limit=1", "limit"), ("topic=a..b", "topic"), ("topic=a&after=x", "after")]
    {
        let response = ask(&broker, &Gate::open(), query, &[]).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{query}");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert!(
            String::from_utf8_lossy(&body).contains(&format!("\"parameter\":\"{parameter}\"")),
            "{query}: {body:?}"
        );
    }
    let mut service = SseService::new(Arc::new(broker), Gate::open());
    let request = |method: &str| Request::builder().method(method).uri("/sse?topic=a").body(()).unwrap();
    let head = service.call(request("HEAD")).await.unwrap();
    assert_eq!(
        (head.status(), &head.headers()["content-type"]),
        (StatusCode::OK, &"text/event-stream".parse().unwrap())
    );
    assert!(head.into_body().collect().await.unwrap().to_bytes().is_empty());
    let post = service.call(request("POST")).await.unwrap();
    assert_eq!(
        (post.status(), &post.headers()["allow"]),
        (StatusCode::METHOD_NOT_ALLOWED, &"GET, HEAD, OPTIONS".parse().unwrap())
    );
}

struct Server {
    address: SocketAddr,
    gate: Gate,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<bool>,
}

async fn serve(broker: &Broker, address: &str) -> Server {
    let gate = Gate::builder().with_retry_spread(Duration::from_millis(20)).build().unwrap();
    let listener = Listener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let service = SseService::new(Arc::new(broker.clone()), gate.clone());
    let shutdown = async move {
        let _ = stopped.await;
    };
    let served =
        tokio::spawn(listener.serve(service, gate.drain().clone(), shutdown, Duration::from_secs(5)));
    Server { address, gate, stop: Some(stop), served }
}

impl Server {
    async fn drain(mut self) {
        let _ = self.stop.take().unwrap().send(());
        assert!(self.served.await.unwrap());
        drop(self.gate);
    }
}

async fn next_event(subscription: &mut Subscription) -> Cursor {
    within(async {
        loop {
            match subscription.next().await.unwrap().unwrap() {
                Delivery::Event(event) => return event.cursor(),
                Delivery::Gap(gap) => panic!("{gap}"),
                _ => {}
            }
        }
    })
    .await
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.unwrap()
}

#[tokio::test]
async fn the_client_goes_on_after_a_restart_without_loss() {
    let broker = Broker::memory();
    let server = serve(&broker, "127.0.0.1:0").await;
    let address = server.address;
    let client = SseClient::new(&format!("http://{address}")).unwrap();
    let mut subscription = client.consume(Subscribe::to("a.*").unwrap()).await.unwrap();
    assert!(matches!(within(subscription.next()).await, Some(Ok(Delivery::Link(Link::Connected)))));
    assert!(
        matches!(within(subscription.next()).await, Some(Ok(Delivery::Place(place))) if place == at(&broker, 0))
    );
    publish(&broker, "a.b", 2).await;
    assert_eq!(next_event(&mut subscription).await.seq(), 1);
    assert_eq!(next_event(&mut subscription).await.seq(), 2);
    server.drain().await;
    publish(&broker, "a.c", 2).await;
    let server = serve(&broker, &address.to_string()).await;
    assert_eq!(next_event(&mut subscription).await.seq(), 3);
    assert_eq!(next_event(&mut subscription).await.seq(), 4);
    assert_eq!(subscription.place(), Some(at(&broker, 4)));
    drop(subscription);
    server.drain().await;
}

#[tokio::test]
async fn a_browser_that_was_told_of_a_reset_and_closed_is_stopped_too() {
    let broker = Broker::memory();
    publish(&broker, "a", 3).await;
    let (gate, epoch) = (Gate::open(), broker.place().epoch());
    let query = "topic=a&overflow=close&after=zz-7";
    let mut body = ask(&broker, &gate, query, &[]).await.into_body();
    let gap = format!(
        "\nid: zz-7\nevent: pushpull-gap\ndata: {{\"gap\":{{\"after\":\"zz-7\",\"before\":\"{epoch}-1\",\
         \"cursor\":\"{epoch}-0\",\"reason\":\"reset\"}}}}\n\n"
    );
    assert_eq!(first(&mut body).await, gap);
    assert_eq!(frame(&mut body).await, None);
    let again = ask(&broker, &gate, query, &[("last-event-id", "zz-7")]).await;
    assert_eq!(again.status(), StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn the_client_tells_gaps_and_final_ends() {
    let broker = Broker::memory_with(Retention::default().with_messages(2));
    publish(&broker, "a", 5).await;
    let server = serve(&broker, "127.0.0.1:0").await;
    let client = SseClient::new(&format!("http://{}", server.address)).unwrap();
    let request = Subscribe::to("a").unwrap().from(Cursor::new(Epoch::from_random(3), 9));
    let mut lost = client.consume(request).await.unwrap();
    within(lost.next()).await;
    let Some(Ok(Delivery::Gap(gap))) = within(lost.next()).await else { panic!("a gap") };
    assert_eq!((gap.reason.as_str(), gap.cursor), ("reset", at(&broker, 3)));
    let request = Subscribe::to("a").unwrap().from(at(&broker, 1)).on_overflow(Overflow::Close);
    let mut closed = client.consume(request).await.unwrap();
    within(closed.next()).await;
    assert!(
        matches!(within(closed.next()).await, Some(Ok(Delivery::Place(place))) if place == at(&broker, 1))
    );
    let Some(Ok(Delivery::Gap(gap))) = within(closed.next()).await else { panic!("a gap") };
    assert_eq!(gap.reason.as_str(), "evicted");
    let end = within(closed.next()).await;
    assert!(matches!(end, Some(Ok(Delivery::Link(Link::Ended { retry: None, .. })))), "{end:?}");
    assert!(within(closed.next()).await.is_none());
    let request = Subscribe::to("a").unwrap().from(Cursor::UNKNOWN).on_overflow(Overflow::Close);
    let mut closed = client.consume(request).await.unwrap();
    within(closed.next()).await;
    let Some(Ok(Delivery::Gap(gap))) = within(closed.next()).await else { panic!("a gap") };
    assert_eq!((gap.reason.as_str(), gap.cursor), ("reset", at(&broker, 3)));
    let end = within(closed.next()).await;
    assert!(matches!(end, Some(Ok(Delivery::Link(Link::Ended { retry: None, .. })))), "{end:?}");
    let refused = client.consume(Subscribe::to("a").unwrap().from(Start::Latest)).await;
    drop(refused);
    assert!(SseClient::new("http://127.0.0.1:1/?x").is_err());
    server.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_when_its_identity_expires() {
    struct Brief;
    #[async_trait::async_trait]
    impl pushpull_http::Authorizer for Brief {
        async fn identify(
            &self,
            _: Option<&str>,
            cx: pushpull_core::Context,
        ) -> Result<pushpull_core::Context, pushpull_core::Problem> {
            Ok(cx.with_identity(Identity::new("me").until(Instant::now() + Duration::from_secs(20))))
        }
        async fn authorize(
            &self,
            _: &pushpull_core::Context,
            _: pushpull_http::Action<'_>,
        ) -> Result<(), pushpull_core::Problem> {
            Ok(())
        }
    }
    let gate = Gate::builder().with_authorizer(Brief).build().unwrap();
    let broker = Broker::memory();
    let begun = Instant::now();
    let mut body = ask(&broker, &gate, "topic=a", &[]).await.into_body();
    first(&mut body).await;
    assert_eq!(frame(&mut body).await.unwrap(), ":\n\n");
    assert_eq!(frame(&mut body).await, None);
    assert_eq!(begun.elapsed().as_secs(), 20);
}

#[tokio::test]
async fn intervals_of_any_length_are_borne() {
    let gate = Gate::builder().with_keep_alive(Duration::MAX).with_ping(Duration::MAX).build().unwrap();
    let broker = Broker::memory();
    let mut body = ask(&broker, &gate, "topic=a", &[]).await.into_body();
    assert_eq!(first(&mut body).await, format!("id: {}\n\n", broker.place()));
    let server = serve(&broker, "127.0.0.1:0").await;
    let client = SseClient::new(&format!("http://{}", server.address)).unwrap().with_silence(Duration::MAX);
    let mut subscription = client.consume(Subscribe::to("a").unwrap()).await.unwrap();
    within(subscription.next()).await;
    assert!(matches!(within(subscription.next()).await, Some(Ok(Delivery::Place(_)))));
    drop(subscription);
    server.drain().await;
}

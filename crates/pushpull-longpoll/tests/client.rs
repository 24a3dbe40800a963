//! The client half over sockets, and the server half mounted in axum.
#![cfg(all(feature = "server", feature = "client"))]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use pushpull_broker::{Broker, Retention};
use pushpull_core::{
    Context, Cursor, Delivery, ErrorKind, Fetch, Link, Message, Overflow, ProducerExt, Pull, PushExt, Start,
    Subscribe, Subscription,
};
use pushpull_http::{Gate, Listener, Transport};
use pushpull_longpoll::{LongpollClient, LongpollService};
use tokio::{io::AsyncWriteExt, net::TcpStream, sync::oneshot, task::JoinHandle, time::Instant};

struct Server {
    address: SocketAddr,
    gate: Gate,
    stop: oneshot::Sender<()>,
    served: JoinHandle<bool>,
}

async fn serve(broker: &Broker, address: &str) -> Server {
    let gate = Gate::builder().with_retry_spread(Duration::from_millis(20)).build().unwrap();
    let listener = Listener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let service = LongpollService::new(Arc::new(broker.clone()), gate.clone());
    let shutdown = async move {
        let _ = stopped.await;
    };
    let served =
        tokio::spawn(listener.serve(service, gate.drain().clone(), shutdown, Duration::from_secs(5)));
    Server { address, gate, stop, served }
}

impl Server {
    fn client(&self) -> LongpollClient {
        LongpollClient::new(&format!("http://{}", self.address)).unwrap()
    }

    async fn until_waiting(&self, count: u64) {
        within(async {
            while self.gate.metrics().connections(Transport::Longpoll) != count {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    async fn drain(self) {
        self.stop.send(()).unwrap();
        assert!(self.served.await.unwrap(), "nothing had to be cut off");
    }
}

async fn publish(broker: &Broker, topic: &str, count: usize) {
    for n in 0..count {
        broker.publish_one(&topic.parse().unwrap(), Message::json(&n).unwrap()).await.unwrap();
    }
}

fn at(broker: &Broker, seq: u64) -> Cursor {
    Cursor::new(broker.place().epoch(), seq)
}

fn fetch(topic: &str) -> Fetch {
    Fetch::like(&Subscribe::to(topic).unwrap())
}

async fn next(subscription: &mut Subscription) -> Option<Delivery> {
    within(subscription.next()).await.map(Result::unwrap)
}

async fn next_event(subscription: &mut Subscription) -> u64 {
    loop {
        match next(subscription).await.unwrap() {
            Delivery::Event(event) => return event.cursor().seq(),
            Delivery::Gap(gap) => panic!("{gap}"),
            _ => {}
        }
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.unwrap()
}

#[tokio::test]
async fn a_fetch_waits_for_its_first_event() {
    let broker = Broker::memory();
    let server = serve(&broker, "127.0.0.1:0").await;
    let client = server.client();
    let asking = tokio::spawn({
        let (client, fetch) = (client.clone(), fetch("a").with_wait(Duration::from_secs(20)));
        async move { client.fetch(&Context::default(), fetch).await }
    });
    server.until_waiting(1).await;
    publish(&broker, "a", 1).await;
    let batch = within(asking).await.unwrap().unwrap();
    assert_eq!((batch.events(), batch.place, batch.more), (1, Some(at(&broker, 1)), false));
    let idle = fetch("a").from(at(&broker, 1));
    let batch = within(client.fetch(&Context::default(), idle)).await.unwrap();
    assert_eq!((batch.deliveries.len(), batch.place, batch.closed), (0, Some(at(&broker, 1)), false));
    server.drain().await;
}

#[tokio::test]
async fn a_context_ends_the_wait_before_its_deadline() {
    let broker = Broker::memory();
    let server = serve(&broker, "127.0.0.1:0").await;
    let cx = Context::default().with_deadline(Instant::now() + Duration::from_millis(2500));
    let asked = fetch("a").with_wait(Duration::from_secs(30));
    let batch = server.client().fetch(&cx, asked).await.unwrap();
    assert_eq!(batch.place, Some(at(&broker, 0)), "an answer, not an error");
    server.drain().await;
}

#[tokio::test]
async fn a_subscription_stands_where_it_began_and_goes_on_after_a_restart() {
    let broker = Broker::memory();
    publish(&broker, "a.b", 3).await;
    let server = serve(&broker, "127.0.0.1:0").await;
    let address = server.address;
    let mut subscription = server.client().consume(Subscribe::to("a.*").unwrap()).await.unwrap();
    publish(&broker, "a.b", 2).await;
    let first = next(&mut subscription).await.unwrap();
    assert!(matches!(first, Delivery::Place(place) if place == at(&broker, 3)), "{first:?}");
    assert_eq!(next_event(&mut subscription).await, 4);
    assert_eq!(next_event(&mut subscription).await, 5);
    server.drain().await;
    publish(&broker, "a.c", 2).await;
    let told = next(&mut subscription).await.unwrap();
    assert!(matches!(told, Delivery::Link(Link::Reconnecting { .. })), "{told:?}");
    let server = serve(&broker, &address.to_string()).await;
    assert_eq!(next_event(&mut subscription).await, 6);
    assert_eq!(next_event(&mut subscription).await, 7);
    assert_eq!(subscription.place(), Some(at(&broker, 7)));
    drop(subscription);
    server.drain().await;
}

#[tokio::test]
async fn a_drain_answers_a_waiting_subscription_which_loses_nothing() {
    let broker = Broker::memory();
    let server = serve(&broker, "127.0.0.1:0").await;
    let address = server.address;
    let mut subscription = server.client().consume(Subscribe::to("a").unwrap()).await.unwrap();
    next(&mut subscription).await;
    let consumer = tokio::spawn(async move { next_event(&mut subscription).await });
    server.until_waiting(1).await;
    server.drain().await;
    publish(&broker, "a", 1).await;
    let server = serve(&broker, &address.to_string()).await;
    assert_eq!(within(consumer).await.unwrap(), 1);
    server.drain().await;
}

#[tokio::test]
async fn gaps_ends_and_refusals_are_told() {
    let broker = Broker::memory_with(Retention::default().with_messages(2));
    publish(&broker, "a", 5).await;
    let server = serve(&broker, "127.0.0.1:0").await;
    let client = server.client();
    let request = || Subscribe::to("a").unwrap().from(at(&broker, 1));
    let mut told = client.consume(request()).await.unwrap();
    next(&mut told).await;
    let gap = next(&mut told).await.unwrap();
    assert!(matches!(gap, Delivery::Gap(gap) if gap.before == at(&broker, 4)), "{gap:?}");
    assert_eq!(next_event(&mut told).await, 4);
    let mut closed = client.consume(request().on_overflow(Overflow::Close)).await.unwrap();
    next(&mut closed).await;
    assert!(matches!(next(&mut closed).await, Some(Delivery::Gap(_))));
    let end = next(&mut closed).await;
    assert!(
        matches!(&end, Some(Delivery::Link(Link::Ended { retry: None, cursor })) if *cursor == Some(at(&broker, 1))),
        "{end:?}"
    );
    assert!(next(&mut closed).await.is_none());
    let refused = client.consume(request().on_overflow(Overflow::Latest)).await.unwrap_err();
    assert_eq!((refused.kind(), refused.problem().parameter()), (ErrorKind::Invalid, Some("overflow")));
    drop(told);
    server.drain().await;
}

#[tokio::test]
async fn a_snapshot_comes_whole_and_goes_on_live() {
    let broker = Broker::memory();
    for key in ["k1", "k2", "k1"] {
        broker.publish_one(&"a".parse().unwrap(), Message::text(key).with_key(key)).await.unwrap();
    }
    let server = serve(&broker, "127.0.0.1:0").await;
    let request = Subscribe::to("a").unwrap().from(Start::Snapshot);
    let mut subscription = server.client().consume(request).await.unwrap();
    assert_eq!(next_event(&mut subscription).await, 2);
    assert_eq!(next_event(&mut subscription).await, 3);
    assert!(matches!(next(&mut subscription).await, Some(Delivery::Place(place)) if place == at(&broker, 3)));
    publish(&broker, "a", 1).await;
    assert_eq!(next_event(&mut subscription).await, 4);
    drop(subscription);
    server.drain().await;
}

#[tokio::test]
async fn a_client_that_is_gone_is_not_waited_for() {
    let broker = Broker::memory();
    let server = serve(&broker, "127.0.0.1:0").await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET /longpoll?topic=a&wait=60 HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    server.until_waiting(1).await;
    drop(stream);
    server.until_waiting(0).await;
    server.drain().await;
}

#[tokio::test]
async fn mounted_in_axum() {
    let broker = Broker::memory();
    publish(&broker, "a", 2).await;
    let gate = Gate::open();
    let service = LongpollService::new(Arc::new(broker.clone()), gate.clone());
    let app = axum::Router::new().nest("/live", axum::Router::new().route_service("/longpoll", service));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let drain = gate.drain().clone();
    let shutdown = async move { drain.cancelled().await };
    let served = tokio::spawn(axum::serve(listener, app).with_graceful_shutdown(shutdown).into_future());
    let client = LongpollClient::new(&format!("http://{address}/live/")).unwrap();
    let mut subscription = client.consume(Subscribe::to("a").unwrap().from(Start::Earliest)).await.unwrap();
    assert_eq!(next_event(&mut subscription).await, 1);
    assert_eq!(next_event(&mut subscription).await, 2);
    publish(&broker, "a", 1).await;
    assert_eq!(next_event(&mut subscription).await, 3);
    drop(subscription);
    gate.drain().begin();
    within(served).await.unwrap().unwrap();
}

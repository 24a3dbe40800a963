//! What somebody between client and server says, and what only the server itself does.

use std::{net::SocketAddr, time::Duration};

use pushpull::{
    Action, Authorizer, Broker, ConnectOptions, Context, Delivery, ErrorKind, Fetch, Gate, Link, Message,
    Outcome, Problem, Producer, ProducerExt, Pull, Push, PushExt, Server, Start, Subscribe, Topics,
    async_trait,
};
use pushpull_testkit::proxy::Proxy;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Instant, timeout},
};

use crate::{Running, next_event, topic};

/// Answers every request for a path that begins with `path` by `answer`, and lets all else through to `server`.
/// Which it is the first request of a connection decides. Ends with the set that is returned.
async fn between(server: SocketAddr, path: &'static str, answer: &'static str) -> (String, JoinSet<()>) {
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", tcp.local_addr().unwrap());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((client, _)) = tcp.accept().await {
            connections.spawn(pass(client, server, path, answer));
        }
    });
    (url, tasks)
}

async fn pass(mut client: TcpStream, server: SocketAddr, path: &str, answer: &str) {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match client.read_buf(&mut head).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
    if head.starts_with(format!("GET {path}").as_bytes()) {
        let _ = client.write_all(answer.as_bytes()).await;
        return;
    }
    let mut upstream = TcpStream::connect(server).await.unwrap();
    upstream.write_all(&head).await.unwrap();
    let _ = copy_bidirectional(&mut client, &mut upstream).await;
}

const FORBIDDEN: &str =
    "HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno";
const AWAY: &str =
    "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 3600\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn a_box_that_refuses_one_path_is_gone_round() {
    for answer in [
        FORBIDDEN,
        AWAY,
        "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 60\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    ] {
        let broker = Broker::memory();
        let running = Running::start(Server::new(broker.clone())).await;
        let (url, _tasks) = between(running.address(), "/ws", answer).await;
        let source = ConnectOptions::new().connect(&url).await.unwrap();
        let published = broker.publish_one(&topic(), Message::text("through")).await.unwrap();
        let wanted = Subscribe::to("news.*").unwrap().from(Start::Earliest);
        let mut news = timeout(Duration::from_secs(9), source.consume(wanted)).await.expect(answer).unwrap();
        assert_eq!(next_event(&mut news).await, (published, "through".to_owned()));
        assert_eq!(news.transport(), Some("sse"), "{answer}");
        drop(news);
        assert!(running.stop().await);
    }
}

#[tokio::test]
async fn a_box_that_refuses_every_path_is_believed() {
    let running = Running::start(Server::new(Broker::memory())).await;
    let (url, _tasks) = between(running.address(), "/", FORBIDDEN).await;
    let source = ConnectOptions::new().connect(&url).await.unwrap();
    let refused = source.consume(Subscribe::to("a").unwrap()).await.unwrap_err();
    assert_eq!((refused.kind(), refused.problem().is_doubtful()), (ErrorKind::Forbidden, true));
    assert!(running.stop().await);
}

struct Closed(ErrorKind);

#[async_trait]
impl Authorizer for Closed {
    async fn identify(&self, _: Option<&str>, cx: Context) -> Result<Context, Problem> {
        Ok(cx)
    }

    async fn authorize(&self, _: &Context, _: Action<'_>) -> Result<(), Problem> {
        Err(Problem::new(self.0, "not you"))
    }
}

#[tokio::test]
async fn the_servers_own_refusal_is_final_at_the_first_question() {
    for kind in [ErrorKind::Unauthenticated, ErrorKind::Forbidden] {
        let gate = Gate::builder().with_authorizer(Closed(kind)).build().unwrap();
        let running = Running::start(Server::new(Broker::memory()).with_gate(gate)).await;
        let proxy = Proxy::start(running.address(), 1).await.unwrap();
        let source = ConnectOptions::new().connect(&proxy.url()).await.unwrap();
        let refused = source.consume(Subscribe::to("a").unwrap()).await.unwrap_err();
        assert_eq!((refused.kind(), proxy.accepted()), (kind, 1), "{refused}");
        assert!(!refused.problem().is_doubtful());
        assert!(running.stop().await);
    }
}

#[tokio::test]
async fn a_first_subscribe_ends_at_its_deadline() {
    // Takes connections, and never answers.
    let hole = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = hole.local_addr().unwrap();
    for scheme in ["http", "ws", "sse+http", "grpc"] {
        let source = ConnectOptions::new().connect(&format!("{scheme}://{address}")).await.unwrap();
        let begun = Instant::now();
        let cx = Context::default().with_deadline(begun + Duration::from_millis(150));
        let late = source.subscribe(&cx, Subscribe::to("a").unwrap()).await.unwrap_err();
        assert_eq!((late.kind(), late.is_retryable()), (ErrorKind::Timeout, true), "{scheme}: {late}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{scheme}: {:?}", begun.elapsed());
    }
    let polls = ConnectOptions::new().connect(&format!("poll+http://{address}")).await.unwrap();
    let cx = Context::default().with_deadline(Instant::now() + Duration::from_millis(150));
    let mut told = polls.subscribe(&cx, Subscribe::to("a").unwrap()).await.unwrap();
    match told.next().await.unwrap().unwrap() {
        Delivery::Link(Link::Reconnecting { cause: Some(cause), .. }) => {
            assert_eq!(cause.kind(), ErrorKind::Timeout);
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_publish_to_nobody_fails_after_its_timeout() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let options = ConnectOptions::new().with_publish_timeout(Duration::from_millis(300));
    let source = options.connect(&format!("http://{nobody}")).await.unwrap();
    let begun = Instant::now();
    let failed = source.publish_one(&topic(), Message::text("x")).await.unwrap_err();
    assert_eq!((failed.kind(), failed.outcome()), (ErrorKind::Unavailable, Outcome::NotApplied));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    // The deadline of a call goes before.
    let cx = Context::default().with_deadline(Instant::now());
    let forever = ConnectOptions::new().with_publish_timeout(Duration::MAX);
    let source = forever.connect(&format!("http://{nobody}")).await.unwrap();
    let begun = Instant::now();
    assert!(source.publish(&cx, &topic(), &[Message::text("x")]).await.is_err());
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_source_can_be_asked_whatever_its_transport() {
    let broker = Broker::memory();
    let running = Running::start(Server::new(broker.clone())).await;
    let mut newest = broker.place();
    for text in ["first", "second"] {
        newest = broker.publish_one(&topic(), Message::text(text)).await.unwrap();
    }
    let topics = || Topics::from(pushpull::Pattern::from(topic()));
    for scheme in ["http", "ws", "sse+http", "longpoll+http", "poll+http", "grpc"] {
        let source = ConnectOptions::new().connect(&running.at(scheme)).await.unwrap();
        let cx = Context::default();
        let batch = source.fetch(&cx, Fetch::new(topics()).from(Start::Last)).await.unwrap();
        let payloads: Vec<_> = batch
            .deliveries
            .into_iter()
            .filter_map(Delivery::into_event)
            .map(|e| e.payload().to_vec())
            .collect();
        assert_eq!((payloads, batch.place), (vec![b"second".to_vec()], Some(newest)), "{scheme}");
    }
    // Where it is a poll it is asked as one: that waits for nothing.
    let poll = ConnectOptions::new().connect(&running.at("poll+http")).await.unwrap();
    let (begun, wait) = (Instant::now(), Duration::from_secs(30));
    let quiet =
        poll.fetch(&Context::default(), Fetch::new(topics()).from(newest).with_wait(wait)).await.unwrap();
    assert_eq!((quiet.deliveries.len(), quiet.place), (0, Some(newest)));
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert!(running.stop().await);
}

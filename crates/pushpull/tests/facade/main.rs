//! The facade as an application uses it: one program over every transport, mounted, with a fallback, under a prefix.
#![cfg(test)]
#![cfg(all(
    feature = "ws",
    feature = "sse",
    feature = "longpoll",
    feature = "http-poll",
    feature = "grpc-stream",
    feature = "client",
    feature = "server"
))]

mod between;
mod fallback;

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use pushpull::{
    Backend, Body, Broker, ConnectOptions, Consumer, Cursor, Delivery, ErrorKind, Gate, Incomings, Message,
    Paths, ProducerExt, PushExt, Server, Source, Start, StartAt, Subscribe, Subscription, Topic, Transport,
    connect,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
};

struct Running {
    url: String,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<bool>,
}

impl Running {
    async fn start(server: Server) -> Self {
        let server = server.bind("127.0.0.1:0").await.unwrap();
        let (url, (stop, stopped)) = (server.url(), oneshot::channel::<()>());
        let serving = tokio::spawn(server.serve_until(async { stopped.await.unwrap_or_default() }));
        Self { url, stop, serving }
    }

    fn address(&self) -> SocketAddr {
        self.url.trim_start_matches("http://").parse().unwrap()
    }

    fn at(&self, scheme: &str) -> String {
        self.url.replace("http", scheme)
    }

    async fn stop(self) -> bool {
        drop(self.stop);
        self.serving.await.unwrap()
    }
}

async fn next_event(subscription: &mut Subscription) -> (Cursor, String) {
    loop {
        match subscription.next().await.unwrap().unwrap() {
            Delivery::Event(event) => {
                return (event.cursor(), String::from_utf8(event.payload().to_vec()).unwrap());
            }
            Delivery::Gap(gap) => panic!("a gap: {gap}"),
            _ => {}
        }
    }
}

fn topic() -> Topic {
    "news.sport".parse().unwrap()
}

fn quick() -> ConnectOptions {
    ConnectOptions::new().with_interval(Duration::from_millis(20))
}

#[tokio::test]
async fn one_cursor_goes_through_every_transport() {
    let running = Running::start(Server::new(Broker::memory())).await;
    let mut start = StartAt::from(Start::Earliest);
    for (n, (scheme, transport)) in [
        ("ws", "ws"),
        ("sse+http", "sse"),
        ("longpoll+http", "longpoll"),
        ("poll+http", "poll"),
        ("grpc", "grpc"),
        ("http", "ws"),
    ]
    .into_iter()
    .enumerate()
    {
        let source: Source = quick().connect(&running.at(scheme)).await.unwrap();
        let published = source.publish_one(&topic(), Message::text(format!("headline {n}"))).await.unwrap();
        let mut news = source.consume(Subscribe::to("news.*").unwrap().from(start)).await.unwrap();
        assert_eq!(next_event(&mut news).await, (published, format!("headline {n}")), "by {scheme}");
        assert_eq!(Consumer::place(&news), Some(published));
        assert_eq!(Consumer::transport(&news), Some(transport));
        start = published.into();
    }
    assert!(running.stop().await);
}

#[tokio::test]
async fn a_url_pins_its_transport_and_http_takes_the_best() {
    for (url, transport) in [
        ("http://127.0.0.1:1", Transport::Ws),
        ("ws://127.0.0.1:1", Transport::Ws),
        ("sse+http://127.0.0.1:1", Transport::Sse),
        ("longpoll+http://127.0.0.1:1/live", Transport::Longpoll),
        ("poll+http://127.0.0.1:1", Transport::Poll),
        ("grpc://127.0.0.1:1", Transport::Grpc),
    ] {
        assert_eq!(connect(url).await.unwrap().transport(), transport, "{url}");
    }
    for (url, kind) in [("http//", ErrorKind::Invalid), ("gopher://h", ErrorKind::Invalid)] {
        assert_eq!(connect(url).await.unwrap_err().kind(), kind, "{url}");
    }
}

#[tokio::test]
async fn it_mounts_into_an_axum_application() {
    let (service, drain) = pushpull::service(Broker::memory());
    let app = axum::Router::new()
        .route("/", axum::routing::get(|| async { "home" }))
        .nest_service("/live", service);
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap();
    let serving = tokio::spawn(async move { axum::serve(tcp, app).await });
    for scheme in ["ws", "sse+http", "longpoll+http", "poll+http"] {
        let source = quick().connect(&format!("{scheme}://{address}/live")).await.unwrap();
        let published = source.publish_one(&topic(), Message::text(scheme)).await.unwrap();
        let wanted = Subscribe::to("news.*").unwrap().from(Start::Last);
        let mut news = source.consume(wanted).await.unwrap();
        assert_eq!(next_event(&mut news).await, (published, scheme.to_owned()));
    }
    assert!(drain.finish(Duration::from_secs(5)).await, "every stream ended by itself");
    serving.abort();
}

async fn get(url: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(url.trim_start_matches("http://")).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_fallback_answers_what_is_not_of_the_contract() {
    let page = tower::service_fn(|request: Incomings| async move {
        Ok::<_, Infallible>(http::Response::new(Body::full(format!("page {}", request.uri().path()))))
    });
    let server = Server::new(Broker::memory()).with_paths(Paths::under("/live")).with_fallback(page);
    let running = Running::start(server).await;
    assert!(get(&running.url, "/").await.ends_with("page /"));
    assert!(
        get(&running.url, "/sse").await.ends_with("page /sse"),
        "the contract's paths are under the prefix"
    );
    assert!(get(&running.url, "/live/health/live").await.starts_with("HTTP/1.1 200"));
    assert!(get(&running.url, "/live/nothing").await.ends_with("page /live/nothing"));
    assert!(running.stop().await);
    let bare = Running::start(Server::new(Broker::memory())).await;
    assert!(get(&bare.url, "/nothing").await.starts_with("HTTP/1.1 404"));
    assert!(bare.stop().await);
}

/// A server that is none of ours at its top, and lets nobody in below `/secret` and `/forbidden`.
fn page() -> Server {
    let page = tower::service_fn(|request: Incomings| async move {
        let mut response = http::Response::new(Body::full("a page"));
        *response.status_mut() = match request.uri().path() {
            path if path.starts_with("/nowhere") => http::StatusCode::NOT_FOUND,
            path if path.starts_with("/secret") => http::StatusCode::UNAUTHORIZED,
            path if path.starts_with("/forbidden") => http::StatusCode::FORBIDDEN,
            _ => http::StatusCode::OK,
        };
        Ok::<_, Infallible>(response)
    });
    Server::new(Broker::memory()).with_paths(Paths::under("/live")).with_fallback(page)
}

#[tokio::test]
async fn who_is_no_server_of_ours_is_told_at_once_and_by_name() {
    let running = Running::start(page()).await;
    for scheme in ["ws", "sse+http", "longpoll+http", "poll+http"] {
        for (path, kind) in [("", ErrorKind::Protocol), ("/nowhere", ErrorKind::NotFound)] {
            let source = connect(&format!("{}{path}", running.at(scheme))).await.unwrap();
            let refused = source.consume(Subscribe::to("a").unwrap()).await.unwrap_err();
            assert_eq!(refused.kind(), kind, "{scheme}{path}: {refused}");
            if kind == ErrorKind::NotFound {
                let url = format!("{}{path}/", running.url);
                assert!(refused.to_string().contains(&url), "{refused} should name {url}");
            }
        }
    }
    assert!(running.stop().await);
}

#[tokio::test]
async fn a_backend_that_cannot_says_501() {
    let backend = Backend::new().with_pull(Broker::memory());
    let running = Running::start(Server::new(backend).with_gate(Gate::open())).await;
    assert!(get(&running.url, "/poll?topic=a").await.starts_with("HTTP/1.1 200"));
    assert!(get(&running.url, "/sse?topic=a").await.starts_with("HTTP/1.1 501"));
    assert!(running.stop().await);
}

#[tokio::test]
async fn status_can_be_closed_by_a_token() {
    let running = Running::start(Server::new(Broker::memory()).with_status_token("secret")).await;
    assert!(get(&running.url, "/metrics").await.starts_with("HTTP/1.1 401"));
    assert!(get(&running.url, "/poll?topic=a").await.starts_with("HTTP/1.1 200"));
    assert!(running.stop().await);
}

#[tokio::test]
async fn a_server_passes_on_what_a_client_gets() {
    let broker = Broker::memory();
    let upstream = Running::start(Server::new(broker.clone())).await;
    let source = connect(&upstream.at("ws")).await.unwrap();
    let relay = Backend::new().with_push(source.clone()).with_producer(source);
    let relay = Running::start(Server::new(relay)).await;
    let through = connect(&relay.at("sse+http")).await.unwrap();
    let published = through.publish_one(&topic(), Message::text("far")).await.unwrap();
    let mut news = through.consume(Subscribe::to(">").unwrap().from(Start::Earliest)).await.unwrap();
    assert_eq!(next_event(&mut news).await, (published, "far".to_owned()));
    assert_eq!(broker.place(), published);
    drop(news);
    assert!(relay.stop().await);
    assert!(upstream.stop().await);
}

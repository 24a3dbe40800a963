//! The sender over sockets: connections, addresses, redirects, answers that never end.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use pushpull_broker::Broker;
use pushpull_core::{ErrorKind, Subscribe};
use pushpull_webhook::{EndpointId, Registration, Resolve, RetryPolicy, Webhooks, WebhooksConfig};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::{publish, within};

/// How an endpoint answers a request, and whether it then closes the connection.
#[derive(Clone, Copy)]
struct Say(&'static str, Then);

#[derive(Clone, Copy)]
enum Then {
    Keep,
    Close,
    /// Goes on sending a body for ever.
    Drip,
}

const OK: Say = Say("HTTP/1.1 204 No Content\r\n\r\n", Then::Keep);

/// An endpoint that speaks HTTP by hand: what it was sent, by connection.
struct Endpoint {
    address: SocketAddr,
    got: Arc<Mutex<Vec<(usize, String)>>>,
}

async fn endpoint(script: Vec<Say>) -> Endpoint {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let got = Arc::new(Mutex::new(Vec::new()));
    let (turn, seen) = (Arc::new(AtomicUsize::new(0)), got.clone());
    tokio::spawn(async move {
        for connection in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(speak(stream, connection, script.clone(), turn.clone(), seen.clone()));
        }
    });
    Endpoint { address, got }
}

async fn speak(
    mut stream: TcpStream,
    connection: usize,
    script: Vec<Say>,
    turn: Arc<AtomicUsize>,
    seen: Arc<Mutex<Vec<(usize, String)>>>,
) {
    while let Some(request) = read_request(&mut stream).await {
        seen.lock().unwrap().push((connection, request));
        let Say(text, then) = script.get(turn.fetch_add(1, SeqCst)).copied().unwrap_or(OK);
        stream.write_all(text.as_bytes()).await.unwrap();
        match then {
            Then::Keep => {}
            Then::Close => return,
            Then::Drip => {
                while stream.write_all(b"1\r\nx\r\n").await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        }
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut text = String::new();
    loop {
        let mut bytes = [0; 4096];
        let count = stream.read(&mut bytes).await.ok().filter(|count| *count > 0)?;
        text.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
            return Some(text);
        }
    }
}

impl Endpoint {
    async fn wait(&self, count: usize) -> Vec<(usize, String)> {
        within(async {
            while self.got.lock().unwrap().len() < count {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
        self.got.lock().unwrap().clone()
    }
}

fn config() -> WebhooksConfig {
    let policy = RetryPolicy::default()
        .with_first(Duration::from_millis(20))
        .with_longest(Duration::from_millis(20))
        .with_attempt(Duration::from_millis(500));
    WebhooksConfig::default().with_policy(policy).with_allowed("127.0.0.0/8".parse().unwrap())
}

async fn register(broker: &Broker, config: WebhooksConfig, url: String) -> (Webhooks, EndpointId) {
    let webhooks = Webhooks::new(Arc::new(broker.clone()), config);
    let registration = Registration::new(url, Subscribe::to("a").unwrap().topics);
    let id = webhooks.register(registration).await.unwrap().id;
    (webhooks, id)
}

/// The events that were sent, by seq, each with its connection.
fn sent(got: &[(usize, String)]) -> Vec<(usize, u64)> {
    let seq = |text: &str| {
        let id = text.lines().find_map(|line| line.strip_prefix("webhook-id: ")).unwrap();
        id.split_once('-').unwrap().1.parse().unwrap()
    };
    got.iter().map(|(connection, text)| (*connection, seq(text))).collect()
}

#[tokio::test]
async fn a_connection_is_kept_and_made_anew_where_it_was_closed() {
    let broker = Broker::memory();
    let closes = Say("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", Then::Close);
    let endpoint = endpoint(vec![OK, closes]).await;
    let url = format!("http://{}/hook?x=y", endpoint.address);
    let _running = register(&broker, config(), url).await;
    for _ in 0..2 {
        publish(&broker, "a", "x").await;
    }
    endpoint.wait(2).await;
    publish(&broker, "a", "x").await;
    let got = endpoint.wait(3).await;
    assert_eq!(sent(&got), [(0, 1), (0, 2), (1, 3)]);
    let head = &got[0].1;
    assert!(head.starts_with("POST /hook?x=y HTTP/1.1\r\n"), "{head}");
    assert!(head.contains(&format!("\r\nhost: {}\r\n", endpoint.address)), "{head}");
    assert!(head.contains("\r\nuser-agent: pushpull-webhook/"), "{head}");
    assert!(head.contains("\r\ncontent-type: application/json\r\n"), "{head}");
}

#[tokio::test]
async fn redirects_are_failures_and_never_followed() {
    let broker = Broker::memory();
    let elsewhere = endpoint(vec![]).await;
    let redirects =
        format!("HTTP/1.1 307 X\r\nlocation: http://{}/\r\ncontent-length: 0\r\n\r\n", elsewhere.address);
    let endpoint = endpoint(vec![Say(redirects.leak(), Then::Keep)]).await;
    let _running = register(&broker, config(), format!("http://{}/", endpoint.address)).await;
    publish(&broker, "a", "x").await;
    assert_eq!(sent(&endpoint.wait(2).await), [(0, 1), (0, 1)]);
    assert!(elsewhere.got.lock().unwrap().is_empty());
}

#[tokio::test]
async fn the_status_counts_whatever_follows_it() {
    let broker = Broker::memory();
    let drips = Say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", Then::Drip);
    let long = Say("HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n", Then::Keep);
    let silent = Say("", Then::Keep);
    let endpoint = endpoint(vec![drips, long, silent, OK]).await;
    let policy =
        RetryPolicy::default().with_first(Duration::from_millis(20)).with_attempt(Duration::from_secs(3));
    let _running =
        register(&broker, config().with_policy(policy), format!("http://{}/", endpoint.address)).await;
    for _ in 0..3 {
        publish(&broker, "a", "x").await;
    }
    let got = sent(&endpoint.wait(4).await);
    assert_eq!(
        got,
        [(0, 1), (1, 2), (2, 3), (3, 3)],
        "a body is not waited for, and no connection kept with half of one"
    );
}

/// A host whose address changes behind one's back.
struct Rebinding {
    asked: AtomicUsize,
    addresses: Vec<&'static str>,
}

#[async_trait]
impl Resolve for Rebinding {
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        assert_eq!(host, "hooks.example");
        let turn = self.asked.fetch_add(1, SeqCst).min(self.addresses.len() - 1);
        Ok(vec![SocketAddr::new(self.addresses[turn].parse().unwrap(), port)])
    }
}

#[tokio::test]
async fn addresses_are_checked_again_at_each_attempt() {
    let broker = Broker::memory();
    let endpoint = endpoint(vec![]).await;
    let addresses = vec!["127.0.0.1", "127.0.0.1", "127.9.9.9", "10.0.0.1", "127.0.0.1"];
    let resolver = Arc::new(Rebinding { asked: AtomicUsize::new(0), addresses });
    let range = "127.0.0.1".parse().unwrap();
    let policy = RetryPolicy::default().with_first(Duration::from_millis(200));
    let config =
        WebhooksConfig::default().with_policy(policy).with_resolver(resolver.clone()).with_allowed(range);
    let url = format!("http://hooks.example:{}/", endpoint.address.port());
    let (webhooks, id) = register(&broker, config, url).await;
    publish(&broker, "a", "x").await;
    endpoint.wait(1).await;
    publish(&broker, "a", "x").await;
    within(async {
        while webhooks.status(id).unwrap().failures < 2 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    assert_eq!(endpoint.got.lock().unwrap().len(), 1, "a kept connection does not outlive its address");
    assert_eq!(sent(&endpoint.wait(2).await), [(0, 1), (1, 2)]);
    assert_eq!(resolver.asked.load(SeqCst), 5, "once to register, once an attempt");
}

#[tokio::test]
async fn a_host_whose_address_is_private_is_no_endpoint() {
    let resolver = Arc::new(Rebinding { asked: AtomicUsize::new(0), addresses: vec!["192.168.0.1"] });
    let webhooks =
        Webhooks::new(Arc::new(Broker::memory()), WebhooksConfig::default().with_resolver(resolver));
    for url in ["http://hooks.example/", "http://127.0.0.1/"] {
        let registration = Registration::new(url, Subscribe::to("a").unwrap().topics);
        let refused = webhooks.register(registration).await.unwrap_err();
        assert_eq!((refused.kind(), refused.parameter()), (ErrorKind::Invalid, Some("url")));
    }
}

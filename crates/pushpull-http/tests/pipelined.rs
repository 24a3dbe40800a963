//! Requests that come together, against a raw socket: answered in order, and never more than the client reads.
#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::Response;
use pushpull_http::{Body, Gate, Incomings, Listener, ListenerConfig};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::{Notify, mpsc},
    task::yield_now,
};
use tower_service::Service;

/// Bytes of the answer to `/padded`.
const PADDED: usize = 4000;

/// Answers with the path; counts, and waits where it says so.
#[derive(Clone)]
struct Echo(Arc<Shared>);

struct Shared {
    asked: AtomicUsize,
    go: Notify,
    waits: mpsc::UnboundedSender<()>,
}

impl Service<Incomings> for Echo {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Incomings) -> Self::Future {
        let shared = self.0.clone();
        Box::pin(async move { Ok(answer(request, &shared).await) })
    }
}

async fn answer(request: Incomings, shared: &Shared) -> Response<Body> {
    shared.asked.fetch_add(1, Relaxed);
    let (parts, _) = request.into_parts();
    let path = parts.uri.path();
    if path == "/wait" {
        shared.waits.send(()).unwrap();
        shared.go.notified().await;
    }
    match path {
        "/padded" => Response::new(Body::full("x".repeat(PADDED))),
        _ => Response::new(Body::full(format!("<{} {path}>", parts.method))),
    }
}

struct Running {
    address: SocketAddr,
    shared: Arc<Shared>,
    waits: mpsc::UnboundedReceiver<()>,
}

async fn start() -> Running {
    let listener = Listener::bind("127.0.0.1:0").await.unwrap().with_config(ListenerConfig::default());
    let address = listener.local_addr().unwrap();
    let (sender, waits) = mpsc::unbounded_channel();
    let shared = Arc::new(Shared { asked: AtomicUsize::new(0), go: Notify::new(), waits: sender });
    let drain = Gate::open().drain().clone();
    tokio::spawn(listener.serve(Echo(shared.clone()), drain, std::future::pending(), Duration::ZERO));
    Running { address, shared, waits }
}

impl Running {
    async fn send(&self, requests: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(requests.as_bytes()).await.unwrap();
        stream
    }

    fn asked(&self) -> usize {
        self.shared.asked.load(Relaxed)
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.unwrap()
}

async fn turns() {
    for _ in 0..50 {
        yield_now().await;
    }
}

fn get(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n")
}

fn post(path: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn last(path: &str) -> String {
    get(path, "Connection: close\r\n")
}

/// What was answered to each, told by the bodies.
fn told(answers: &str) -> Vec<&str> {
    answers.split('<').skip(1).filter_map(|rest| Some(rest.split_once('>')?.0)).collect()
}

async fn rest(mut stream: TcpStream) -> String {
    let mut answers = String::new();
    within(stream.read_to_string(&mut answers)).await.unwrap();
    answers
}

/// Reads until `end` has come.
async fn read_to(stream: &mut TcpStream, end: &str) -> String {
    let mut answers = Vec::new();
    while !answers.ends_with(end.as_bytes()) {
        answers.push(within(stream.read_u8()).await.unwrap());
    }
    String::from_utf8(answers).unwrap()
}

#[tokio::test]
async fn each_is_answered_in_order_however_many_come() {
    let running = start().await;
    for count in [2, 31, 32, 33, 64, 1000] {
        let requests: String = (0..count).map(|number| post(&format!("/{number}"), "body")).collect();
        let answers = rest(running.send(&(requests + &last("/end"))).await).await;
        let expected: Vec<_> =
            (0..count).map(|number| format!("POST /{number}")).chain(["GET /end".to_owned()]).collect();
        assert_eq!(told(&answers), expected);
    }
}

#[tokio::test]
async fn those_that_come_together_are_answered_together() {
    let running = start().await;
    let mut stream = running.send(&get("/a", "").repeat(16)).await;
    stream.readable().await.unwrap();
    let mut answers = vec![0; 64 * 1024];
    let count = within(stream.read(&mut answers)).await.unwrap();
    assert_eq!(told(std::str::from_utf8(&answers[..count]).unwrap()).len(), 16);
}

#[tokio::test]
async fn what_is_before_one_that_waits_is_answered_at_once_and_what_is_behind_it_not() {
    let mut running = start().await;
    let requests = get("/a", "") + &post("/b", "body") + &get("/wait", "") + &get("/c", "") + &last("/d");
    let mut stream = running.send(&requests).await;
    let before = read_to(&mut stream, "<POST /b>").await;
    assert_eq!(told(&before), ["GET /a", "POST /b"]);
    within(running.waits.recv()).await.unwrap();
    turns().await;
    assert_eq!(running.asked(), 3, "one that waits holds what is behind it");
    running.shared.go.notify_one();
    assert_eq!(told(&rest(stream).await), ["GET /wait", "GET /c", "GET /d"]);
}

#[tokio::test]
async fn nothing_is_asked_behind_one_that_closes() {
    let running = start().await;
    let requests = get("/a", "") + &last("/b") + &get("/c", "").repeat(3);
    let answers = rest(running.send(&requests).await).await;
    assert_eq!(told(&answers), ["GET /a", "GET /b"]);
    assert_eq!(answers.matches("connection: close\r\n").count(), 1, "{answers}");
    assert_eq!(running.asked(), 2);
}

#[tokio::test]
async fn what_is_not_plain_comes_after_the_answers_before_it() {
    let running = start().await;
    let chunked = "POST /b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n";
    for other in [chunked, "PUT /b HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab"] {
        let requests = get("/a", "").repeat(5) + other + &get("/c", "") + &last("/d");
        let answers = rest(running.send(&requests).await).await;
        let method = &other[..other.find(' ').unwrap()];
        let mut expected = vec!["GET /a"; 5];
        let other = format!("{method} /b");
        expected.extend([&*other, "GET /c", "GET /d"]);
        assert_eq!(told(&answers), expected);
    }
}

#[tokio::test]
async fn one_that_is_not_whole_holds_no_answer_back() {
    let running = start().await;
    for cut in ["GE", "GET /c HTTP/1.1\r\nHo", "POST /c HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbo"] {
        let mut stream = running.send(&(get("/a", "") + &get("/b", "") + cut)).await;
        assert_eq!(told(&read_to(&mut stream, "<GET /b>").await), ["GET /a", "GET /b"], "{cut}");
    }
}

#[tokio::test]
async fn who_reads_no_answer_is_asked_no_more() {
    let running = start().await;
    let stream = running.send("").await;
    let (asked, bytes) = (20_000, get("/padded", "").repeat(20_000) + &last("/end"));
    let (mut read, mut write) = stream.into_split();
    // Kept by the task: a client that sends no more would be taken for one that is gone.
    let writing = tokio::spawn(async move {
        write.write_all(bytes.as_bytes()).await.unwrap();
        write
    });
    let mut before = usize::MAX;
    while before != running.asked() || before == 0 {
        before = running.asked();
        for _ in 0..20 {
            turns().await;
        }
    }
    assert!(before < asked / 2, "{before} answers were made for one who reads none");
    // Nothing is lost once it reads.
    let mut answers = Vec::new();
    within(read.read_to_end(&mut answers)).await.unwrap();
    drop(writing.await.unwrap());
    let answers = String::from_utf8(answers).unwrap();
    assert_eq!(
        (answers.matches("HTTP/1.1 200 OK\r\n").count(), told(&answers)),
        (asked + 1, vec!["GET /end"])
    );
}

#[tokio::test]
async fn who_reads_no_answer_before_one_that_waits_has_all_of_them_in_the_end() {
    let mut running = start().await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(running.address).await.unwrap();
    let round = get("/padded", "").repeat(3) + &get("/wait", "");
    for _ in 0..200 {
        stream.write_all(round.as_bytes()).await.unwrap();
    }
    stream.write_all(last("/end").as_bytes()).await.unwrap();
    let shared = running.shared.clone();
    let going = async {
        while running.waits.recv().await.is_some() {
            shared.go.notify_one();
        }
    };
    turns().await;
    let answers = tokio::select! {
        answers = rest(stream) => answers,
        () = going => unreachable!(),
    };
    assert_eq!(answers.matches("HTTP/1.1 200 OK\r\n").count(), 801);
    assert_eq!(told(&answers), [vec!["GET /wait"; 200], vec!["GET /end"]].concat());
}

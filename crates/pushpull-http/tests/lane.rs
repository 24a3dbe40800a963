//! The lane against raw sockets: what it answers, hyper answers too, byte for byte but for the order of headers.
#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use pushpull_http::{Body, Drain, Gate, Incomings, Listener, ListenerConfig, Peer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Notify, mpsc, oneshot},
    task::{JoinHandle, yield_now},
};
use tower_service::Service;

/// Tells what it was asked; answers as the path says.
#[derive(Clone)]
struct Told(Arc<Shared>);

struct Shared {
    /// Lets those go on that wait.
    go: Notify,
    /// Told whenever one begins to wait, and when it has ended.
    waits: mpsc::UnboundedSender<bool>,
}

/// Tells when it is dropped.
struct Ended(Arc<Shared>);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.waits.send(false);
    }
}

impl Service<Incomings> for Told {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Incomings) -> Self::Future {
        let shared = self.0.clone();
        Box::pin(async move { Ok(answer(request, shared).await) })
    }
}

async fn answer(request: Incomings, shared: Arc<Shared>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    assert!(parts.extensions.get::<Peer>().is_some_and(|peer| peer.0.ip().is_loopback()));
    let body = match body.collect().await {
        Ok(body) => format!("{:?}", body.to_bytes()),
        Err(_) => "cut".to_owned(),
    };
    let told = format!("{} {} {:?} {body}", parts.method, parts.uri, parts.headers);
    let mut response = Response::new(Body::full(told));
    let headers = response.headers_mut();
    match parts.uri.path() {
        "/none" => *response.body_mut() = Body::empty(),
        "/204" => *response.status_mut() = StatusCode::NO_CONTENT,
        "/304" => {
            headers.insert("etag", HeaderValue::from_static("\"x\""));
            (*response.status_mut(), *response.body_mut()) = (StatusCode::NOT_MODIFIED, Body::empty());
        }
        "/599" => *response.status_mut() = StatusCode::from_u16(599).unwrap(),
        "/headers" => {
            headers.insert("date", HeaderValue::from_static("then"));
            headers.append("vary", HeaderValue::from_static("a"));
            headers.append("vary", HeaderValue::from_static("b"));
        }
        "/length" => {
            *response.body_mut() = Body::empty();
            if parts.method == http::Method::HEAD {
                response.headers_mut().insert("content-length", HeaderValue::from_static("7"));
            }
        }
        "/close" => drop(headers.insert("connection", HeaderValue::from_static("close"))),
        "/large" => *response.body_mut() = Body::full("x".repeat(3_000_000)),
        "/stream" => *response.body_mut() = frames(&["a", "", "bc", &"d".repeat(100_000)], false),
        "/sized" => {
            *response.body_mut() = frames(&["abc", "de"], false);
            response.headers_mut().insert("content-length", HeaderValue::from_static("5"));
        }
        "/cut" => *response.body_mut() = frames(&["abc"], true),
        "/whole" => *response.body_mut() = Body::new(http_body_util::Full::new(Bytes::from_static(b"whole"))),
        "/wait" => {
            let _ended = Ended(shared.clone());
            let _ = shared.waits.send(true);
            shared.go.notified().await;
        }
        "/endless" => *response.body_mut() = endless(shared),
        _ => {}
    }
    response
}

fn frames(parts: &[&str], breaks: bool) -> Body {
    let frames = parts.iter().map(|part| Ok(Frame::data(Bytes::copy_from_slice(part.as_bytes()))));
    let error = breaks.then(|| Err(std::io::Error::other("broken")));
    Body::new(StreamBody::new(stream::iter(frames.chain(error).collect::<Vec<_>>())))
}

/// A first frame, and then none until it is let go on.
fn endless(shared: Arc<Shared>) -> Body {
    let ended = Ended(shared.clone());
    let frames = stream::unfold((shared, ended, 0), |(shared, ended, number)| async move {
        if number > 0 {
            let _ = shared.waits.send(true);
            shared.go.notified().await;
        }
        let frame = Frame::data(Bytes::from(format!("frame {number}")));
        Some((Ok::<_, Infallible>(frame), (shared, ended, number + 1)))
    });
    Body::new(StreamBody::new(Box::pin(frames)))
}

struct Running {
    address: SocketAddr,
    drain: Drain,
    stop: oneshot::Sender<()>,
    served: JoinHandle<bool>,
    shared: Arc<Shared>,
    waits: mpsc::UnboundedReceiver<bool>,
}

async fn start(config: ListenerConfig) -> Running {
    start_with(config, Duration::from_secs(15)).await
}

/// One that cuts off at a drain what has not ended within `limit`.
async fn start_with(config: ListenerConfig, limit: Duration) -> Running {
    let listener = Listener::bind("127.0.0.1:0").await.unwrap().with_config(config);
    let address = listener.local_addr().unwrap();
    let drain = Gate::open().drain().clone();
    let (stop, stopped) = oneshot::channel();
    let shutdown = async move {
        let _ = stopped.await;
    };
    let (sender, waits) = mpsc::unbounded_channel();
    let shared = Arc::new(Shared { go: Notify::new(), waits: sender });
    let service = Told(shared.clone());
    let served = tokio::spawn(listener.serve(service, drain.clone(), shutdown, limit));
    Running { address, drain, stop, served, shared, waits }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.unwrap()
}

async fn connect(running: &Running) -> TcpStream {
    let stream = TcpStream::connect(running.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// How the bytes of a request come.
#[derive(Clone, Copy, Debug)]
enum Coming {
    Whole,
    /// In two parts, the first of so many bytes.
    Split(usize),
    Bytewise,
}

/// All that is answered to `bytes`, until the server closes.
async fn ask(running: &Running, bytes: &[u8], coming: Coming) -> Vec<u8> {
    let mut stream = connect(running).await;
    let parts: Vec<&[u8]> = match coming {
        Coming::Whole => vec![bytes],
        Coming::Split(at) => vec![&bytes[..at], &bytes[at..]],
        Coming::Bytewise => bytes.chunks(1).collect(),
    };
    for part in parts {
        if stream.write_all(part).await.is_err() {
            break;
        }
        // The server has its turns, and looks at each part by itself.
        for _ in 0..3 {
            yield_now().await;
        }
    }
    let mut answer = Vec::new();
    let _ = within(stream.read_to_end(&mut answer)).await;
    answer
}

/// One response, its headers sorted, its date taken away if it is one, its chunks joined.
type Parsed = (String, Vec<String>, Vec<u8>);

/// The responses in `bytes`, to requests of which `heads` says whether each is a `HEAD`.
fn parsed(mut bytes: &[u8], heads: &[bool]) -> Vec<Parsed> {
    let mut all = Vec::new();
    while let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        bytes = &bytes[end + 4..];
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().to_owned();
        let undated = |line: &str| if line.ends_with(" GMT") { "date".to_owned() } else { line.to_owned() };
        let mut headers: Vec<String> = lines.map(undated).collect();
        headers.sort();
        let is_head = heads.get(all.len()).copied().unwrap_or(false);
        let length = headers.iter().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        let (body, rest) = match length {
            _ if is_head || status.contains(" 204 ") || status.contains(" 304 ") => (Vec::new(), bytes),
            _ if headers.iter().any(|line| line == "transfer-encoding: chunked") => dechunked(bytes),
            length => {
                let (body, rest) = bytes.split_at(length.unwrap_or(bytes.len()).min(bytes.len()));
                (body.to_vec(), rest)
            }
        };
        bytes = rest;
        all.push((status, headers, body));
    }
    if !bytes.is_empty() {
        all.push(("what is left".into(), Vec::new(), bytes.to_vec()));
    }
    all
}

/// What the chunks hold, whether they were ended told by a last byte, and what follows.
fn dechunked(mut bytes: &[u8]) -> (Vec<u8>, &[u8]) {
    let mut body = Vec::new();
    while let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).unwrap(), 16).unwrap();
        body.extend_from_slice(&bytes[end + 2..end + 2 + size]);
        assert_eq!(&bytes[end + 2 + size..end + 4 + size], b"\r\n");
        bytes = &bytes[end + 4 + size..];
        if size == 0 {
            body.push(b'.');
            return (body, bytes);
        }
    }
    (body, bytes)
}

const END: &str = "GET /end HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

/// Requests in every manner, each ended by the server.
fn requests() -> Vec<(String, Vec<bool>)> {
    let mut all = Vec::new();
    for path in [
        "/",
        "/a?b=c%20d",
        "/none",
        "/204",
        "/304",
        "/599",
        "/headers",
        "/length",
        "/close",
        "/large",
        "/stream",
        "/sized",
        "/whole",
    ] {
        for method in ["GET", "HEAD", "POST"] {
            let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nX-Y: \u{e4}\r\nx-y: z\r\n\r\n");
            all.push((format!("{request}{END}"), vec![method == "HEAD"]));
        }
    }
    let get = |headers: &str| format!("GET /g HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
    let post = |headers: &str, body: &str| format!("POST /p HTTP/1.1\r\nHost: x\r\n{headers}\r\n{body}");
    for request in [
        get("Connection: keep-alive\r\n"),
        get("Connection: close\r\n"),
        get("Content-Length: 0\r\n"),
        get("Content-Length: 3\r\n") + "abc",
        post("Content-Length: 5\r\n", "hello"),
        post("Content-Length: 5\r\n", "hello").repeat(3),
        get("") + &post("Content-Length: 5\r\n", "hello") + &get("Accept: */*\r\n"),
        post("Content-Length: 26\r\n", &get("")[..26]),
        post("Content-Length: 10000\r\n", &"x".repeat(10_000)),
        post("Content-Length: 8000\r\n", &"x".repeat(8000)),
        post("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        get("Expect: 100-continue\r\n"),
        get("TE: trailers\r\n"),
        "GET /g HTTP/1.0\r\nHost: x\r\n\r\n".into(),
        "GET http://x/abs HTTP/1.1\r\nHost: x\r\n\r\n".into(),
        "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n".into(),
        "PUT /put HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab".into(),
        "GET /nohost HTTP/1.1\r\n\r\n".into(),
        "GET /bad HTTP/1.1\r\nHost: a b\r\n\r\n".into(),
        "GET /twice HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n".into(),
        "\r\nGET /late HTTP/1.1\r\nHost: x\r\n\r\n".into(),
        "GET /lf HTTP/1.1\nHost: x\n\n".into(),
        // Attempts to have two servers see two things.
        post(
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n",
        ),
        post(
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n",
        ),
        post("Transfer-Encoding: x\r\nContent-Length: 5\r\n", "hello"),
        post("Transfer-Encoding : chunked\r\nContent-Length: 5\r\n", "hello"),
        post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"),
        post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello!"),
        post("Content-Length: +5\r\n", "hello"),
        post("Content-Length: 5, 5\r\n", "hello"),
        post("Content-Length: \r\n", "hello"),
        post("Content-Length: 0x5\r\n", "hello"),
        post("Content-Length: 99999999999999999999\r\n", "hello"),
        get("A: b\r\n c\r\n"),
        get("A: b\rc\r\n"),
        get("A: b\0c\r\n"),
        get("A : b\r\n"),
        get(" A: b\r\n"),
        get("A\r\n"),
        get("A: b\n"),
        "GET /\u{e4} HTTP/1.1\r\nHost: x\r\n\r\n".into(),
        "GET /a b HTTP/1.1\r\nHost: x\r\n\r\n".into(),
        "GET /a HTTP/1.1 \r\nHost: x\r\n\r\n".into(),
        "G\0T /a HTTP/1.1\r\nHost: x\r\n\r\n".into(),
    ] {
        all.push((request + END, Vec::new()));
    }
    all
}

async fn pair() -> [Running; 2] {
    [start(ListenerConfig::default()).await, start(ListenerConfig::default().with_lane(false)).await]
}

async fn assert_same(pair: &[Running; 2], request: &str, heads: &[bool], coming: Coming) {
    let [lane, hyper] = [&pair[0], &pair[1]];
    let by_lane = parsed(&ask(lane, request.as_bytes(), coming).await, heads);
    let by_hyper = parsed(&ask(hyper, request.as_bytes(), coming).await, heads);
    assert!(!by_hyper.is_empty(), "{request:?}");
    assert_eq!(by_lane, by_hyper, "{request:?} {coming:?}");
}

#[tokio::test]
async fn the_lane_answers_as_hyper_does() {
    let pair = pair().await;
    for (request, heads) in requests() {
        assert_same(&pair, &request, &heads, Coming::Whole).await;
    }
}

#[tokio::test]
async fn it_does_so_however_a_request_comes() {
    let pair = pair().await;
    for (request, heads) in requests().into_iter().filter(|(request, _)| request.len() < 400) {
        assert_same(&pair, &request, &heads, Coming::Bytewise).await;
    }
    let request = format!(
        "POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhelloGET /204 HTTP/1.1\r\nHost: x\r\n\r\n{END}"
    );
    for at in 1..request.len() {
        assert_same(&pair, &request, &[], Coming::Split(at)).await;
    }
}

impl Running {
    async fn send(&self, bytes: &str) -> TcpStream {
        let mut stream = connect(self).await;
        stream.write_all(bytes.as_bytes()).await.unwrap();
        stream
    }

    /// Sends `bytes`, and waits until the service has begun to wait.
    async fn send_and_wait(&mut self, bytes: &str) -> TcpStream {
        let stream = self.send(bytes).await;
        assert_eq!(within(self.waits.recv()).await, Some(true));
        stream
    }
}

async fn turns() {
    for _ in 0..20 {
        yield_now().await;
    }
}

async fn rest(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    let _ = within(stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

async fn read_one(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(within(stream.read_u8()).await.unwrap());
    }
    let head = String::from_utf8(answer).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.unwrap_or("0").parse().unwrap()];
    within(stream.read_exact(&mut body)).await.unwrap();
    head + std::str::from_utf8(&body).unwrap()
}

const WAIT: &str = "GET /wait HTTP/1.1\r\nHost: x\r\n\r\n";

#[tokio::test]
async fn a_connection_is_kept_for_request_after_request() {
    let running = start(ListenerConfig::default()).await;
    let mut stream = connect(&running).await;
    for number in 0..300 {
        let request = format!("POST /n{number} HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc");
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = read_one(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains(&format!("POST /n{number} ")));
        assert!(!answer.contains("connection:"), "{answer}");
    }
}

#[tokio::test]
async fn a_bare_pattern_is_understood_on_a_later_request_too() {
    let running = start(ListenerConfig::default()).await;
    let mut stream = running.send("GET /a HTTP/1.1\r\nHost: x\r\n\r\n").await;
    read_one(&mut stream).await;
    stream.write_all(b"GET /b?topic=> HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let answer = rest(stream).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("GET /b?topic=%3E "), "{answer}");
}

#[tokio::test]
async fn a_client_that_closes_ends_its_wait_at_once() {
    let mut running = start(ListenerConfig::default()).await;
    for early in ["", "GET /next HTTP/1.1\r\nHost: x\r\n\r\n", "GET /n"] {
        let mut stream = running.send_and_wait(WAIT).await;
        stream.write_all(early.as_bytes()).await.unwrap();
        turns().await;
        drop(stream);
        assert_eq!(within(running.waits.recv()).await, Some(false), "{early:?}");
    }
    let stream = running.send_and_wait("GET /endless HTTP/1.1\r\nHost: x\r\n\r\n").await;
    drop(stream);
    assert_eq!(within(running.waits.recv()).await, Some(false), "a stream, too");
}

#[tokio::test]
async fn what_comes_during_a_wait_is_answered_after_it() {
    let mut running = start(ListenerConfig::default()).await;
    let mut stream = running.send_and_wait(WAIT).await;
    for part in END.as_bytes().chunks(7) {
        stream.write_all(part).await.unwrap();
        turns().await;
    }
    running.shared.go.notify_one();
    let answers = rest(stream).await;
    let (first, second) = (answers.find("GET /wait ").unwrap(), answers.find("GET /end ").unwrap());
    assert!(first < second, "{answers}");
}

#[tokio::test]
async fn a_stream_comes_frame_by_frame_and_one_that_breaks_is_not_ended_as_if_it_were_whole() {
    let mut running = start(ListenerConfig::default()).await;
    let mut stream = running.send_and_wait("GET /endless HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let head = read_one(&mut stream).await;
    assert!(head.contains("transfer-encoding: chunked\r\n"), "{head}");
    for number in 0..3 {
        let mut chunk = [0; 12];
        within(stream.read_exact(&mut chunk)).await.unwrap();
        assert_eq!(std::str::from_utf8(&chunk).unwrap(), format!("7\r\nframe {number}\r\n"));
        running.shared.go.notify_one();
    }
    let cut = rest(running.send("GET /cut HTTP/1.1\r\nHost: x\r\n\r\n").await).await;
    assert!(!cut.contains("\r\n0\r\n"), "{cut}");
}

#[tokio::test]
async fn a_client_that_closes_gives_its_place_back_at_once() {
    let mut running = start(ListenerConfig::default().with_sockets(1)).await;
    for said in ["", "P", "GET / HT", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhe"] {
        let stream = running.send(said).await;
        turns().await;
        drop(stream);
        turns().await;
        let answer = rest(running.send(END).await).await;
        assert!(answer.contains("GET /end "), "after {said:?}: {answer:?}");
        turns().await;
    }
    drop(running.send_and_wait(WAIT).await);
    assert_eq!(within(running.waits.recv()).await, Some(false));
    turns().await;
    assert!(rest(running.send(END).await).await.contains("GET /end "));
}

#[tokio::test]
async fn a_drain_ends_each_connection_where_it_stands() {
    let mut running = start(ListenerConfig::default()).await;
    let (new, begun) = (running.send("").await, running.send("GET / HT").await);
    let mut rested = running.send("GET /a HTTP/1.1\r\nHost: x\r\n\r\n").await;
    read_one(&mut rested).await;
    let mut sending = running.send("POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhe").await;
    let waiting = running.send_and_wait(WAIT).await;
    turns().await;
    running.stop.send(()).unwrap();
    for stream in [new, begun, rested] {
        assert_eq!(rest(stream).await, "");
    }
    assert!(running.drain.is_draining());
    sending.write_all(b"llo").await.unwrap();
    running.shared.go.notify_one();
    for (stream, body) in [(sending, "b\"hello\""), (waiting, "GET /wait ")] {
        let answer = rest(stream).await;
        assert!(answer.contains("connection: close\r\n") && answer.contains(body), "{answer}");
    }
    assert!(within(running.served).await.unwrap(), "nothing had to be cut off");
}

#[tokio::test]
async fn what_does_not_end_at_a_drain_is_cut_off() {
    let mut running = start_with(ListenerConfig::default(), Duration::ZERO).await;
    let waiting = running.send_and_wait(WAIT).await;
    let streaming = running.send_and_wait("GET /endless HTTP/1.1\r\nHost: x\r\n\r\n").await;
    running.stop.send(()).unwrap();
    assert!(!within(running.served).await.unwrap());
    assert_eq!(rest(waiting).await, "");
    assert!(rest(streaming).await.ends_with("frame 0\r\n"));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_late_is_still_taken() {
    let running = start(ListenerConfig::default()).await;
    let mut stream =
        running.send("POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhe").await;
    turns().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    stream.write_all(b"llo").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("b\"hello\""), "{answer}");
}

//! The lane answers as hyper does.

use super::*;

/// How the bytes of a request come.
#[derive(Clone, Copy, Debug)]
pub(super) enum Coming {
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

pub(super) async fn pair() -> [Running; 2] {
    [start(ListenerConfig::default()).await, start(ListenerConfig::default().with_lane(false)).await]
}

pub(super) async fn assert_same(pair: &[Running; 2], request: &str, heads: &[bool], coming: Coming) {
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

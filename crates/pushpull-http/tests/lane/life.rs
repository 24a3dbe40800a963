//! Connections that wait, are closed, or drained.

use super::*;

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

pub(super) async fn turns() {
    for _ in 0..20 {
        yield_now().await;
    }
}

pub(super) async fn rest(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    let _ = within(stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

pub(super) async fn read_one(stream: &mut TcpStream) -> String {
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

pub(super) const WAIT: &str = "GET /wait HTTP/1.1\r\nHost: x\r\n\r\n";

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

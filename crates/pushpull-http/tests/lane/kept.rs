//! Requests of which a part was received with, or behind, another: nothing of them is lost, whoever answers in the end.

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use pushpull_http::Rewound;

use super::{
    life::{WAIT, read_one, rest, turns},
    same::{Coming, assert_same, pair},
    *,
};

const FIRST: &str = "GET /first HTTP/1.1\r\nHost: x\r\n\r\n";
const UPGRADE: &str = "GET /upgrade HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";

/// Gives back the socket of an upgraded connection, and says whether that is the system's own.
pub(super) fn upgraded(request: &mut Incomings) {
    let upgrade = request.extensions_mut().remove::<OnUpgrade>().unwrap();
    tokio::spawn(async move {
        let parts = upgrade.await.unwrap().downcast::<TokioIo<Rewound>>().unwrap();
        let (behind, mut stream) = parts.io.into_inner().into_parts();
        for mut early in [parts.read_buf, behind] {
            stream.write_all_buf(&mut early).await.unwrap();
        }
        let (mut read, mut write) = stream.split();
        tokio::io::copy(&mut read, &mut write).await.unwrap();
    });
}

/// Requests that are plain, and such that are not.
fn seconds() -> Vec<String> {
    [
        "GET /g?h=i HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n",
        "POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
        "POST /p HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
        "PUT /p HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab",
        "GET /old HTTP/1.0\r\nHost: x\r\n\r\n",
        "GET /lf HTTP/1.1\nHost: x\n\n",
        "GET /bad HTTP/1.1\r\nHost : x\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ]
    .map(|request| request.to_owned() + END)
    .into()
}

#[tokio::test]
async fn what_comes_with_a_first_request_may_be_cut_anywhere() {
    let pair = pair().await;
    for second in seconds() {
        for at in 0..second.len() {
            let bytes = format!("{FIRST}{second}");
            assert_same(&pair, &bytes, &[], Coming::Split(FIRST.len() + at)).await;
        }
    }
}

/// What is answered behind a first request that was answered before, to `parts` that come one after the other.
async fn after_a_first(running: &Running, parts: &[&str], ends: bool) -> String {
    let mut stream = connect(running).await;
    stream.write_all(FIRST.as_bytes()).await.unwrap();
    read_one(&mut stream).await;
    for part in parts {
        let _ = stream.write_all(part.as_bytes()).await;
        turns().await;
    }
    if ends {
        stream.shutdown().await.unwrap();
    }
    let answers = rest(stream).await;
    let lines = answers.split("\r\n").filter(|line| !line.starts_with("date: "));
    let mut lines: Vec<_> = lines.collect();
    lines.sort_unstable();
    lines.join("\n")
}

#[tokio::test]
async fn a_second_request_may_be_cut_anywhere() {
    let pair = pair().await;
    for second in seconds() {
        for at in 1..second.len() {
            let parts = [&second[..at], &second[at..]];
            let [by_lane, by_hyper] =
                [after_a_first(&pair[0], &parts, false).await, after_a_first(&pair[1], &parts, false).await];
            assert!(!by_hyper.is_empty() || second.starts_with("PRI"), "{parts:?}");
            assert_eq!(by_lane, by_hyper, "{parts:?}");
        }
    }
}

#[tokio::test]
async fn who_ends_in_the_middle_of_a_request_gets_what_was_asked_before() {
    let pair = pair().await;
    let second = "POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello";
    let head = second.find("\r\n\r\n").unwrap() + 4;
    for cut in (1..head).map(|at| &second[..at]) {
        for parts in [&[cut][..], &["GET /a HTTP/1.1\r\nHost: x\r\n\r\n", cut]] {
            let joined = [&*parts.concat()];
            for parts in [parts, &joined] {
                let by_lane = after_a_first(&pair[0], parts, true).await;
                let by_hyper = after_a_first(&pair[1], parts, true).await;
                assert_eq!(by_lane, by_hyper, "{parts:?}");
            }
        }
    }
    // Whole: it is answered although the client sends no more.
    let answer = after_a_first(&pair[0], &[second], true).await;
    assert!(answer.contains("b\"hello\""), "{answer}");
}

#[tokio::test]
async fn a_connection_is_upgraded_on_whatever_request_with_its_own_socket_and_every_byte() {
    for config in [ListenerConfig::default(), ListenerConfig::default().with_lane(false)] {
        let running = start(config).await;
        let early = "early bytes";
        for before in ["", FIRST] {
            let bytes = format!("{before}{UPGRADE}{early}");
            for at in 0..bytes.len() {
                let mut stream = connect(&running).await;
                stream.write_all(&bytes.as_bytes()[..at]).await.unwrap();
                turns().await;
                stream.write_all(&bytes.as_bytes()[at..]).await.unwrap();
                if !before.is_empty() {
                    assert!(read_one(&mut stream).await.contains("GET /first "));
                }
                assert!(read_one(&mut stream).await.starts_with("HTTP/1.1 101 "), "cut at {at}");
                stream.write_all(b" and later ones").await.unwrap();
                stream.shutdown().await.unwrap();
                assert_eq!(rest(stream).await, "early bytes and later ones", "cut at {at}");
            }
        }
    }
}

#[tokio::test]
async fn what_is_behind_one_that_waits_is_kept_and_what_is_more_than_that_too() {
    let mut running = start(ListenerConfig::default()).await;
    let get = |number: usize| format!("GET /n{number} HTTP/1.1\r\nHost: x\r\n\r\n");
    for count in [1, 3, 1000] {
        let behind: String = (0..count).map(get).collect();
        let mut stream = connect(&running).await;
        stream.write_all(format!("{WAIT}{behind}").as_bytes()).await.unwrap();
        assert_eq!(within(running.waits.recv()).await, Some(true));
        stream.write_all(END.as_bytes()).await.unwrap();
        turns().await;
        running.shared.go.notify_one();
        assert_eq!(within(running.waits.recv()).await, Some(false));
        let answers = rest(stream).await;
        let paths: Vec<_> =
            answers.split("GET ").skip(1).map(|told| told.split(' ').next().unwrap()).collect();
        let numbered = (0..count).map(|number| format!("/n{number}"));
        let expected: Vec<_> =
            ["/wait".to_owned()].into_iter().chain(numbered).chain(["/end".to_owned()]).collect();
        assert_eq!(paths, expected);
    }
}

/// Begins a head after a rest of `rested`, behind `first` and its answer.
async fn begin(running: &Running, first: &str, rested: Duration, begun: &str) -> TcpStream {
    let mut stream = connect(running).await;
    stream.write_all(first.as_bytes()).await.unwrap();
    if !first.is_empty() {
        read_one(&mut stream).await;
    }
    turns().await;
    tokio::time::sleep(rested).await;
    stream.write_all(begun.as_bytes()).await.unwrap();
    turns().await;
    stream
}

#[tokio::test(start_paused = true)]
async fn a_head_has_its_time_from_its_first_byte_on() {
    let running = start(ListenerConfig::default()).await;
    let limit = ListenerConfig::default().head;
    let (begun, left) = END.split_at(9);
    for (first, rested) in [("", 5), (FIRST, 20)] {
        let rested = Duration::from_secs(rested);
        let mut slow = begin(&running, first, rested, begun).await;
        tokio::time::sleep(limit - Duration::from_secs(1)).await;
        slow.write_all(left.as_bytes()).await.unwrap();
        let mut answer = String::new();
        slow.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains("GET /end "), "{answer}");

        let mut late = begin(&running, first, rested, begun).await;
        let (since, mut answer) = (tokio::time::Instant::now(), String::new());
        late.read_to_string(&mut answer).await.unwrap();
        assert_eq!((&*answer, since.elapsed().as_secs()), ("", limit.as_secs()));
    }
}

#[tokio::test]
async fn a_drain_ends_with_the_answer_under_way_and_leaves_what_is_kept_behind_it() {
    let mut running = start(ListenerConfig::default()).await;
    let mut cut = connect(&running).await;
    cut.write_all(FIRST.as_bytes()).await.unwrap();
    read_one(&mut cut).await;
    cut.write_all(&END.as_bytes()[..9]).await.unwrap();
    let mut waiting = connect(&running).await;
    waiting.write_all(format!("{WAIT}{END}").as_bytes()).await.unwrap();
    assert_eq!(within(running.waits.recv()).await, Some(true));
    turns().await;
    running.stop.send(()).unwrap();
    assert_eq!(rest(cut).await, "", "a head that is cut is waited for no more");
    running.shared.go.notify_one();
    let answer = rest(waiting).await;
    assert!(answer.contains("connection: close\r\n") && answer.contains("GET /wait "), "{answer}");
    assert!(!answer.contains("GET /end "), "{answer}");
    assert!(within(running.served).await.unwrap(), "nothing had to be cut off");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_late_behind_one_that_waits_is_still_taken() {
    let mut running = start(ListenerConfig::default()).await;
    let post = "POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
    let (begun, left) = post.split_at(post.len() - 3);
    let mut stream = connect(&running).await;
    stream.write_all(format!("{WAIT}{begun}").as_bytes()).await.unwrap();
    assert_eq!(within(running.waits.recv()).await, Some(true));
    turns().await;
    running.shared.go.notify_one();
    assert!(read_one(&mut stream).await.contains("GET /wait "));
    tokio::time::sleep(Duration::from_secs(2)).await;
    stream.write_all(left.as_bytes()).await.unwrap();
    let answer = rest(stream).await;
    assert!(answer.contains("b\"hello\""), "{answer}");
}

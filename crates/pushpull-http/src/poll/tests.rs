use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use pushpull_core::{
    Cursor, Delivery, Event, EventParts, Gap, GapReason, Link, Message, Prev, StartAt, View,
};

use super::*;
use crate::{Transport, json::parse_page};

fn at(text: &str) -> Cursor {
    text.parse().unwrap()
}

fn event(seq: u64, size: usize) -> Event {
    Event::new(EventParts {
        topic: "a".parse().unwrap(),
        cursor: at(&format!("e-{seq}")),
        prev: Prev::Unknown,
        time_ms: 5,
        message: Message::text("x".repeat(size)),
    })
}

fn batch(deliveries: Vec<Delivery>, place: &str) -> Batch {
    let mut batch = Batch::default();
    batch.deliveries = deliveries;
    batch.place = Some(at(place));
    batch
}

async fn poll(gate: &Gate, query: &str, headers: &[(&str, &str)]) -> PollRequest {
    let mut request = Request::builder().uri(format!("/longpoll?{query}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let parts = request.body(()).unwrap().into_parts().0;
    PollRequest::enter(gate, &parts, Endpoint::Longpoll).await.unwrap()
}

async fn taken(response: Response<Body>) -> (StatusCode, HeaderMap, Vec<u8>) {
    let (head, body) = response.into_parts();
    (head.status, head.headers, body.collect().await.unwrap().to_bytes().to_vec())
}

#[tokio::test]
async fn a_304_says_that_nothing_is_new_and_nothing_else() {
    let gate = Gate::open();
    let poll = poll(&gate, "topic=a", &[("if-none-match", "\"e-4\"")]).await;
    assert_eq!(poll.fetch().start, StartAt::After(at("e-4")));
    let changed = |change: fn(&mut Batch)| {
        let mut batch = batch(vec![], "e-9");
        change(&mut batch);
        batch
    };
    for (batch, expected) in [
        (changed(|_| {}), 304),
        (changed(|batch| batch.more = true), 200),
        (changed(|batch| batch.stale = true), 200),
        (changed(|batch| batch.deliveries.push(Delivery::Event(event(5, 1)))), 200),
    ] {
        let (status, headers, body) = taken(poll.answer(Ok(batch.clone()))).await;
        assert_eq!(status, expected, "{batch:?}");
        assert_eq!(headers["cache-control"], "no-store");
        if expected == 200 {
            let page = parse_page(&body).unwrap();
            assert_eq!(
                (page.place, page.more, &headers["etag"]),
                (batch.place, batch.more, &"\"e-9\"".parse().unwrap())
            );
        } else {
            assert_eq!(
                (&headers["etag"], &headers["pushpull-cursor"]),
                (&"\"e-4\"".parse().unwrap(), &"e-9".parse().unwrap())
            );
        }
    }
}

#[tokio::test]
async fn an_answer_is_cut_but_not_a_snapshot() {
    let gate = Gate::open();
    let half = MAX_PAGE / 2;
    let events = |view| (1..=3).map(|seq| Delivery::Event(event(seq, half).shown(view))).collect();
    let plain = poll(&gate, "topic=a&start=earliest", &[]).await;
    let (_, headers, body) = taken(plain.answer(Ok(batch(events(View::Plain), "e-9")))).await;
    let page = parse_page(&body).unwrap();
    assert_eq!((page.events(), page.place, page.more), (1, Some(at("e-1")), true));
    assert_eq!(headers["etag"], "\"e-1\"");
    assert!(body.len() <= MAX_PAGE);
    for start in ["snapshot", "last"] {
        let whole = poll(&gate, &format!("topic=a&start={start}"), &[]).await;
        let (_, _, body) = taken(whole.answer(Ok(batch(events(View::Snapshot), "e-9")))).await;
        let page = parse_page(&body).unwrap();
        assert_eq!((page.events(), page.place, page.more), (3, Some(at("e-9")), false));
    }
    let counted = gate.metrics().render(crate::Exposition::Prometheus, None);
    assert!(
        counted.contains("pushpull_delivered_total{transport=\"longpoll\"} 7\n"),
        "what is written: {counted}"
    );
}

#[tokio::test]
async fn closed_is_told_by_its_last_gap() {
    let gate = Gate::open();
    let poll = poll(&gate, "topic=a&overflow=close&after=e-1", &[]).await;
    let gap = Gap::new(at("e-1"), at("e-8"), at("e-1"), GapReason::Lagged);
    let mut closed = batch(vec![Delivery::Gap(gap), Delivery::Link(Link::Connected)], "e-1");
    closed.closed = true;
    let (status, headers, body) = taken(poll.answer(Ok(closed))).await;
    assert_eq!((status, &headers["pushpull-cursor"]), (StatusCode::GONE, &"e-1".parse().unwrap()));
    let crate::json::Item::Gap(read) = crate::json::parse_item(&body).unwrap() else { panic!("a gap") };
    assert_eq!(read, gap);
    let problem = crate::problem::parse_problem(status, &headers, &body);
    assert_eq!(problem.detail(), "events after the place are gone, and overflow=close was asked for");
}

#[tokio::test]
async fn errors_are_problems_and_counted_and_the_place_is_held_meanwhile() {
    let gate = Gate::open();
    let poll = poll(&gate, "topic=a", &[]).await;
    assert_eq!(gate.metrics().connections(Transport::Longpoll), 1);
    let (status, headers, _) =
        taken(poll.answer(Err(Problem::new(ErrorKind::Unavailable, "down").into()))).await;
    assert_eq!((status.as_u16(), &headers["retry-after"]), (503, &"1".parse().unwrap()));
    let (status, ..) = taken(poll.answer_expired()).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    let counted = gate.metrics().render(crate::Exposition::Prometheus, None);
    for reason in ["unavailable", "unauthenticated"] {
        assert!(counted.contains(&format!("pushpull_rejected_total{{reason=\"{reason}\"}} 1\n")));
    }
    drop(poll);
    assert_eq!(gate.metrics().connections(Transport::Longpoll), 0);
}

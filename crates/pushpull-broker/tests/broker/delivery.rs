use std::{num::NonZeroU32, time::Duration};

use pushpull_core::{
    Bounds, Context, Cursor, Delivery, Epoch, Fetch, Message, Overflow, Pattern, Prev, ProducerExt, Pull,
    PushExt, Rate, Start, Subscribe,
};

use crate::{Broker, asking, at, batch, consume, drain, fetch, fetching, publish, publish_key, small};

#[tokio::test]
async fn the_first_word_is_the_place_and_events_follow_in_order() {
    let broker = Broker::memory();
    let mut quiet = consume(&broker, "quiet", Start::Latest).await;
    assert_eq!(drain(&mut quiet), "p0");
    publish(&broker, "a", 2).await;
    let mut one = consume(&broker, "a", Start::Latest).await;
    let mut two = consume(&broker, "a b", Start::Latest).await;
    let mut all = consume(&broker, ">", Start::Earliest).await;
    publish(&broker, "b", 1).await;
    publish(&broker, "a", 1).await;
    assert_eq!(drain(&mut one), "p2 e4");
    assert_eq!(drain(&mut two), "p2 e3 e4");
    assert_eq!(drain(&mut all), "p0 e1 e2 e3 e4");
    assert_eq!(drain(&mut quiet), "");
    assert_eq!(quiet.place(), Some(at(&broker, 4)), "a quiet consumer's place moves with the head");
}

#[tokio::test]
async fn prev_chains_the_events_of_a_topic() {
    let broker = Broker::memory();
    publish(&broker, "a", 1).await;
    publish(&broker, "b", 1).await;
    publish(&broker, "a", 1).await;
    let (_, answer) = fetch(&broker, fetching(">", Start::Earliest)).await;
    let prevs: Vec<_> =
        answer.deliveries.into_iter().filter_map(Delivery::into_event).map(|e| e.prev()).collect();
    assert_eq!(prevs, [Prev::First, Prev::First, Prev::At(at(&broker, 1))]);
}

#[tokio::test]
async fn a_cursor_resumes_any_subscription() {
    let broker = Broker::memory();
    publish(&broker, "a", 3).await;
    publish(&broker, "b.c", 2).await;
    assert_eq!(drain(&mut consume(&broker, "a", at(&broker, 1)).await), "p1 e2 e3");
    assert_eq!(drain(&mut consume(&broker, "b.*", at(&broker, 1)).await), "p1 e4 e5");
    assert_eq!(drain(&mut consume(&broker, "b.c a", at(&broker, 2)).await), "p2 e3 e4 e5");
    assert_eq!(
        drain(&mut consume(&broker, "b.c b.*", at(&broker, 4)).await),
        "p4 e5",
        "matched twice, sent once"
    );
}

#[tokio::test]
async fn an_unknown_or_future_cursor_is_reset_and_says_so_first() {
    let broker = Broker::memory();
    for cursor in [at(&broker, 1), Cursor::new(Epoch::from_random(5), 0), Cursor::UNKNOWN] {
        let mut empty = consume(&broker, "a", cursor).await;
        assert_eq!(
            drain(&mut empty),
            format!("reset {}..1@0 p0", cursor.seq()),
            "told even if nothing follows"
        );
    }
    let broker = small(2);
    publish(&broker, "a", 5).await;
    let mut reset = consume(&broker, "a", at(&broker, 9)).await;
    assert_eq!(drain(&mut reset), "reset 9..4@3 p3 e4 e5");
    let (told, answer) = fetch(&broker, fetching("a", at(&broker, 9))).await;
    assert_eq!((told.as_str(), answer.place), ("reset 9..4@3 e4 e5", Some(at(&broker, 5))));
}

#[tokio::test]
async fn overflow_latest_tells_of_a_void_cursor_and_then_what_it_skips() {
    let broker = small(2);
    publish(&broker, "a", 5).await;
    let void = asking("a").from(at(&broker, 9)).on_overflow(Overflow::Latest);
    let mut reset = broker.consume(void).await.unwrap();
    assert_eq!(drain(&mut reset), "reset 9..4@3 skipped 3..6@5 p5");
    publish(&broker, "a", 1).await;
    assert_eq!(drain(&mut reset), "e6");
    for idle in ["idle", "idle.*"] {
        let idle = asking(idle).from(at(&broker, 9)).on_overflow(Overflow::Latest);
        assert_eq!(drain(&mut broker.consume(idle).await.unwrap()), "reset 9..5@4 p4", "nothing is skipped");
    }
}

#[tokio::test]
async fn overflow_gap_tells_and_goes_on() {
    let broker = small(3);
    publish(&broker, "a", 1).await;
    let mut slow = consume(&broker, "a", Start::Latest).await;
    assert_eq!(drain(&mut slow), "p1");
    publish(&broker, "a", 5).await;
    assert_eq!(drain(&mut slow), "lagged 1..4@1 e4 e5 e6");
    let mut late = consume(&broker, "a", at(&broker, 1)).await;
    assert_eq!(batch(&mut late, Bounds::new(1, 100)), "p1 evicted 1..4@1 e4");
    let mut inside = consume(&broker, "a", at(&broker, 2)).await;
    assert_eq!(drain(&mut inside), "p2 evicted 2..4@2 e4 e5 e6", "who resumes from inside is told again");
}

#[tokio::test]
async fn overflow_close_and_latest() {
    let broker = small(2);
    publish(&broker, "a", 5).await;
    let close = asking("a").from(at(&broker, 1)).on_overflow(Overflow::Close);
    assert_eq!(drain(&mut broker.consume(close).await.unwrap()), "p1 evicted 1..4@1 end");
    let latest = asking("a").from(at(&broker, 1)).on_overflow(Overflow::Latest);
    let mut latest = broker.consume(latest).await.unwrap();
    assert_eq!(drain(&mut latest), "p1 skipped 1..6@5");
    publish(&broker, "a", 1).await;
    assert_eq!(drain(&mut latest), "e6");
    let mut request = fetching("a", at(&broker, 1));
    request.overflow = Overflow::Close;
    let (told, answer) = fetch(&broker, request).await;
    assert_eq!((told.as_str(), answer.closed, answer.more), ("evicted 1..5@1", true, false));
}

#[tokio::test]
async fn a_poll_is_cut_at_its_limit_and_goes_on() {
    let broker = Broker::memory();
    publish(&broker, "a", 5).await;
    let (told, answer) = fetch(&broker, fetching("a", at(&broker, 0)).with_limit(2)).await;
    assert_eq!((told.as_str(), answer.place, answer.more), ("e1 e2", Some(at(&broker, 2)), true));
    let (told, answer) = fetch(&broker, fetching("a", answer.place.unwrap()).with_limit(3)).await;
    assert_eq!((told.as_str(), answer.place, answer.more), ("e3 e4 e5", Some(at(&broker, 5)), false));
    publish(&broker, "b", 2).await;
    let (told, answer) = fetch(&broker, fetching("a", answer.place.unwrap())).await;
    assert_eq!((told.as_str(), answer.place, answer.more), ("", Some(at(&broker, 7)), false));
    let mut bytes = fetching("a", at(&broker, 0));
    bytes.max_bytes = 2;
    let (told, answer) = fetch(&broker, bytes).await;
    assert_eq!((told.as_str(), answer.more), ("e1 e2", true));
}

#[tokio::test(start_paused = true)]
async fn a_fetch_waits_for_its_first_event() {
    let broker = Broker::memory();
    let long = fetching("a", Start::Latest).with_wait(Duration::from_secs(30));
    let (told, answer) = fetch(&broker, long.clone()).await;
    assert_eq!((told.as_str(), answer.place), ("", Some(at(&broker, 0))));
    let polling = tokio::spawn({
        let broker = broker.clone();
        async move { fetch(&broker, long).await.0 }
    });
    tokio::task::yield_now().await;
    publish(&broker, "b", 1).await;
    tokio::task::yield_now().await;
    assert!(!polling.is_finished());
    publish(&broker, "a", 1).await;
    assert_eq!(polling.await.unwrap(), "e2");
}

#[tokio::test]
async fn a_quiet_pollers_place_goes_stale_in_time() {
    let broker = small(100);
    publish(&broker, "busy", 100).await;
    let stale = async |seq| fetch(&broker, fetching("quiet", at(&broker, seq))).await.1.stale;
    assert!(!stale(100).await);
    assert!(!stale(75).await);
    assert!(stale(74).await);
}

#[tokio::test]
async fn conflation_keeps_the_newest_of_each_topic_and_key() {
    let broker = Broker::memory();
    let mut thin = broker.consume(asking("x y").conflate_by_key()).await.unwrap();
    for (topic, key) in [("x", "a"), ("y", "a"), ("x", "a"), ("y", "b"), ("y", "a"), ("y", "a")] {
        publish_key(&broker, topic, key, "1").await;
    }
    publish(&broker, "x", 2).await;
    assert_eq!(drain(&mut thin), "p0 t3 t4 t6 e7 e8");
    assert_eq!(thin.conflated(), 3);
    publish_key(&broker, "x", "a", "1").await;
    assert_eq!(drain(&mut thin), "e9", "nothing was left out before it");
    let mut asked = fetching("x y", at(&broker, 0)).with_limit(1);
    asked.conflate = pushpull_core::Conflate::Key;
    let (told, answer) = fetch(&broker, asked).await;
    assert_eq!((told.as_str(), answer.place, answer.more), ("t4", Some(at(&broker, 4)), true));
}

#[tokio::test]
async fn credit_bounds_what_comes_unasked() {
    let broker = Broker::memory();
    let window = NonZeroU32::new(2).unwrap();
    let mut subscription = broker.consume(asking("a").with_window(window)).await.unwrap();
    publish(&broker, "a", 5).await;
    assert_eq!(drain(&mut subscription), "p0 e1 e2");
    assert_eq!(subscription.credit(), Some(0));
    publish(&broker, "b", 1).await;
    assert_eq!(drain(&mut subscription), "");
    assert_eq!(subscription.place(), Some(at(&broker, 2)), "the place stays behind what was not sent");
    subscription.grant(10);
    assert_eq!(drain(&mut subscription), "e3 e4 e5");
    assert_eq!(subscription.credit(), Some(7));
}

#[tokio::test(start_paused = true)]
async fn a_rate_bounds_the_flushes() {
    let broker = Broker::memory();
    let rate = Rate::per_second(2.0).unwrap();
    let mut subscription = broker.consume(asking("a").at_rate(rate)).await.unwrap();
    publish(&broker, "a", 2).await;
    assert_eq!(batch(&mut subscription, Bounds::default()), "p0 e1 e2");
    publish(&broker, "a", 3).await;
    assert_eq!(batch(&mut subscription, Bounds::default()), "");
    tokio::time::advance(Duration::from_millis(501)).await;
    let one = Bounds::new(1, usize::MAX);
    let pieces: Vec<_> = (0..4).map(|_| batch(&mut subscription, one)).collect();
    assert_eq!(pieces, ["e3", "e4", "e5", ""], "a flush is all that waits");
}

#[tokio::test(start_paused = true)]
async fn a_flush_has_up_to_256_kib_however_little_is_taken_at_once() {
    let broker = Broker::memory();
    let rate = Rate::per_second(1.0).unwrap();
    let mut subscription = broker.consume(asking("a").at_rate(rate)).await.unwrap();
    for _ in 0..40 {
        let message = Message::new(vec![0; 30 * 1024]);
        broker.publish_one(&"a".parse().unwrap(), message).await.unwrap();
    }
    let little = Bounds::new(256, 64 * 1024);
    for flush in ["p0 e1 e2", "e9 e10", "e17 e18"] {
        let mut pieces: Vec<_> = (0..5).map(|_| batch(&mut subscription, little)).collect();
        assert_eq!((pieces.remove(0).as_str(), pieces.pop().as_deref()), (flush, Some("")));
        tokio::time::advance(Duration::from_millis(1001)).await;
    }
}

#[tokio::test]
async fn topics_are_added_from_the_place_on() {
    let broker = Broker::memory();
    publish(&broker, "b", 1).await;
    let mut subscription = consume(&broker, "a", Start::Latest).await;
    publish(&broker, "b", 1).await;
    assert_eq!(drain(&mut subscription), "p1");
    publish(&broker, "a", 1).await;
    publish(&broker, "b", 1).await;
    subscription.retarget(asking("a b").topics).unwrap();
    assert_eq!(drain(&mut subscription), "e3 e4");
    subscription.retarget(Pattern::new("b").unwrap().into()).unwrap();
    publish(&broker, "a", 1).await;
    publish(&broker, "b", 1).await;
    assert_eq!(drain(&mut subscription), "e6");
}

#[tokio::test]
async fn a_sleeping_consumer_is_woken_by_its_topics_alone() {
    let broker = Broker::memory();
    for pattern in ["a.b", "a.*", ">", "a.b x.>"] {
        let mut subscription = consume(&broker, pattern, Start::Latest).await;
        assert!(matches!(subscription.next().await, Some(Ok(Delivery::Place(_)))));
        let publisher = broker.clone();
        let task = tokio::spawn(async move { publish(&publisher, "a.b", 1).await });
        let Some(Ok(Delivery::Event(event))) = subscription.next().await else { panic!("an event") };
        assert_eq!(event.cursor(), task.await.unwrap());
    }
}

#[tokio::test]
async fn attaching_races_publishing_without_a_hole() {
    let broker = Broker::memory();
    let publisher = broker.clone();
    let publishing = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(publish(&publisher, "a", 5000));
    });
    let mut consumers = Vec::new();
    for n in 0..50 {
        let patterns = ["a", "*", "a b"][n % 3];
        consumers.push(consume(&broker, patterns, Start::Latest).await);
        tokio::task::yield_now().await;
    }
    publishing.await.unwrap();
    for consumer in &mut consumers {
        let mut next = None;
        while next != Some(5001) {
            match consumer.next().await.unwrap().unwrap() {
                Delivery::Place(place) => next = Some(place.seq() + 1),
                Delivery::Event(event) => {
                    assert_eq!(Some(event.cursor().seq()), next);
                    next = next.map(|seq| seq + 1);
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_closed_broker_tells_and_refuses() {
    let broker = Broker::memory();
    publish(&broker, "a", 1).await;
    let mut subscription = consume(&broker, "a", at(&broker, 0)).await;
    let waiting = tokio::spawn({
        let broker = broker.clone();
        async move {
            let mut subscription = consume(&broker, "never", Start::Latest).await;
            subscription.next().await;
            crate::short(&subscription.next().await.unwrap().unwrap())
        }
    });
    tokio::task::yield_now().await;
    broker.close();
    assert_eq!(waiting.await.unwrap(), "end-retry");
    assert_eq!(drain(&mut subscription), "p0 e1 end-retry");
    assert!(broker.consume(Subscribe::to("a").unwrap()).await.unwrap_err().is_retryable());
    let context = Context::default();
    let refused = broker.fetch(&context, Fetch::new(asking("a").topics));
    assert!(refused.await.unwrap_err().is_retryable());
}

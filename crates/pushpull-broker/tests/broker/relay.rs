//! The relay engine over sources in the same process.

use std::{
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task,
    time::Duration,
};

use async_trait::async_trait;
use pushpull_broker::{Broker, RelayEngine, Retention};
use pushpull_core::{
    Batch, Bounds, ConsumeError, Context, Cursor, Delivery, ErrorKind, FailFast, Feed, GapReason, Link,
    Message, Outcome, Overflow, Prev, Problem, Producer, ProducerExt, PublishError, Published, Push, PushExt,
    Standing, Start, StartAt, Subscribe, SubscribeError, Subscription, Topic, Topics,
};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};

use crate::{
    asking, at, consume, drain, fetch, fetching, publish, publish_key,
    scripted::{Scripted, Word, cursor, event, gap, nothing, place, scripted},
};

const PATIENCE: Duration = Duration::from_secs(10);

async fn relay_of(broker: &Broker) -> Broker {
    let engine = RelayEngine::new(broker.clone()).with_producer(broker.clone());
    Broker::open(engine, Retention::default()).await.unwrap()
}

/// Waits until `broker` stands at `place`.
pub(crate) async fn reach(broker: &Broker, place: Cursor) {
    let standing = async {
        while broker.place() != place {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, standing).await.unwrap_or_else(|_| panic!("{} is not {place}", broker.place()));
}

#[tokio::test]
async fn a_relay_has_what_its_upstream_has_at_the_same_places() {
    let root = Broker::memory_with(Retention::default().with_messages(2));
    for topic in ["a", "b", "a", "a", "c.x"] {
        publish(&root, topic, 1).await;
    }
    let relay = relay_of(&root).await;
    reach(&relay, root.place()).await;
    let leaf = relay_of(&relay).await;
    reach(&leaf, root.place()).await;
    let mut live = consume(&leaf, ">", Start::Latest).await;
    publish(&root, "b", 1).await;
    reach(&leaf, root.place()).await;
    assert_eq!(drain(&mut live), "p5 e6");
    for patterns in ["a", "b", "c.x", "d", "a b", ">"] {
        for place in 0..=6 {
            let (told, page) = fetch(&root, fetching(patterns, at(&root, place))).await;
            for node in [&relay, &leaf] {
                let (here, answer) = fetch(node, fetching(patterns, at(&root, place))).await;
                // Of a topic without any event here nobody knows what it lost before the relay came.
                let excess = if patterns == "d" && place < 1 { "evicted 0..2@0" } else { "" };
                assert_eq!(here, if excess.is_empty() { &told } else { excess }, "{patterns} after {place}");
                assert_eq!(answer.place, page.place, "{patterns} after {place}");
                let prevs = |page: &Batch| -> Vec<_> {
                    page.deliveries
                        .clone()
                        .into_iter()
                        .filter_map(Delivery::into_event)
                        .map(|e| e.prev())
                        .collect()
                };
                assert_eq!(prevs(&answer), prevs(&page));
            }
        }
    }
}

#[tokio::test]
async fn what_is_published_at_a_leaf_is_in_the_leaf_once_it_is_acknowledged() {
    let root = Broker::memory();
    let relay = relay_of(&root).await;
    let leaf = relay_of(&relay).await;
    let topic: Topic = "a".parse().unwrap();
    let message = Message::text("x").with_idempotency("1");
    let first = leaf.publish_one(&topic, message.clone()).await.unwrap();
    assert_eq!([leaf.place(), relay.place(), root.place()], [first; 3]);
    assert_eq!(leaf.publish_one(&topic, message).await.unwrap(), first);
    let again = leaf.publish_one(&topic, Message::text("y").with_idempotency("1")).await.unwrap_err();
    assert_eq!((again.kind(), again.outcome()), (ErrorKind::Conflict, Outcome::NotApplied));
    let batch = [Message::text("1"), Message::text("2")];
    let published = leaf.publish(&Context::default(), &topic, &batch).await.unwrap();
    assert_eq!((published.first, published.last, published.count), (at(&root, 2), at(&root, 3), 2));
    assert_eq!(leaf.place(), published.last);
}

#[tokio::test]
async fn a_relay_of_some_topics_refuses_the_others() {
    let root = Broker::memory();
    let engine =
        RelayEngine::new(root.clone()).with_producer(root.clone()).with_topics(asking("a b.>").topics);
    let relay = Broker::open(engine, Retention::default()).await.unwrap();
    publish(&root, "a", 1).await;
    publish(&root, "c", 3).await;
    let last = publish(&root, "b.x", 1).await;
    reach(&relay, last).await;
    assert_eq!(drain(&mut consume(&relay, "a b.*", at(&root, 0)).await), "p0 e1 e5");
    assert_eq!(relay.consume(asking(">")).await.unwrap_err().kind(), ErrorKind::Invalid);
    let refused = relay.publish_one(&"c".parse().unwrap(), Message::text("x")).await.unwrap_err();
    assert_eq!((refused.kind(), refused.outcome()), (ErrorKind::Invalid, Outcome::NotApplied));
    assert_eq!(root.place(), last);
}

#[tokio::test]
async fn without_a_producer_nothing_can_be_published() {
    let relay = Broker::open(RelayEngine::new(Broker::memory()), Retention::default()).await.unwrap();
    let refused = relay.publish_one(&"a".parse().unwrap(), Message::text("x")).await.unwrap_err();
    assert_eq!((refused.kind(), refused.outcome()), (ErrorKind::Unsupported, Outcome::NotApplied));
}

/// Acknowledges at once what is never delivered.
struct Hollow;

#[async_trait]
impl Producer for Hollow {
    async fn publish(&self, _: &Context, topic: &Topic, _: &[Message]) -> Result<Published, PublishError> {
        match topic.as_str() {
            "hangs" => pending().await,
            _ => Ok(Published::new(cursor(1, 99), cursor(1, 99), 1)),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_does_not_come_back_in_time_is_of_unknown_outcome() {
    let source = Scripted::default();
    source.feed().send(nothing(cursor(1, 10))).ok().unwrap();
    let feed = source.feed();
    feed.send(place(cursor(1, 10))).ok().unwrap();
    let engine = RelayEngine::new(source).with_producer(Hollow).with_publish_timeout(Duration::from_secs(3));
    let relay = Broker::open(engine, Retention::default()).await.unwrap();
    for topic in ["hangs", "a"] {
        while !relay.stats().engine_up {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let (topic, begun): (Topic, _) = (topic.parse().unwrap(), Instant::now());
        let late = relay.publish_one(&topic, Message::text("x")).await.unwrap_err();
        assert_eq!(
            (late.kind(), late.outcome(), late.is_retryable()),
            (ErrorKind::Timeout, Outcome::Unknown, true)
        );
        assert_eq!(begun.elapsed().as_secs(), 3);
        let cx = Context::default().with_deadline(Instant::now() + Duration::from_secs(1));
        let late = relay.publish(&cx, &topic, &[Message::text("x")]).await.unwrap_err();
        assert_eq!((late.outcome(), begun.elapsed().as_secs()), (Outcome::Unknown, 4));
    }
}

#[tokio::test(start_paused = true)]
async fn losses_and_other_histories_are_passed_on() {
    let (relay, source, feed) = scripted().await;
    let say = |word| feed.send(word).ok().unwrap();
    say(event(cursor(1, 11), Prev::First));
    reach(&relay, cursor(1, 11)).await;
    let mut live = consume(&relay, "a", cursor(1, 10)).await;
    assert_eq!(drain(&mut live), "p10 e11");
    let mut quiet = consume(&relay, "b", Start::Latest).await;
    assert_eq!(drain(&mut quiet), "p11");
    say(gap(cursor(1, 11), cursor(1, 15), cursor(1, 11), GapReason::Lagged));
    say(event(cursor(1, 13), Prev::At(cursor(1, 12))));
    say(place(cursor(1, 20)));
    reach(&relay, cursor(1, 20)).await;
    assert_eq!(drain(&mut live), "lagged 11..13@11 e13");
    assert_eq!(drain(&mut quiet), "lagged 11..15@11", "nobody knows whether it was this topic's");
    // Another epoch that lost nothing.
    say(event(cursor(2, 25), Prev::At(cursor(1, 13))));
    reach(&relay, cursor(2, 25)).await;
    assert_eq!((drain(&mut live), live.place()), ("e25".into(), Some(cursor(2, 25))));
    assert_eq!(drain(&mut consume(&relay, "a", cursor(1, 20)).await), "p20 e25");
    assert_eq!(drain(&mut consume(&relay, "a", cursor(1, 21)).await), "rewound 21..21@20 p20 e25");
    say(gap(cursor(2, 25), cursor(3, 23), cursor(2, 22), GapReason::Rewound));
    say(event(cursor(3, 23), Prev::At(cursor(1, 13))));
    reach(&relay, cursor(3, 23)).await;
    assert_eq!(drain(&mut live), "rewound 25..23@22 p22 e23");
    say(gap(cursor(3, 23), cursor(9, 4), cursor(9, 2), GapReason::Reset));
    say(event(cursor(9, 4), Prev::At(cursor(9, 3))));
    reach(&relay, cursor(9, 4)).await;
    assert_eq!(drain(&mut live), "reset 23..4@2 p2 e4");
    // A fleet that comes back with the void epoch is not asked about.
    assert_eq!(drain(&mut consume(&relay, "a", cursor(3, 23)).await), "reset 23..4@3 p3 e4");
    assert_eq!(source.asked().len(), 1);
    assert_eq!(drain(&mut live), "");
}

#[tokio::test(start_paused = true)]
async fn a_link_that_is_down_fails_publishing_fast_and_tells_consumers_nothing() {
    let source = Scripted::default();
    let feed = source.feed();
    feed.send(nothing(cursor(1, 10))).ok().unwrap();
    let relay = Broker::open(RelayEngine::new(source.clone()).with_producer(Hollow), Retention::default())
        .await
        .unwrap();
    let mut live = consume(&relay, "a", Start::Latest).await;
    assert_eq!((drain(&mut live), relay.stats().engine_up), ("p10".into(), true));
    let delay = Duration::from_secs(60);
    feed.send(Word::Say(Delivery::Link(Link::Reconnecting { delay, cause: None }))).ok().unwrap();
    while relay.stats().engine_up {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let begun = Instant::now();
    let refused = relay.publish_one(&"a".parse().unwrap(), Message::text("x")).await.unwrap_err();
    assert_eq!((refused.kind(), refused.outcome()), (ErrorKind::Unavailable, Outcome::NotApplied));
    assert!(refused.is_retryable() && begun.elapsed().is_zero());
    assert_eq!(relay.probe().await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(
        (drain(&mut live), drain(&mut consume(&relay, "a", cursor(1, 10)).await)),
        ("".into(), "p10".into())
    );
    let next = source.feed();
    feed.send(Word::Fail(Problem::new(ErrorKind::Unavailable, "cut"))).ok().unwrap();
    next.send(place(cursor(1, 10))).ok().unwrap();
    next.send(event(cursor(1, 11), Prev::First)).ok().unwrap();
    while relay.place() != cursor(1, 11) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(relay.stats().engine_up);
    assert_eq!(drain(&mut live), "e11");
    assert_eq!(source.asked()[1], StartAt::After(cursor(1, 10)), "it goes on where it was");
    source.feed().send(place(cursor(1, 11))).ok().unwrap();
    relay.probe().await.unwrap();
}

/// Refuses what an upstream refuses that is cut off, and counts.
struct CutOff(Arc<AtomicUsize>);

fn cut_off() -> Problem {
    Problem::new(ErrorKind::Unavailable, "cut off")
}

#[async_trait]
impl Producer for CutOff {
    async fn publish(&self, cx: &Context, _: &Topic, _: &[Message]) -> Result<Published, PublishError> {
        assert!(cx.extensions.get::<FailFast>().is_some(), "a relay does not wait for another attempt");
        self.0.fetch_add(1, Relaxed);
        Err(PublishError::not_applied(cut_off()))
    }
}

/// How long it takes until the engine of `broker` is up, or is not.
async fn turned(broker: &Broker, up: bool) -> Duration {
    let begun = Instant::now();
    let turning = async {
        while broker.stats().engine_up != up {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, turning).await.unwrap_or_else(|_| panic!("not {up}"));
    begun.elapsed()
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_is_cut_off_itself_is_no_engine_that_is_up() {
    let (source, tried) = (Scripted::default(), Arc::new(AtomicUsize::new(0)));
    let feed = source.feed();
    feed.send(nothing(cursor(1, 10))).ok().unwrap();
    let engine = RelayEngine::new(source.clone()).with_producer(CutOff(tried.clone()));
    let relay = Broker::open(engine, Retention::default()).await.unwrap();
    let mut live = consume(&relay, "a", Start::Latest).await;
    assert_eq!((drain(&mut live), relay.stats().engine_up), ("p10".into(), true));
    source.cut_off(Some(cut_off()));
    let topic = "a".parse().unwrap();
    let refused = async || {
        let refused = relay.publish_one(&topic, Message::text("x")).await.unwrap_err();
        (refused.kind(), refused.outcome(), refused.is_retryable(), tried.load(Relaxed))
    };
    assert_eq!(refused().await, (ErrorKind::Unavailable, Outcome::NotApplied, true, 1));
    assert!(turned(&relay, false).await <= Duration::from_millis(200), "a refusal is reason to look");
    feed.send(place(cursor(1, 10))).ok().unwrap();
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(!relay.stats().engine_up, "that the link stands is no news");
    assert_eq!(refused().await, (ErrorKind::Unavailable, Outcome::NotApplied, true, 1), "not tried again");
    assert_eq!(relay.probe().await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!((drain(&mut live), source.asked().len()), ("".into(), 1), "consumers are told nothing");
    source.cut_off(None);
    assert!(turned(&relay, true).await <= Duration::from_millis(1200));
    relay.probe().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_idle_upstream_is_probed_and_only_being_cut_off_counts() {
    let (relay, source, _feed) = scripted().await;
    source.cut_off(Some(Problem::new(ErrorKind::Busy, "full")));
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(relay.stats().engine_up);
    source.cut_off(Some(cut_off()));
    assert!(turned(&relay, false).await <= Duration::from_millis(5200));
}

#[tokio::test(start_paused = true)]
async fn a_leaf_learns_that_the_root_is_gone() {
    let (relay, source, feed) = scripted().await;
    let leaf = relay_of(&relay).await;
    let lowest = relay_of(&leaf).await;
    lowest.probe().await.unwrap();
    let delay = Duration::from_secs(60);
    feed.send(Word::Say(Delivery::Link(Link::Reconnecting { delay, cause: None }))).ok().unwrap();
    turned(&relay, false).await;
    assert!(leaf.stats().engine_up, "nobody has told it yet");
    assert_eq!(leaf.probe().await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(turned(&leaf, false).await <= Duration::from_millis(200));
    assert_eq!(lowest.probe().await.unwrap_err().kind(), ErrorKind::Unavailable);
    turned(&lowest, false).await;
    let opened = relay_of(&leaf).await;
    assert_eq!(drain(&mut consume(&opened, "a", Start::Latest).await), "p10", "consumers may still come");
    let next = source.feed();
    feed.send(Word::Fail(cut_off())).ok().unwrap();
    next.send(place(cursor(1, 10))).ok().unwrap();
    for node in [&relay, &leaf, &lowest] {
        turned(node, true).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_refuses_for_good_is_told_by_the_probe() {
    let no = || Problem::new(ErrorKind::Forbidden, "not you");
    let source = Scripted::default();
    source.refuse(no());
    let refused = Broker::open(RelayEngine::new(source), Retention::default()).await.map(drop);
    assert_eq!(refused.unwrap_err().to_string(), "forbidden: not you");

    let (relay, source, feed) = scripted().await;
    feed.send(Word::Fail(no())).ok().unwrap();
    while relay.stats().engine_up {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(relay.probe().await.unwrap_err().to_string(), "forbidden: not you");
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(source.asked().len(), 1, "what is refused for good is not asked again");
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_is_not_there_yet_is_awaited() {
    let source = Scripted::default();
    let relay = Broker::open(RelayEngine::new(source.clone()), Retention::default()).await.unwrap();
    assert_eq!(relay.consume(asking("a")).await.unwrap_err().kind(), ErrorKind::Unavailable);
    let feed = source.feed();
    feed.send(nothing(cursor(1, 10))).ok().unwrap();
    while relay.place() != cursor(1, 10) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(drain(&mut consume(&relay, "a", Start::Latest).await), "p10");
}

#[tokio::test]
async fn dropping_the_relay_ends_its_subscription() {
    struct Watched(Mutex<Option<oneshot::Sender<()>>>);
    struct Quiet(#[allow(dead_code, reason = "dropped with it")] oneshot::Sender<()>);
    #[async_trait]
    impl Push for Watched {
        async fn subscribe(&self, _: &Context, request: Subscribe) -> Result<Subscription, SubscribeError> {
            Ok(Subscription::new(Quiet(self.0.lock().unwrap().take().unwrap()), &request))
        }
    }
    impl Feed for Quiet {
        fn poll_batch(
            &mut self,
            _: &mut task::Context<'_>,
            _: Bounds,
            _: &mut Batch,
        ) -> task::Poll<Option<Result<(), ConsumeError>>> {
            task::Poll::Pending
        }
        fn place(&self) -> Option<Cursor> {
            None
        }
        fn retarget(&mut self, _: Topics) -> Result<(), SubscribeError> {
            Ok(())
        }
        fn grant(&mut self, _: u64) {}
        fn conflated(&self) -> u64 {
            0
        }
        fn standing(&self) -> Option<Standing> {
            None
        }
    }
    let (sender, ended) = oneshot::channel();
    let engine = RelayEngine::new(Watched(Mutex::new(Some(sender)))).with_open_timeout(Duration::ZERO);
    drop(Broker::open(engine, Retention::default()).await.unwrap());
    assert!(timeout(PATIENCE, ended).await.unwrap().is_err());
}

#[tokio::test]
async fn a_relay_knows_the_keys_that_it_saw_from_the_first_event_on() {
    let root = Broker::memory_with(Retention::default().with_messages(1));
    publish_key(&root, "old", "k", "1").await;
    publish_key(&root, "old", "l", "2").await;
    publish_key(&root, "fresh", "k", "3").await;
    let relay = relay_of(&root).await;
    reach(&relay, root.place()).await;
    assert_eq!(drain(&mut consume(&relay, "fresh", Start::Snapshot).await), "s3 p3");
    assert_eq!(drain(&mut consume(&relay, "old", Start::Snapshot).await), "evicted 0..2@0 s2 p3");
    assert_eq!(drain(&mut consume(&relay, "old", Start::Last).await), "s2 p3");
}

/// Lets nobody in, and does not say so either.
struct Hole;

#[async_trait]
impl Push for Hole {
    async fn subscribe(&self, _: &Context, _: Subscribe) -> Result<Subscription, SubscribeError> {
        pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn opening_waits_for_an_upstream_that_never_answers_no_longer_than_it_may() {
    let begun = Instant::now();
    let engine = RelayEngine::new(Hole).with_open_timeout(Duration::from_secs(2));
    let opening = timeout(Duration::from_secs(60), Broker::open(engine, Retention::default()));
    let relay = opening.await.unwrap().unwrap();
    assert_eq!((begun.elapsed().as_secs(), relay.stats().engine_up), (2, false));
    assert_eq!(relay.probe().await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn no_hint_keeps_a_relay_away_for_more_than_an_hour() {
    let (relay, source, feed) = scripted().await;
    let (retry, begun) = (Some(Duration::from_secs(u64::from(u32::MAX))), Instant::now());
    let next = source.feed();
    feed.send(Word::Say(Delivery::Link(Link::Ended { retry, cursor: None }))).ok().unwrap();
    drop(feed);
    next.send(place(cursor(1, 11))).ok().unwrap();
    let back = async {
        while relay.place() != cursor(1, 11) {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    timeout(Duration::from_secs(4000), back).await.unwrap();
    assert_eq!(begun.elapsed().as_secs() / 100, 36);
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_follows_no_more_is_down() {
    let (relay, _source, feed) = scripted().await;
    assert!(relay.stats().engine_up);
    feed.send(Word::Panic).ok().unwrap();
    let is_down = async {
        while relay.stats().engine_up {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, is_down).await.unwrap();
    assert_eq!(relay.probe().await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn no_number_of_an_upstream_is_too_large() {
    let (relay, _source, feed) = scripted().await;
    let say = |word| feed.send(word).ok().unwrap();
    let last = u64::MAX;
    let mut live = consume(&relay, "a", Start::Latest).await;
    say(place(cursor(1, last)));
    reach(&relay, cursor(1, last)).await;
    assert_eq!(drain(&mut live), "p10");
    say(gap(cursor(1, last), cursor(1, last), cursor(1, last), GapReason::Lagged));
    say(gap(cursor(1, last), cursor(2, last), cursor(2, last), GapReason::Rewound));
    say(event(cursor(2, last), Prev::At(cursor(1, last))));
    reach(&relay, cursor(2, last)).await;
    drain(&mut live);
    for start in [Start::Latest, Start::Earliest, Start::Last, Start::Snapshot] {
        drain(&mut consume(&relay, "a", start).await);
    }
    say(gap(cursor(2, last), cursor(4, last), cursor(4, last), GapReason::Reset));
    reach(&relay, cursor(4, last)).await;
    drain(&mut live);
    let mut latest = asking("a").from(cursor(2, 9));
    latest.overflow = Overflow::Latest;
    drain(&mut relay.consume(latest).await.unwrap());
    say(gap(cursor(4, last), cursor(3, 0), cursor(3, 0), GapReason::Reset));
    say(event(cursor(3, 0), Prev::First));
    say(event(cursor(3, 1), Prev::First));
    reach(&relay, cursor(3, 1)).await;
    assert!(drain(&mut live).ends_with("p0 e1"));
    assert!(relay.stats().engine_up);
}

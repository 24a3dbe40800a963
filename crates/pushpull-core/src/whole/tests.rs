use std::sync::Mutex;

use super::*;
use crate::{
    ErrorKind, PushExt,
    testing::{FakeFeed, Turn, event, gap, place, snapshot, take},
};

struct Source(Mutex<Option<FakeFeed>>);

#[async_trait]
impl Push for Source {
    async fn subscribe(&self, _: &Context, request: Subscribe) -> Result<Subscription, SubscribeError> {
        Ok(Subscription::new(self.0.lock().unwrap().take().unwrap(), &request))
    }
}

fn broken() -> Delivery {
    let cause = Some(crate::Problem::new(ErrorKind::Unavailable, "cut"));
    Delivery::Link(Link::Reconnecting { delay: RETRY, cause })
}

async fn told(start: Start, deliveries: Vec<Delivery>) -> Vec<String> {
    let feed = FakeFeed::new([Turn::Give(deliveries), Turn::End]);
    let whole = Whole::new(Source(Mutex::new(Some(feed))));
    let request = Subscribe::to("a").unwrap().from(start);
    take(&mut whole.consume(request).await.unwrap(), 9).await
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_that_breaks_off_ends_the_subscription() {
    let halves = vec![snapshot(1), broken(), snapshot(1), snapshot(2), place(2)];
    for start in [Start::Snapshot, Start::Last] {
        assert_eq!(told(start, halves.clone()).await, ["snapshot 1", "ended", "none"]);
    }
    let lossy = vec![gap(0, 3, 0, crate::GapReason::Evicted), broken(), place(2)];
    assert_eq!(told(Start::Snapshot, lossy).await, ["evicted 0..3 @0", "ended", "none"]);
}

#[tokio::test(start_paused = true)]
async fn a_connection_made_anew_within_it_is_a_break() {
    let connecting = || Delivery::Link(Link::Connecting);
    let torn = vec![snapshot(1), connecting(), snapshot(1), snapshot(2), place(2)];
    assert_eq!(told(Start::Snapshot, torn).await, ["snapshot 1", "ended", "none"]);
    let whole = vec![connecting(), snapshot(1), place(2), connecting(), event(3)];
    let expected = ["connecting", "snapshot 1", "place 2", "connecting", "a 3", "none"];
    assert_eq!(told(Start::Snapshot, whole).await, expected);
}

fn target() -> Topics {
    Topics::from(crate::Pattern::new("b").unwrap())
}

async fn begin(feed: FakeFeed) -> Subscription {
    let whole = Whole::new(Source(Mutex::new(Some(feed))));
    whole.consume(Subscribe::to("a").unwrap().from(Start::Snapshot)).await.unwrap()
}

/// As the adapters do: by batches.
async fn polled(unit: &mut Subscription) -> Vec<String> {
    let mut out = Batch::default();
    let polled = std::future::poll_fn(|cx| unit.poll_batch(cx, Bounds::default(), &mut out));
    let _ = tokio::time::timeout(RETRY, polled).await;
    out.deliveries.iter().map(crate::testing::shown).collect()
}

#[tokio::test(start_paused = true)]
async fn other_topics_are_asked_for_right_behind_it() {
    let rest = vec![snapshot(2), snapshot(4), place(4), event(5)];
    let feed = FakeFeed::new([Turn::Give(vec![snapshot(1)]), Turn::Give(rest)]);
    let targets = feed.targets.clone();
    let mut unit = begin(feed).await;
    assert_eq!(polled(&mut unit).await, ["snapshot 1"]);
    unit.retarget(target()).unwrap();
    assert_eq!(polled(&mut unit).await, ["snapshot 2"]);
    assert_eq!(targets.lock().unwrap().len(), 0, "the snapshot goes on");
    assert_eq!(polled(&mut unit).await, ["snapshot 4", "place 4"]);
    assert_eq!((&targets.lock().unwrap()[..], unit.place()), (&[target()][..], Some(crate::testing::at(4))));
    assert_eq!(polled(&mut unit).await, ["a 5"]);
    unit.retarget(target()).unwrap();
    assert_eq!(targets.lock().unwrap().len(), 2, "and at once when it is complete");
}

#[tokio::test(start_paused = true)]
async fn topics_that_the_source_does_not_deliver_are_the_end_behind_it() {
    let feed = FakeFeed::new([Turn::Give(vec![snapshot(1)]), Turn::Give(vec![snapshot(2), place(2)])]);
    let mut unit = begin(FakeFeed { is_fixed: true, ..feed }).await;
    assert_eq!(polled(&mut unit).await, ["snapshot 1"]);
    unit.retarget(target()).unwrap();
    assert_eq!(polled(&mut unit).await, ["snapshot 2", "place 2", "ended"]);
    assert_eq!(polled(&mut unit).await, [""; 0]);
}

/// Connects to one feed after the other.
struct Feeds(Mutex<std::collections::VecDeque<FakeFeed>>);

impl crate::Dial for Feeds {
    fn dial(&self, _: Subscribe) -> crate::Dialing {
        let feed = self.0.lock().unwrap().pop_front().unwrap();
        Box::pin(async move { Ok(Box::new(feed) as Box<dyn Feed>) })
    }

    fn transport(&self) -> Option<&'static str> {
        None
    }
}

#[async_trait]
impl Push for Feeds {
    async fn subscribe(&self, _: &Context, request: Subscribe) -> Result<Subscription, SubscribeError> {
        let feeds = Self(Mutex::new(std::mem::take(&mut self.0.lock().unwrap())));
        crate::Reconnecting::start(feeds, request, crate::Backoff::default()).await
    }
}

#[tokio::test(start_paused = true)]
async fn over_a_connection_whose_topics_are_fixed_it_stays_whole() {
    let pieces = [Turn::Give(vec![snapshot(1)]), Turn::Give(vec![snapshot(2), place(2), event(3)])];
    let first = FakeFeed { is_fixed: true, ..FakeFeed::new(pieces) };
    let second = FakeFeed::new([Turn::Give(vec![place(2), event(3)])]);
    let whole = Whole::new(Feeds(Mutex::new([first, second].into())));
    let mut unit = whole.consume(Subscribe::to("a").unwrap().from(Start::Snapshot)).await.unwrap();
    let mut told = polled(&mut unit).await;
    told.extend(polled(&mut unit).await);
    unit.retarget(target()).unwrap();
    for _ in 0..5 {
        told.extend(polled(&mut unit).await);
    }
    let (within, behind) = told.split_at(4);
    assert_eq!(within, ["connected", "snapshot 1", "snapshot 2", "place 2"]);
    assert_eq!(behind, ["connecting", "connected", "place 2", "a 3"]);
}

#[tokio::test(start_paused = true)]
async fn a_break_before_or_after_it_is_none_of_its_own() {
    let whole = vec![broken(), snapshot(1), place(2), broken(), event(3)];
    let expected = ["reconnecting (cut)", "snapshot 1", "place 2", "reconnecting (cut)", "a 3", "none"];
    assert_eq!(told(Start::Snapshot, whole.clone()).await, expected);
    let live = vec![snapshot(1), broken(), event(3)];
    assert_eq!(told(Start::Latest, live).await, ["snapshot 1", "reconnecting (cut)", "a 3", "none"]);
}

#[tokio::test(start_paused = true)]
async fn it_has_no_place_before_it_is_complete() {
    let mut feed = FakeFeed::new([Turn::Give(vec![snapshot(1)]), Turn::Give(vec![place(2)])]);
    feed.place = Some(crate::testing::at(9));
    let whole = Whole::new(Source(Mutex::new(Some(feed))));
    let mut unit = whole.consume(Subscribe::to("a").unwrap().from(Start::Snapshot)).await.unwrap();
    assert_eq!((take(&mut unit, 1).await, unit.place()), (vec!["snapshot 1".to_owned()], None));
    assert_eq!(take(&mut unit, 1).await, ["place 2"]);
    assert_eq!(unit.place(), Some(crate::testing::at(2)));
}

#[tokio::test(start_paused = true)]
async fn credit_passes_through() {
    let feed = FakeFeed::new([Turn::Give(vec![snapshot(1), snapshot(2), place(2)])]);
    let grants = feed.grants.clone();
    let whole = Whole::new(Source(Mutex::new(Some(feed))));
    let request = Subscribe::to("a").unwrap().from(Start::Snapshot).with_window(std::num::NonZeroU32::MIN);
    let mut unit = whole.consume(request).await.unwrap();
    assert_eq!(take(&mut unit, 2).await, ["snapshot 1", "silence"]);
    unit.grant(1);
    assert_eq!(*grants.lock().unwrap(), [1]);
    assert_eq!(take(&mut unit, 2).await, ["snapshot 2", "place 2"]);
}

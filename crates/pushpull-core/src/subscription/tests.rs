use std::{future::poll_fn, num::NonZeroU32, sync::Mutex, time::Duration};

use tokio::time::timeout;

use super::*;
use crate::{
    GapReason, Pattern,
    testing::{FakeFeed, Turn, at, down, event, gap, place, shown, snapshot, take},
};

fn asks() -> Subscribe {
    Subscribe::to("a").unwrap()
}

fn seen(feed: &FakeFeed) -> Arc<Mutex<Vec<Bounds>>> {
    feed.bounds.clone()
}

async fn poll(subscription: &mut Subscription, bounds: Bounds) -> (Vec<String>, Batch) {
    let mut out = Batch::default();
    let polled = poll_fn(|cx| subscription.poll_batch(cx, bounds, &mut out)).await;
    assert!(matches!(polled, Some(Ok(()))), "{polled:?}");
    (out.deliveries.iter().map(shown).collect(), out)
}

async fn is_silent(subscription: &mut Subscription, bounds: Bounds) -> bool {
    let mut out = Batch::default();
    let polled = poll_fn(|cx| subscription.poll_batch(cx, bounds, &mut out));
    timeout(Duration::from_millis(1), polled).await.is_err()
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_taken_within_bounds_and_tells_the_place_behind_it() {
    let feed = FakeFeed::new([Turn::Give(vec![place(1), event(2), event(3), event(5)])]);
    let mut subscription = Subscription::new(feed, &asks());
    let (told, out) = poll(&mut subscription, Bounds::new(2, 1000)).await;
    assert_eq!(
        (told, out.more, out.place),
        (vec!["place 1".into(), "a 2".into(), "a 3".into()], true, Some(at(3)))
    );
    let (told, out) = poll(&mut subscription, Bounds::new(2, 1000)).await;
    assert_eq!((told, out.more, out.place), (vec!["a 5".into()], false, Some(at(5))));
    assert_eq!(subscription.place(), Some(at(5)));
}

#[tokio::test(start_paused = true)]
async fn without_credit_come_gaps_and_places_only() {
    let lost = gap(3, 8, 3, GapReason::Lagged);
    let feed = FakeFeed::new([Turn::Give(vec![place(1), event(2), event(3), lost, place(7), event(9)])]);
    let bounds = seen(&feed);
    let request = asks().with_window(NonZeroU32::new(2).unwrap());
    let mut subscription = Subscription::new(feed, &request);
    assert_eq!(subscription.credit(), Some(2));
    let (told, _) = poll(&mut subscription, Bounds::default()).await;
    assert_eq!(told, ["place 1", "a 2", "a 3", "lagged 3..8 @3", "place 7"]);
    assert_eq!(subscription.credit(), Some(0));
    assert!(is_silent(&mut subscription, Bounds::default()).await);
    assert_eq!(bounds.lock().unwrap().last().unwrap().events, 0);
    subscription.grant(1);
    assert_eq!(poll(&mut subscription, Bounds::default()).await.0, ["a 9"]);
    subscription.grant(u64::MAX);
    subscription.grant(u64::MAX);
    assert_eq!(subscription.credit(), Some(u64::MAX));
}

#[tokio::test(start_paused = true)]
async fn grants_mean_nothing_without_a_window() {
    let mut subscription = Subscription::new(FakeFeed::new([Turn::Give(vec![event(1)])]), &asks());
    subscription.grant(5);
    assert_eq!(subscription.credit(), None);
    assert_eq!(poll(&mut subscription, Bounds::default()).await.0, ["a 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_rate_holds_flushes_back_but_no_gaps_and_places() {
    let turns =
        [vec![place(0), event(1)], vec![event(2), event(3)], vec![place(4)], vec![place(5)], vec![event(6)]];
    let feed = FakeFeed::new(turns.map(Turn::Give));
    let bounds = seen(&feed);
    let request = asks().at_rate(Rate::per_second(2.0).unwrap());
    let mut subscription = Subscription::new(feed, &request);
    let begun = Instant::now();
    let mut told = Vec::new();
    for wanted in [2, 2, 2, 0, 2] {
        let (deliveries, _) = poll(&mut subscription, Bounds::new(wanted, usize::MAX)).await;
        told.push((begun.elapsed().as_millis(), deliveries.join(", ")));
    }
    let told: Vec<_> = told.iter().map(|(at, text)| (*at, text.as_str())).collect();
    assert_eq!(
        told,
        [(0, "place 0, a 1"), (500, "a 2, a 3"), (1000, "place 4"), (1000, "place 5"), (1000, "a 6")],
        "a flush is all that waits; what brings no event is none"
    );
    let bounds = bounds.lock().unwrap().clone();
    assert_eq!(bounds[1], Bounds::new(2, FLUSH_BYTES));
    assert_eq!(bounds[3].events, 0);
}

#[tokio::test(start_paused = true)]
async fn a_flush_is_taken_in_pieces_of_the_callers_size() {
    let turns = [Turn::Give((1..=8).map(event).collect()), Turn::Give(vec![event(9)])];
    let request = asks().at_rate(Rate::per_second(1.0).unwrap());
    let mut subscription = Subscription::new(FakeFeed::new(turns), &request);
    let begun = Instant::now();
    let mut pieces = Vec::new();
    for _ in 0..4 {
        let (_, piece) = poll(&mut subscription, Bounds::new(3, usize::MAX)).await;
        pieces.push((begun.elapsed().as_secs(), piece.events()));
    }
    assert_eq!(pieces, [(0, 3), (0, 3), (0, 2), (1, 1)]);
}

#[tokio::test(start_paused = true)]
async fn rate_and_credit_go_together() {
    let feed = FakeFeed::new([Turn::Give((1..=5).map(event).collect())]);
    let request = asks().at_rate(Rate::per_second(1.0).unwrap()).with_window(NonZeroU32::new(2).unwrap());
    let mut subscription = Subscription::new(feed, &request);
    assert_eq!(poll(&mut subscription, Bounds::default()).await.0, ["a 1", "a 2"]);
    subscription.grant(2);
    assert!(is_silent(&mut subscription, Bounds::default()).await, "the pause goes on");
    assert_eq!(poll(&mut subscription, Bounds::default()).await.0, ["a 3", "a 4"]);
}

#[tokio::test(start_paused = true)]
async fn the_stream_tells_the_place_of_what_it_returned() {
    let turns =
        [vec![place(1), event(3), event(4)], vec![gap(4, 9, 4, GapReason::Evicted), event(9), place(12)]];
    let mut subscription = Subscription::new(FakeFeed::new(turns.map(Turn::Give)), &asks());
    let mut told = vec![(String::new(), subscription.place().map(Cursor::seq))];
    for _ in 0..6 {
        let delivery = subscription.next().await.unwrap().unwrap();
        told.push((shown(&delivery), subscription.place().map(Cursor::seq)));
    }
    let told: Vec<_> = told.iter().map(|(text, place)| (text.as_str(), *place)).collect();
    assert_eq!(
        told,
        [
            ("", None),
            ("place 1", Some(1)),
            ("a 3", Some(3)),
            ("a 4", Some(4)),
            ("evicted 4..9 @4", Some(4)),
            ("a 9", Some(9)),
            ("place 12", Some(12)),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn inside_a_snapshot_the_stream_has_no_place() {
    let turns = [vec![snapshot(3), snapshot(8)], vec![snapshot(9), place(11), event(12)]];
    let mut subscription = Subscription::new(FakeFeed::new(turns.map(Turn::Give)), &asks());
    let mut places = Vec::new();
    for _ in 0..5 {
        subscription.next().await.unwrap().unwrap();
        places.push(subscription.place().map(Cursor::seq));
    }
    assert_eq!(places, [None, None, None, Some(11), Some(12)]);
}

#[tokio::test(start_paused = true)]
async fn a_place_that_moved_in_silence_does_not_move_back() {
    let feed = FakeFeed { place: Some(at(6)), ..FakeFeed::new([Turn::Give(vec![event(8), event(9)])]) };
    let mut subscription = Subscription::new(feed, &asks());
    assert_eq!(subscription.place(), Some(at(6)));
    assert_eq!(take(&mut subscription, 1).await, ["a 8"]);
    assert_eq!(subscription.place(), Some(at(8)));

    let lost = vec![Delivery::Link(crate::Link::Connected), event(8)];
    let feed = FakeFeed { place: Some(at(6)), ..FakeFeed::new([Turn::Give(lost)]) };
    let mut subscription = Subscription::new(feed, &asks());
    assert_eq!(take(&mut subscription, 1).await, ["connected"]);
    assert_eq!(subscription.place(), Some(at(6)));
}

#[tokio::test(start_paused = true)]
async fn an_error_comes_behind_what_came_with_it_and_then_the_end() {
    let turns = [Turn::Give(vec![place(0)]), Turn::GiveAndFail(vec![event(1), event(2)], down())];
    let mut subscription = Subscription::new(FakeFeed::new(turns), &asks());
    assert_eq!(take(&mut subscription, 9).await, ["place 0", "a 1", "a 2", "error (down)", "none"]);
    assert_eq!(take(&mut subscription, 1).await, ["none"], "the end stays the end");
}

#[tokio::test(start_paused = true)]
async fn the_end_is_said_for_ever_and_the_feed_left_alone() {
    let feed = FakeFeed::new([Turn::Give(vec![event(1)]), Turn::End, Turn::Give(vec![event(2)])]);
    let bounds = seen(&feed);
    let mut subscription = Subscription::new(feed, &asks());
    assert_eq!(take(&mut subscription, 9).await, ["a 1", "none"]);
    let mut out = Batch::default();
    assert!(poll_fn(|cx| subscription.poll_batch(cx, Bounds::default(), &mut out)).await.is_none());
    assert_eq!((out.deliveries.len(), bounds.lock().unwrap().len()), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn retargeting_a_stream_says_from_where_on() {
    let feed = FakeFeed::new([Turn::Give(vec![place(0), event(1), event(2)]), Turn::Give(vec![event(5)])]);
    let targets = feed.targets.clone();
    let mut subscription = Subscription::new(feed, &asks());
    assert_eq!(take(&mut subscription, 2).await, ["place 0", "a 1"]);
    let topics = Topics::from(Pattern::new("b").unwrap());
    subscription.retarget(topics.clone()).unwrap();
    assert_eq!(*targets.lock().unwrap(), [topics]);
    assert_eq!(take(&mut subscription, 3).await, ["a 2", "place 2", "a 5"]);
    let feed = FakeFeed { is_fixed: true, ..FakeFeed::default() };
    let refused = Subscription::new(feed, &asks()).retarget(Pattern::new("b").unwrap().into());
    assert_eq!(refused.unwrap_err().kind(), crate::ErrorKind::Forbidden);
}

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use tokio::time::timeout;

use super::*;
use crate::{
    GapReason, Pattern,
    testing::{FakeFeed, Turn, at, down, event, gap, place, refused, snapshot, take},
};

type Asked = Arc<Mutex<Vec<(Instant, Subscribe)>>>;

/// Gives one connection after another, and hangs after the last.
struct FakeDial {
    connections: Mutex<VecDeque<Result<FakeFeed, Problem>>>,
    asked: Asked,
}

impl Dial for FakeDial {
    fn dial(&self, request: Subscribe) -> Dialing {
        self.asked.lock().unwrap().push((Instant::now(), request));
        let next = self.connections.lock().unwrap().pop_front();
        Box::pin(async move {
            match next {
                Some(Ok(feed)) => Ok(Box::new(feed) as Box<dyn Feed>),
                Some(Err(problem)) => Err(problem.into()),
                None => std::future::pending().await,
            }
        })
    }

    fn transport(&self) -> Option<&'static str> {
        Some("fake")
    }
}

fn dial(connections: impl IntoIterator<Item = Result<FakeFeed, Problem>>) -> (FakeDial, Asked) {
    let asked = Asked::default();
    (FakeDial { connections: Mutex::new(connections.into_iter().collect()), asked: asked.clone() }, asked)
}

fn gives(deliveries: Vec<Delivery>) -> FakeFeed {
    FakeFeed::new([Turn::Give(deliveries)])
}

fn breaks(deliveries: Vec<Delivery>) -> FakeFeed {
    FakeFeed::new([Turn::GiveAndFail(deliveries, down())])
}

fn ended(retry: Option<u64>, cursor: Option<u64>) -> Delivery {
    Delivery::Link(Link::Ended { retry: retry.map(Duration::from_secs), cursor: cursor.map(at) })
}

fn asks(start: impl Into<StartAt>) -> Subscribe {
    Subscribe::to("a").unwrap().from(start)
}

fn starts(asked: &Asked) -> Vec<StartAt> {
    asked.lock().unwrap().iter().map(|(_, request)| request.start).collect()
}

fn pauses(asked: &Asked) -> Vec<Duration> {
    asked.lock().unwrap().windows(2).map(|pair| pair[1].0 - pair[0].0).collect()
}

async fn begin(dial: FakeDial, request: Subscribe) -> Subscription {
    Reconnecting::start(dial, request, Backoff::default()).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_new_connection_is_given_the_credit_that_is_left() {
    let (first, second) = (breaks(vec![place(1), event(2), event(3)]), gives(vec![place(3), event(4)]));
    let (early, late) = (first.grants.clone(), second.grants.clone());
    let (dial, asked) = dial([Ok(first), Ok(second)]);
    let mut subscription = begin(dial, asks(Start::Latest).with_window(NonZeroU32::new(2).unwrap())).await;
    subscription.grant(1);
    assert_eq!(*early.lock().unwrap(), [1], "a live source is told");
    take(&mut subscription, 6).await;
    let windows = |at: usize| asked.lock().unwrap()[at].1.window.map(NonZeroU32::get);
    assert_eq!((windows(0), subscription.credit()), (Some(2), Some(1)));
    take(&mut subscription, 2).await;
    assert_eq!(windows(1), Some(1), "two of three came");
    subscription.grant(5);
    assert_eq!(*late.lock().unwrap(), [5]);
}

#[tokio::test(start_paused = true)]
async fn an_event_lent_to_a_connection_is_kept_back_from_the_next_grant() {
    let (first, second) = (breaks(vec![place(1), event(2)]), gives(vec![place(2)]));
    let late = second.grants.clone();
    let (dial, asked) = dial([Ok(first), Ok(second)]);
    let mut subscription = begin(dial, asks(Start::Latest).with_window(NonZeroU32::new(1).unwrap())).await;
    take(&mut subscription, 7).await;
    assert_eq!(asked.lock().unwrap()[1].1.window.map(NonZeroU32::get), Some(1), "a window is never empty");
    subscription.grant(3);
    assert_eq!(*late.lock().unwrap(), [2]);
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_is_made_anew_from_the_place() {
    let (dial, asked) = dial([
        Ok(breaks(vec![place(3), event(4), place(6)])),
        Err(down()),
        Ok(FakeFeed::new([Turn::Give(vec![place(6), event(7)]), Turn::End])),
        Ok(gives(vec![place(7), event(9)])),
    ]);
    let mut subscription = begin(dial, asks(Start::Latest)).await;
    let told = take(&mut subscription, 16).await;
    let lines = [
        "connected, place 3, a 4, place 6, reconnecting (down)",
        "connecting, reconnecting (down), connecting, connected, place 6, a 7, reconnecting (-)",
        "connecting, connected, place 7, a 9",
    ];
    assert_eq!(told.join(", ") + ", ", lines.join(", ") + ", ");
    let after = |seq| StartAt::After(at(seq));
    assert_eq!(starts(&asked), [Start::Latest.into(), after(6), after(6), after(7)]);
    assert_eq!(subscription.place(), Some(at(9)));
}

#[tokio::test(start_paused = true)]
async fn the_first_attempt_may_fail_for_a_while_but_not_for_good() {
    let (first, asked) = dial([Err(down()), Ok(gives(vec![place(3)]))]);
    let mut subscription = begin(first, asks(at(3))).await;
    assert_eq!(
        take(&mut subscription, 4).await,
        ["reconnecting (down)", "connecting", "connected", "place 3"]
    );
    assert_eq!(starts(&asked), [StartAt::After(at(3)); 2]);
    let (first, _) = dial([Err(refused())]);
    let error = Reconnecting::start(first, asks(at(3)), Backoff::default()).await.unwrap_err();
    assert_eq!(error.problem().detail(), "no");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_mended_ends_it_behind_what_was_delivered() {
    let (first, asked) = dial([Ok(FakeFeed::new([Turn::GiveAndFail(vec![place(0), event(1)], refused())]))]);
    let mut subscription = begin(first, asks(at(0))).await;
    assert_eq!(take(&mut subscription, 9).await, ["connected", "place 0", "a 1", "error (no)", "none"]);
    assert_eq!(starts(&asked).len(), 1);
    let (first, _) = dial([Ok(breaks(vec![place(0)])), Err(refused())]);
    let mut subscription = begin(first, asks(at(0))).await;
    assert_eq!(
        take(&mut subscription, 9).await,
        ["connected", "place 0", "reconnecting (down)", "connecting", "error (no)", "none"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_broken_snapshot_is_asked_for_anew() {
    let (dial, asked) = dial([
        Ok(FakeFeed::new([Turn::Give(vec![snapshot(2), ended(Some(1), Some(8))])])),
        Ok(breaks(vec![snapshot(2)])),
        Ok(breaks(vec![snapshot(2), snapshot(9), place(9)])),
        Ok(gives(vec![place(9)])),
    ]);
    let mut subscription = begin(dial, asks(Start::Snapshot)).await;
    assert_eq!(take(&mut subscription, 16).await.pop().unwrap(), "place 9");
    let anew = StartAt::from(Start::Snapshot);
    assert_eq!(starts(&asked), [anew, anew, anew, StartAt::After(at(9))]);
}

#[tokio::test(start_paused = true)]
async fn an_announced_end_is_followed_or_final() {
    let (first, asked) = dial([
        Ok(gives(vec![ended(Some(4), Some(8))])),
        Ok(gives(vec![place(8), gap(8, 20, 8, GapReason::Lagged), ended(None, Some(8))])),
    ]);
    let mut subscription = begin(first, asks(Start::Latest)).await;
    assert_eq!(
        take(&mut subscription, 9).await,
        [
            "connected",
            "reconnecting (-)",
            "connecting",
            "connected",
            "place 8",
            "lagged 8..20 @8",
            "ended",
            "none"
        ]
    );
    assert_eq!(starts(&asked), [Start::Latest.into(), StartAt::After(at(8))]);
    assert_eq!(pauses(&asked), [Duration::from_secs(4)]);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_ends_at_once_is_not_dialled_in_a_busy_loop() {
    let connections = (0..40).map(|_| Ok(gives(vec![place(1), ended(Some(0), None)])));
    let (dial, asked) = dial(connections);
    let mut subscription = begin(dial, asks(Start::Latest)).await;
    let watch = async { while subscription.next().await.is_some() {} };
    assert!(timeout(Duration::from_secs(120), watch).await.is_err());
    let pauses = pauses(&asked);
    assert!(pauses.iter().all(|pause| *pause >= Duration::from_millis(100)), "{pauses:?}");
    assert!((10..=35).contains(&pauses.len()), "{pauses:?}");
}

#[tokio::test(start_paused = true)]
async fn a_useful_session_resets_the_back_off() {
    let useless = || Ok(breaks(vec![place(1)]));
    let event_first = || Ok(breaks(vec![place(1), event(2)]));
    for (useful, most) in [(None, 20_100), (Some(event_first()), 350)] {
        let mut connections: Vec<_> = (0..8).map(|_| useless()).collect();
        let resets = useful.is_some();
        connections.extend(useful);
        let (dial, asked) = dial(connections);
        let mut subscription = begin(dial, asks(at(1))).await;
        let watch = async { while subscription.next().await.is_some() {} };
        assert!(timeout(Duration::from_secs(600), watch).await.is_err());
        let pauses = pauses(&asked);
        let last = pauses.last().unwrap().as_millis();
        assert!(last <= most + 1, "resets: {resets}, {pauses:?}");
        assert_eq!(pauses.len(), 8 + usize::from(resets));
    }
}

#[tokio::test(start_paused = true)]
async fn a_hint_of_the_server_is_honoured() {
    let hint = Duration::from_secs(90);
    let (dial, asked) = dial([Ok(breaks(vec![place(1)])), Err(down().with_retry(hint)), Ok(gives(vec![]))]);
    let mut subscription = begin(dial, asks(at(1))).await;
    assert_eq!(take(&mut subscription, 7).await.pop().unwrap(), "connected");
    assert_eq!(pauses(&asked)[1], hint);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_in_doubt_is_believed_of_the_next_connection() {
    let doubtful = || refused().with_doubt();
    let turned_out = |problem| FakeFeed::new([Turn::GiveAndFail(vec![place(1)], problem)]);
    let (first, asked) = dial([Ok(turned_out(doubtful())), Err(doubtful())]);
    let mut subscription = begin(first, asks(at(1))).await;
    let told = ["connected", "place 1", "reconnecting (no)", "connecting", "error (no)", "none"];
    assert_eq!(
        (take(&mut subscription, 9).await, starts(&asked).len()),
        (told.map(str::to_owned).to_vec(), 2)
    );
    let (first, asked) = dial([Ok(turned_out(refused())), Err(doubtful())]);
    let mut subscription = begin(first, asks(at(1))).await;
    let told = ["connected", "place 1", "error (no)", "none"];
    assert_eq!(
        (take(&mut subscription, 9).await, starts(&asked).len()),
        (told.map(str::to_owned).to_vec(), 1)
    );
}

#[tokio::test(start_paused = true)]
async fn no_hint_keeps_a_consumer_away_for_more_than_an_hour() {
    let away = FakeFeed::new([Turn::Give(vec![place(1), ended(Some(u64::MAX), None)])]);
    let busy = down().with_retry(Duration::from_millis(u64::MAX));
    let (dial, asked) = dial([Ok(away), Err(busy), Ok(gives(vec![]))]);
    let mut subscription = begin(dial, asks(at(1))).await;
    assert_eq!(take(&mut subscription, 7).await.pop().unwrap(), "connected");
    assert_eq!(pauses(&asked), [Duration::from_secs(3600); 2]);
}

#[tokio::test(start_paused = true)]
async fn a_place_that_moved_in_silence_is_where_it_resumes() {
    let quiet = FakeFeed { place: Some(at(50)), ..FakeFeed::new([Turn::GiveAndFail(vec![], down())]) };
    let (dial, asked) = dial([Ok(quiet), Ok(gives(vec![place(50)]))]);
    let mut subscription = begin(dial, asks(at(3))).await;
    assert_eq!(take(&mut subscription, 5).await.pop().unwrap(), "place 50");
    assert_eq!(starts(&asked), [StartAt::After(at(3)), StartAt::After(at(50))]);
}

#[tokio::test(start_paused = true)]
async fn after_a_reset_the_gap_is_the_place() {
    let (dial, asked) = dial([
        Ok(breaks(vec![place(90)])),
        Ok(breaks(vec![gap(90, 4, 3, GapReason::Reset), event(4)])),
        Ok(gives(vec![place(4)])),
    ]);
    let mut subscription = begin(dial, asks(at(90))).await;
    assert_eq!(take(&mut subscription, 11).await.pop().unwrap(), "place 4");
    assert_eq!(starts(&asked), [90, 90, 4].map(|seq| StartAt::After(at(seq))));
}

#[tokio::test(start_paused = true)]
async fn retargeting_goes_over_the_live_connection_or_a_new_one() {
    let target = || Topics::from(Pattern::new("b").unwrap());
    let live = gives(vec![place(1), event(2)]);
    let targets = live.targets.clone();
    let (first, asked) = dial([Ok(live)]);
    let mut subscription = begin(first, asks(at(1))).await;
    assert_eq!(take(&mut subscription, 3).await, ["connected", "place 1", "a 2"]);
    subscription.retarget(target()).unwrap();
    assert_eq!((targets.lock().unwrap().as_slice(), starts(&asked).len()), (&[target()][..], 1));

    let fixed = FakeFeed { is_fixed: true, conflated: 5, ..gives(vec![place(1), event(2)]) };
    let (first, asked) = dial([Ok(fixed), Ok(FakeFeed { conflated: 2, ..gives(vec![place(2)]) })]);
    let mut subscription = begin(first, asks(at(1))).await;
    assert_eq!(take(&mut subscription, 3).await, ["connected", "place 1", "a 2"]);
    assert_eq!(subscription.conflated(), 5);
    subscription.retarget(target()).unwrap();
    assert_eq!(take(&mut subscription, 3).await, ["connecting", "connected", "place 2"]);
    let last = asked.lock().unwrap().pop().unwrap().1;
    assert_eq!((last.start, last.topics), (StartAt::After(at(2)), target()));
    assert_eq!(subscription.conflated(), 7, "what was left out stays counted");
}

#[tokio::test(start_paused = true)]
async fn dropping_a_wait_loses_nothing() {
    let (dial, asked) =
        dial([Err(down()), Ok(breaks(vec![place(1), event(2)])), Ok(gives(vec![place(2), event(3)]))]);
    let mut subscription = begin(dial, asks(at(1))).await;
    let mut told = Vec::new();
    while told.len() < 10 {
        let next = timeout(Duration::from_millis(7), subscription.next()).await;
        told.extend(next.ok().flatten().map(|next| crate::testing::shown(&next.unwrap())));
    }
    assert_eq!(
        told,
        [
            "reconnecting (down)",
            "connecting",
            "connected",
            "place 1",
            "a 2",
            "reconnecting (down)",
            "connecting",
            "connected",
            "place 2",
            "a 3"
        ]
    );
    assert_eq!(starts(&asked).len(), 3);
}

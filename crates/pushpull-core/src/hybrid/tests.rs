use std::{num::NonZeroU32, sync::Mutex};

use tokio::{sync::mpsc, time::timeout};

use super::*;
use crate::{
    Epoch, Event, EventParts, GapReason, Message, Prev, Start,
    testing::{FakePull, Step, at, batch, down, event, event_of, gap, refused, shown, snapshot, take},
};

mod model;

/// A push that hands over what a test sends.
struct FakePush(Mutex<Option<mpsc::UnboundedReceiver<Pushed>>>);

struct Line(mpsc::UnboundedReceiver<Pushed>);

impl futures_core::Stream for Line {
    type Item = Pushed;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<Pushed>> {
        self.0.poll_recv(cx)
    }
}

#[async_trait]
impl PushHinted for FakePush {
    async fn subscribe_hinted(&self, _: &Context, _: &Topics) -> Result<PushedStream, SubscribeError> {
        let line = self.0.lock().unwrap().take();
        line.map(|line| Box::pin(Line(line)) as PushedStream).ok_or_else(|| refused().into())
    }
}

struct Rig {
    push: mpsc::UnboundedSender<Pushed>,
    pull: Arc<FakePull>,
    subscription: Subscription,
}

async fn rig(request: &Subscribe, steps: impl IntoIterator<Item = Step>) -> Rig {
    let (push, line) = mpsc::unbounded_channel();
    let pull = FakePull::new(steps);
    let schedule = Schedule { jitter: 0.0, ..Schedule::every(Duration::from_secs(15)) };
    let hybrid =
        Hybrid::new(Arc::new(FakePush(Mutex::new(Some(line)))), pull.clone()).with_schedule(schedule);
    let subscription = hybrid.subscribe(&Context::default(), request.clone()).await.unwrap();
    Rig { push, pull, subscription }
}

fn asks(start: impl Into<StartAt>) -> Subscribe {
    Subscribe::to("a").unwrap().from(start)
}

impl Rig {
    fn push(&self, after: u64, seq: u64) -> Taken {
        self.push_it(Pushed::event(at(after), event_of("a", seq)))
    }

    fn push_it(&self, pushed: Pushed) -> Taken {
        let (receipt, taken) = Receipt::new();
        self.push.send(pushed.with_receipt(receipt)).unwrap();
        taken
    }

    async fn take(&mut self, count: usize) -> Vec<String> {
        take(&mut self.subscription, count).await
    }

    fn starts(&self) -> Vec<StartAt> {
        self.pull.asked().iter().map(|fetch| fetch.start).collect()
    }

    /// Lets the consumer look, and find nothing.
    async fn idle(&mut self, seconds: u64) {
        let silent = timeout(Duration::from_secs(seconds), self.subscription.next()).await;
        assert!(silent.is_err(), "{silent:?}");
    }
}

fn after(seq: u64) -> StartAt {
    StartAt::After(at(seq))
}

#[tokio::test(start_paused = true)]
async fn a_push_that_fits_comes_at_once_and_asks_nothing() {
    let mut rig = rig(&asks(Start::Latest), [Step::Answer(batch([], 5))]).await;
    assert_eq!(rig.take(1).await, ["place 5"]);
    let first = rig.push(5, 7);
    let second = rig.push(6, 9);
    assert_eq!(rig.take(2).await, ["a 7", "a 9"]);
    assert!(first.await && second.await);
    assert_eq!(rig.subscription.place(), Some(at(9)));
    assert_eq!(rig.pull.asked().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_push_that_does_not_fit_is_polled_up_to() {
    let steps = [batch([], 5), batch([event(6), event(8)], 8)];
    let mut rig = rig(&asks(Start::Latest), steps.map(Step::Answer)).await;
    rig.take(1).await;
    let taken = rig.push(8, 9);
    assert_eq!(rig.take(3).await, ["a 6", "a 8", "a 9"]);
    assert!(taken.await);
    assert_eq!(rig.starts(), [Start::Latest.into(), after(5)]);
    assert_eq!(rig.pull.pauses(), [Duration::ZERO], "at once");
}

#[tokio::test(start_paused = true)]
async fn repeats_are_dropped_and_receipted() {
    let mut rig = rig(&asks(at(5)), [Step::Answer(batch([event(7)], 7))]).await;
    assert_eq!(rig.take(2).await, ["place 5", "a 7"]);
    let repeats = [rig.push(5, 7), rig.push(3, 5), rig.push(7, 8), rig.push(7, 8)];
    assert_eq!(rig.take(1).await, ["a 8"]);
    rig.idle(1).await;
    for taken in repeats {
        assert!(taken.await);
    }
}

#[tokio::test(start_paused = true)]
async fn while_a_poll_is_under_way_pushes_that_fit_still_come() {
    let late = batch([event(6), event(7), event(8)], 9);
    let steps = [Step::Answer(batch([], 5)), Step::After(Duration::from_secs(5), late)];
    let mut rig = rig(&asks(Start::Latest), steps).await;
    rig.take(1).await;
    rig.push(8, 9);
    rig.idle(1).await;
    rig.push(5, 6);
    assert_eq!(rig.take(1).await, ["a 6"]);
    assert_eq!(rig.take(3).await, ["a 7", "a 8", "place 9"]);
}

#[tokio::test(start_paused = true)]
async fn quiet_is_covered_by_a_slow_poll_counted_from_the_last_push() {
    let steps = [batch([], 5), batch([event(8)], 8), batch([], 8)];
    let mut rig = rig(&asks(Start::Latest), steps.map(Step::Answer)).await;
    rig.take(1).await;
    rig.idle(10).await;
    rig.push(5, 6);
    assert_eq!(rig.take(2).await, ["a 6", "a 8"]);
    rig.idle(16).await;
    assert_eq!(rig.starts(), [Start::Latest.into(), after(6), after(8)]);
    let pauses: Vec<_> = rig.pull.pauses().iter().map(Duration::as_secs).collect();
    assert_eq!(pauses, [25, 15]);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_push_leaves_the_pull() {
    let steps = [batch([], 5), batch([event(8)], 8)];
    let mut rig = rig(&asks(Start::Latest), steps.map(Step::Answer)).await;
    rig.take(1).await;
    rig.push = mpsc::unbounded_channel().0;
    assert_eq!(rig.take(1).await, ["a 8"]);
}

#[tokio::test(start_paused = true)]
async fn trouble_with_the_pull_is_told_and_holds_up_no_push_that_fits() {
    let steps = [
        Step::Answer(batch([], 5)),
        Step::Fail(down().with_retry(Duration::from_secs(60))),
        Step::Answer(batch([event(7)], 7)),
        Step::Fail(refused()),
    ];
    let mut rig = rig(&asks(Start::Latest), steps).await;
    rig.take(1).await;
    let early = rig.push(7, 8);
    assert_eq!(rig.take(1).await, ["reconnecting (down)"]);
    rig.push(5, 6);
    assert_eq!(rig.take(4).await, ["a 6", "connected", "a 7", "a 8"]);
    assert!(early.await);
    assert!(rig.pull.pauses()[1] >= Duration::from_secs(60));
    assert_eq!(rig.take(2).await, ["error (no)", "none"]);
}

#[tokio::test(start_paused = true)]
async fn no_hint_keeps_it_away_for_more_than_an_hour() {
    let steps = [Step::Fail(down().with_retry(Duration::MAX)), Step::Answer(batch([], 5))];
    let mut rig = rig(&asks(Start::Latest), steps).await;
    assert_eq!(rig.take(3).await, ["reconnecting (down)", "connected", "place 5"]);
    assert_eq!(rig.pull.pauses()[0], Duration::from_secs(3600));
}

#[tokio::test(start_paused = true)]
async fn a_pull_that_lags_is_asked_again_and_not_for_ever() {
    let steps = (0..20).map(|_| Step::Answer(batch([], 5)));
    let mut rig = rig(&asks(Start::Latest), steps).await;
    rig.take(1).await;
    let early = rig.push(900, 901);
    rig.idle(100).await;
    assert!(!early.await, "given back");
    let pauses = rig.pull.pauses();
    assert!(pauses[1..8].iter().all(|pause| *pause >= Duration::from_millis(100)), "{pauses:?}");
    assert_eq!(pauses.last(), Some(&Duration::from_secs(15)));
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_comes_whole_before_any_push() {
    let steps = [Step::After(Duration::from_secs(2), batch([snapshot(2), snapshot(7)], 9))];
    let mut rig = rig(&asks(Start::Snapshot), steps).await;
    rig.push(9, 10);
    rig.push(5, 9);
    rig.push_it(Pushed::event(None, event_of("a", 7).shown(crate::View::Snapshot)));
    assert_eq!(rig.take(4).await, ["snapshot 2", "snapshot 7", "place 9", "a 10"]);
}

#[tokio::test(start_paused = true)]
async fn gaps_are_told_as_the_pull_tells_them() {
    let lost = batch([gap(5, 9, 5, GapReason::Evicted), event(9)], 9);
    let steps = [batch([], 5), lost, batch([], 9)];
    let mut rig = rig(&asks(Start::Latest), steps.map(Step::Answer)).await;
    rig.take(1).await;
    let taken = rig.push_it(Pushed::gap(crate::Gap::new(at(3), at(9), at(3), GapReason::Evicted)));
    assert_eq!(rig.take(2).await, ["evicted 5..9 @5", "a 9"]);
    rig.idle(1).await;
    assert!(taken.await);
    let known = rig.push_it(Pushed::gap(crate::Gap::new(at(3), at(9), at(3), GapReason::Evicted)));
    rig.idle(1).await;
    assert!(known.await);
    assert_eq!(rig.pull.asked().len(), 2, "a gap that is behind asks nothing");
}

#[tokio::test(start_paused = true)]
async fn a_gap_counts_only_as_far_as_pushes_have_not_filled_it() {
    for (before, told) in [(8, vec!["a 6", "a 7", "a 9"]), (9, vec!["a 6", "a 7", "evicted 7..9 @7", "a 9"])]
    {
        let lost = batch([gap(5, before, 5, GapReason::Evicted), event(9)], 9);
        let steps = [Step::Answer(batch([], 5)), Step::After(Duration::from_secs(5), lost)];
        let mut rig = rig(&asks(Start::Latest), steps).await;
        rig.take(1).await;
        rig.push(8, 9);
        rig.idle(1).await;
        rig.push(5, 6);
        rig.push(6, 7);
        assert_eq!(rig.take(told.len()).await, told);
    }
}

#[tokio::test(start_paused = true)]
async fn credit_holds_back_events_and_their_receipts() {
    let request = asks(Start::Latest).with_window(NonZeroU32::new(1).unwrap());
    let mut rig = rig(&request, [Step::Answer(batch([], 5))]).await;
    rig.take(1).await;
    let taken = [rig.push(5, 6), rig.push(6, 7)];
    assert_eq!(rig.take(1).await, ["a 6"]);
    rig.idle(1).await;
    let [first, mut second] = taken;
    assert!(first.await);
    assert!(timeout(Duration::from_secs(1), &mut second).await.is_err());
    rig.subscription.grant(1);
    assert_eq!(rig.take(1).await, ["a 7"]);
    assert!(second.await);
}

#[tokio::test]
async fn topics_are_fixed_and_a_push_may_refuse() {
    let mut rig = rig(&asks(Start::Latest), [Step::Hang]).await;
    let refused = rig.subscription.retarget(Subscribe::to("b").unwrap().topics);
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Unsupported);
    let hybrid = Hybrid::new(Arc::new(FakePush(Mutex::new(None))), rig.pull.clone());
    let refused = hybrid.subscribe(&Context::default(), asks(Start::Latest)).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Forbidden);
}

/// What a weave says, without a clock.
mod weave {
    use super::*;

    fn other(seq: u64) -> Cursor {
        Cursor::new(Epoch::from_random(8), seq)
    }

    fn pushed(after: Cursor, cursor: Cursor, prev: Prev) -> Pushed {
        let message = Message::text("x");
        let topic = "a".parse().unwrap();
        Pushed::event(after, Event::new(EventParts { topic, cursor, prev, time_ms: 0, message }))
    }

    fn stands(place: Cursor) -> Weave {
        Weave::new(asks(Start::Latest).topics, Some(place))
    }

    fn told(weave: &mut Weave) -> Vec<String> {
        weave.ready.drain(..).filter_map(|ready| Some(shown(&ready.delivery?))).collect()
    }

    #[test]
    fn what_fits() {
        for (name, push, expected) in [
            ("its place", pushed(at(5), at(6), Prev::Unknown), &["place 5", "a 6"][..]),
            ("before its place", pushed(at(2), at(9), Prev::At(at(5))), &["place 5", "a 9"]),
            ("beyond its place", pushed(at(6), at(7), Prev::Unknown), &[]),
            ("the chain knows better", pushed(at(2), at(9), Prev::At(at(7))), &[]),
            (
                "the first event of the next epoch",
                pushed(at(5), other(6), Prev::Unknown),
                &["place 5", "a 6"],
            ),
            ("the next epoch, from elsewhere", pushed(at(4), other(6), Prev::Unknown), &[]),
            ("another epoch", pushed(other(4), other(6), Prev::Unknown), &[]),
            ("another epoch, and behind", pushed(other(1), other(2), Prev::Unknown), &[]),
        ] {
            let mut weave = stands(at(5));
            let moved = weave.push(push);
            assert_eq!(told(&mut weave), expected, "{name}");
            assert_eq!((moved, weave.wants_poll()), (!expected.is_empty(), expected.is_empty()), "{name}");
        }
    }

    #[test]
    fn what_was_not_asked_for_moves_the_place() {
        let mut weave = stands(at(5));
        assert!(weave.push(Pushed::event(at(5), event_of("b", 6))));
        assert!(weave.push(Pushed::event(at(6), event_of("a", 7))));
        assert_eq!(told(&mut weave), ["place 5", "place 6", "a 7"]);
    }

    #[test]
    fn an_answer_of_another_history_is_asked_for_again_if_pushes_went_on_meanwhile() {
        let mut weave = stands(at(5));
        let asked = weave.ask();
        weave.push(pushed(at(5), at(7), Prev::Unknown));
        let mut answer = batch([], None);
        answer.place = Some(other(6));
        assert_eq!(weave.answer(asked, answer.clone()), Verdict::Again);
        assert_eq!(told(&mut weave), ["place 5", "a 7"], "the place may lie on a lost branch");
        let asked = weave.ask();
        assert_eq!(asked, Some(at(7)));
        answer.deliveries = vec![gap(7, 6, 5, GapReason::Rewound), event(6)];
        assert_eq!(weave.answer(asked, answer), Verdict::Quiet);
        assert_eq!(told(&mut weave), ["rewound 7..6 @5", "a 6", "place 6"]);
        assert!(weave.push(pushed(other(6), other(8), Prev::Unknown)));
        assert_eq!(told(&mut weave), ["a 8"]);
    }

    #[test]
    fn a_void_start_is_not_told() {
        let mut weave = stands(at(30));
        let asked = weave.ask();
        let answer = batch([gap(30, 1, 0, GapReason::Reset), event(1)], 1);
        assert_eq!(weave.answer(asked, answer), Verdict::Quiet);
        assert_eq!(told(&mut weave), ["reset 30..1 @0", "a 1"]);
    }

    #[test]
    fn early_events_are_bounded() {
        let mut weave = stands(at(0));
        for seq in 0..2000 {
            if weave.has_room() {
                weave.push(Pushed::event(at(1000), event_of("a", 2000 + seq)));
            }
        }
        assert!(!weave.has_room());
        let asked = weave.ask();
        assert_eq!(weave.answer(asked, batch([], 1000)), Verdict::Quiet, "all of them fit now");
        assert_eq!(told(&mut weave).len(), 1026);
        assert!(weave.has_room());
    }
}

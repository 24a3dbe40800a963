use std::{num::NonZeroU32, sync::Mutex};

use async_trait::async_trait;
use proptest::prelude::*;
use tokio::time::{Instant, timeout};

use super::{schedule::LONGEST_PAUSE, *};
use crate::{
    Bounds, ConsumerExt as _, Event, GapReason, Overflow, Pattern, Rate, Start, Topics,
    testing::{FakePull, Step, at, batch, down, event, event_of, gap, refused, shown, snapshot, take},
};

fn steady(seconds: u64) -> Schedule {
    Schedule { jitter: 0.0, ..Schedule::every(Duration::from_secs(seconds)) }
}

fn asks(start: impl Into<StartAt>) -> Subscribe {
    Subscribe::to("a").unwrap().from(start)
}

fn begin(pull: &Arc<FakePull>, request: &Subscribe, schedule: Schedule) -> Subscription {
    Polling::start(pull.clone(), Context::default(), request, schedule)
}

fn starts(pull: &FakePull) -> Vec<StartAt> {
    pull.asked().iter().map(|fetch| fetch.start).collect()
}

#[tokio::test(start_paused = true)]
async fn the_first_word_is_the_starting_place() {
    for (start, answer, told) in [
        (Start::Latest.into(), batch([], 5), vec!["place 5"]),
        (at(3).into(), batch([], 3), vec!["place 3"]),
        (at(3).into(), batch([event(4), event(6)], 6), vec!["place 3", "a 4", "a 6"]),
        (at(3).into(), batch([event(4)], 9), vec!["place 3", "a 4", "place 9"]),
        (Start::Earliest.into(), batch([event(4)], 4), vec!["a 4"]),
        (Start::Earliest.into(), batch([], 8), vec!["place 8"]),
        (
            Start::Snapshot.into(),
            batch([snapshot(2), snapshot(7)], 9),
            vec!["snapshot 2", "snapshot 7", "place 9"],
        ),
        (Start::Last.into(), batch([], 9), vec!["place 9"]),
    ] {
        let pull = FakePull::new([Step::Answer(answer)]);
        let mut subscription = begin(&pull, &asks(start), steady(1));
        assert_eq!(take(&mut subscription, told.len()).await, told, "{start:?}");
        assert_eq!(starts(&pull), [start]);
        assert!(timeout(Duration::from_millis(900), subscription.next()).await.is_err(), "{start:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_void_start_is_not_told_before_its_gap() {
    for (reason, told) in [
        (GapReason::Reset, vec!["reset 30..1 @0", "a 1"]),
        (GapReason::Rewound, vec!["rewound 30..1 @0", "a 1"]),
        (GapReason::Evicted, vec!["place 30", "evicted 30..1 @0", "a 1"]),
    ] {
        let pull = FakePull::new([Step::Answer(batch([gap(30, 1, 0, reason), event(1)], 1)), Step::Hang]);
        let mut subscription = begin(&pull, &asks(at(30)), steady(1));
        assert_eq!(take(&mut subscription, told.len()).await, told);
        assert_eq!(subscription.place(), Some(at(1)));
    }
}

#[tokio::test(start_paused = true)]
async fn it_goes_on_from_its_place_at_its_interval() {
    let answers = [batch([event(2)], 4), batch([], 6), batch([], 6), batch([event(9)], 9)];
    let pull = FakePull::new(answers.map(Step::Answer));
    let mut subscription = begin(&pull, &asks(at(1)), steady(3));
    assert_eq!(
        take(&mut subscription, 5).await,
        ["place 1", "a 2", "place 4", "place 6", "a 9"],
        "an unmoved place is not told again"
    );
    let after = |seq| StartAt::After(at(seq));
    assert_eq!(starts(&pull), [after(1), after(4), after(6), after(6)]);
    assert_eq!(pull.pauses(), [Duration::from_secs(3); 3]);
}

#[tokio::test(start_paused = true)]
async fn what_is_left_is_asked_for_at_once() {
    let more = |batch| Step::Answer(Batch { more: true, ..batch });
    let pull = FakePull::new([
        more(batch([event(1), event(2)], 2)),
        more(batch([], 700)),
        more(batch([], 700)),
        Step::Answer(batch([event(800)], 800)),
    ]);
    let mut subscription = begin(&pull, &asks(at(0)), steady(60));
    assert_eq!(take(&mut subscription, 5).await, ["place 0", "a 1", "a 2", "place 700", "a 800"]);
    let pauses = pull.pauses();
    assert_eq!(pauses[..2], [Duration::ZERO; 2]);
    assert!(
        pauses[2] >= Duration::from_millis(100) && pauses[2] <= Duration::from_millis(350),
        "no progress, no hurry: {:?}",
        pauses[2]
    );
}

#[tokio::test(start_paused = true)]
async fn jitter_spreads_the_questions() {
    let schedule = Schedule { jitter: 0.5, ..Schedule::every(Duration::from_secs(10)) };
    let pull = FakePull::new((1..=50).map(|seq| Step::Answer(batch([event(seq)], seq))));
    let mut subscription = begin(&pull, &asks(at(0)), schedule);
    assert_eq!(take(&mut subscription, 51).await.len(), 51);
    let (low, high) = (Duration::from_secs(5), Duration::from_secs(15));
    let pauses = pull.pauses();
    assert!(pauses.iter().all(|pause| (low..=high + Duration::from_millis(1)).contains(pause)), "{pauses:?}");
    assert!(*pauses.iter().max().unwrap() - *pauses.iter().min().unwrap() > Duration::from_secs(3));
}

#[test]
fn no_schedule_panics() {
    for jitter in [f64::NAN, f64::INFINITY, -1.0, 1.0] {
        let pause = Schedule { jitter, ..Schedule::every(Duration::MAX) }.pause();
        assert!(pause <= LONGEST_PAUSE * 2, "{jitter}");
    }
    assert_eq!(steady(3).pause(), Duration::from_secs(3));
    assert_eq!(Schedule { jitter: f64::NAN, ..steady(3) }.pause(), Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn a_long_poll_waits_but_for_the_first_word() {
    let wait = Duration::from_secs(20);
    let pull = FakePull::new([
        Step::Answer(batch([], 5)),
        Step::After(wait, batch([], 6)),
        Step::After(Duration::from_secs(1), batch([event(7)], 7)),
    ]);
    let mut subscription = begin(&pull, &asks(Start::Latest), Schedule::long_poll(wait));
    assert_eq!(take(&mut subscription, 3).await, ["place 5", "place 6", "a 7"]);
    let waits: Vec<_> = pull.asked().iter().map(|fetch| fetch.wait).collect();
    assert_eq!(waits, [Duration::ZERO, wait, wait]);
    assert_eq!(pull.pauses(), [Duration::ZERO, wait], "one question is in flight at any time");
}

#[tokio::test(start_paused = true)]
async fn a_source_that_does_not_wait_is_not_asked_in_a_busy_loop() {
    let pull = FakePull::new((0..6).map(|_| Step::Answer(batch([], 5))));
    let mut subscription = begin(&pull, &asks(at(5)), Schedule::long_poll(Duration::from_secs(20)));
    assert_eq!(take(&mut subscription, 1).await, ["place 5"]);
    assert!(timeout(Duration::from_secs(25), subscription.next()).await.is_err());
    let floor = Duration::from_millis(100);
    assert!(pull.pauses()[1..].iter().all(|pause| *pause >= floor), "{:?}", pull.pauses());
    assert_eq!(pull.asked().len(), 7);
}

#[tokio::test(start_paused = true)]
async fn no_hint_keeps_it_away_for_more_than_an_hour() {
    let pull = FakePull::new([Step::Fail(down().with_retry(Duration::MAX)), Step::Answer(batch([], 4))]);
    let mut subscription = begin(&pull, &asks(Start::Latest), steady(1));
    assert_eq!(take(&mut subscription, 3).await, ["reconnecting (down)", "connected", "place 4"]);
    assert_eq!(pull.pauses()[0], Duration::from_secs(3600));
}

#[tokio::test(start_paused = true)]
async fn trouble_is_told_and_its_end_too() {
    let pull = FakePull::new([
        Step::Fail(down()),
        Step::Fail(down().with_retry(Duration::from_secs(7))),
        Step::Answer(batch([event(4)], 4)),
        Step::Fail(down()),
        Step::Answer(batch([event(5)], 5)),
    ]);
    let mut subscription = begin(&pull, &asks(at(3)), steady(1));
    assert_eq!(
        take(&mut subscription, 8).await,
        [
            "reconnecting (down)",
            "reconnecting (down)",
            "connected",
            "place 3",
            "a 4",
            "reconnecting (down)",
            "connected",
            "a 5"
        ]
    );
    let after = |seq| StartAt::After(at(seq));
    assert_eq!(starts(&pull), [after(3), after(3), after(3), after(4), after(4)]);
    let pauses = pull.pauses();
    assert!(pauses[0] <= Duration::from_millis(351), "{pauses:?}");
    assert!(pauses[1] >= Duration::from_secs(7), "a hint is honoured: {pauses:?}");
    assert!(pauses[3] <= Duration::from_millis(351), "an answer resets the back-off: {pauses:?}");
}

#[tokio::test(start_paused = true)]
async fn silence_is_trouble() {
    let pull = FakePull::new([Step::Hang, Step::Answer(batch([], 1)), Step::Hang]);
    let schedule = Schedule { wait: Duration::from_secs(20), ..steady(0) };
    let mut subscription = begin(&pull, &asks(at(1)), schedule);
    let begun = Instant::now();
    assert_eq!(take(&mut subscription, 1).await, ["reconnecting (no answer within the deadline)"]);
    assert_eq!(begun.elapsed(), Duration::from_secs(10));
    assert_eq!(take(&mut subscription, 2).await, ["connected", "place 1"]);
    let asked_again = Instant::now();
    assert_eq!(take(&mut subscription, 1).await, ["reconnecting (no answer within the deadline)"]);
    assert_eq!(
        asked_again.elapsed(),
        Duration::from_secs(30),
        "the wait does not count against the deadline"
    );
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_mended_ends_it() {
    let pull = FakePull::new([Step::Answer(batch([event(1)], 1)), Step::Fail(refused())]);
    let mut subscription = begin(&pull, &asks(at(0)), steady(1));
    assert_eq!(take(&mut subscription, 9).await, ["place 0", "a 1", "error (no)", "none"]);
    subscription.retarget(Pattern::new("b").unwrap().into()).unwrap();
    assert_eq!(take(&mut subscription, 9).await, ["none"], "nothing brings it back");
    assert_eq!(pull.asked().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_closing_gap_is_told_before_the_end() {
    let closing = batch([gap(3, 9, 3, GapReason::Evicted)], 3);
    let pull = FakePull::new([Step::Answer(Batch { closed: true, more: true, ..closing })]);
    let mut subscription = begin(&pull, &asks(at(3)).on_overflow(Overflow::Close), steady(1));
    assert_eq!(take(&mut subscription, 9).await, ["place 3", "evicted 3..9 @3", "ended", "none"]);
    assert_eq!(pull.asked()[0].overflow, Overflow::Close);
    assert_eq!(subscription.place(), Some(at(3)));
}

#[tokio::test(start_paused = true)]
async fn bounds_cut_what_is_handed_over() {
    let pull =
        FakePull::new([Step::Answer(batch((1..=5).map(event).chain([gap(5, 8, 5, GapReason::Lagged)]), 9))]);
    let mut subscription = begin(&pull, &asks(at(0)), steady(1));
    let mut handed = Vec::new();
    for (bounds, place) in [
        (Bounds::new(0, 1000), 0),
        (Bounds::new(2, 1000), 2),
        (Bounds::new(9, 25), 4),
        (Bounds::new(9, 1), 9),
    ] {
        let mut out = Batch::default();
        let polled = std::future::poll_fn(|cx| subscription.poll_batch(cx, bounds, &mut out)).await;
        assert!(matches!(polled, Some(Ok(()))));
        assert_eq!((out.place, out.more), (Some(at(place)), place < 9), "{bounds:?}");
        handed.push(out.deliveries.iter().map(shown).collect::<Vec<_>>().join(", "));
    }
    assert_eq!(handed, ["place 0", "a 1, a 2", "a 3, a 4", "a 5, lagged 5..8 @5, place 9"]);
}

#[tokio::test(start_paused = true)]
async fn credit_holds_events_back() {
    let pull = FakePull::new([Step::Answer(batch((1..=5).map(event), 5)), Step::Answer(batch([], 6))]);
    let request = asks(at(0)).with_window(NonZeroU32::new(2).unwrap());
    let mut subscription = begin(&pull, &request, steady(1));
    assert_eq!(take(&mut subscription, 3).await, ["place 0", "a 1", "a 2"]);
    assert!(timeout(Duration::from_secs(9), subscription.next()).await.is_err());
    assert_eq!((subscription.place(), pull.asked().len()), (Some(at(2)), 1), "no credit, no question");
    subscription.grant(3);
    assert_eq!(take(&mut subscription, 4).await, ["a 3", "a 4", "a 5", "place 6"]);
}

#[tokio::test(start_paused = true)]
async fn a_rate_spaces_the_flushes() {
    let pull = FakePull::new((1..=3).map(|seq| Step::Answer(batch([event(seq)], seq))));
    let request = asks(at(0)).at_rate(Rate::per_second(0.1).unwrap());
    let mut subscription = begin(&pull, &request, steady(1));
    let begun = Instant::now();
    assert_eq!(take(&mut subscription, 4).await, ["place 0", "a 1", "a 2", "a 3"]);
    assert_eq!(begun.elapsed(), Duration::from_secs(20));
}

#[tokio::test(start_paused = true)]
async fn dropping_a_wait_loses_nothing() {
    let answers = (1..=4).map(|seq| Step::After(Duration::from_millis(700), batch([event(seq)], seq)));
    let pull = FakePull::new(answers);
    let mut subscription = begin(&pull, &asks(at(0)), steady(1));
    let mut taken = Vec::new();
    while taken.len() < 5 {
        if let Ok(Some(Ok(delivery))) = timeout(Duration::from_millis(90), subscription.next()).await {
            taken.push(shown(&delivery));
        }
    }
    assert_eq!(taken, ["place 0", "a 1", "a 2", "a 3", "a 4"]);
    assert_eq!(pull.asked().len(), 4, "no question is repeated");
}

#[tokio::test(start_paused = true)]
async fn events_alone_can_be_had() {
    let pull =
        FakePull::new([Step::Answer(batch([event(1), gap(1, 4, 1, GapReason::Evicted), event(4)], 5))]);
    let mut events = begin(&pull, &asks(at(0)), steady(1)).events_only();
    let mut seen = Vec::new();
    for _ in 0..3 {
        let next =
            std::future::poll_fn(|cx| futures_core::Stream::poll_next(Pin::new(&mut events), cx)).await;
        seen.push(next.unwrap().map(|event| event.cursor().seq()).map_err(|stop| stop.to_string()));
    }
    let lost = format!("events are gone: evicted after {} before {}", at(1), at(4));
    assert_eq!(seen, [Ok(1), Err(lost), Ok(4)]);
}

/// A log that answers truly.
struct Log(Mutex<Vec<Event>>);

impl Log {
    fn append(&self, topic: &str) {
        let mut events = self.0.lock().unwrap();
        let seq = events.len() as u64 + 1;
        events.push(event_of(topic, seq));
    }
}

#[async_trait]
impl Pull for Log {
    async fn fetch(&self, _cx: &Context, request: Fetch) -> Result<Batch, FetchError> {
        let StartAt::After(after) = request.start else { return Err(refused().into()) };
        let events = self.0.lock().unwrap();
        let asked = events
            .iter()
            .filter(|event| event.cursor().seq() > after.seq() && request.topics.matches(event.topic()));
        let found: Vec<_> = asked.take(request.limit + 1).cloned().map(Delivery::Event).collect();
        let more = found.len() > request.limit;
        let deliveries: Vec<_> = found.into_iter().take(request.limit).collect();
        let last = deliveries.last().filter(|_| more).and_then(Delivery::place);
        let place = last.unwrap_or_else(|| at(events.len() as u64));
        Ok(Batch { deliveries, place: Some(place), more, ..Batch::default() })
    }
}

#[derive(Clone, Debug)]
enum Act {
    Append(&'static str),
    Take(usize),
    Target(&'static str),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        4 => prop::sample::select(vec!["a", "b", "c"]).prop_map(Act::Append),
        4 => (1usize..6).prop_map(Act::Take),
        1 => prop::sample::select(vec!["a", "b", "c", "*"]).prop_map(Act::Target),
    ];
    prop::collection::vec(act, 1..120)
}

/// Does `acts` with batches, and checks each event that comes against the log.
async fn every_event_comes_once(acts: Vec<Act>, limit: usize) {
    let log = Arc::new(Log(Mutex::default()));
    let schedule = Schedule { limit, ..steady(1) };
    let request = Subscribe::to("*").unwrap().from(at(0));
    let mut subscription = Polling::start(log.clone(), Context::default(), &request, schedule);
    let mut targets = Topics::from(Pattern::new("*").unwrap());
    let mut place = 0;
    let drain = std::iter::repeat_n(Act::Take(50), 40);
    for act in acts.into_iter().chain(drain) {
        match act {
            Act::Append(topic) => log.append(topic),
            Act::Target(pattern) => {
                targets = Pattern::new(pattern).unwrap().into();
                subscription.retarget(targets.clone()).unwrap();
            }
            Act::Take(events) => {
                let mut out = Batch::default();
                let bounds = Bounds::new(events, 1 << 20);
                let polled = std::future::poll_fn(|cx| subscription.poll_batch(cx, bounds, &mut out));
                let _ = timeout(Duration::from_secs(2), polled).await;
                for told in out.deliveries.iter().filter_map(|delivery| match delivery {
                    Delivery::Event(event) => Some((event.cursor().seq(), true)),
                    Delivery::Place(cursor) => Some((cursor.seq(), false)),
                    _ => None,
                }) {
                    let between = |event: &&Event| {
                        let seq = event.cursor().seq();
                        seq > place && seq < told.0 + u64::from(!told.1) && targets.matches(event.topic())
                    };
                    assert_eq!(log.0.lock().unwrap().iter().find(between).map(Event::cursor), None);
                    assert!(told.0 > place || (told == (0, false) && place == 0), "{told:?} after {place}");
                    place = told.0;
                }
            }
        }
    }
    assert_eq!(place, log.0.lock().unwrap().len() as u64, "all of the log was told");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn retargeting_loses_and_repeats_nothing(acts in acts(), limit in 1usize..6) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_time().start_paused(true);
        runtime.build().unwrap().block_on(every_event_comes_once(acts, limit));
    }
}

#[tokio::test(start_paused = true)]
async fn retargeting_drops_what_waited_and_keeps_the_link() {
    let pull = FakePull::new([
        Step::Answer(batch([event(1)], 1)),
        Step::Fail(down()),
        Step::Answer(batch([event(2), event(3)], 3)),
        Step::Answer(batch([], 3)),
    ]);
    let mut subscription = begin(&pull, &asks(at(0)), steady(1));
    assert_eq!(take(&mut subscription, 3).await, ["place 0", "a 1", "reconnecting (down)"]);
    let mut out = Batch::default();
    let polled = std::future::poll_fn(|cx| subscription.poll_batch(cx, Bounds::new(0, 0), &mut out));
    polled.await.unwrap().unwrap();
    assert_eq!(out.deliveries.iter().map(shown).collect::<Vec<_>>(), ["connected"]);
    subscription.retarget(Pattern::new("b").unwrap().into()).unwrap();
    assert_eq!(take(&mut subscription, 1).await, ["place 3"]);
    let last = pull.asked().pop().unwrap();
    assert_eq!((last.start, last.topics.single()), (StartAt::After(at(1)), "b".parse().ok()));
}

#[tokio::test(start_paused = true)]
async fn what_is_opened_stands_at_its_first_answer() {
    let pull = FakePull::new([
        Step::Answer(batch([], 5)),
        Step::After(Duration::from_secs(1), batch([Delivery::Event(event_of("b", 7))], 7)),
    ]);
    let cx = Context::default().with_deadline(Instant::now() + Duration::from_secs(2));
    let mut subscription =
        Polling::open(pull.clone(), cx, &asks(Start::Latest), Schedule::default()).await.unwrap();
    assert_eq!(starts(&pull), [Start::Latest.into()], "it asked before anybody waited");
    subscription.retarget(Pattern::new("b").unwrap().into()).unwrap();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(take(&mut subscription, 2).await, ["place 5", "b 7"], "what was the start stays the start");
    assert_eq!(starts(&pull)[1], StartAt::After(at(5)));
}

#[tokio::test(start_paused = true)]
async fn what_is_opened_tells_a_refusal_and_outlives_a_failure() {
    for (problem, kind) in
        [(refused(), ErrorKind::Forbidden), (Problem::new(ErrorKind::Protocol, "?"), ErrorKind::Protocol)]
    {
        let pull = FakePull::new([Step::Fail(problem)]);
        let opened = Polling::open(pull, Context::default(), &asks(at(1)), steady(1)).await;
        assert_eq!(opened.unwrap_err().kind(), kind);
    }
    let pull = FakePull::new([Step::Hang, Step::Answer(batch([], 1))]);
    let cx = Context::default().with_deadline(Instant::now() + Duration::from_secs(3));
    let begun = Instant::now();
    let mut subscription = Polling::open(pull, cx, &asks(at(1)), steady(1)).await.unwrap();
    assert_eq!(begun.elapsed(), Duration::from_secs(3), "the caller's deadline");
    sleep(Duration::from_secs(60)).await;
    let told = ["reconnecting (no answer within the deadline)", "connected", "place 1"];
    assert_eq!(take(&mut subscription, 3).await, told);
}

#[tokio::test(start_paused = true)]
async fn what_is_dialled_is_lost_with_the_first_question_that_fails() {
    let pull = FakePull::new([Step::Fail(down())]);
    let failed = Polling::dial(pull, asks(at(1)), steady(1)).await.err().unwrap();
    assert_eq!(failed.kind(), ErrorKind::Unavailable);
    let steps = [Step::Answer(batch([event(2)], 2)), Step::Answer(batch([], 3)), Step::Fail(down())];
    let pull = FakePull::new(steps);
    let mut feed = Polling::dial(pull.clone(), asks(at(1)), steady(1)).await.unwrap();
    assert_eq!((pull.asked().len(), feed.place()), (1, None), "nothing is handed over yet");
    let mut out = Batch::default();
    let ended = loop {
        let polled = std::future::poll_fn(|cx| feed.poll_batch(cx, Bounds::default(), &mut out)).await;
        if !matches!(polled, Some(Ok(()))) {
            break polled;
        }
        assert!(out.deliveries.len() < 9, "it goes on");
    };
    assert_eq!(out.deliveries.iter().map(shown).collect::<Vec<_>>(), ["place 1", "a 2", "place 3"]);
    assert_eq!(ended.unwrap().unwrap_err().problem().detail(), "down");
    assert_eq!((feed.place(), pull.asked().len()), (Some(at(3)), 3));
}

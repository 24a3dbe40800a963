use std::{
    collections::VecDeque,
    future::Future,
    sync::Mutex,
    task::{self, Poll, ready},
};

use super::*;
use crate::{
    Bounds, Conflate, Event, EventParts, GapReason, Link, Message, Prev, SubscribeError, View,
    testing::{FakeFeed, Turn, at, down, event, event_of, gap, place, refused, shown, snapshot},
};

/// Gives its feeds one after the other, and keeps what it was asked.
#[derive(Default)]
struct Source {
    feeds: Mutex<VecDeque<FakeFeed>>,
    asked: Mutex<Vec<Subscribe>>,
}

#[async_trait]
impl Push for Source {
    async fn subscribe(&self, _: &Context, request: Subscribe) -> Result<Subscription, SubscribeError> {
        self.asked.lock().unwrap().push(request.clone());
        match self.feeds.lock().unwrap().pop_front() {
            Some(feed) => Ok(Subscription::new(feed, &request)),
            None => Err(refused().into()),
        }
    }
}

fn source(feeds: impl IntoIterator<Item = Vec<Turn>>) -> Arc<Source> {
    let feeds = feeds.into_iter().map(FakeFeed::new).collect();
    Arc::new(Source { feeds: Mutex::new(feeds), ..Source::default() })
}

fn asking(start: impl Into<StartAt>) -> Fetch {
    Fetch::new(Subscribe::to("a").unwrap().topics).from(start)
}

fn told(batch: &Batch) -> (Vec<String>, Option<u64>, bool) {
    (batch.deliveries.iter().map(shown).collect(), batch.place.map(Cursor::seq), batch.more)
}

async fn fetch(source: &Arc<Source>, request: Fetch) -> Result<Batch, FetchError> {
    Fetching::over(source.clone()).fetch(&Context::default(), request).await
}

fn answer(words: &[&str], place: u64, more: bool) -> (Vec<String>, Option<u64>, bool) {
    (words.iter().map(|&word| word.to_owned()).collect(), Some(place), more)
}

#[tokio::test(start_paused = true)]
async fn what_is_there_is_answered_after_the_settle_time() {
    let source =
        source([vec![Turn::Give(vec![place(5)]), Turn::Give(vec![event(6)]), Turn::Give(vec![event(8)])]]);
    let begun = Instant::now();
    let batch = fetch(&source, asking(at(5)).with_wait(Duration::from_secs(9))).await.unwrap();
    assert_eq!(told(&batch), answer(&["a 6", "a 8"], 8, false));
    assert_eq!(begun.elapsed(), SETTLE);
    assert_eq!(source.asked.lock().unwrap()[0].start, StartAt::After(at(5)));
}

#[tokio::test(start_paused = true)]
async fn the_newest_place_is_told_alone_and_at_once() {
    let source = source([vec![Turn::Give(vec![place(5), event(6)])]]);
    let source_place = fetch(&source, asking(Start::Latest)).await.unwrap();
    // An event that came with it belongs to who goes on from the place before it.
    assert_eq!(told(&source_place), answer(&[], 5, false));
}

#[tokio::test(start_paused = true)]
async fn a_bound_cuts_and_says_whether_there_is_more() {
    let all = || vec![Turn::Give(vec![place(5), event(6), event(7), event(8)])];
    let source = source([all(), all(), all()]);
    let cut = fetch(&source, asking(at(5)).with_limit(2)).await.unwrap();
    assert_eq!(told(&cut), answer(&["a 6", "a 7"], 7, true));
    assert_eq!(source.asked.lock().unwrap()[0].window.map(NonZeroU32::get), Some(3));
    let exact = fetch(&source, asking(at(5)).with_limit(3)).await.unwrap();
    assert_eq!(told(&exact), answer(&["a 6", "a 7", "a 8"], 8, false));
    let mut small = asking(at(5));
    small.max_bytes = 5;
    assert_eq!(told(&fetch(&source, small).await.unwrap()), answer(&["a 6"], 6, true));
}

#[tokio::test(start_paused = true)]
async fn a_gap_comes_in_its_order_and_may_be_all() {
    let lost = gap(5, 8, 5, GapReason::Evicted);
    let reset = gap(50, 3, 2, GapReason::Reset);
    let source = source([vec![Turn::Give(vec![place(5), lost, event(8)])], vec![Turn::Give(vec![reset])]]);
    let batch = fetch(&source, asking(at(5))).await.unwrap();
    assert_eq!(told(&batch), answer(&["evicted 5..8 @5", "a 8"], 8, false));
    let batch = fetch(&source, asking(at(50))).await.unwrap();
    assert_eq!(told(&batch), answer(&["reset 50..3 @2"], 2, false));
}

#[tokio::test(start_paused = true)]
async fn overflow_close_is_the_end() {
    let ended = Delivery::Link(Link::Ended { retry: None, cursor: None });
    let lost = gap(5, 8, 5, GapReason::Evicted);
    let source = source([vec![Turn::Give(vec![place(5), lost, ended])]]);
    let batch = fetch(&source, asking(at(5))).await.unwrap();
    assert_eq!((told(&batch), batch.closed), (answer(&["evicted 5..8 @5"], 5, false), true));
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_is_whole_or_an_error() {
    let pieces = vec![
        Turn::Give(vec![snapshot(1)]),
        Turn::Give(vec![snapshot(2)]),
        Turn::Give(vec![place(3), event(4)]),
    ];
    let reconnecting = Delivery::Link(Link::Reconnecting { delay: SETTLE, cause: Some(down()) });
    let broken = vec![Turn::Give(vec![snapshot(1), reconnecting, snapshot(1), place(3)])];
    let ended = vec![Turn::Give(vec![snapshot(1)]), Turn::End];
    let silent = vec![Turn::Give(vec![snapshot(1)])];
    let source = source([pieces, broken, ended, silent]);
    let batch = fetch(&source, asking(Start::Snapshot).with_limit(1)).await.unwrap();
    assert_eq!(told(&batch), answer(&["snapshot 1", "snapshot 2"], 3, false));
    assert_eq!(source.asked.lock().unwrap()[0].window, None);
    for _ in 0..3 {
        let error = fetch(&source, asking(Start::Snapshot)).await.unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unavailable, true));
    }
}

fn dripping(count: u64, millis: u64) -> Slow {
    Slow((0..count).map(|seq| (millis, snapshot(seq))).chain([(0, place(count))]).collect())
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_that_drips_ends_in_time() {
    let ask = async |source: Slow, cx: Context| {
        let begun = Instant::now();
        let answered = Fetching::over(source).fetch(&cx, asking(Start::Snapshot)).await;
        (answered.map(|batch| batch.deliveries.len()).map_err(|error| error.kind()), begun.elapsed())
    };
    let seconds = Duration::from_secs;
    let none = Context::default;
    let told = ask(dripping(100, 9000), none()).await;
    assert_eq!(told, (Err(ErrorKind::Timeout), seconds(60)));
    assert_eq!(ask(dripping(6, 9000), none()).await, (Ok(6), seconds(54)));
    let soon = none().with_deadline(Instant::now() + seconds(20));
    assert_eq!(ask(dripping(6, 9000), soon).await, (Err(ErrorKind::Timeout), seconds(20)));
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_is_bounded_by_what_it_takes() {
    let lost = || gap(0, 3, 0, GapReason::Evicted);
    let weight = event_of("a", 1).weight();
    let pieces = |count: u64| (1..=count).map(snapshot).chain([place(9)]).collect::<Vec<_>>();
    let ask = async |given: Vec<Delivery>| {
        let source = source([vec![Turn::Give(given)]]);
        let fetching = Fetching::over(source).with_max_answer(3 * weight);
        let answered = fetching.fetch(&Context::default(), asking(Start::Snapshot)).await;
        answered.map(|batch| batch.deliveries.len()).map_err(|error| error.kind())
    };
    assert_eq!(ask(pieces(3)).await, Ok(3));
    assert_eq!(ask(pieces(4)).await, Err(ErrorKind::TooLarge));
    let gaps = std::iter::repeat_with(lost).take(3 * weight / 8).chain([place(9)]).collect();
    assert_eq!(ask(gaps).await, Err(ErrorKind::TooLarge), "gaps take room as well");
    let large = fetch(&source([vec![Turn::Give(pieces(4))]]), asking(Start::Snapshot)).await.unwrap();
    assert_eq!(large.deliveries.len(), 4, "that is little by default");
}

#[tokio::test(start_paused = true)]
async fn a_deadline_holds_for_every_part_of_an_answer() {
    let second = Duration::from_secs(1);
    let ask = async |fetching: Fetching| {
        let begun = Instant::now();
        let cx = Context::default().with_deadline(begun + second);
        let batch = fetching.fetch(&cx, asking(at(5))).await.unwrap();
        (told(&batch), begun.elapsed())
    };
    // Nothing new at first, and then a newest event that never comes whole.
    let source = source([vec![Turn::Give(vec![place(5)])], vec![Turn::Give(vec![snapshot(4)])]]);
    assert_eq!(ask(Fetching::over(source.clone())).await, (answer(&[], 5, false), second));
    assert_eq!(source.asked.lock().unwrap().len(), 2);
    let slow = Slow(vec![(0, place(5)), (10, event(6)), (900, event(7)), (900, event(8))]);
    let patient = Fetching::over(slow).with_settle(Duration::from_secs(5));
    assert_eq!(ask(patient).await, (answer(&["a 6", "a 7"], 7, false), second));
}

#[tokio::test(start_paused = true)]
async fn what_the_source_says_of_errors_is_passed_on() {
    let reconnecting = || Delivery::Link(Link::Reconnecting { delay: SETTLE, cause: Some(down()) });
    let source = source([
        vec![Turn::Give(vec![reconnecting()])],
        vec![Turn::Give(vec![place(5), event(6), reconnecting()])],
        vec![Turn::GiveAndFail(vec![], refused())],
        vec![],
    ]);
    let unreachable = fetch(&source, asking(at(5))).await.unwrap_err();
    assert_eq!(unreachable.problem().detail(), "down");
    let half = fetch(&source, asking(at(5))).await.unwrap();
    assert_eq!(
        told(&half),
        answer(&["a 6"], 6, false),
        "what came before the break is whole up to its place"
    );
    assert_eq!(fetch(&source, asking(at(5))).await.unwrap_err().kind(), ErrorKind::Forbidden);
    let begun = Instant::now();
    assert_eq!(fetch(&source, asking(at(5))).await.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(begun.elapsed(), PATIENCE);
    assert_eq!(fetch(&source, asking(at(5))).await.unwrap_err().kind(), ErrorKind::Forbidden);
}

/// Gives each turn after its delay.
struct Late(VecDeque<(Duration, Delivery)>, Option<std::pin::Pin<Box<tokio::time::Sleep>>>, Option<Cursor>);

impl crate::Feed for Late {
    fn poll_batch(
        &mut self,
        cx: &mut task::Context<'_>,
        _: Bounds,
        out: &mut Batch,
    ) -> Poll<Option<Result<(), crate::ConsumeError>>> {
        let Some((delay, delivery)) = self.0.front().cloned() else { return Poll::Pending };
        let sleep = self.1.get_or_insert_with(|| Box::pin(tokio::time::sleep(delay)));
        ready!(sleep.as_mut().poll(cx));
        (self.1, self.2) = (None, delivery.place().or(self.2));
        self.0.pop_front();
        out.deliveries.push(delivery);
        Poll::Ready(Some(Ok(())))
    }
    fn place(&self) -> Option<Cursor> {
        self.2
    }
    fn retarget(&mut self, _: crate::Topics) -> Result<(), SubscribeError> {
        Ok(())
    }
    fn grant(&mut self, _: u64) {}
    fn conflated(&self) -> u64 {
        3
    }
    fn standing(&self) -> Option<crate::Standing> {
        None
    }
}

struct Slow(Vec<(u64, Delivery)>);

#[async_trait]
impl Push for Slow {
    async fn subscribe(&self, _: &Context, request: Subscribe) -> Result<Subscription, SubscribeError> {
        let turns =
            self.0.iter().map(|(millis, delivery)| (Duration::from_millis(*millis), delivery.clone()));
        Ok(Subscription::new(Late(turns.collect(), None, None), &request))
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_with_the_first_event_that_is_new() {
    let turns = vec![(0, place(5)), (3000, event(6)), (0, event(7)), (20, event(8))];
    let begun = Instant::now();
    let request = asking(at(5)).with_wait(Duration::from_secs(9));
    let batch = Fetching::over(Slow(turns.clone())).fetch(&Context::default(), request).await.unwrap();
    assert_eq!((told(&batch), batch.conflated), (answer(&["a 6", "a 7"], 7, false), 3));
    assert_eq!(begun.elapsed().as_millis(), 3000);
    let begun = Instant::now();
    let request = asking(at(5)).with_wait(Duration::from_secs(2));
    let cx = Context::default().with_deadline(begun + Duration::from_secs(1));
    let quiet = Fetching::over(Slow(turns)).fetch(&cx, request).await.unwrap();
    assert_eq!((told(&quiet), begun.elapsed().as_secs()), (answer(&[], 5, false), 1));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_never_falls_silent_is_cut() {
    let turns = std::iter::once((0, place(5))).chain((6..500).map(|seq| (20, event(seq)))).collect();
    let batch = Fetching::over(Slow(turns)).fetch(&Context::default(), asking(at(5))).await.unwrap();
    let count = batch.deliveries.len() as u64;
    assert!((40..60).contains(&count), "{count}");
    assert_eq!(batch.place, Some(at(5 + count)), "the next question goes on behind the last");
}

#[tokio::test(start_paused = true)]
async fn heartbeats_move_the_place_and_do_not_prolong() {
    let turns = std::iter::once((0, place(5))).chain((6..500).map(|seq| (20, place(seq)))).collect();
    let begun = Instant::now();
    let batch = Fetching::over(Slow(turns)).fetch(&Context::default(), asking(at(5))).await.unwrap();
    assert_eq!((told(&batch), begun.elapsed()), (answer(&[], 7, false), SETTLE));
}

#[tokio::test(start_paused = true)]
async fn a_quiet_topic_is_told_the_newest_place_if_nothing_lies_before_it() {
    let quiet = || vec![Turn::Give(vec![place(5)])];
    let cases = [
        (vec![snapshot(4), place(9)], 9),
        (vec![place(9)], 9),
        (vec![snapshot(7), place(9)], 5),
        (vec![gap(0, 3, 0, GapReason::Evicted), place(9)], 5),
        (vec![place(3)], 5),
        (vec![snapshot(4)], 5),
    ];
    for (last, expected) in cases {
        let source = source([quiet(), vec![Turn::Give(last), Turn::End]]);
        let batch = fetch(&source, asking(at(5))).await.unwrap();
        assert_eq!((told(&batch), batch.stale), (answer(&[], expected, false), expected == 9));
        assert_eq!(source.asked.lock().unwrap()[1].start, Start::Last.into());
    }
    let source = source([quiet()]);
    let mut pattern = asking(at(5));
    pattern.topics = Subscribe::to("a.*").unwrap().topics;
    assert_eq!(told(&fetch(&source, pattern).await.unwrap()), answer(&[], 5, false));
    assert_eq!(source.asked.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn conflated_answers_do_not_lead_back_across_their_place() {
    let chained = |seq: u64, prev: u64| {
        let parts = EventParts {
            topic: "a".parse().unwrap(),
            cursor: at(seq),
            prev: Prev::At(at(prev)),
            time_ms: 0,
            message: Message::text("x"),
        };
        Delivery::Event(Event::new(parts))
    };
    let all = || vec![Turn::Give(vec![place(5), chained(6, 4), chained(7, 6)])];
    let source = source([all(), all()]);
    let mut request = asking(at(5));
    for (conflate, first) in [(Conflate::Key, Prev::Unknown), (Conflate::Off, Prev::At(at(4)))] {
        request.conflate = conflate;
        let batch = fetch(&source, request.clone()).await.unwrap();
        let prevs: Vec<_> =
            batch.deliveries.into_iter().filter_map(Delivery::into_event).map(|e| e.prev()).collect();
        assert_eq!(prevs, [first, Prev::At(at(6))]);
    }
    assert_eq!(event_of("a", 1).view(), View::Plain);
}

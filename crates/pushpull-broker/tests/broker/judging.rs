//! Cursors that a relay does not know, judged by its upstream.

use std::{
    future::poll_fn,
    sync::{Arc, Mutex},
    task::{self, Poll, Waker},
    time::Duration,
};

use async_trait::async_trait;
use pushpull_broker::{Broker, Entry, RelayEngine, Retention, Tail};
use pushpull_core::{
    Batch, Bounds, ConsumeError, Context, Cursor, ErrorKind, Feed, GapReason, Message, Prev, Problem, Push,
    PushExt, Retry, Standing, Start, StartAt, Subscribe, SubscribeError, Subscription, Topics,
};
use tokio::time::Instant;

use crate::{
    asking,
    branch::unbegun_with,
    consume, drain,
    relay::reach,
    scripted::{cursor, event, gap, is_probe, place, scripted},
};

/// The way to a root: what it brings can be held up, and what is asked of it beside that, on their own.
#[derive(Clone)]
struct Way(Arc<Flow>);

struct Flow {
    root: Broker,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Whether the one subscription brings nothing for now.
    is_held: bool,
    /// Whether questions about cursors are not answered for now.
    is_mute: bool,
    waiting: Vec<Waker>,
    asked: Vec<StartAt>,
}

struct Held {
    inner: Subscription,
    way: Way,
}

impl Way {
    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.0.state.lock().unwrap();
        change(&mut state);
        state.waiting.drain(..).for_each(Waker::wake);
    }

    /// Pending, until the next change, while `is_so`.
    fn poll_while(&self, cx: &task::Context<'_>, is_so: impl Fn(&State) -> bool) -> Poll<()> {
        let mut state = self.0.state.lock().unwrap();
        if !is_so(&state) {
            return Poll::Ready(());
        }
        state.waiting.push(cx.waker().clone());
        Poll::Pending
    }

    /// What was asked since the last time.
    fn asked(&self) -> Vec<StartAt> {
        std::mem::take(&mut self.0.state.lock().unwrap().asked)
    }

    fn asked_about_cursors(&self) -> usize {
        self.asked().iter().filter(|start| matches!(start, StartAt::After(_))).count()
    }
}

#[async_trait]
impl Push for Way {
    async fn subscribe(&self, cx: &Context, request: Subscribe) -> Result<Subscription, SubscribeError> {
        if request.window.is_none() {
            let inner = self.0.root.subscribe(cx, request.clone()).await?;
            return Ok(Subscription::new(Held { inner, way: self.clone() }, &request));
        }
        if is_probe(&request) {
            return self.0.root.subscribe(cx, request).await;
        }
        self.0.state.lock().unwrap().asked.push(request.start);
        if matches!(request.start, StartAt::After(_)) {
            poll_fn(|cx| self.poll_while(cx, |state| state.is_mute)).await;
        }
        self.0.root.subscribe(cx, request).await
    }
}

impl Feed for Held {
    fn poll_batch(
        &mut self,
        cx: &mut task::Context<'_>,
        bounds: Bounds,
        out: &mut Batch,
    ) -> Poll<Option<Result<(), ConsumeError>>> {
        task::ready!(self.way.poll_while(cx, |state| state.is_held));
        self.inner.poll_batch(cx, bounds, out)
    }

    fn place(&self) -> Option<Cursor> {
        self.inner.place()
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

fn push(tail: &Tail, seqs: std::ops::RangeInclusive<u64>) {
    tail.push(seqs.map(|seq| Entry::new(seq, 0, "a".parse().unwrap(), Message::text("x"))).collect());
}

/// A root at `1-<head>`, and a relay of it that is there too.
async fn relay_of_root(head: u64) -> (Tail, Way, Broker) {
    let (root, tail) = unbegun_with(Retention::default()).await;
    tail.begin(cursor(1, 0).epoch(), 1);
    push(&tail, 1..=head);
    let way = Way(Arc::new(Flow { root, state: Mutex::default() }));
    let relay = Broker::open(RelayEngine::new(way.clone()), Retention::default()).await.unwrap();
    reach(&relay, cursor(1, head)).await;
    (tail, way, relay)
}

/// Somebody who comes with `place`, and all that he is told at once.
fn come(relay: &Broker, place: Cursor) -> tokio::task::JoinHandle<Result<String, Problem>> {
    let relay = relay.clone();
    tokio::spawn(async move {
        let mut subscription = relay.consume(asking("a").from(place)).await?;
        Ok(drain(&mut subscription))
    })
}

#[tokio::test(start_paused = true)]
async fn who_comes_with_a_place_ahead_of_the_relay_waits_until_it_is_there() {
    let (relay, source, feed) = scripted().await;
    source.feed().send(place(cursor(1, 12))).ok().unwrap();
    let early = come(&relay, cursor(1, 12));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!early.is_finished(), "it must not be told a reset");
    feed.send(event(cursor(1, 11), Prev::First)).ok().unwrap();
    feed.send(event(cursor(1, 12), Prev::At(cursor(1, 11)))).ok().unwrap();
    assert_eq!(early.await.unwrap().unwrap(), "p12");
    assert_eq!(source.asked(), [Cursor::UNKNOWN.into(), StartAt::Start(Start::Latest)]);
}

#[tokio::test(start_paused = true)]
async fn what_the_upstream_says_of_an_unknown_cursor_holds() {
    let (relay, source, _feed) = scripted().await;
    let newest = || place(cursor(1, 10));
    let reset = || gap(cursor(1, 50), cursor(1, 11), cursor(1, 10), GapReason::Reset);
    let rewound = gap(cursor(3, 50), cursor(3, 9), cursor(3, 8), GapReason::Rewound);
    let known = |seq| vec![newest(), place(cursor(4, 0)), place(cursor(4, seq)), newest()];
    let answers = [
        (vec![newest(), reset()], cursor(1, 50), "reset 50..11@10 p10"),
        (vec![newest(), reset()], cursor(2, 50), "reset 50..11@10 p10"),
        (vec![newest(), place(cursor(3, 0)), rewound, newest()], cursor(3, 50), "rewound 50..11@8 p8"),
        (known(5), cursor(4, 5), "p5 evicted 5..11@5"),
        (known(10), cursor(4, 10), "p10"),
    ];
    for (words, came_with, told) in answers {
        // Each sender is dropped: one word is all that is read.
        words.into_iter().for_each(|word| source.feed().send(word).ok().unwrap());
        assert_eq!(drain(&mut consume(&relay, "a", came_with).await), told);
    }
    let unanswered = relay.consume(asking("a").from(cursor(5, 1))).await.unwrap_err();
    assert_eq!(unanswered.kind(), ErrorKind::Unavailable, "what cannot be asked is not told to be lost");
    assert_eq!(drain(&mut consume(&relay, "a", Cursor::UNKNOWN).await), "reset 0..11@10 p10");
}

/// What a root did that its relay has not heard of, and what follows for who comes with a place of it.
#[tokio::test(start_paused = true)]
async fn who_comes_from_beyond_a_change_of_history_waits_until_it_is_there() {
    let cases = [
        // Another epoch that lost nothing: a place ahead, and the last one before it.
        (5, 7, cursor(2, 8), "p8 e9"),
        // A branch was lost: a place that lies ahead, and one that looks as if it did not.
        (7, 6, cursor(2, 8), "p8 e9"),
        (20, 6, cursor(2, 8), "p8 e9"),
        // A place of the lost branch that never came here.
        (5, 4, cursor(1, 6), "rewound 6..4@3 p3 e4 e5 e6 e7 e8 e9"),
    ];
    for (head, start, came_with, told) in cases {
        let (tail, way, relay) = relay_of_root(head).await;
        way.change(|state| state.is_held = true);
        tail.complete_to(6);
        tail.begin(cursor(2, 0).epoch(), start);
        push(&tail, start..=9);
        let (begun, refused) = (Instant::now(), come(&relay, came_with).await.unwrap().unwrap_err());
        assert_eq!(
            (refused.kind(), begun.elapsed().as_secs()),
            (ErrorKind::Unavailable, 5),
            "{head} {start}"
        );
        assert!(matches!(refused.retry(), Retry::After(_)));
        let early = come(&relay, came_with);
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!(!early.is_finished(), "{came_with} with {head}, {start}");
        way.change(|state| state.is_held = false);
        assert_eq!(early.await.unwrap().unwrap(), told, "{came_with} with {head}, {start}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_epoch_that_is_void_is_asked_about_once_a_while() {
    let (_tail, way, relay) = relay_of_root(5).await;
    let fleet = async || {
        for seq in 1..100 {
            assert!(drain(&mut consume(&relay, "a", cursor(7, seq)).await).starts_with("reset"));
        }
        way.asked_about_cursors()
    };
    assert_eq!((fleet().await, fleet().await), (1, 0));
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!(fleet().await, 1);
}

#[tokio::test(start_paused = true)]
async fn those_who_come_at_once_with_the_same_epoch_share_a_question() {
    let (_tail, way, relay) = relay_of_root(5).await;
    way.change(|state| state.is_mute = true);
    let fleet: Vec<_> = (1..100).map(|seq| come(&relay, cursor(7, seq))).collect();
    // Of one who leaves nothing is left.
    fleet[0].abort();
    tokio::time::sleep(Duration::from_secs(1)).await;
    way.change(|state| state.is_mute = false);
    for one in fleet.into_iter().skip(1) {
        assert!(one.await.unwrap().unwrap().starts_with("reset"));
    }
    // Some of them may come to wait while the question of others is under way already.
    let asked = way.asked_about_cursors();
    assert!((1..=9).contains(&asked), "{asked}");
}

#[tokio::test(start_paused = true)]
async fn a_crowd_of_unknown_cursors_is_bounded_and_stops_nobody_else() {
    let (tail, way, relay) = relay_of_root(5).await;
    way.change(|state| (state.is_held, state.is_mute) = (true, true));
    push(&tail, 6..=6);
    let crowd: Vec<_> = (100..300).map(|epoch| come(&relay, cursor(epoch, 1))).collect();
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(way.asked_about_cursors(), 8);
    let refused: Vec<_> = crowd.iter().filter(|one| one.is_finished()).collect();
    assert_eq!(refused.len(), 200 - 8 - 64);
    let begun = Instant::now();
    relay.probe().await.unwrap();
    let honest = come(&relay, cursor(1, 6));
    way.change(|state| state.is_held = false);
    assert_eq!(honest.await.unwrap().unwrap(), "p6");
    assert!(begun.elapsed().is_zero());
    for one in crowd {
        let refused = one.await.unwrap().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unavailable);
        assert!(matches!(refused.retry(), Retry::After(_)));
    }
    way.change(|state| state.is_mute = false);
    assert_eq!(come(&relay, cursor(300, 1)).await.unwrap().unwrap(), "reset 1..1@0 p0 e1 e2 e3 e4 e5 e6");
}

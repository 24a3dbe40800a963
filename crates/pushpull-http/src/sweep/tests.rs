use std::{
    sync::{OnceLock, Weak},
    task::Context,
    thread::{self, ThreadId},
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt;
use pushpull_broker::Broker;
use pushpull_core::{
    Batch, Bounds, Delivery, Event, FormatKey, Message, ProducerExt, PushExt, Subscribe, Subscription,
    silent_waker,
};

use super::*;

mod stress;

static PLAIN: FormatKey = FormatKey::new("sweep-plain");
static LOUD: FormatKey = FormatKey::new("sweep-loud");

/// A connection whose peer takes everything at once, unless it is slow.
struct Member {
    subscription: Mutex<Subscription>,
    form: &'static FormatKey,
    /// What came, event by event, and as bytes.
    seen: Mutex<Vec<String>>,
    bytes: Mutex<Vec<u8>>,
    /// How often bytes were made for it.
    joins: AtomicUsize,
    is_slow: AtomicBool,
    on: Mutex<Option<ThreadId>>,
    /// Called behind each sweep.
    then: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Member {
    /// One that has caught up with the topic `a`.
    async fn new(broker: &Broker) -> Arc<Self> {
        Self::with(broker, &PLAIN).await
    }

    async fn with(broker: &Broker, form: &'static FormatKey) -> Arc<Self> {
        let subscription = Mutex::new(broker.consume(Subscribe::to("a").unwrap()).await.unwrap());
        let (seen, bytes, then) = (Mutex::default(), Mutex::default(), OnceLock::new());
        let (joins, is_slow, on) = (AtomicUsize::new(0), AtomicBool::new(false), Mutex::default());
        let member = Self { subscription, form, seen, bytes, joins, is_slow, on, then };
        member.look();
        member.look();
        Arc::new(member)
    }

    /// What its own task does.
    fn look(&self) {
        let mut batch = Batch::default();
        let mut cx = Context::from_waker(silent_waker());
        let mut subscription = lock(&self.subscription);
        while subscription.poll_batch(&mut cx, Bounds::default(), &mut batch).is_ready() {}
        self.note(&batch.deliveries);
    }

    fn note(&self, deliveries: &[Delivery]) {
        let events = deliveries.iter().filter_map(|delivery| match delivery {
            Delivery::Event(event) => Some(text(event)),
            _ => None,
        });
        lock(&self.seen).extend(events);
    }

    fn join(self: &Arc<Self>, sweeps: &Sweeps) -> Membership {
        let standing = lock(&self.subscription).standing().expect("it has caught up");
        let member: Weak<dyn Swept> = Arc::<Self>::downgrade(self);
        sweeps.join(&standing, member).expect("there is a runtime")
    }

    fn signal(&self) -> Arc<Signal> {
        lock(&self.subscription).standing().unwrap().signal
    }

    fn seen(&self) -> Vec<String> {
        lock(&self.seen).clone()
    }
}

impl Swept for Member {
    fn sweep(&self, round: &mut Round) {
        *lock(&self.on) = Some(thread::current().id());
        if self.is_slow.load(Ordering::SeqCst) {
            return;
        }
        let join = |events: &[Event]| {
            self.joins.fetch_add(1, Ordering::SeqCst);
            let mut joined: String = events.iter().map(|event| text(event) + ";").collect();
            if std::ptr::eq(self.form, &raw const LOUD) {
                joined.make_ascii_uppercase();
            }
            Bytes::from(joined)
        };
        match round.take(&mut lock(&self.subscription), self.form, join) {
            Taken::Nothing => {}
            Taken::Joined { bytes, events, .. } => {
                let texts: Vec<String> = std::str::from_utf8(bytes)
                    .unwrap()
                    .split_terminator(';')
                    .map(str::to_ascii_lowercase)
                    .collect();
                assert_eq!(texts.len() as u64, events);
                lock(&self.seen).extend(texts);
                lock(&self.bytes).extend(bytes);
            }
            Taken::Own(deliveries, _) => self.note(deliveries),
        }
        if let Some(then) = self.then.get() {
            then();
        }
    }
}

fn text(event: &Event) -> String {
    String::from_utf8(event.payload().to_vec()).unwrap()
}

fn sweeps() -> Arc<Sweeps> {
    Arc::new(Sweeps::new(Drain::new(Duration::ZERO)))
}

/// At once: before anything else has its turn.
fn publish(broker: &Broker, text: &str) {
    let published = broker.publish_one(&"a".parse().unwrap(), Message::text(text)).now_or_never();
    published.expect("in memory nothing is waited for").unwrap();
}

async fn settle() {
    for _ in 0..100 {
        yield_now().await;
    }
}

/// Whether its task runs, and the groups that there are.
fn state(sweeps: &Sweeps) -> (bool, usize) {
    let runtimes = lock(&sweeps.runtimes);
    let all = runtimes.values().flat_map(|shards| &shards.all);
    all.fold((false, 0), |(is_running, groups), sweeper| {
        (is_running | sweeper.is_running.load(Ordering::SeqCst), groups + lock(&sweeper.groups).len())
    })
}

#[tokio::test]
async fn who_joins_between_a_raise_and_its_sweep_is_swept_too() {
    let (broker, sweeps) = (Broker::memory(), sweeps());
    let (old, new) = (Member::new(&broker).await, Member::new(&broker).await);
    let _old = old.join(&sweeps);
    settle().await;
    publish(&broker, "1");
    let _new = new.join(&sweeps);
    settle().await;
    assert_eq!((old.seen(), new.seen()), (vec!["1".to_owned()], vec!["1".to_owned()]));
}

#[tokio::test]
async fn the_last_to_leave_ends_group_and_task_and_the_next_begins_anew() {
    let (broker, sweeps) = (Broker::memory(), sweeps());
    let (one, two) = (Member::new(&broker).await, Member::new(&broker).await);
    let memberships = [one.join(&sweeps), two.join(&sweeps)];
    settle().await;
    assert_eq!((state(&sweeps), one.signal().waiting()), ((true, 1), 1), "one waker for both");
    let [first, second] = memberships;
    drop(first);
    settle().await;
    assert_eq!((state(&sweeps), one.signal().waiting()), ((true, 1), 1));
    drop(second);
    settle().await;
    assert_eq!((state(&sweeps), one.signal().waiting()), ((false, 0), 0));
    publish(&broker, "1");
    settle().await;
    assert!(one.seen().is_empty(), "who has left is not swept");
    let _again = one.join(&sweeps);
    one.look();
    publish(&broker, "2");
    settle().await;
    assert_eq!(one.seen(), ["1", "2"]);
}

#[tokio::test]
async fn a_group_that_is_over_takes_away_none_that_came_after_it() {
    let (broker, sweeps) = (Broker::memory(), sweeps());
    let member = Member::new(&broker).await;
    let first = member.join(&sweeps);
    let over = first.group().clone();
    drop(first);
    let _second = member.join(&sweeps);
    // As by one that left before and comes to the lock only now.
    for shards in lock(&sweeps.runtimes).values() {
        shards.all.iter().for_each(|sweeper| sweeper.remove_empty(&over));
    }
    settle().await;
    publish(&broker, "1");
    settle().await;
    assert_eq!((member.seen(), state(&sweeps)), (vec!["1".to_owned()], (true, 1)));
}

#[tokio::test]
async fn what_is_published_during_a_sweep_is_swept_after_it() {
    let (broker, sweeps) = (Broker::memory(), sweeps());
    let mut all = Vec::new();
    for _ in 0..3 * CHUNK + 1 {
        all.push(Member::new(&broker).await);
    }
    let memberships: Vec<_> = all.iter().map(|member| member.join(&sweeps)).collect();
    for at in [0, CHUNK, 3 * CHUNK] {
        let (source, once) = (broker.clone(), AtomicBool::new(true));
        let then = move || {
            if once.swap(false, Ordering::SeqCst) {
                publish(&source, &format!("behind {at}"));
            }
        };
        assert!(all[at].then.set(Box::new(then)).is_ok());
    }
    publish(&broker, "1");
    settle().await;
    let expected = all[0].seen();
    assert_eq!(expected.len(), 4, "{expected:?}");
    assert!(all.iter().all(|member| member.seen() == expected));
    drop(memberships);
}

#[tokio::test]
async fn each_form_is_made_once_and_goes_to_its_own() {
    let (broker, sweeps) = (Broker::memory(), sweeps());
    let mut all = Vec::new();
    for form in [&PLAIN, &LOUD, &PLAIN, &LOUD, &PLAIN] {
        all.push(Member::with(&broker, form).await);
    }
    let _memberships: Vec<_> = all.iter().map(|member| member.join(&sweeps)).collect();
    settle().await;
    publish(&broker, "one");
    publish(&broker, "two");
    settle().await;
    for member in &all {
        let expected: &[u8] =
            if std::ptr::eq(member.form, &raw const LOUD) { b"ONE;TWO;" } else { b"one;two;" };
        assert_eq!(lock(&member.bytes)[..], *expected);
    }
    let joins: Vec<_> = all.iter().map(|member| member.joins.load(Ordering::SeqCst)).collect();
    assert_eq!(joins.iter().sum::<usize>(), 2, "{joins:?}");
}

#[tokio::test]
async fn who_is_slow_holds_up_nobody_and_loses_nothing() {
    let (broker, sweeps) = (Broker::memory(), sweeps());
    let [first, slow, last] = [&broker; 3].map(Member::new);
    let (first, slow, last) = (first.await, slow.await, last.await);
    let _memberships = [first.join(&sweeps), slow.join(&sweeps), last.join(&sweeps)];
    slow.is_slow.store(true, Ordering::SeqCst);
    for text in ["1", "2", "3"] {
        publish(&broker, text);
        settle().await;
    }
    assert_eq!((first.seen().len(), slow.seen().len(), last.seen().len()), (3, 0, 3));
    slow.is_slow.store(false, Ordering::SeqCst);
    publish(&broker, "4");
    settle().await;
    for member in [first, slow, last] {
        assert_eq!(member.seen(), ["1", "2", "3", "4"]);
    }
}

#[test]
fn each_runtime_has_a_sweeper_of_its_own() {
    let (broker, sweeps) = (Broker::memory(), sweeps());
    let start = std::sync::Barrier::new(2);
    let serve = || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let member = Member::new(&broker).await;
            let _membership = member.join(&sweeps);
            start.wait();
            publish(&broker, "x");
            for _ in 0..10_000_000 {
                if member.seen().len() == 2 {
                    break;
                }
                yield_now().await;
            }
            assert_eq!(member.seen(), ["x", "x"]);
            assert_eq!(*lock(&member.on), Some(thread::current().id()), "by its own runtime's");
        });
    };
    thread::scope(|scope| {
        let threads = [scope.spawn(serve), scope.spawn(serve)];
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
    assert_eq!(lock(&sweeps.runtimes).len(), 2);
}

#[tokio::test]
async fn the_place_of_who_left_is_used_again_and_who_is_gone_is_passed_over() {
    let (broker, sweeps) = (Broker::memory(), sweeps());
    let (one, two) = (Member::new(&broker).await, Member::new(&broker).await);
    let (first, second) = (one.join(&sweeps), two.join(&sweeps));
    drop(first);
    let third = one.join(&sweeps);
    assert_eq!(second.group().places(), 2);
    // A connection that is gone before its membership is.
    drop(one);
    publish(&broker, "1");
    settle().await;
    assert_eq!(two.seen(), ["1"]);
    drop((second, third));
    settle().await;
    assert_eq!((state(&sweeps), two.signal().waiting()), ((false, 0), 0));
}

#[test]
fn outside_a_runtime_nobody_is_swept() {
    let broker = Broker::memory();
    let member = Member::new(&broker).now_or_never().unwrap();
    let standing = lock(&member.subscription).standing().unwrap();
    let swept: Weak<dyn Swept> = Arc::<Member>::downgrade(&member);
    assert!(sweeps().join(&standing, swept).is_none());
}

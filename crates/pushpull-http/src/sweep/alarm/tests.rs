use std::{
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Wake},
};

use super::*;

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Count {
    fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

fn wheel() -> Arc<Wheel> {
    Arc::new(Wheel::new(Handle::current(), Drain::new(Duration::ZERO)))
}

/// An alarm of `wheel` that is set to go off in so many seconds.
fn set(wheel: &Arc<Wheel>, seconds: f64) -> (Alarm, Arc<Count>) {
    let mut alarm = Alarm::new(Some(wheel.clone()));
    let count = Arc::new(Count::default());
    set_anew(&mut alarm, &count, seconds);
    (alarm, count)
}

fn set_anew(alarm: &mut Alarm, count: &Arc<Count>, seconds: f64) {
    let at = Instant::now() + Duration::from_secs_f64(seconds);
    assert!(alarm.poll_at(at, &mut Context::from_waker(&Waker::from(count.clone()))).is_pending());
}

async fn pass(seconds: f64) {
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    settle().await;
}

async fn settle() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn each_goes_off_once_and_a_tick_late_at_most() {
    let wheel = wheel();
    let alarms: Vec<_> = [0.05, 1.0, 1.01, 3.0].map(|at| set(&wheel, at)).into();
    let counts = || alarms.iter().map(|(_, count)| count.get()).collect::<Vec<_>>();
    assert_eq!(counts(), [0; 4]);
    for (seconds, counted) in
        [(0.11, [1, 0, 0, 0]), (0.88, [1, 0, 0, 0]), (0.02, [1, 1, 0, 0]), (0.1, [1, 1, 1, 0]), (5.0, [1; 4])]
    {
        pass(seconds).await;
        assert_eq!(counts(), counted);
    }
    assert!(lock(&wheel.state).ticks.is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_sooner_of_two_times_counts_and_what_is_over_is_set_anew() {
    let wheel = wheel();
    let (mut alarm, count) = set(&wheel, 10.0);
    set_anew(&mut alarm, &count, 1.0);
    // A later time leaves the earlier: the task is woken once too often, and sets it then.
    set_anew(&mut alarm, &count, 5.0);
    pass(1.1).await;
    assert_eq!(count.get(), 1);
    set_anew(&mut alarm, &count, 3.9);
    pass(3.8).await;
    assert_eq!(count.get(), 1);
    pass(0.3).await;
    assert_eq!(count.get(), 2);
    pass(10.0).await;
    assert_eq!(count.get(), 2, "10 s were taken back");
    let mut cx = Context::from_waker(Waker::noop());
    assert!(alarm.poll_at(Instant::now(), &mut cx).is_ready());
}

#[tokio::test(start_paused = true)]
async fn one_that_is_dropped_leaves_its_place_and_the_last_ends_the_task() {
    let wheel = wheel();
    let (one, unheard) = set(&wheel, 1.0);
    let (two, heard) = set(&wheel, 1.0);
    drop(one);
    let (_three, too) = set(&wheel, 1.0);
    assert_eq!(lock(&wheel.state).ticks[&10].all.len(), 2, "its place is used again");
    pass(1.1).await;
    assert_eq!([unheard.get(), heard.get(), too.get()], [0, 1, 1]);
    drop(two);
    assert!(!lock(&wheel.state).is_running, "nothing is set");
    let (four, _) = set(&wheel, 100.0);
    settle().await;
    assert!(lock(&wheel.state).is_running);
    drop(four);
    settle().await;
    assert!(!lock(&wheel.state).is_running, "not even until the time it slept to");
    let (_five, again) = set(&wheel, 1.0);
    pass(1.1).await;
    assert_eq!(again.get(), 1, "and it is started anew");
}

#[tokio::test(start_paused = true)]
async fn an_alarm_whose_time_is_over_takes_back_no_other() {
    let wheel = wheel();
    let (late, _) = set(&wheel, 1.0);
    pass(1.1).await;
    // As by one that looked at the clock before and comes to the lock behind.
    let count = Arc::new(Count::default());
    let (tick, at) = wheel.set(10, Waker::from(count.clone()));
    drop(late);
    pass(0.2).await;
    assert_eq!((tick, at, count.get()), (11, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_drain_and_its_end_wake_all_before_their_time() {
    let wheel = wheel();
    let (_one, heard) = set(&wheel, 100.0);
    settle().await;
    wheel.drain.begin();
    settle().await;
    assert_eq!(heard.get(), 1);
    wheel.drain.abort();
    settle().await;
    assert_eq!(heard.get(), 2);
    pass(100.1).await;
    assert_eq!(heard.get(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_moment_is_the_first_tick_that_is_not_before_its_time() {
    let wheel = wheel();
    let mut alarm = Alarm::new(Some(wheel.clone()));
    let at = |millis| alarm.moment(wheel.base + Duration::from_millis(millis));
    assert_eq!([0, 1, 100, 101].map(at), [0, 1, 1, 2].map(Moment));
    assert_eq!(at(14 * 366 * 24 * 3_600_000), Moment::NEVER);
    tokio::time::advance(Duration::from_millis(199)).await;
    assert_eq!(alarm.now(), Moment(1));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(alarm.poll_moment(Moment(1), &mut cx).is_ready());
    assert!(alarm.poll_moment(Moment(2), &mut cx).is_pending());
    assert!(alarm.poll_moment(Moment::NEVER, &mut cx).is_pending());
    tokio::time::advance(Duration::from_millis(1)).await;
    assert!(alarm.poll_moment(Moment(2), &mut cx).is_ready());
    let outside = Alarm::new(None);
    assert_eq!((outside.moment(wheel.base), outside.now()), (Moment::NEVER, Moment(0)));
}

#[test]
fn one_costs_a_connection_sixteen_bytes_and_a_runtime_as_many() {
    assert_eq!((size_of::<Alarm>(), size_of::<Entry>()), (16, 16));
}

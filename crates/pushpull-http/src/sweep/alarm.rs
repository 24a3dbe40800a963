//! One timer for all connections of a runtime.

use std::{
    collections::BTreeMap,
    fmt,
    future::{Future, pending, poll_fn},
    pin::pin,
    sync::{Arc, Mutex},
    task::{self, Poll, Waker, ready},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    time::{Instant, sleep_until},
};

use super::lock;
use crate::Drain;

/// How late an alarm may be: 100 ms. Those between two ticks go off together.
const TICK: Duration = Duration::from_millis(100);

/// Wakes a task at a time, and whenever a drain begins or is cut short. Unlike a timer of its own it costs the connection
/// 16 bytes, and the runtime as many. Given up when dropped.
///
/// It may be up to 100 ms late.
pub struct Alarm {
    /// `None` outside a runtime, where nothing ever goes off.
    wheel: Option<Arc<Wheel>>,
    tick: u32,
    at: u32,
}

/// Of an alarm that is not set.
const UNSET: u32 = u32::MAX;

/// A time by the clock of a runtime's alarms, in 4 bytes: the first tick, of 100 ms, that is not before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u32);

/// The alarms of one runtime.
pub(super) struct Wheel {
    /// That of the task, whoever sets an alarm from wherever.
    runtime: Handle,
    base: Instant,
    drain: Drain,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    ticks: BTreeMap<u32, Tick>,
    /// The alarms of the ticks before this one went off. No such tick comes again: its alarms are told by tick and place.
    first: u32,
    /// The tick until which the task sleeps.
    task: Option<(u32, Waker)>,
    /// Whether the task runs: it ends when no alarm is set.
    is_running: bool,
}

/// The alarms that go off together.
#[derive(Default)]
struct Tick {
    all: Vec<Entry>,
    free: Option<u32>,
    set: usize,
}

enum Entry {
    Set(Waker),
    /// And the next that is free.
    Free(Option<u32>),
}

impl Wheel {
    pub(super) fn new(runtime: Handle, drain: Drain) -> Self {
        Self { runtime, base: Instant::now(), drain, state: Mutex::default() }
    }

    /// The first tick that is not before `at`.
    fn tick(&self, at: Instant) -> u32 {
        ticks(at.saturating_duration_since(self.base) + (TICK - Duration::from_nanos(1)))
    }

    /// The last tick that has come.
    fn now(&self) -> u32 {
        ticks(self.base.elapsed())
    }

    fn time(&self, tick: u32) -> Instant {
        self.base + TICK * tick
    }

    /// Returns where it stands.
    fn set(self: &Arc<Self>, tick: u32, waker: Waker) -> (u32, u32) {
        let mut state = lock(&self.state);
        let tick = tick.max(state.first);
        let at = state.ticks.entry(tick).or_default().add(waker);
        let is_sooner = state.task.as_ref().is_none_or(|(until, _)| tick < *until);
        let task = if is_sooner { state.task.take() } else { None };
        let was_running = std::mem::replace(&mut state.is_running, true);
        drop(state);
        if let Some((_, task)) = task {
            task.wake();
        }
        if !was_running {
            self.runtime.spawn(turn(self.clone()));
        }
        (tick, at)
    }

    fn unset(&self, tick: u32, at: u32) {
        let mut state = lock(&self.state);
        let Some(all) = state.ticks.get_mut(&tick) else { return };
        all.remove(at);
        if all.set == 0 {
            state.ticks.remove(&tick);
        }
        // To end.
        let task = if state.ticks.is_empty() { state.task.take() } else { None };
        drop(state);
        if let Some((_, task)) = task {
            task.wake();
        }
    }

    /// Goes off for all whose time has come.
    fn go_off(&self) {
        let now = self.now();
        let mut state = lock(&self.state);
        state.first = now.saturating_add(1);
        let first = state.first;
        let later = state.ticks.split_off(&first);
        let due = std::mem::replace(&mut state.ticks, later);
        drop(state);
        due.into_values().flat_map(|tick| tick.all).for_each(Entry::wake);
    }

    /// Wakes all, before their time.
    fn wake_all(&self) {
        let state = lock(&self.state);
        let entries = state.ticks.values().flat_map(|tick| &tick.all);
        let wakers: Vec<Waker> = entries.filter_map(Entry::waker).cloned().collect();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// The next tick for which there is an alarm. Without any the task is over.
    fn next(&self, waker: &Waker) -> Option<Instant> {
        let mut state = lock(&self.state);
        let Some((tick, _)) = state.ticks.first_key_value() else {
            (state.is_running, state.task) = (false, None);
            return None;
        };
        let tick = *tick;
        state.task = Some((tick, waker.clone()));
        Some(self.time(tick))
    }
}

/// Runs as long as there are alarms.
async fn turn(wheel: Arc<Wheel>) {
    let mut timer = pin!(sleep_until(wheel.base));
    let mut drained = pin!(tell_drain(&wheel));
    poll_fn(|cx| {
        let _ = drained.as_mut().poll(cx);
        while let Some(next) = wheel.next(cx.waker()) {
            if timer.deadline() != next {
                timer.as_mut().reset(next);
            }
            ready!(timer.as_mut().poll(cx));
            wheel.go_off();
        }
        Poll::Ready(())
    })
    .await;
}

async fn tell_drain(wheel: &Wheel) {
    wheel.drain.cancelled().await;
    wheel.wake_all();
    wheel.drain.aborted().await;
    wheel.wake_all();
    pending::<()>().await;
}

impl Tick {
    fn add(&mut self, waker: Waker) -> u32 {
        self.set += 1;
        match self.free {
            Some(at) => {
                let was = std::mem::replace(&mut self.all[at as usize], Entry::Set(waker));
                self.free = was.next_free();
                at
            }
            None => {
                self.all.push(Entry::Set(waker));
                // As many tasks do not fit into memory.
                u32::try_from(self.all.len() - 1).unwrap_or(UNSET)
            }
        }
    }

    fn remove(&mut self, at: u32) {
        if let Some(entry @ Entry::Set(_)) = self.all.get_mut(at as usize) {
            *entry = Entry::Free(self.free.replace(at));
            self.set -= 1;
        }
    }
}

impl Entry {
    fn waker(&self) -> Option<&Waker> {
        match self {
            Self::Set(waker) => Some(waker),
            Self::Free(_) => None,
        }
    }

    fn wake(self) {
        if let Self::Set(waker) = self {
            waker.wake();
        }
    }

    fn next_free(&self) -> Option<u32> {
        match self {
            Self::Free(next) => *next,
            Self::Set(_) => None,
        }
    }
}

/// How many have gone by after `time`.
fn ticks(time: Duration) -> u32 {
    const NANOS: u64 = TICK.as_nanos() as u64;
    // 584 years.
    let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    u32::try_from(nanos / NANOS).unwrap_or(UNSET)
}

impl Moment {
    /// Later than all others: 13 years after a runtime's first alarm.
    pub const NEVER: Self = Self(u32::MAX);
}

impl Alarm {
    pub(super) fn new(wheel: Option<Arc<Wheel>>) -> Self {
        Self { wheel, tick: 0, at: UNSET }
    }

    /// The moment of `at`. Outside a runtime none ever comes.
    pub fn moment(&self, at: Instant) -> Moment {
        self.wheel.as_ref().map_or(Moment::NEVER, |wheel| Moment(wheel.tick(at)))
    }

    /// The last moment that has come.
    pub fn now(&self) -> Moment {
        Moment(self.wheel.as_ref().map_or(0, |wheel| wheel.now()))
    }

    /// Wakes the task at `at`, in place of what was set before, of which one wake-up may still come. `Ready` if that is
    /// now.
    ///
    /// Look once more afterwards whether a drain has begun: what began before woke nobody.
    pub fn poll_at(&mut self, at: Instant, cx: &mut task::Context<'_>) -> Poll<()> {
        if at <= Instant::now() {
            return Poll::Ready(());
        }
        // Its moment may be no later than what has come only if the time went on meanwhile.
        self.poll_moment(self.moment(at), cx)
    }

    /// As [`Alarm::poll_at`], by a moment of this alarm.
    pub fn poll_moment(&mut self, at: Moment, cx: &mut task::Context<'_>) -> Poll<()> {
        let Some(wheel) = &self.wheel else { return Poll::Pending };
        let (now, tick) = (wheel.now(), at.0);
        if tick <= now {
            return Poll::Ready(());
        }
        // Who is early wakes the task once too often, which costs less than two locks each time.
        let is_set = self.at != UNSET && self.tick > now;
        if !is_set || self.tick > tick {
            let wheel = wheel.clone();
            self.unset();
            (self.tick, self.at) = wheel.set(tick, cx.waker().clone());
        }
        Poll::Pending
    }

    /// Takes it back, so that it is set anew by whoever polls next: a task whose waker became another.
    pub fn unset(&mut self) {
        if let Some(wheel) = self.wheel.as_ref().filter(|_| self.at != UNSET) {
            wheel.unset(self.tick, self.at);
        }
        self.at = UNSET;
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.unset();
    }
}

impl fmt::Debug for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Alarm").field("is_set", &(self.at != UNSET)).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;

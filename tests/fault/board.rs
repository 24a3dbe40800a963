//! By which transport each consumer that falls back comes, and which steps it took.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::timeout};

/// The transports that are fallen back over, the best first.
pub(super) const LADDER: [&str; 4] = ["ws", "sse", "longpoll", "poll"];

#[derive(Debug)]
pub(super) struct Board {
    at: watch::Sender<Vec<Option<&'static str>>>,
    steps: Mutex<Steps>,
}

/// How often each step was taken.
pub(super) type Steps = BTreeMap<(&'static str, &'static str), usize>;

impl Board {
    pub(super) fn new(consumers: usize) -> Self {
        Self { at: watch::Sender::new(vec![None; consumers]), steps: Mutex::default() }
    }

    /// Shows that `consumer` comes by `transport`.
    pub(super) fn show(&self, consumer: usize, transport: &'static str) {
        self.at.send_modify(|at| {
            let before = at[consumer].replace(transport);
            if let Some(before) = before.filter(|before| *before != transport) {
                *self.lock().entry((before, transport)).or_default() += 1;
            }
        });
    }

    /// Waits until every consumer comes by `transport`, but not longer than `patience`. Whether they do.
    pub(super) async fn all_come_by(&self, transport: &str, patience: Duration) -> bool {
        let mut at = self.at.subscribe();
        let all = at.wait_for(|at| at.iter().all(|at| *at == Some(transport)));
        timeout(patience, all).await.is_ok_and(|seen| seen.is_ok())
    }

    /// By which transport each comes.
    pub(super) fn at(&self) -> Vec<Option<&'static str>> {
        self.at.borrow().clone()
    }

    pub(super) fn steps(&self) -> Steps {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Steps> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a step leads to a worse transport.
pub(super) fn is_down((from, to): (&str, &str)) -> bool {
    let rank = |name| LADDER.iter().position(|known| *known == name);
    rank(to) > rank(from)
}

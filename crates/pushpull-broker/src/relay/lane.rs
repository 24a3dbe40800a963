//! Questions of one kind: so many at once, so many that wait, and each asked once for all who ask the same.

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use pushpull_core::{Cursor, Delivery, ErrorKind, Problem};
use tokio::sync::{OnceCell, Semaphore};

use super::RETRY;

/// What is asked about: a cursor, or, without one, the newest place.
type About = Option<Cursor>;

type Answer = OnceCell<Result<Delivery, Problem>>;

/// Who asks the same as one that still waits for its turn shares the answer. One under way is not shared: it may say
/// what was so before the cursor was told to who comes with it.
pub(super) struct Lane {
    turns: Semaphore,
    room: usize,
    waiting: Mutex<HashMap<About, Arc<Answer>>>,
}

/// One who asks. The question stays in the lane as long as anybody does, and has no turn yet.
struct Asker<'a> {
    lane: &'a Lane,
    about: About,
    answer: Arc<Answer>,
}

impl Lane {
    /// With `at_once` questions under way, and `room` for others that wait.
    pub(super) fn new(at_once: usize, room: usize) -> Self {
        Self { turns: Semaphore::new(at_once), room, waiting: Mutex::default() }
    }

    /// What `ask` gives, for all who ask `about` the same by then.
    ///
    /// # Errors
    /// Those of `ask`, and [`ErrorKind::Unavailable`] if too many others wait.
    ///
    /// # Cancel safety
    /// Somebody else who waits for the same answer asks anew.
    pub(super) async fn ask<F>(&self, about: About, ask: impl FnOnce() -> F) -> Result<Delivery, Problem>
    where
        F: Future<Output = Result<Delivery, Problem>>,
    {
        let asker = self.join(about)?;
        let answer = asker.answer.get_or_init(|| async {
            let _turn = self.turns.acquire().await.map_err(|_| crowded())?;
            self.take_out(about, &asker.answer);
            ask().await
        });
        answer.await.clone()
    }

    fn join(&self, about: About) -> Result<Asker<'_>, Problem> {
        let mut waiting = self.waiting();
        if !waiting.contains_key(&about) && waiting.len() >= self.room {
            return Err(crowded());
        }
        let answer = waiting.entry(about).or_default().clone();
        Ok(Asker { lane: self, about, answer })
    }

    fn take_out(&self, about: About, answer: &Arc<Answer>) {
        let mut waiting = self.waiting();
        if waiting.get(&about).is_some_and(|known| Arc::ptr_eq(known, answer)) {
            waiting.remove(&about);
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<About, Arc<Answer>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Asker<'_> {
    fn drop(&mut self) {
        let mut waiting = self.lane.waiting();
        // Let go of under the lock, so that the last one of several sees that it is the last.
        let answer = std::mem::take(&mut self.answer);
        let is_ours = waiting.get(&self.about).is_some_and(|known| Arc::ptr_eq(known, &answer));
        drop(answer);
        if is_ours && waiting.get(&self.about).is_some_and(|known| Arc::strong_count(known) == 1) {
            waiting.remove(&self.about);
        }
    }
}

fn crowded() -> Problem {
    Problem::new(ErrorKind::Unavailable, "too many others come with a cursor unknown here").with_retry(RETRY)
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane").field("waiting", &self.waiting().len()).finish_non_exhaustive()
    }
}

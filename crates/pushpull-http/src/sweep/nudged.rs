//! Connections that somebody else writes: a sweep wakes their tasks in its turns.

use std::{
    fmt,
    sync::{Arc, Mutex},
    task::{Context, Waker},
};

use pushpull_core::Standing;

use super::{Post, Round, Swept, lock};
use crate::Gate;

/// What a woken task does is more than a write, and by how much nobody knows.
const WEIGHT: usize = 3;

/// A task that polls a subscription and is woken in the turns of a sweep, not by the source's signal: of a thousand that
/// are woken at once the last finds all that was published meanwhile only by chance, of those woken in turns each does.
#[derive(Default)]
pub struct Nudged {
    post: Post,
    sleeper: Option<Arc<Sleeper>>,
}

#[derive(Default)]
struct Sleeper(Mutex<Option<Waker>>);

impl Nudged {
    /// Joins the sweep of those who stand with `standing`, or leaves it where it stands with nobody. Whether it is woken by
    /// a sweep from now on: then look for news after it, with the [silent waker](pushpull_core::silent_waker).
    pub fn stand(&mut self, gate: &Gate, standing: Option<&Standing>, cx: &Context<'_>) -> bool {
        let sleeper = self.sleeper.get_or_insert_default();
        if standing.is_some() {
            let mut waker = lock(&sleeper.0);
            if !waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
                *waker = Some(cx.waker().clone());
            }
        }
        self.post.stand(gate, standing, || Arc::<Sleeper>::downgrade(sleeper))
    }
}

impl Swept for Sleeper {
    fn sweep(&self, _: &mut Round) {
        // Once a look: whom nobody polls any more, since his client takes nothing, costs nothing.
        let waker = lock(&self.0).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn weight(&self) -> usize {
        WEIGHT
    }
}

impl fmt::Debug for Nudged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nudged").field("is_swept", &self.post.is_swept()).finish_non_exhaustive()
    }
}

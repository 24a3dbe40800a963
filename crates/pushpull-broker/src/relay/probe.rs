//! Whether the upstream is cut off itself: a link that stands says nothing of what lies beyond it.

use std::time::Duration;

use pushpull_core::{ErrorKind, Problem};
use tokio::time::{sleep, timeout};

use super::{
    RETRY,
    link::{Link, State},
};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The time between two probes of an upstream that is well.
const INTERVAL: Duration = Duration::from_secs(5);

/// The shortest time between two probes, whatever the doubts.
const SHORTEST: Duration = Duration::from_millis(100);

impl Link {
    /// Checks that the upstream answers, and is not cut off itself as far as it knows.
    pub(super) async fn probe(&self) -> Result<(), Problem> {
        let is_up = self.check_up();
        if !self.is_standing() {
            return is_up;
        }
        let answer = self.look().await;
        if answer.is_ok() != is_up.is_ok() {
            self.doubt();
        }
        answer
    }

    /// Probes from time to time, and at every doubt, without end.
    pub(super) async fn watch(&self) {
        loop {
            sleep(SHORTEST).await;
            let pause = if matches!(self.state(), State::Cut(_)) { RETRY } else { INTERVAL };
            // Whether there was a doubt or none: it is time.
            let _ = timeout(pause, self.doubted()).await;
            if !self.is_standing() {
                continue;
            }
            match self.look().await {
                Ok(()) => self.set_probed(State::Up),
                Err(problem) if problem.kind() == ErrorKind::Unavailable => {
                    self.set_probed(State::Cut(problem))
                }
                // That it is full or slow says nothing of what lies beyond it.
                Err(_) => {}
            }
        }
    }

    fn is_standing(&self) -> bool {
        matches!(self.state(), State::Up | State::Cut(_))
    }

    async fn look(&self) -> Result<(), Problem> {
        let late = |_| Err(Problem::new(ErrorKind::Timeout, "the upstream did not answer in time"));
        timeout(PATIENCE, self.ask_whether_cut()).await.unwrap_or_else(late).map(drop)
    }
}

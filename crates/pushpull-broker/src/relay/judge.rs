//! Where a cursor stands that the relay does not know: the upstream is asked.

use std::time::Duration;

use pushpull_core::{Cursor, CursorStanding, Delivery, ErrorKind, Gap, GapReason, Problem};
use tokio::time::{Instant, timeout};

use super::{
    RETRY,
    link::{Link, probing},
};

/// How long a judgement may take, with all that it waits for.
const PATIENCE: Duration = Duration::from_secs(5);

impl Link {
    /// Where `cursor` stands. A verdict of the upstream is given once this node is where the upstream was then: until
    /// then it would be one of another history, or of a place that has not come yet.
    pub(super) async fn judge(&self, cursor: Cursor) -> Result<CursorStanding, Problem> {
        if cursor == probing() {
            return self.check_up().map(|()| CursorStanding::Unknown);
        }
        let epoch = cursor.epoch();
        if !self.knows(epoch) && self.void().contains(epoch, Instant::now()) {
            return Ok(CursorStanding::Unknown);
        }
        self.check_up()?;
        let behind = "this node did not come to where the cursor can be judged in time";
        timeout(PATIENCE, self.judge_there(cursor)).await.map_err(|_| late(behind))?
    }

    async fn judge_there(&self, cursor: Cursor) -> Result<CursorStanding, Problem> {
        let newest = self.newest().await?;
        if newest.epoch() == cursor.epoch() && cursor.seq() <= newest.seq() {
            self.passed(&[cursor]).await;
            return Ok(self.judge_here(cursor));
        }
        if !self.knows(cursor.epoch()) && self.is_void(cursor).await? {
            self.void().remember_asked(cursor.epoch(), Instant::now());
            return Ok(CursorStanding::Unknown);
        }
        let verdict = match self.ask(cursor).await? {
            Delivery::Gap(gap) if gap.reason == GapReason::Reset => return Ok(CursorStanding::Unknown),
            Delivery::Gap(Gap { reason: GapReason::Rewound, cursor, .. }) => {
                CursorStanding::Rewound(cursor.seq())
            }
            _ => CursorStanding::Good,
        };
        self.passed(&[cursor, self.newest().await?]).await;
        match self.judge_here(cursor) {
            CursorStanding::Unknown => Ok(verdict),
            known => Ok(known),
        }
    }

    /// Whether the upstream knows nothing of the epoch of `cursor`. Asked by its place 0, which is ahead of nothing: so
    /// the answer is one for the whole epoch.
    async fn is_void(&self, cursor: Cursor) -> Result<bool, Problem> {
        let word = self.ask(Cursor::new(cursor.epoch(), 0)).await?;
        Ok(matches!(word, Delivery::Gap(gap) if gap.reason == GapReason::Reset))
    }
}

fn late(detail: &'static str) -> Problem {
    Problem::new(ErrorKind::Unavailable, detail).with_retry(RETRY)
}

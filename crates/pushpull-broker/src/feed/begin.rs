//! Where a feed begins, and begins anew when history becomes another.

use std::{sync::Arc, time::Duration};

use pushpull_core::{Cursor, CursorStanding, ErrorKind, Gap, GapReason, Problem, Start, StartAt, Subscribe};

use super::{BrokerFeed, Stage, Untold};
use crate::{hub::Hub, snapshot::Snapshot};

/// How long a consumer is asked to stay away whose place has not come yet.
const BEHIND_RETRY: Duration = Duration::from_secs(1);

impl BrokerFeed {
    /// `verdict` is what the engine says of a cursor that the hub does not know, in the history of `generation`. `None`
    /// if history became another before it could begin.
    pub(crate) fn attach(
        hub: &Arc<Hub>,
        request: &Subscribe,
        verdict: CursorStanding,
        generation: u64,
    ) -> Result<Option<Self>, Problem> {
        hub.expire_now();
        let mut feed = Self {
            hub: hub.clone(),
            wanted: request.topics.clone(),
            interest: hub.interest(&request.topics),
            overflow: request.overflow,
            conflate: request.conflate,
            stage: Stage::Beginning(None),
            place: hub.head(),
            told_to: 0,
            looked_to: 0,
            since: None,
            was_live: false,
            is_fresh: true,
            conflated: 0,
            thin_after: None,
            generation,
        };
        match request.start {
            StartAt::After(cursor) => feed.resume(cursor, verdict)?,
            StartAt::Start(Start::Earliest) => feed.begin_earliest(),
            StartAt::Start(start @ (Start::Last | Start::Snapshot)) => {
                feed.begin_snapshot(hub.snapshot(&feed.interest, &request.topics, start)?);
            }
            StartAt::Start(_) => {}
        }
        // What was read of two histories would never show that they are two.
        Ok(feed.is_of_now().then_some(feed))
    }

    /// Is one of several answers: what the one before it left out is not known.
    pub(crate) fn in_answers(mut self) -> Self {
        self.thin_after = Some(0);
        self
    }

    fn begin_earliest(&mut self) {
        // What is gone by now is not asked for; what goes from now on is told, though another topic lost newer events.
        self.since = Some(Box::new(self.hub.since_now(&self.interest)));
        self.place = self.hub.floor();
    }

    fn begin_snapshot(&mut self, snapshot: Snapshot) {
        let gap = (snapshot.lost_to > 0).then(|| {
            let zero = self.cursor(0);
            Gap::new(zero, self.cursor(snapshot.lost_to.saturating_add(1)), zero, GapReason::Evicted)
        });
        self.place = snapshot.place;
        // Told with it, though it may lie beyond the place.
        self.told_to = snapshot.lost_to;
        // Kept, since it must be told whatever becomes of history until then.
        let place = self.cursor(self.place);
        let events = snapshot.events.into_iter();
        self.stage = Stage::Snapshot(Box::new(Untold { gap, events, place }));
    }

    fn resume(&mut self, cursor: Cursor, verdict: CursorStanding) -> Result<(), Problem> {
        let head = self.hub.head();
        let standing = match self.hub.judge(cursor) {
            CursorStanding::Unknown => reached(verdict, cursor, head)?,
            known => known,
        };
        match standing {
            CursorStanding::Good => self.place = cursor.seq(),
            CursorStanding::Rewound(common) => self.begin_anew(cursor, common.min(head), GapReason::Rewound),
            CursorStanding::Unknown => self.begin_anew(cursor, self.hub.floor(), GapReason::Reset),
        }
        Ok(())
    }

    /// Goes over to a history that became another. A snapshot under way stays true of its place, and is told whole.
    pub(super) fn turn(&mut self) {
        if !matches!(self.stage, Stage::Running | Stage::Beginning(_)) {
            return;
        }
        let turn = self.hub.turn(self.generation, self.place);
        (self.generation, self.looked_to) = (turn.generation, 0);
        self.told_to = self.told_to.min(turn.place);
        self.thin_after = self.thin_after.map(|after| after.min(turn.place));
        if let Some(reason) = turn.reason {
            let came_with = match &self.stage {
                Stage::Beginning(Some(gap)) => gap.after,
                _ => turn.was,
            };
            self.was_live = false;
            self.begin_anew(came_with, turn.place, reason);
        }
    }

    /// Begins at `place`, after telling that the cursor it came with is void. The gap covers the losses that are
    /// known, so that they are not told a second time.
    fn begin_anew(&mut self, came_with: Cursor, place: u64, reason: GapReason) {
        (self.place, self.since) = (place, None);
        self.told_to = self.peek().lost_to.unwrap_or(0);
        let complete_from = self.told_to.max(place).saturating_add(1);
        let gap = Gap::new(came_with, self.cursor(complete_from), self.cursor(place), reason);
        self.stage = Stage::Beginning(Some(Box::new(gap)));
    }
}

/// What the engine says of `cursor`, unless that is of a place that has not come yet: who began before it would be
/// told again what he had.
fn reached(verdict: CursorStanding, cursor: Cursor, head: u64) -> Result<CursorStanding, Problem> {
    let place = match verdict {
        CursorStanding::Good => cursor.seq(),
        CursorStanding::Rewound(common) => common,
        CursorStanding::Unknown => return Ok(verdict),
    };
    match place <= head {
        true => Ok(verdict),
        false => {
            Err(Problem::new(ErrorKind::Unavailable, "this node is behind the cursor")
                .with_retry(BEHIND_RETRY))
        }
    }
}

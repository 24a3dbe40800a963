//! Where a feed begins, and begins anew when history becomes another.

use std::sync::Arc;

use pushpull_core::{Cursor, CursorStanding, Gap, GapReason, Problem, Start, StartAt, Subscribe};

use super::{BrokerFeed, Stage};
use crate::{hub::Hub, snapshot::Snapshot};

impl BrokerFeed {
    /// `verdict` is what the engine says of a cursor that the hub does not know.
    pub(crate) fn attach(
        hub: &Arc<Hub>,
        request: &Subscribe,
        verdict: CursorStanding,
    ) -> Result<Self, Problem> {
        hub.expire_now();
        let mut feed = Self {
            // Before anything else is read, so that a change of history shows.
            generation: hub.generation(),
            hub: hub.clone(),
            wanted: request.topics.clone(),
            interest: hub.interest(&request.topics),
            overflow: request.overflow,
            conflate: request.conflate,
            stage: Stage::Beginning(None),
            place: hub.head(),
            told_to: 0,
            was_live: false,
            is_fresh: true,
            conflated: 0,
            thin_after: None,
        };
        match request.start {
            StartAt::After(cursor) => feed.resume(cursor, verdict),
            StartAt::Start(Start::Earliest) => feed.begin_earliest(),
            StartAt::Start(start @ (Start::Last | Start::Snapshot)) => {
                let snapshot = feed.take_picture(start)?;
                feed.begin_snapshot(snapshot);
            }
            StartAt::Start(_) => {}
        }
        Ok(feed)
    }

    /// Is one of several answers: what the one before it left out is not known.
    pub(crate) fn in_answers(mut self) -> Self {
        self.thin_after = Some(0);
        self
    }

    fn begin_earliest(&mut self) {
        self.place = self.hub.floor();
        // What is gone by now is not asked for; what goes from now on is told.
        self.told_to = self.peek().lost_to.unwrap_or(0);
    }

    /// A snapshot of one history.
    fn take_picture(&mut self, start: Start) -> Result<Snapshot, Problem> {
        loop {
            self.generation = self.hub.generation();
            let snapshot = self.hub.snapshot(&self.wanted, start)?;
            if self.is_of_now() {
                return Ok(snapshot);
            }
        }
    }

    fn begin_snapshot(&mut self, snapshot: Snapshot) {
        let gap = (snapshot.lost_to > 0).then(|| {
            let zero = self.cursor(0);
            Gap::new(zero, self.cursor(snapshot.lost_to + 1), zero, GapReason::Evicted)
        });
        self.place = snapshot.place;
        // Told with it, though it may lie beyond the place.
        self.told_to = snapshot.lost_to;
        self.stage = Stage::Snapshot(snapshot.events.into_iter(), gap);
    }

    fn resume(&mut self, cursor: Cursor, verdict: CursorStanding) {
        let standing = match self.hub.judge(cursor) {
            CursorStanding::Unknown => verdict,
            known => known,
        };
        match standing {
            CursorStanding::Good => self.place = cursor.seq().min(self.hub.head()),
            CursorStanding::Rewound(common) => {
                self.begin_anew(cursor, common.min(self.hub.head()), GapReason::Rewound);
            }
            CursorStanding::Unknown => self.begin_anew(cursor, self.hub.floor(), GapReason::Reset),
        }
    }

    /// Goes over to a history that became another. A snapshot under way stays true of its place, and is told whole.
    pub(super) fn turn(&mut self) {
        if !matches!(self.stage, Stage::Running | Stage::Beginning(_)) {
            return;
        }
        let turn = self.hub.turn(self.generation, self.place);
        self.generation = turn.generation;
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
        self.place = place;
        self.told_to = self.peek().lost_to.unwrap_or(0);
        let complete_from = self.told_to.max(place) + 1;
        let gap = Gap::new(came_with, self.cursor(complete_from), self.cursor(place), reason);
        self.stage = Stage::Beginning(Some(gap));
    }
}

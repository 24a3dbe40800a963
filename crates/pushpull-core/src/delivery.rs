//! What a consumer receives.

use std::{fmt, time::Duration};

use crate::{Cursor, Event, Problem};

/// One thing a consumer receives.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Delivery {
    /// An event it asked for.
    Event(Event),
    /// Events it asked for are gone.
    Gap(Gap),
    /// Everything it asked for up to this place has been delivered. The first word of a subscription (after
    /// a snapshot: the word that it is complete), and what heartbeats carry.
    Place(Cursor),
    /// The link to the source changed.
    Link(Link),
}

/// Events that a subscription asked for are gone (wire contract, section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct Gap {
    /// What is gone lies after this place ...
    pub after: Cursor,
    /// ... and before this one: the first from which all is complete.
    pub before: Cursor,
    /// The place to go on from.
    pub cursor: Cursor,
    /// Why.
    pub reason: GapReason,
}

/// Why events are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum GapReason {
    /// Retention passed the cursor.
    Evicted,
    /// This consumer was too slow.
    Lagged,
    /// This consumer asked to skip to the newest (`overflow=latest`).
    Skipped,
    /// The engine lost its newest events, and the cursor lies on the lost branch. Seq may fall.
    Rewound,
    /// The cursor's epoch is unknown, or it lies ahead of anything there is. Seq may fall, events may repeat.
    Reset,
}

/// A change of the link between a consumer and its source. `Display` tells it to people.
///
/// ```
/// # use {pushpull_core::{ErrorKind, Link, Problem}, std::time::Duration};
/// let cause = Some(Problem::new(ErrorKind::Unavailable, "refused"));
/// let link = Link::Reconnecting { delay: Duration::from_millis(1500), cause };
/// assert_eq!(link.to_string(), "again in 1.5s: unavailable: refused");
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Link {
    /// A connection is being made.
    Connecting,
    /// A connection stands; by which transport, [`Subscription::transport`](crate::Subscription::transport) says. A
    /// consumer that only polls has none: it tells this only once trouble is over.
    Connected,
    /// A better transport did not open, and is passed over: the connection that follows goes by the next one that did.
    PassedOver {
        /// Its name, as [`Subscription::transport`](crate::Subscription::transport) would say it.
        transport: Option<&'static str>,
        /// Why it did not open.
        cause: Problem,
    },
    /// The connection is gone; another attempt follows after `delay`.
    Reconnecting {
        /// How long until the next attempt.
        delay: Duration,
        /// What ended the connection, if it was an error.
        cause: Option<Problem>,
    },
    /// The source ended the subscription.
    Ended {
        /// How long the source asks to wait before coming back; `None`: not to come back.
        retry: Option<Duration>,
        /// Where to resume, if the source said so.
        cursor: Option<Cursor>,
    },
}

impl Gap {
    /// A gap of the given extent.
    pub fn new(after: Cursor, before: Cursor, cursor: Cursor, reason: GapReason) -> Self {
        Self { after, before, cursor, reason }
    }
}

impl GapReason {
    /// Every reason there is.
    pub const ALL: [Self; 5] = [Self::Evicted, Self::Lagged, Self::Skipped, Self::Rewound, Self::Reset];

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Evicted => "evicted",
            Self::Lagged => "lagged",
            Self::Skipped => "skipped",
            Self::Rewound => "rewound",
            Self::Reset => "reset",
        }
    }

    /// Whether the gap's cursor replaces the place: retained events still follow an evicted or lagged one.
    pub fn moves_place(self) -> bool {
        !matches!(self, Self::Evicted | Self::Lagged)
    }

    /// Whether seq may fall across such a gap.
    pub fn may_fall(self) -> bool {
        matches!(self, Self::Rewound | Self::Reset)
    }
}

impl Delivery {
    /// The event, if it is one.
    pub fn into_event(self) -> Option<Event> {
        match self {
            Self::Event(event) => Some(event),
            _ => None,
        }
    }

    /// The place a consumer stands at once it has taken this delivery, if the delivery moves it. A gap that
    /// goes on from the place it was told at moves none: at the head of a snapshot there is no place yet.
    pub fn place(&self) -> Option<Cursor> {
        match self {
            Self::Event(event) if !event.is_snapshot() => Some(event.cursor()),
            Self::Gap(gap) if gap.reason.moves_place() => Some(gap.cursor),
            Self::Place(cursor) => Some(*cursor),
            _ => None,
        }
    }
}

impl fmt::Display for GapReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connecting => f.write_str("connecting"),
            Self::Connected => f.write_str("connected"),
            Self::PassedOver { transport, cause } => {
                write!(f, "{} passed over: {cause}", transport.unwrap_or("a transport"))
            }
            Self::Reconnecting { delay, cause: Some(cause) } => write!(f, "again in {delay:.1?}: {cause}"),
            Self::Reconnecting { delay, cause: None } => write!(f, "again in {delay:.1?}"),
            Self::Ended { retry: Some(delay), .. } => write!(f, "ended by the source, back in {delay:.1?}"),
            Self::Ended { retry: None, .. } => f.write_str("ended by the source"),
        }
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} after {} before {}", self.reason, self.after, self.before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Epoch;

    #[test]
    fn a_gap_moves_the_place_only_where_its_cursor_replaces_it() {
        let at = |seq| Cursor::new(Epoch::from_random(1), seq);
        for reason in GapReason::ALL {
            let place = Delivery::Gap(Gap::new(at(1), at(9), at(1), reason)).place();
            let stays = matches!(reason, GapReason::Evicted | GapReason::Lagged);
            assert_eq!(place, (!stays).then_some(at(1)), "{reason}");
        }
    }
}

//! One connection, from its handshake to its last byte: a task of its own, helped by the sweep.

mod caller;
mod clock;
mod command;
mod commands;
mod deliver;
mod framed;
mod inbox;
mod part;
mod raw;
mod serving;

use std::{
    fmt,
    sync::{Arc, Weak},
    task::{Context, Poll},
    time::Duration,
};

use pushpull_core::{Cursor, Subscription, Topics};
use pushpull_http::{Connection, ConnectionGuard, Gate, Post, yield_turn};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::OwnedSemaphorePermit,
};

use crate::{
    close::{self, Closing},
    codec::server::{Id, Said, Shape},
    decoder::{Decoder, Fault, Message, Side},
    frame::{CLOSE, PING},
    handshake::Mode,
    outbox::Answers,
    pump::Pump,
};
use caller::Caller;
use clock::{Clock, Due, Intervals};
use inbox::Inbox;

pub(crate) use command::Shared;
pub(crate) use serving::Serving;

/// Rounds of work before other tasks have their turn.
const ROUNDS: usize = 16;
/// The work of one poll, in the bytes of what is read and published, each message counted as a value too: some thousand
/// messages. Behind it other tasks have their turn.
const TURN: usize = 128 * 1024;
/// Messages, and bytes of them, read ahead of the command that is being worked on, so that pings behind it are answered.
const AHEAD: usize = 64;
const AHEAD_BYTES: usize = 64 * 1024;

/// How a connection begins.
pub(crate) struct Opening {
    pub(crate) shape: Shape,
    pub(crate) shared: Arc<Shared>,
    /// Who is at the other end.
    pub(crate) cx: pushpull_core::Context,
    pub(crate) guard: Option<ConnectionGuard>,
    /// Its place among those that are closed at once.
    pub(crate) permit: Option<Box<OwnedSemaphorePermit>>,
    /// The subscription that the query opened, what it asks for, and whether it begins with a snapshot.
    pub(crate) subscribed: Option<(Subscription, Topics, Unit)>,
    /// Closes it at once.
    pub(crate) refused: Option<Closing>,
}

/// Whether a subscription begins with a snapshot, which is a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Snapshot,
    None,
}

/// How a subscription tells its starting place.
#[derive(Debug)]
enum FirstWord {
    Heartbeat,
    /// By the answer to who asked for it, if one is wanted.
    Answer(Option<Id>),
}

/// A connection.
// In this order a sweep, which turns to many in turn, touches the first lines of the cache alone: down to the pump's stream.
#[repr(C)]
pub(crate) struct Session<I> {
    stage: Stage,
    shape: Shape,
    is_gap_last: bool,
    /// Whether the peer does not take its answers: then nothing of it is read.
    is_held: bool,
    is_draining: bool,
    /// Its place between its task and the sweep that serves it while it stands with others.
    post: Post,
    inbox: Inbox,
    subscription: Option<Subscription>,
    shared: Arc<Shared>,
    pump: Pump<I>,
    me: Weak<Connection<Self>>,
    clock: Clock,
    caller: Caller,
    topics: Option<Topics>,
    /// The place of a subscription that is gone.
    left_at: Option<Box<Cursor>>,
    conflated: u64,
    /// The work that this poll was.
    spent: Spent,
    /// Until it is complete there is no place.
    is_in_snapshot: bool,
    is_beat_due: bool,
    _held: Held,
}

/// Work, in the bytes of what was read and published.
#[derive(Clone, Copy, Debug, Default)]
struct Spent(u32);

/// What it gives back at its end.
#[expect(dead_code, reason = "by being dropped")]
enum Held {
    Slot(ConnectionGuard),
    /// Its place among those that are closed at once.
    Refusal(Option<Box<OwnedSemaphorePermit>>),
}

/// What a peer said last.
#[derive(Debug)]
enum Last {
    Close(Option<Closing>),
    Fault(Fault),
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Running,
    /// The close frame is sent, or waits to be.
    Parting {
        /// The peer's close frame came, or none can.
        is_heard: bool,
        is_shut: bool,
    },
    Ended,
}

impl<I: AsyncRead + AsyncWrite + Unpin + Send + 'static> Session<I> {
    /// A connection over `io`, of which `early` was read already.
    fn new(io: I, early: &[u8], opening: Opening, me: Weak<Connection<Self>>) -> Self {
        let Opening { shape, shared, cx, guard, permit, subscribed, refused } = opening;
        let gate = &shared.gate;
        let limit = match shape.mode {
            Mode::Raw => gate.limits().payload,
            // Escaped in JSON as \u00e9 a character takes three times its bytes; and the envelope.
            Mode::Framed(_) => gate.limits().payload.saturating_mul(3).saturating_add(8192),
        };
        let decoder = Decoder::new(Side::Server, limit).with_deflate(shape.deflate);
        let caller = Caller::from(cx);
        let clock = Clock::new(gate.alarm(), &intervals(gate, shape, &caller));
        let mut session = Self {
            pump: Pump::new(io, decoder, early),
            shape,
            clock,
            caller,
            is_draining: false,
            stage: Stage::Running,
            subscription: None,
            topics: None,
            is_in_snapshot: false,
            is_gap_last: false,
            is_beat_due: false,
            left_at: None,
            conflated: 0,
            inbox: Inbox::default(),
            spent: Spent::default(),
            is_held: false,
            post: Post::default(),
            me,
            _held: guard.map_or(Held::Refusal(permit), Held::Slot),
            shared,
        };
        if let Some((subscription, topics, unit)) = subscribed {
            session.attach(subscription, topics, unit, FirstWord::Heartbeat);
        }
        if let Some(closing) = refused {
            session.close(&closing);
        }
        session
    }

    fn poll_rounds(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..ROUNDS {
            self.heed_drain();
            self.heed_budget();
            let intervals = intervals(&self.shared.gate, self.shape, &self.caller);
            while self.stage != Stage::Ended
                && let Some(due) = self.clock.due(&intervals)
            {
                self.on_due(due);
            }
            let moved = match self.stage {
                Stage::Running => {
                    let moved = self.poll_read(cx) | self.poll_commands(cx) | self.poll_deliveries(cx);
                    self.beat_if_due() | moved
                }
                Stage::Parting { .. } => self.poll_parting(cx),
                Stage::Ended => return Poll::Ready(()),
            };
            let moved = moved | self.poll_write(cx);
            if self.stage == Stage::Ended {
                return Poll::Ready(());
            }
            if self.spent.is_turn() {
                break;
            }
            // The alarm wakes all when a drain begins: one that began before it was set is seen now.
            if !moved && self.clock.poll_due(&intervals, cx).is_pending() && !self.is_drain_new() {
                return Poll::Pending;
            }
        }
        yield_turn(cx);
        Poll::Pending
    }

    fn attach(&mut self, subscription: Subscription, topics: Topics, unit: Unit, first_word: FirstWord) {
        self.subscription = Some(subscription);
        self.topics = Some(topics);
        self.is_in_snapshot = unit == Unit::Snapshot;
        self.inbox.fill().first_word = Some(first_word);
        self.conflated = 0;
    }

    /// The connection's place: everything asked for up to it stands before in the queue.
    fn place(&self) -> Option<Cursor> {
        match &self.subscription {
            Some(_) if self.is_in_snapshot => None,
            Some(subscription) => subscription.place(),
            None => self.left_at.as_deref().copied(),
        }
    }

    fn heed_drain(&mut self) {
        let drain = self.shared.gate.drain();
        self.is_draining = drain.is_draining();
        if drain.is_aborted() {
            self.stage = Stage::Ended;
        }
    }

    /// Ends it if all connections hold too much for their peers, of whom this one took nothing for longest.
    fn heed_budget(&mut self) {
        if self.pump.outbox.is_over() {
            tracing::debug!("a WebSocket's peer takes nothing, as too many others do");
            self.stage = Stage::Ended;
        }
    }

    fn is_drain_new(&self) -> bool {
        let drain = self.shared.gate.drain();
        drain.is_draining() != self.is_draining || drain.is_aborted()
    }

    /// Tells when and from where to come back, and closes.
    fn leave(&mut self, retry: Duration, place: Option<Cursor>) {
        self.say(&Said::Goaway { retry, place });
        self.close(&Closing::new(close::AWAY, "unavailable").resuming(Some(retry), place));
    }

    fn close(&mut self, closing: &Closing) {
        tracing::debug!(code = closing.code, reason = %closing.reason, "closes a WebSocket");
        self.pump.send(CLOSE, &closing.payload());
        self.part(false);
    }

    fn part(&mut self, is_heard: bool) {
        self.stage = Stage::Parting { is_heard, is_shut: false };
        self.clock.part();
        self.subscription = None;
        self.post.leave();
        self.inbox.clear();
    }

    fn on_due(&mut self, due: Due) {
        match due {
            Due::Ping => self.pump.send(PING, b""),
            Due::Heartbeat => self.is_beat_due = true,
            Due::Silence => self.close(&Closing::new(close::POLICY, "timeout")),
            Due::Expiry => {
                let place = self.place();
                self.close(&Closing::new(close::UNAUTHENTICATED, "unauthenticated").resuming(None, place));
            }
            Due::Stall => {
                tracing::debug!("a WebSocket's peer takes nothing");
                self.stage = Stage::Ended;
            }
            Due::Parted => self.stage = Stage::Ended,
        }
    }

    /// Behind the deliveries, since polling them is what moves the place of a quiet subscription. What flows, or is
    /// stuck, needs no heartbeat.
    fn beat_if_due(&mut self) -> bool {
        let is_due = std::mem::take(&mut self.is_beat_due);
        let does_beat = is_due && self.stage == Stage::Running && self.pump.outbox.is_empty();
        if does_beat {
            self.beat();
        }
        does_beat
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        while !self.inbox.has_last() && !self.is_held && !self.inbox.is_full() && !self.spent.is_turn() {
            match self.pump.poll_message(cx) {
                Poll::Pending => break,
                Poll::Ready(Ok(Some(message))) => self.take(message),
                Poll::Ready(Ok(None)) => self.inbox.fill().last = Some(Last::End),
                Poll::Ready(Err(fault)) => self.inbox.fill().last = Some(Last::Fault(fault)),
            }
            moved = true;
        }
        // Who is not read cannot be heard.
        if self.pump.was_heard() || self.is_held || self.inbox.is_full() {
            self.clock.heard();
        }
        moved
    }

    fn take(&mut self, message: Message) {
        self.spent.add(message.weight());
        match message {
            Message::Ping(payload) => self.pump.send_pong(&payload),
            Message::Pong => {}
            Message::Close(closing) => self.inbox.fill().last = Some(Last::Close(closing)),
            Message::Text(ref payload) | Message::Binary(ref payload) => {
                let bytes = payload.len();
                self.inbox.keep_message(message, bytes);
            }
        }
    }

    fn on_last(&mut self, last: Last) {
        match last {
            Last::Close(closing) => {
                // The same code back (RFC 6455, 5.5.1).
                let code = closing.map(|closing| Closing::new(closing.code, "").payload());
                self.pump.send(CLOSE, &code.unwrap_or_default());
                self.part(true);
            }
            Last::Fault(fault) => {
                self.close(&Closing::new(fault.code, fault.reason));
                self.stage = Stage::Parting { is_heard: true, is_shut: false };
            }
            Last::End => self.stage = Stage::Ended,
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> bool {
        let mut progress = false;
        let written = self.pump.poll_write(cx, &mut progress);
        self.clock.wrote(progress, written.is_ready());
        self.pump.outbox.hold(&self.shared.gate, progress, cx.waker());
        self.is_held = written.is_pending() && self.pump.outbox.answers() != Answers::default();
        if matches!(written, Poll::Ready(Err(_))) {
            self.stage = Stage::Ended;
        }
        progress
    }
}

impl Spent {
    fn add(&mut self, bytes: usize) {
        self.0 = self.0.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
    }

    /// Whether it is a turn's.
    fn is_turn(self) -> bool {
        self.0 as usize >= TURN
    }
}

fn intervals(gate: &Gate, shape: Shape, caller: &Caller) -> Intervals {
    Intervals {
        ping: gate.ping(),
        beat: (shape.mode != Mode::Raw).then(|| gate.keep_alive()),
        expires: caller.expires(),
    }
}

impl<I> fmt::Debug for Session<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("stage", &self.stage).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;

//! The faults of one line, as the dice say, and those that lead consumers down the ladder and up again.

use std::{collections::BTreeMap, num::NonZeroU32, time::Duration};

use fastrand::Rng;
use pushpull_testkit::{
    Failure,
    proxy::{Buffering, Cuts, Door, Faults, Flow, Upgrade},
};
use tokio::{sync::watch, time::timeout};

use crate::{
    board::{Board, LADDER},
    way::Line,
};

/// How long nothing happens between two faults, and how long one lasts, in milliseconds.
const CALM: std::ops::Range<u64> = 150..500;
const SPELL: std::ops::Range<u64> = 200..700;

/// How long all consumers may take to a step of the ladder.
const PATIENCE: Duration = Duration::from_secs(25);

/// Shorter than the time between two bursts: what waits for the next one is cut.
const IMPATIENCE: Duration = Duration::from_millis(150);

/// How often each fault came.
pub(super) type Tally = BTreeMap<&'static str, usize>;

/// A fault.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Reset,
    HangUp,
    CutMidway,
    Delay,
    Throttle,
    Stall,
    Silence,
    Refuse,
    Buffer,
    Impatience,
}

impl Kind {
    pub(super) const ALL: &[Self] = &[
        Self::Reset,
        Self::HangUp,
        Self::CutMidway,
        Self::Delay,
        Self::Throttle,
        Self::Stall,
        Self::Silence,
        Self::Refuse,
        Self::Buffer,
        Self::Impatience,
    ];

    /// Those that a publisher gets over within seconds.
    pub(super) const LIGHT: &[Self] =
        &[Self::Reset, Self::HangUp, Self::CutMidway, Self::Delay, Self::Refuse];

    fn name(self) -> &'static str {
        match self {
            Self::Reset => "reset",
            Self::HangUp => "hang up",
            Self::CutMidway => "cut midway",
            Self::Delay => "delay",
            Self::Throttle => "throttle",
            Self::Stall => "stall",
            Self::Silence => "silence",
            Self::Refuse => "refuse",
            Self::Buffer => "buffer",
            Self::Impatience => "impatience",
        }
    }

    /// What the proxy does meanwhile.
    fn faults(self, random: &mut Rng) -> Faults {
        let faults = Faults::none();
        match self {
            Self::Reset | Self::HangUp => faults,
            Self::CutMidway => faults.with_cuts(Cuts::within(1..=16 * 1024)),
            Self::Delay => faults.with_flow(Flow::Delay(Duration::from_millis(random.u64(10..150)))),
            Self::Throttle => faults.with_flow(Flow::Throttle(rate(random))),
            Self::Stall => faults.with_flow(Flow::Stall),
            Self::Silence => faults.with_flow(Flow::Swallow),
            Self::Refuse => faults.with_door(Door::Refused),
            Self::Buffer => {
                faults.with_buffering(random.choice([Buffering::Body, Buffering::Whole]).expect("two"))
            }
            Self::Impatience => faults.with_patience(IMPATIENCE),
        }
    }

    /// Whether the connections that stand would not feel it.
    fn is_for_new_connections(self) -> bool {
        matches!(self, Self::Reset | Self::CutMidway | Self::Refuse)
    }
}

/// 32 to 256 KiB a second.
fn rate(random: &mut Rng) -> NonZeroU32 {
    NonZeroU32::new(random.u32(32..256) * 1024).expect("above zero")
}

/// Brings faults of `kinds` in random order until told to stop, and then heals everything.
pub(super) async fn rage(
    line: &Line,
    kinds: &[Kind],
    mut random: Rng,
    mut stop: watch::Receiver<bool>,
) -> Tally {
    let (mut tally, mut deck) = (Tally::new(), Vec::new());
    while !passed(CALM, &mut random, &mut stop).await {
        if deck.is_empty() {
            deck = kinds.to_vec();
            random.shuffle(&mut deck);
        }
        let Some(kind) = deck.pop() else { break };
        *tally.entry(kind.name()).or_default() += 1;
        befall(line, kind, &mut random, &mut stop).await;
    }
    line.cut().await;
    tally
}

async fn befall(line: &Line, kind: Kind, random: &mut Rng, stop: &mut watch::Receiver<bool>) {
    line.proxy.set(kind.faults(random));
    if kind.is_for_new_connections() {
        line.cut().await;
    }
    match kind {
        Kind::Reset => {}
        Kind::HangUp => line.proxy.hang_up(),
        _ => {
            passed(SPELL, random, stop).await;
        }
    }
    line.proxy.set(Faults::none());
}

/// Lets a random time pass; `true` if told to stop.
async fn passed(
    milliseconds: std::ops::Range<u64>,
    random: &mut Rng,
    stop: &mut watch::Receiver<bool>,
) -> bool {
    let time = Duration::from_millis(random.u64(milliseconds));
    timeout(time, stop.wait_for(|stops| *stops)).await.is_ok()
}

/// What leads all to the transport of each rung: WebSocket needs upgrades, a stream answers that come before they end,
/// a long poll patience.
fn rungs() -> [(Faults, &'static str); 7] {
    let old = Faults::none().with_upgrade(Upgrade::Stripped);
    let buffering = old.clone().with_buffering(Buffering::Whole);
    let impatient = buffering.clone().with_patience(IMPATIENCE);
    let [ws, sse, longpoll, poll] = LADDER;
    [
        (Faults::none(), ws),
        (old.clone(), sse),
        (buffering.clone(), longpoll),
        (impatient, poll),
        (buffering, longpoll),
        (old, sse),
        (Faults::none(), ws),
    ]
}

/// Leads all consumers of `board` down to the last rung and up again, rung by rung.
pub(super) async fn lead_down_and_up(line: &Line, board: &Board) -> Result<(), Failure> {
    for (number, (faults, transport)) in rungs().into_iter().enumerate() {
        line.proxy.set(faults);
        // Down it takes the loss of what stands, up only a look.
        if (1..LADDER.len()).contains(&number) {
            line.cut().await;
        }
        if !board.all_come_by(transport, PATIENCE).await {
            let at = board.at();
            return Err(Failure::Unexpected(format!("rung {number}: not all came to {transport}: {at:?}")));
        }
    }
    Ok(())
}

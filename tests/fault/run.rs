//! A run: consumers, traffic, weather, and the judge.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use fastrand::Rng;
use pushpull_broker::Retention;
use pushpull_testkit::{Failure, Trial, history::Violation};
use pushpull_tests::{Transport, World};
use tokio::{sync::watch, task::JoinSet, time::sleep};

use crate::{
    board::Board,
    consumer::{Consumer, Flaw, Habits, Leaves, Told},
    report::{Report, Row},
    settings::Settings,
    traffic::Traffic,
    way::{Line, Way},
    weather::{Kind, Tally, lead_down_and_up, rage},
};

/// More than a run's events take.
const RETAINED_BYTES: u64 = 2 << 30;

/// How long random faults come between two ways down the ladder.
const BETWEEN: Duration = Duration::from_secs(8);

/// What a run does with its consumers beyond faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// Those that fall back are led down and up again, others leave and return.
    Whole,
    /// The first consumer of each of these ways has this flaw, nobody is led.
    Flawed(&'static [(Way, Flaw)]),
}

/// The lines, and what goes through them.
struct Run<'a> {
    settings: Settings,
    plan: Plan,
    trial: &'a Trial<'a>,
    world: &'a Arc<World>,
    lines: BTreeMap<Way, Arc<Line>>,
    board: Arc<Board>,
    random: Rng,
}

/// Runs, and judges.
///
/// # Errors
/// If a consumer or a producer fails: what they were told otherwise is in the report.
pub(super) async fn run(settings: Settings, plan: Plan) -> Result<Report, Failure> {
    let begun = Instant::now();
    let retention =
        Retention::default().with_messages(Traffic::retains(settings.rate)).with_bytes(RETAINED_BYTES);
    let world = World::start(retention, settings.seed).await;
    let source = world.over(Transport::Broker);
    let trial = Trial::new(&source, "fault");
    let mut random = Rng::with_seed(settings.seed);
    let mut lines = BTreeMap::new();
    for way in Way::ALL {
        lines.insert(way, Arc::new(Line::start(way, &world, random.u64(..)).await));
    }
    let falling = (0..settings.consumers).filter(|number| way(*number) == Way::Fallback).count();
    let board = Arc::new(Board::new(falling));
    let mut run = Run { settings, plan, trial: &trial, world: &world, lines, board, random };
    let (told, faults) = run.live().await?;
    let violations = judge(&trial, &told).await?;
    let rows = Way::ALL.map(|way| Row::of(way, &told, &violations)).into();
    let (published, steps) = (world.broker.stats().published, run.board.steps());
    let polled = run.lines[&Way::Hybrid].polled();
    Ok(Report { settings, rows, published, polled, faults, steps, violations, took: begun.elapsed() })
}

fn way(number: usize) -> Way {
    Way::ALL[number % Way::ALL.len()]
}

async fn judge(trial: &Trial<'_>, told: &[Told]) -> Result<Vec<Violation>, Failure> {
    told.iter().for_each(|told| trial.keep_session(told.session.clone()));
    match trial.judge().await {
        Ok(()) => Ok(Vec::new()),
        Err(Failure::History(broken)) => Ok(broken.violations),
        Err(other) => Err(other),
    }
}

impl Run<'_> {
    async fn live(&mut self) -> Result<(Vec<Told>, Tally), Failure> {
        let (goal, goal_told) = watch::channel(None);
        let mut following = JoinSet::new();
        for number in 0..self.settings.consumers {
            following.spawn(self.consumer(number).await?.follow(goal_told.clone()));
        }
        let (traffic, (stop, stops)) = (Traffic::new(self.settings.rate), watch::channel(false));
        let remote = Arc::new(Line::start(Way::Ws, self.world, self.random.u64(..)).await);
        let producer = self.world.over_through(Transport::Ws, &remote.proxy);
        let (first, second) = (self.random.fork(), self.random.fork());
        let weather = async {
            let tally = self.weather(&remote, first, second).await;
            stop.send_replace(true);
            tally
        };
        let publish = async {
            let at_source = traffic.publish(self.trial, stops.clone());
            tokio::try_join!(at_source, traffic.publish_remotely(self.trial, &producer, stops.clone()))?;
            goal.send_replace(Some(traffic.close(self.trial).await?));
            Ok(())
        };
        let ((), faults, told) = tokio::try_join!(publish, weather, all_told(following))?;
        Ok((told, faults))
    }

    async fn consumer(&mut self, number: usize) -> Result<Consumer, Failure> {
        let (way, place) = (way(number), number / Way::ALL.len());
        let request = match way {
            Way::Fallback => Traffic::bursts(self.trial, place)?,
            Way::Late => Traffic::hot(self.trial)?,
            Way::Hybrid => Traffic::one(self.trial, place)?,
            _ => Traffic::even(self.trial, place)?,
        };
        let (name, push) = (format!("{} {place}", way.name()), self.lines[&way].push.clone());
        let habits = self.habits(way, place);
        let consumer = Consumer::start(name, way, push, request, habits).await?;
        Ok(match way {
            Way::Fallback => consumer.shown_on(self.board.clone(), place),
            _ => consumer,
        })
    }

    fn habits(&mut self, way: Way, place: usize) -> Habits {
        let away = match self.plan {
            Plan::Whole => Traffic::AWAY,
            Plan::Flawed(_) => Duration::from_millis(300),
        };
        let leaves = match way {
            Way::Fallback => None,
            Way::Late => Some(Leaves { after: Duration::from_millis(800), away }),
            _ if place.is_multiple_of(2) => None,
            _ => Some(Leaves {
                after: Duration::from_millis(self.random.u64(500..4000)),
                away: Duration::from_millis(self.random.u64(0..300)),
            }),
        };
        let flaw = match self.plan {
            Plan::Flawed(flaws) if place == 0 => {
                flaws.iter().find(|(his, _)| *his == way).map(|(_, flaw)| *flaw)
            }
            _ => None,
        };
        Habits { leaves, flaw }
    }

    /// Faults on every line, until the time is over and all that fall back were led down and up.
    async fn weather(&self, remote: &Arc<Line>, mut random: Rng, mut dice: Rng) -> Result<Tally, Failure> {
        let (stop, stops) = watch::channel(false);
        let mut raging = JoinSet::new();
        let mut begin = |line: &Arc<Line>, kinds| {
            let (line, random, stops) = (line.clone(), random.fork(), stops.clone());
            raging.spawn(async move { rage(&line, kinds, random, stops).await });
        };
        begin(remote, Kind::LIGHT);
        let is_led = |way: &Way| self.plan == Plan::Whole && *way == Way::Fallback;
        self.lines.iter().filter(|(way, _)| !is_led(way)).for_each(|(_, line)| begin(line, Kind::ALL));
        let mut faults = match self.plan {
            Plan::Whole => self.lead(&mut dice).await?,
            Plan::Flawed(_) => {
                sleep(self.settings.spell).await;
                Tally::new()
            }
        };
        stop.send_replace(true);
        raging.join_all().await.into_iter().for_each(|tally| add(&mut faults, tally));
        Ok(faults)
    }

    /// Leads down and up again and again, with random faults in between, until the time is over.
    async fn lead(&self, dice: &mut Rng) -> Result<Tally, Failure> {
        let (line, begun, mut faults) = (&self.lines[&Way::Fallback], Instant::now(), Tally::new());
        let left = || self.settings.spell.saturating_sub(begun.elapsed());
        loop {
            lead_down_and_up(line, &self.board).await?;
            let (stop, stops) = watch::channel(false);
            let over = async {
                sleep(left().min(BETWEEN)).await;
                stop.send_replace(true);
            };
            let (tally, ()) = tokio::join!(rage(line, Kind::ALL, dice.fork(), stops), over);
            add(&mut faults, tally);
            if left().is_zero() {
                return Ok(faults);
            }
        }
    }
}

/// What all were told; the first failure ends it.
async fn all_told(mut following: JoinSet<Result<Told, Failure>>) -> Result<Vec<Told>, Failure> {
    let mut told = Vec::new();
    while let Some(followed) = following.join_next().await {
        told.push(followed.expect("no panic")?);
    }
    Ok(told)
}

fn add(faults: &mut Tally, more: Tally) {
    for (name, count) in more {
        *faults.entry(name).or_default() += count;
    }
}

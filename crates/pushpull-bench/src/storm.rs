//! A reconnect storm: all connections are cut at once, and all come back from their places while events go on.

mod returns;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use clap::{
    Args,
    builder::{EnumValueParser, TypedValueParser as _},
};

use crate::{
    arguments,
    catchup::epoch,
    dialect::Address,
    http::Publisher,
    launch::{Needs, room_for},
    meter::{Cost, Meter},
    process::Server,
    report::{Faults, GENERATOR, Run},
    shape::{Content, Shape},
    stamp::Stamp,
    subscriber::{Received, Subscribers, Target},
    wire::{From, Transport},
};
use returns::Returns;

/// How long all may take to come back.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the last events may take to arrive.
const SETTLE: Duration = Duration::from_secs(10);
/// Connections that are begun between two reads, so that answers do not wait for the last of them.
const AT_ONCE: usize = 64;

#[derive(Args)]
pub(crate) struct Storm {
    /// How the subscribers are connected; not by what has no cursors.
    #[arg(
        long,
        default_value = "ws-json",
        value_parser = EnumValueParser::<Transport>::new().try_map(Transport::resuming)
    )]
    pub(crate) transport: Transport,
    /// How many they are.
    #[arg(long, default_value_t = 2000, value_parser = arguments::count)]
    connections: usize,
    /// Milliseconds over which their coming back is spread evenly; all at once if 0.
    #[arg(long, default_value_t = 0)]
    jitter: u64,
    /// Messages a second that are published all the time.
    #[arg(long, default_value_t = 50.0, value_parser = arguments::rate)]
    rate: f64,
    /// Bytes of a payload, at least 40.
    #[arg(long, default_value_t = 128, value_parser = arguments::payload)]
    payload: usize,
}

/// Publishes until it is told to end.
struct Background {
    published: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
    thread: thread::JoinHandle<io::Result<()>>,
}

impl Storm {
    /// Every subscriber must have had every message once, in order, when all is over.
    pub(crate) fn run(&self, server: &Server) -> io::Result<Run> {
        let shape = Arc::new(Shape::new(Content::Text, self.payload));
        let mut target = Target::new(self.transport, server.address, shape.clone());
        target.keeps_places = true;
        target.epoch = Some(epoch(server)?);
        let mut subscribers = Subscribers::open(target, self.connections, 1, From::Now)?;
        let background = Background::start(server.address, shape, self.rate)?;
        let mut received = Received::default();
        // An event gives each a place to come back to.
        read_until(&mut subscribers, &mut received, |received, subscribers| {
            received.events >= self.connections as u64
                && (0..self.connections).all(|number| subscribers.progress(number).1 > 0)
        })?;
        let meter = Meter::start(server);
        let returns = self.come_back(&mut subscribers, &mut received, &background.published)?;
        let cost = meter.stop();
        let published = background.end()?;
        let expected = published * self.connections as u64;
        read_until(&mut subscribers, &mut received, |received, _| received.events >= expected)?;
        let mut faults = subscribers.judged(received, expected)?;
        faults.add_missing(returns.missing());
        Ok(self.told(&returns, &cost, faults))
    }

    /// Cuts all connections, and reads until all are back and have what was published before they were.
    fn come_back(
        &self,
        subscribers: &mut Subscribers,
        received: &mut Received,
        published: &AtomicU64,
    ) -> io::Result<Returns> {
        let began = Instant::now();
        subscribers.cut_all()?;
        let mut returns = Returns::new(self.connections, Duration::from_millis(self.jitter));
        while !returns.is_over() && began.elapsed() < PATIENCE {
            for _ in 0..AT_ONCE {
                let Some(number) = returns.due(began.elapsed()) else { break };
                subscribers.reopen(number)?;
            }
            let wait = returns.wait(began.elapsed());
            subscribers.read(wait, received, &mut |_, _| {})?;
            let now = began.elapsed();
            returns.note(now, published.load(Ordering::Acquire), |number| subscribers.progress(number));
        }
        Ok(returns)
    }

    fn told(&self, returns: &Returns, cost: &Cost, faults: Faults) -> Run {
        let connections = self.connections as f64;
        let all = returns.caught_up(1.0);
        Run {
            figures: vec![
                ("ms until all are caught up", all),
                ("ms until all are back", returns.back(1.0)),
                ("p50 ms until caught up", returns.caught_up(0.5)),
                ("p99 ms until caught up", returns.caught_up(0.99)),
                ("server CPU us a connection", cost.server_seconds / connections * 1e6),
                ("refused and asked again", returns.refused() as f64),
                ("server cores", cost.server_seconds / all * 1e3),
                (GENERATOR, cost.own_cores),
            ],
            foreign_cores: cost.foreign_cores,
            faults,
        }
    }

    /// The flags that the server needs: those that were cut may be counted until it sees that they are gone.
    pub(crate) fn needs(&self) -> Needs {
        room_for(2 * self.connections)
    }

    /// What a row of the table begins with.
    pub(crate) fn label(&self) -> String {
        let jitter = match self.jitter {
            0 => "at once".to_owned(),
            jitter => format!("within {jitter} ms"),
        };
        format!("{} × {} back {jitter}, {} msg/s", self.transport.name(), self.connections, self.rate)
    }
}

impl Background {
    fn start(server: Address, shape: Arc<Shape>, rate: f64) -> io::Result<Self> {
        let mut publisher = Publisher::connect(server)?;
        let (published, is_over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, over) = (published.clone(), is_over.clone());
        let origin = Instant::now();
        let thread = thread::spawn(move || {
            for number in 0.. {
                let due = origin + Duration::from_secs_f64(number as f64 / rate);
                thread::sleep(due.saturating_duration_since(Instant::now()));
                if over.load(Ordering::Acquire) {
                    break;
                }
                publisher.publish(&shape, Stamp { number, sent: 0 })?;
                count.store(number + 1, Ordering::Release);
            }
            Ok(())
        });
        Ok(Self { published, is_over, thread })
    }

    /// Ends it, and returns how many messages were published.
    fn end(self) -> io::Result<u64> {
        self.is_over.store(true, Ordering::Release);
        self.thread.join().map_err(|_| io::Error::other("the publisher failed"))??;
        Ok(self.published.load(Ordering::Acquire))
    }
}

/// Reads until something is so, or nothing has come for long.
fn read_until(
    subscribers: &mut Subscribers,
    received: &mut Received,
    is_so: impl Fn(&Received, &Subscribers) -> bool,
) -> io::Result<()> {
    let mut last_news = Instant::now();
    while !is_so(received, subscribers) && last_news.elapsed() < SETTLE {
        let before = received.events;
        subscribers.read(Duration::from_millis(20), received, &mut |_, _| {})?;
        if received.events > before {
            last_news = Instant::now();
        }
    }
    Ok(())
}

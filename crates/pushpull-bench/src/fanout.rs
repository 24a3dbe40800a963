//! One topic, many subscribers.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use clap::Args;
use hdrhistogram::Histogram;

use crate::{
    Figures,
    http::Publisher,
    process::Server,
    subscriber::{Received, Subscribers},
    wire::Transport,
};

/// How long the last events may take to arrive.
const SETTLE: Duration = Duration::from_secs(10);

#[derive(Args)]
pub(crate) struct Fanout {
    /// How the subscribers are connected.
    #[arg(long, value_enum, default_value = "ws")]
    transport: Transport,
    /// How many they are.
    #[arg(long, default_value_t = 1000)]
    subscribers: usize,
    /// How long is published.
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// Bytes of a payload, at least 40.
    #[arg(long, default_value_t = 128)]
    payload: usize,
    /// Messages a second; as fast as acknowledged if left out.
    #[arg(long)]
    rate: Option<f64>,
    /// How many messages the publisher may be ahead of the mean subscriber.
    #[arg(long)]
    ahead: Option<u64>,
}

impl Fanout {
    pub(crate) fn run(&self, server: &Server) -> io::Result<Figures> {
        if self.transport == Transport::Longpoll {
            return Err(io::Error::other("fanout measures the streaming transports"));
        }
        let mut subscribers = Subscribers::open(self.transport, server.address, self.subscribers, 1)?;
        let progress = Arc::new(AtomicU64::new(0));
        let origin = Instant::now();
        let cpu = server.cpu_seconds();
        let publisher = self.publisher(server.address, &progress, origin)?;
        let mut latency = Histogram::<u64>::new(3).map_err(io::Error::other)?;
        let mut received = Received::default();
        let mut published = None;
        let mut last_news = Instant::now();
        let mut handle = Some(publisher);
        loop {
            let before = received.events;
            subscribers.read(Duration::from_millis(20), &mut received, &mut |stamp| {
                let now = origin.elapsed().as_nanos() as u64;
                latency.saturating_record(now.saturating_sub(stamp) / 1000);
            })?;
            progress.store(received.events, Ordering::Relaxed);
            if received.events > before {
                last_news = Instant::now();
            }
            if let Some(done) = handle.take_if(|handle| handle.is_finished()) {
                published = Some(done.join().map_err(|_| io::Error::other("the publisher failed"))??);
            }
            let all = published.map(|published| published * self.subscribers as u64);
            if all.is_some_and(|all| received.events >= all || last_news.elapsed() > SETTLE) {
                break;
            }
        }
        let seconds = last_news.duration_since(origin).as_secs_f64();
        let cost = server.cpu_seconds().zip(cpu).map(|(after, before)| after - before);
        Ok(self.figures(&received, published.unwrap_or(0), seconds, cost, &latency, subscribers.reads))
    }

    fn figures(
        &self,
        received: &Received,
        published: u64,
        seconds: f64,
        cost: Option<f64>,
        latency: &Histogram<u64>,
        reads: u64,
    ) -> Figures {
        let events = received.events as f64;
        vec![
            ("deliveries/s", events / seconds),
            ("published/s", published as f64 / seconds),
            ("server CPU s/M deliveries", cost.unwrap_or(f64::NAN) / events * 1e6),
            ("server core share", cost.unwrap_or(f64::NAN) / seconds),
            ("latency p50 us", latency.value_at_quantile(0.5) as f64),
            ("latency p99 us", latency.value_at_quantile(0.99) as f64),
            ("events a read", events / (reads.max(1) as f64)),
            ("missing", (published * self.subscribers as u64) as f64 - events),
            ("out of order", received.out_of_order as f64),
            ("closed", received.closed as f64),
        ]
    }

    fn publisher(
        &self,
        address: SocketAddr,
        progress: &Arc<AtomicU64>,
        origin: Instant,
    ) -> io::Result<thread::JoinHandle<io::Result<u64>>> {
        let mut publisher = Publisher::connect(address)?;
        let (progress, payload) = (progress.clone(), self.payload.max(40));
        let (rate, ahead, subscribers) = (self.rate, self.ahead, self.subscribers as u64);
        let end = origin + Duration::from_secs(self.seconds);
        Ok(thread::spawn(move || {
            let mut count = 0u64;
            while Instant::now() < end {
                while ahead.is_some_and(|most| count > progress.load(Ordering::Relaxed) / subscribers + most)
                {
                    thread::yield_now();
                }
                let text = format!("{count:020}{:020}", origin.elapsed().as_nanos());
                publisher.publish(format!("{text:x<payload$}").as_bytes())?;
                count += 1;
                if let Some(rate) = rate {
                    let next = origin + Duration::from_secs_f64(count as f64 / rate);
                    thread::sleep(next.saturating_duration_since(Instant::now()));
                }
            }
            Ok(count)
        }))
    }
}

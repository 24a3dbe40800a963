//! The market in a terminal: a line a second.

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, Write},
    time::Duration,
};

use pushpull::{Delivery, Event, PushExt, Rate, Start, Subscribe, connect};
use tokio::time::interval;

use crate::{Failure, market::Quote};

/// The transports that tell a consumer what conflation left out.
const TELLING: [&str; 2] = ["ws", "grpc"];
/// Symbols on a line: those that moved most since the last.
const SHOWN: usize = 4;

/// Prints without end; returns only when the server refuses, or ends it.
pub(crate) async fn watch(url: &str, rate: Option<Rate>) -> Result<(), Failure> {
    let mut asked = Subscribe::to("quotes.*")?.from(Start::Snapshot).conflate_by_key();
    asked.rate = rate;
    let mut quotes = connect(url).await?.consume(asked).await?;
    let mut board = Board::default();
    let mut seconds = interval(Duration::from_secs(1));
    seconds.tick().await;
    loop {
        tokio::select! {
            delivery = quotes.next() => match delivery.ok_or("the server ended the subscription")?? {
                Delivery::Event(event) => board.take(&event)?,
                Delivery::Gap(gap) => writeln!(io::stderr(), "missed {gap}")?,
                Delivery::Link(link) => writeln!(io::stderr(), "{link}")?,
                _ => {}
            },
            _ = seconds.tick(), if !board.prices.is_empty() => {
                board.spared = quotes.conflated();
                board.is_told = quotes.transport().is_some_and(|transport| TELLING.contains(&transport));
                writeln!(io::stdout(), "{board}")?;
                board.turn();
            }
        }
    }
}

/// What is known of each symbol, and what came in all.
#[derive(Default)]
struct Board {
    prices: BTreeMap<String, Price>,
    received: u64,
    spared: u64,
    /// Whether the transport tells what was spared.
    is_told: bool,
    /// `received` and `spared` as the last line told them.
    told: (u64, u64),
}

struct Price {
    now: f64,
    told: f64,
}

impl Board {
    fn take(&mut self, event: &Event) -> Result<(), serde_json::Error> {
        let Quote { price } = event.json()?;
        let symbol = event.key().unwrap_or(event.topic().as_str());
        match self.prices.get_mut(symbol) {
            Some(known) => known.now = price,
            None => drop(self.prices.insert(symbol.to_owned(), Price { now: price, told: price })),
        }
        self.received += 1;
        Ok(())
    }

    /// The next line begins.
    fn turn(&mut self) {
        self.told = (self.received, self.spared);
        self.prices.values_mut().for_each(|price| price.told = price.now);
    }
}

impl Price {
    /// In percent, since the last line.
    fn moved(&self) -> f64 {
        (self.now / self.told - 1.0) * 100.0
    }
}

impl fmt::Display for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (received, spared) = (self.received - self.told.0, self.spared.saturating_sub(self.told.1));
        write!(f, "{} symbols, received {received}, spared ", self.prices.len())?;
        if self.is_told {
            let share = spared as f64 * 100.0 / (received + spared).max(1) as f64;
            write!(f, "{spared} ({share:.0} %)")?;
        } else {
            f.write_str("unknown")?;
        }
        let mut movers: Vec<_> = self.prices.iter().filter(|(_, price)| price.now != price.told).collect();
        movers.sort_by(|(_, a), (_, b)| b.moved().abs().total_cmp(&a.moved().abs()));
        movers
            .iter()
            .take(SHOWN)
            .try_for_each(|(symbol, price)| write!(f, "  {symbol} {:.2} {:+.2} %", price.now, price.moved()))
    }
}

//! Symbols that nobody can buy, at prices that go nowhere in particular.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use pushpull::{Broker, Message, ProducerExt, Topic};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, interval};

use crate::Failure;

const BEGINNINGS: [&str; 20] = [
    "AL", "BE", "CO", "DU", "EV", "FI", "GA", "HO", "IR", "JU", "KA", "LE", "MO", "NU", "OR", "PI", "RA",
    "SO", "TU", "VE",
];
const ENDINGS: [&str; 10] = ["BA", "DEX", "GO", "LIN", "MAR", "NET", "PAX", "RO", "TEK", "ZEN"];
/// How often what is due is published.
const TICK: Duration = Duration::from_millis(10);

/// What a trade tells.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Quote {
    pub(crate) price: f64,
}

struct Symbol {
    topic: Topic,
    name: Arc<str>,
    price: f64,
}

/// The symbols, and where their prices go.
pub(crate) struct Market {
    symbols: Vec<Symbol>,
    broker: Broker,
}

impl Market {
    /// Publishes a first price of each symbol, so that whoever comes finds all of them in his snapshot.
    pub(crate) async fn open(broker: Broker) -> Result<Self, Failure> {
        let mut symbols = symbols()?;
        for symbol in &mut symbols {
            symbol.trade(&broker).await?;
        }
        Ok(Self { symbols, broker })
    }

    /// Publishes `updates` a second without end; returns only when it fails.
    pub(crate) async fn trade(mut self, updates: NonZeroU32) -> Result<(), Failure> {
        let (opened, mut ticks, mut done) = (Instant::now(), interval(TICK), 0);
        loop {
            ticks.tick().await;
            let due = (opened.elapsed().as_secs_f64() * f64::from(updates.get())) as u64;
            // Who was held up for longer than a second does not make up for all of it.
            for _ in done.max(due.saturating_sub(updates.get().into()))..due {
                // Squared: a few symbols are traded much more than most.
                let chosen = (fastrand::f64().powi(2) * self.symbols.len() as f64) as usize;
                self.symbols[chosen].trade(&self.broker).await?;
            }
            done = due;
        }
    }
}

fn symbols() -> Result<Vec<Symbol>, Failure> {
    let names = ENDINGS.iter().flat_map(|end| BEGINNINGS.iter().map(move |begin| format!("{begin}{end}")));
    let mut symbols: Vec<Symbol> = names
        .map(|name| {
            let price = 20.0 + 180.0 * fastrand::f64();
            Ok(Symbol { topic: format!("quotes.{name}").parse()?, name: name.into(), price })
        })
        .collect::<Result<_, Failure>>()?;
    fastrand::shuffle(&mut symbols);
    Ok(symbols)
}

impl Symbol {
    /// A step up or down by up to 0.2 %. The message's key is the symbol: what conflation and snapshots go by.
    async fn trade(&mut self, broker: &Broker) -> Result<(), Failure> {
        self.price = (self.price * (1.0 + 0.004 * (fastrand::f64() - 0.5))).max(0.01);
        let quote = Quote { price: (self.price * 100.0).round() / 100.0 };
        broker.publish_one(&self.topic, Message::json(&quote)?.with_key(self.name.clone())).await?;
        Ok(())
    }
}

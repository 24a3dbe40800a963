//! Hub and peers in turns, in one session on the same cores, and the ratios of their medians.

mod nginx;
mod peer;
mod table;

use std::{fmt, io, time::Duration};

pub(crate) use peer::{Asks, Peer};
pub(crate) use table::{json, lines, markdown};

use crate::{meter, report::Run};

/// What the hub is called in tables.
const HUB: &str = "pushpull";

/// How hub and peers run.
pub(crate) struct Contest<'a> {
    /// As they were asked for, `all` for each rival that can.
    pub(crate) peers: &'a [String],
    /// How many rounds count.
    pub(crate) rounds: usize,
    /// Foreign load, in cores, above which a round is made again.
    pub(crate) quiet: f64,
    /// How long a run waits for a machine that is as quiet as that.
    pub(crate) patience: Duration,
    /// By what they are reached.
    pub(crate) over: Over,
}

/// What connections are made over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    Tcp,
    Tls,
}

/// What a label ends with.
impl fmt::Display for Over {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Tls { ", over TLS" } else { "" })
    }
}

/// One of those that ran, and its runs in the rounds that count.
#[derive(Debug)]
pub(crate) struct Contestant {
    pub(crate) name: &'static str,
    pub(crate) runs: Vec<Run>,
}

/// One run of each that takes part, the hub's first.
type Round = Vec<Run>;

impl Contest<'_> {
    /// Lets `run` make rounds of one run each; nothing stands for the hub. The quietest rounds are kept, whatever
    /// they came to: at most twice as many and one are made. A peer that fails is left out, and it is said why; what
    /// went wrong in a run of its is said too.
    ///
    /// # Errors
    ///
    /// A peer is unknown, none can do what is asked, or the hub failed or made a fault.
    pub(crate) fn hold(
        &self,
        asks: Option<Asks>,
        mut run: impl FnMut(Option<Peer>) -> io::Result<Run>,
    ) -> io::Result<Vec<Contestant>> {
        let mut peers = chosen(self.peers, asks, self.over)?;
        let mut rounds: Vec<Round> = Vec::new();
        while !self.is_enough(&rounds) {
            some(&peers)?;
            meter::wait_for_quiet(self.quiet, self.patience);
            let mut round = vec![faultless(run(None)?)?];
            let mut at = 0;
            while let Some(peer) = peers.get(at).copied() {
                meter::wait_for_quiet(self.quiet, self.patience);
                match run(Some(peer)) {
                    Ok(run) => {
                        if !run.faults.is_none() {
                            eprintln!("pushpull-bench: {}: {:?}", peer.name(), run.faults);
                        }
                        round.push(run);
                        at += 1;
                    }
                    Err(error) => {
                        eprintln!("pushpull-bench: {} is left out: {error}", peer.name());
                        peers.remove(at);
                        // Those behind it move up by one.
                        rounds.iter_mut().for_each(|round| drop(round.remove(at + 1)));
                    }
                }
            }
            rounds.push(round);
        }
        some(&peers)?;
        Ok(told(&peers, quietest(rounds, self.rounds)))
    }

    fn is_enough(&self, rounds: &[Round]) -> bool {
        let is_quiet = |round: &&Round| round.iter().all(|run| run.is_quiet(self.quiet));
        rounds.iter().filter(is_quiet).count() >= self.rounds || rounds.len() > 2 * self.rounds
    }
}

fn some(peers: &[Peer]) -> io::Result<()> {
    let none = || io::Error::other("there is no peer to compare with");
    if peers.is_empty() { Err(none()) } else { Ok(()) }
}

fn faultless(run: Run) -> io::Result<Run> {
    let told = || io::Error::other(format!("{HUB}: {:?}", run.faults));
    if run.faults.is_none() { Ok(run) } else { Err(told()) }
}

/// The peers by their names, each once. Those that cannot do what is asked are named and left out. `all` are the
/// rivals that can: neither we ourselves nor no server.
fn chosen(names: &[String], asks: Option<Asks>, over: Over) -> io::Result<Vec<Peer>> {
    let asks = asks.ok_or_else(|| io::Error::other("this figure asks for what no peer has"))?;
    let can = |peer: Peer| peer.lacks(asks, over).is_none();
    let mut peers = Vec::new();
    for name in names {
        let named = match name.as_str() {
            "all" => Peer::ALL.iter().copied().filter(|peer| peer.is_rival() && can(*peer)).collect(),
            name => vec![Peer::named(name).ok_or_else(|| unknown(name))?],
        };
        for peer in named {
            if let Some(lack) = peer.lacks(asks, over) {
                eprintln!("pushpull-bench: {} is left out: {lack}", peer.name());
            } else if !peers.contains(&peer) {
                peers.push(peer);
            }
        }
    }
    Ok(peers)
}

fn unknown(name: &str) -> io::Error {
    let known = Peer::ALL.map(Peer::name).join(", ");
    io::Error::other(format!("{name} is none of {known}, all"))
}

/// The `most` rounds whose busiest run had the least foreign load, in the order in which they were made.
fn quietest(rounds: Vec<Round>, most: usize) -> Vec<Round> {
    let foreign = |round: &Round| round.iter().map(|run| run.foreign_cores).fold(f64::MIN, f64::max);
    let mut numbered: Vec<(usize, Round)> = rounds.into_iter().enumerate().collect();
    numbered.sort_by(|(_, one), (_, other)| foreign(one).total_cmp(&foreign(other)));
    numbered.truncate(most);
    numbered.sort_by_key(|(number, _)| *number);
    numbered.into_iter().map(|(_, round)| round).collect()
}

fn told(peers: &[Peer], rounds: Vec<Round>) -> Vec<Contestant> {
    let names = [HUB].into_iter().chain(peers.iter().map(|peer| peer.name()));
    let mut contestants: Vec<_> = names.map(|name| Contestant { name, runs: Vec::new() }).collect();
    for round in rounds {
        for (contestant, run) in contestants.iter_mut().zip(round) {
            contestant.runs.push(run);
        }
    }
    contestants
}

#[cfg(test)]
mod tests;

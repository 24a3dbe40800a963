//! What can be asked for on the command line.

use std::io;

use clap::{Parser, Subcommand};

use crate::{
    arguments, burst, catchup, compare, fanout, idle, launch, many, poll, process, publish, report::Run,
    scale, storm, tls,
};

/// What `--help` ends with.
const EXAMPLES: &str = "\
Examples, after `cargo build --release -p pushpull-examples --example hub` and the same of `-p pushpull-bench`:
  pushpull-bench fanout --transport ws                      one topic, 1,000 subscribers, as fast as acknowledged
  pushpull-bench fanout --transport sse --ahead 4           the same, the publisher at most 4 ahead of the mean
  pushpull-bench fanout --rate 50 --seconds 6               50 messages a second: nothing can be batched
  pushpull-bench fanout --content json --deflate            permessage-deflate; without --deflate: what it is compared with
  pushpull-bench many --transport ws                        1,000 topics with a subscriber each, 16 POSTs pipelined
  pushpull-bench burst --subscribers 15000                  one message to all, again and again
  pushpull-bench storm --transport sse --jitter 500         2,000 connections are cut and come back within 500 ms
  pushpull-bench scale --transport ws --chart scale.svg     100 to 15,000 subscribers, 1 and 2 workers, and a picture
  pushpull-bench catchup --history 1000000 --transport ws   the newest 10,000 of a long history
  pushpull-bench idle --connections 10000                   bytes of the server's memory a connection
  pushpull-bench poll --behind 10                           polls that are answered with 10 events
  pushpull-bench publish                                    POSTs that nobody listens to
  pushpull-bench fanout --tls --transport sse               any of them over TLS 1.3
  pushpull-bench fanout --server mounted --transport sse    pushpull within axum in place of the hub

A run is checked: the program fails if an event was missing, repeated, out of order or not as it was sent. With more
than `--quiet` foreign cores a run is made again; use `--runs 1 --quiet 99` for a quick look.";

#[derive(Parser)]
#[command(version, about, after_help = EXAMPLES)]
pub(crate) struct Cli {
    /// Runs of each figure, each with a fresh server; the median is told.
    #[arg(long, global = true, default_value_t = 3, value_parser = arguments::count)]
    pub(crate) runs: usize,
    /// Foreign load, in cores, above which a run is made again. Of at most twice as many runs and one those with
    /// the least are kept.
    #[arg(long, global = true, default_value_t = 0.15, value_parser = arguments::cores)]
    pub(crate) quiet: f64,
    /// Seconds that are waited before a run for a machine that is as quiet as that.
    #[arg(long, global = true, default_value_t = 0, value_parser = arguments::seconds)]
    pub(crate) patience: u64,
    /// The server's program, a peer by its name, or IP address and port of one that runs already (its cost is then not told).
    #[arg(long, global = true, default_value = "target/release/examples/hub")]
    server: String,
    /// Worker threads of the server, each on a core of its own while there are cores; `scale` has its own
    /// `--threads` [default: 1].
    #[arg(long, global = true, value_parser = clap::value_parser!(u8).range(1..))]
    workers: Option<u8>,
    /// Flags for the server, as in `--server-flags "--keep-alive 5"`; they stand above those that a figure sets.
    #[arg(long, global = true, default_value = "", hide_default_value = true, allow_hyphen_values = true)]
    server_flags: String,
    /// Speaks TLS 1.3 with the server, subscribers and publishers alike, by a certificate made for the run, which is
    /// all that is trusted. Every handshake is a whole one. What the server seals the load generator opens, on one
    /// core: look at `generator cores`.
    #[arg(long, global = true)]
    pub(crate) tls: bool,
    /// Peers that run in turns with the server, in a comma-separated list: axum-ws, fastwebsockets, axum-sse, tonic,
    /// nchan, mounted (pushpull itself, in axum), raw-writes (no server: the machine's own limit); or all, which are
    /// those that can but for the last two. The ratios of medians are told.
    #[arg(long, global = true, value_delimiter = ',')]
    pub(crate) compare: Vec<String>,
    /// Prints JSON: medians and every run.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Prints a row of a Markdown table.
    #[arg(long, global = true, conflicts_with = "json")]
    pub(crate) table: bool,
    #[command(subcommand)]
    pub(crate) work: Work,
}

#[derive(Subcommand)]
pub(crate) enum Work {
    /// One topic, many subscribers: deliveries a second and latency.
    Fanout(fanout::Fanout),
    /// Many topics, one subscriber each, and several POSTs under way: deliveries a second and latency.
    Many(many::Many),
    /// One message to very many connections, one by one: what a delivery costs, and how long all take to have it.
    Burst(burst::Burst),
    /// All connections are cut, and come back from their places while events go on: how long until all have caught up.
    Storm(storm::Storm),
    /// A fan-out at growing numbers of subscribers and workers: a table, and a picture of cost against scale.
    Scale(scale::Scale),
    /// Many connections and no events: bytes of the server's memory a connection.
    Idle(idle::Idle),
    /// A history and one new subscriber: how long he takes to have all of it.
    Catchup(catchup::Catchup),
    /// Polls over connections that are kept alive: answers a second.
    Poll(poll::Poll),
    /// POSTs over connections that are kept alive, and no subscriber: acknowledgements a second.
    Publish(publish::Publish),
}

impl Cli {
    /// How the server is started.
    pub(crate) fn launch(&self) -> io::Result<launch::Launch> {
        let flags = self.server_flags.split_whitespace().map(str::to_owned).collect();
        if let Some(peer) = compare::Peer::named(&self.server)
            && let Some(lack) = peer.lacks(self.work.asks(), self.over())
        {
            return Err(io::Error::other(format!("`--server {}`: {lack}", peer.name())));
        }
        if matches!(self.work, Work::Scale(_)) && self.workers.is_some() {
            return Err(io::Error::other(
                "`scale` runs as many workers as its `--threads` say, not `--workers`",
            ));
        }
        let tls = self.tls.then(tls::Identity::new).transpose()?;
        let deflates = self.work.asks() == compare::Asks::Deflated;
        let (program, workers) = (self.server.clone(), self.workers.unwrap_or(1).into());
        Ok(launch::Launch { program, workers, flags, tls, deflates })
    }

    /// What connections are made over.
    pub(crate) fn over(&self) -> compare::Over {
        if self.tls { compare::Over::Tls } else { compare::Over::Tcp }
    }
}

impl Work {
    /// What is asked of a server.
    fn asks(&self) -> compare::Asks {
        match self {
            Self::Fanout(work) => work.load.asks(),
            Self::Many(work) => compare::Asks::Topics(work.transport),
            Self::Burst(work) => compare::Asks::Live(work.transport),
            Self::Storm(work) => compare::Asks::Missed(work.transport),
            Self::Scale(work) => work.load.asks(),
            Self::Idle(work) => compare::Asks::Live(work.transport),
            Self::Catchup(work) => compare::Asks::History(work.transport),
            Self::Poll(work) => compare::Asks::Polls(work.behind.unwrap_or(0)),
            Self::Publish(_) => compare::Asks::Publishes,
        }
    }

    /// The same where peers are compared by it.
    pub(crate) fn compared(&self) -> Option<compare::Asks> {
        Some(self.asks()).filter(|_| !matches!(self, Self::Storm(_) | Self::Scale(_)))
    }

    pub(crate) fn needs(&self) -> launch::Needs {
        match self {
            Self::Fanout(work) => work.needs(),
            Self::Many(work) => work.needs(),
            Self::Burst(work) => work.needs(),
            Self::Storm(work) => work.needs(),
            Self::Idle(work) => work.needs(),
            Self::Catchup(work) => work.needs(),
            Self::Poll(_) | Self::Publish(_) | Self::Scale(_) => Vec::new(),
        }
    }

    pub(crate) fn run(&self, server: &process::Server) -> io::Result<Run> {
        match self {
            Self::Fanout(work) => work.run(server),
            Self::Many(work) => work.run(server),
            Self::Burst(work) => work.run(server),
            Self::Storm(work) => work.run(server),
            Self::Idle(work) => work.run(server),
            Self::Catchup(work) => work.run(server),
            Self::Poll(work) => work.run(server),
            Self::Publish(work) => work.run(server),
            Self::Scale(_) => Err(io::Error::other("it has runs of its own")),
        }
    }

    pub(crate) fn label(&self) -> String {
        match self {
            Self::Fanout(work) => work.label(),
            Self::Many(work) => work.label(),
            Self::Burst(work) => work.label(),
            Self::Storm(work) => work.label(),
            Self::Idle(work) => work.label(),
            Self::Catchup(work) => work.label(),
            Self::Poll(work) => work.label(),
            Self::Publish(work) => work.label(),
            Self::Scale(_) => "scale".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parsed(line: &str) -> Result<Cli, String> {
        Cli::try_parse_from(line.split(' ')).map_err(|error| error.to_string())
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_work_can_be_asked_for_over_tls() {
        for work in ["fanout", "many", "burst", "storm", "scale", "idle", "catchup", "poll", "publish"] {
            for line in [format!("bench {work} --tls"), format!("bench --tls {work}")] {
                assert_eq!(parsed(&line).unwrap().over(), compare::Over::Tls, "{line}");
            }
            assert_eq!(parsed(&format!("bench {work}")).unwrap().over(), compare::Over::Tcp);
        }
    }

    #[test]
    fn a_certificate_is_made_where_it_is_asked_for() {
        let launch = |line| parsed(line).unwrap().launch().unwrap();
        assert!(launch("bench publish").tls.is_none());
        let told = launch("bench publish --tls --workers 2 --server hub");
        assert!(told.tls.is_some());
        assert_eq!((told.workers, told.program.as_str()), (2, "hub"));
    }

    #[test]
    fn examples_can_be_parsed() {
        let lines = EXAMPLES.lines().filter_map(|line| line.strip_prefix("  "));
        let mut number = 0;
        for line in lines {
            let line = line.split("   ").next().unwrap();
            assert!(parsed(line).is_ok(), "{line}");
            number += 1;
        }
        assert_eq!(number, 14);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for line in [
            "bench",
            "bench fanout --transport http-poll",
            "bench storm --transport ws",
            "bench fanout --ahead 0",
            "bench publish --json --table",
            "bench publish --workers 0",
            "bench publish --tls yes",
            "bench publish --runs 0",
            "bench publish --quiet nan",
            "bench publish --connections 0",
            "bench publish --payload 39",
            "bench fanout --subscribers 0",
            "bench fanout --seconds 0",
            "bench fanout --messages 0",
            "bench fanout --payload 10",
            "bench fanout --rate 0",
            "bench many --payload 10",
            "bench burst --subscribers 0",
            "bench burst --payload 10",
            "bench storm --connections 0",
            "bench storm --rate 0",
            "bench storm --payload 10",
            "bench scale --subscribers 1,0",
            "bench scale --threads 0",
            "bench idle --connections 0",
            "bench idle --topics 0",
            "bench catchup --messages 0",
            "bench catchup --payload 10",
            "bench poll --connections 0",
            "bench poll --payload 10",
        ] {
            assert!(parsed(line).is_err(), "{line}");
        }
    }

    #[test]
    fn scale_has_no_workers_but_its_own() {
        let launch = |line| parsed(line).unwrap().launch().map(|launch| launch.workers);
        let error = launch("bench scale --workers 1").unwrap_err().to_string();
        assert!(error.contains("`--threads`"), "{error}");
        assert_eq!(launch("bench scale").unwrap(), 1);
    }
}

//! What is compared with.

use std::{env, ffi::OsStr, io, process::Command};

use clap::ValueEnum;

use super::{Over, nginx};
use crate::{
    dialect::Dialect,
    launch::{Launch, Needs, arguments, taskset},
    process::Server,
    wire::Transport,
};

/// A server that is not ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    /// axum's WebSocket by hand, over `tokio::sync::broadcast`.
    AxumWs,
    /// fastwebsockets in axum by hand, the same.
    Fastwebsockets,
    /// axum's Server-Sent Events by hand, the same.
    AxumSse,
    /// tonic's server streaming by hand, the same.
    Tonic,
    /// nginx with Nchan, of Debian's package.
    Nchan,
    /// pushpull itself, mounted into axum by hand.
    Mounted,
    /// No server: frames written by one thread to one socket after another, one a write. The machine's own limit.
    RawWrites,
}

/// What a figure asks of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asks {
    /// Events as they come.
    Live(Transport),
    /// The same, each message deflated, on a WebSocket.
    Deflated,
    /// Events of many topics, each to who asked for it.
    Topics(Transport),
    /// Events that were published before.
    History(Transport),
    /// The events that came while a subscriber was away.
    Missed(Transport),
    /// Polls that are answered at once, and how many events are in an answer.
    Polls(u64),
    /// POSTs.
    Publishes,
}

impl Peer {
    pub(crate) const ALL: [Self; 7] = [
        Self::AxumWs,
        Self::Fastwebsockets,
        Self::AxumSse,
        Self::Tonic,
        Self::Nchan,
        Self::Mounted,
        Self::RawWrites,
    ];

    /// As the command line has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::AxumWs => "axum-ws",
            Self::Fastwebsockets => "fastwebsockets",
            Self::AxumSse => "axum-sse",
            Self::Tonic => "tonic",
            Self::Nchan => "nchan",
            Self::Mounted => "mounted",
            Self::RawWrites => "raw-writes",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|peer| peer.name() == name)
    }

    /// Whether it is somebody else's server, as those are that `all` stands for.
    pub(super) fn is_rival(self) -> bool {
        !matches!(self, Self::Mounted | Self::RawWrites)
    }

    /// Whether it has what a figure asks for.
    pub(crate) fn can(self, asks: Asks) -> bool {
        use Transport::{Grpc, HttpPoll, Longpoll, Sse, Ws};
        match (self, asks) {
            (Self::Mounted, _) | (_, Asks::Publishes) => true,
            // It has one topic.
            (Self::RawWrites, Asks::Topics(_)) => false,
            (_, Asks::Topics(transport)) => self.can(Asks::Live(transport)),
            (Self::AxumWs | Self::Fastwebsockets | Self::RawWrites, Asks::Live(transport)) => transport == Ws,
            (_, Asks::Deflated) => self == Self::Nchan,
            (Self::AxumSse, Asks::Live(transport)) => transport == Sse,
            (Self::Tonic, Asks::Live(transport)) => transport == Grpc,
            (Self::Nchan, Asks::Live(transport)) => matches!(transport, Ws | Sse | Longpoll),
            (Self::Nchan, Asks::History(transport)) => matches!(transport, Ws | Sse | Longpoll | HttpPoll),
            // It has one message in an answer.
            (Self::Nchan, Asks::Polls(events)) => events <= 1,
            (_, Asks::History(_) | Asks::Missed(_) | Asks::Polls(_)) => false,
        }
    }

    /// Why it cannot be asked for that, if it cannot.
    pub(crate) fn lacks(self, asks: Asks, over: Over) -> Option<String> {
        if over == Over::Tls && self == Self::RawWrites {
            return Some("it speaks no TLS, which `--tls` asks for".to_owned());
        }
        let is_told = |transport| self.can(Asks::Live(transport));
        let lack = match asks {
            _ if self.can(asks) => return None,
            Asks::Live(transport) | Asks::Topics(transport) if !is_told(transport) => {
                return Some(format!("`--transport {}` is none of its transports", transport.name()));
            }
            Asks::Deflated => "it negotiates no permessage-deflate",
            Asks::Topics(_) => "it has one topic",
            Asks::History(_) | Asks::Missed(_) => "it has no history that can be asked for so",
            Asks::Polls(_) => "it cannot be polled so",
            Asks::Live(_) | Asks::Publishes => "it has not what this figure asks for",
        };
        Some(lack.to_owned())
    }

    /// Starts it with so many workers, on as many of the first cores. What a figure needs is told to who has limits
    /// as the hub has them.
    pub(crate) fn start(self, launch: &Launch, needs: &Needs) -> io::Result<Server> {
        let Launch { workers, tls, .. } = *launch;
        if self == Self::Nchan {
            return nginx::start(launch);
        }
        let program = env::current_exe()?.with_file_name("pushpull-baseline");
        if !program.exists() {
            let program = program.display();
            return Err(io::Error::other(format!(
                "{program} is not built: cargo build --release -p pushpull-bench"
            )));
        }
        let mut command = pinned(&program, workers);
        command.args([self.name(), "--listen", "127.0.0.1:0"]);
        if self != Self::Mounted {
            return Server::launch(&mut command, Dialect::Plain, tls);
        }
        Server::launch(command.args(arguments(needs, &[])), Dialect::Pushpull, tls)
    }
}

/// `program`, to be run on as many of the first cores as it has workers: so many threads has tokio there.
pub(super) fn pinned(program: impl AsRef<OsStr>, workers: usize) -> Command {
    let mut command = taskset();
    command.args(["-c", &format!("0-{}", workers.max(1) - 1)]).arg(program);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_has_its_name_on_the_command_line() {
        for peer in Peer::ALL {
            let told = peer.to_possible_value().unwrap();
            assert_eq!((told.get_name(), Peer::named(peer.name())), (peer.name(), Some(peer)));
        }
        assert_eq!(Peer::ALL.len(), Peer::value_variants().len());
    }

    #[test]
    fn neither_ours_nor_no_server_is_a_rival() {
        let others = Peer::ALL.iter().filter(|peer| !peer.is_rival()).map(|peer| peer.name());
        assert_eq!(others.collect::<Vec<_>>(), ["mounted", "raw-writes"]);
    }

    #[test]
    fn nobody_is_asked_for_what_it_has_not() {
        let able =
            |asks| Peer::ALL.iter().filter(|peer| peer.can(asks)).map(|peer| peer.name()).collect::<Vec<_>>();
        assert_eq!(
            able(Asks::Live(Transport::Ws)),
            ["axum-ws", "fastwebsockets", "nchan", "mounted", "raw-writes"]
        );
        assert_eq!(able(Asks::Live(Transport::Sse)), ["axum-sse", "nchan", "mounted"]);
        assert!(!able(Asks::Topics(Transport::Ws)).contains(&"raw-writes"));
        assert_eq!(able(Asks::Live(Transport::Grpc)), ["tonic", "mounted"]);
        assert_eq!(able(Asks::Live(Transport::WsJson)), ["mounted"]);
        assert_eq!(able(Asks::History(Transport::Longpoll)), ["nchan", "mounted"]);
        assert_eq!(able(Asks::Polls(0)), ["nchan", "mounted"]);
        assert_eq!(able(Asks::Polls(10)), ["mounted"]);
        assert_eq!(able(Asks::Publishes).len(), 7);
        assert_eq!(able(Asks::Deflated), ["nchan", "mounted"]);
        assert_eq!(able(Asks::Missed(Transport::Sse)), ["mounted"]);
    }

    #[test]
    fn what_is_lacking_is_named() {
        let lacks = |peer: Peer, asks| peer.lacks(asks, Over::Tcp).unwrap_or_default();
        assert_eq!(
            lacks(Peer::Nchan, Asks::Live(Transport::Grpc)),
            "`--transport grpc` is none of its transports"
        );
        assert_eq!(lacks(Peer::AxumWs, Asks::Deflated), "it negotiates no permessage-deflate");
        assert_eq!(lacks(Peer::RawWrites, Asks::Topics(Transport::Ws)), "it has one topic");
        assert!(lacks(Peer::RawWrites, Asks::Topics(Transport::Sse)).contains("--transport sse"));
        let over_tls = Peer::RawWrites.lacks(Asks::Publishes, Over::Tls).unwrap();
        assert!(over_tls.contains("`--tls`"), "{over_tls}");
        assert_eq!(Peer::Nchan.lacks(Asks::Deflated, Over::Tls), None);
    }
}

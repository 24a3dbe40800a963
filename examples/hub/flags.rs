//! The hub's flags.

use std::{
    fs,
    net::SocketAddr,
    num::{NonZeroU64, NonZeroUsize},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Parser;
use pushpull::{
    Gate, JwtAuthorizer, ListenerConfig, Problem, Retention, TlsConfig,
    webhook::{Cidr, RetryPolicy, WebhooksConfig},
};
use pushpull_examples::{address, at_least_one, interval, seconds};

/// Sockets beyond those of streams and waiting polls: publishes, scrapes and handshakes under way.
const SPARE_SOCKETS: usize = 6_384;

/// Delivers live events over WebSocket, Server-Sent Events, long polling, HTTP polling, gRPC and webhooks.
#[derive(Debug, Parser)]
#[command(name = "hub", version)]
pub(crate) struct Flags {
    /// Address to listen on; port 0 picks a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080", value_parser = address)]
    pub(crate) listen: SocketAddr,
    /// Where the sequence is stored.
    #[arg(long, default_value = "memory", value_parser = engine)]
    engine: Engine,
    /// Most events of a topic.
    #[arg(long, value_name = "N", default_value = "10000", value_parser = at_least_one::<NonZeroUsize>)]
    retain_messages: NonZeroUsize,
    /// Most bytes of events in all.
    #[arg(long, value_name = "N", default_value = "268435456", value_parser = at_least_one::<NonZeroU64>)]
    retain_bytes: NonZeroU64,
    /// Most bytes of one topic's events.
    #[arg(long, value_name = "N", default_value = "67108864", value_parser = at_least_one::<NonZeroU64>)]
    retain_topic_bytes: NonZeroU64,
    /// Oldest event [default: no limit].
    #[arg(long, value_name = "SECONDS", value_parser = interval)]
    retain_seconds: Option<Duration>,
    /// Most keys of a topic that a snapshot gives.
    #[arg(long, value_name = "N", default_value = "10000")]
    retain_keys: usize,
    /// How many of the newest events keep their encodings for those who come later.
    #[arg(long, value_name = "N", default_value = "4096")]
    encoded_messages: usize,
    /// Most bytes of kept encodings.
    #[arg(long, value_name = "N", default_value = "16777216")]
    encoded_bytes: u64,
    /// Most topics on record.
    #[arg(long, value_name = "N", default_value = "1000000", value_parser = at_least_one::<NonZeroUsize>)]
    max_topics: NonZeroUsize,
    /// Largest payload.
    #[arg(long, value_name = "BYTES", default_value = "1048576", value_parser = at_least_one::<NonZeroUsize>)]
    max_payload: NonZeroUsize,
    /// Most streams and waiting polls at once.
    #[arg(long, value_name = "N", default_value = "10000", value_parser = at_least_one::<NonZeroUsize>)]
    max_connections: NonZeroUsize,
    /// Browser origin that may come besides the hub's own, as in https://app.example; repeatable.
    #[arg(long, value_name = "ORIGIN")]
    allow_origin: Vec<String>,
    /// File with the secret of HS256 tokens; without a key anybody may do anything.
    #[arg(long, value_name = "FILE", conflicts_with = "jwt_public_key_file")]
    jwt_hs256_file: Option<PathBuf>,
    /// File with the public key (PEM) of RS256, ES256, ES384 or EdDSA tokens.
    #[arg(long, value_name = "FILE")]
    jwt_public_key_file: Option<PathBuf>,
    /// Time between two keep-alives of a stream.
    #[arg(long, value_name = "SECONDS", default_value = "15", value_parser = interval)]
    keep_alive: Duration,
    /// How long clients have to leave at shutdown.
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub(crate) drain: Duration,
    /// Worker threads [default: one a core].
    #[arg(long, value_name = "N", value_parser = at_least_one::<NonZeroUsize>)]
    pub(crate) workers: Option<NonZeroUsize>,
    /// File with the certificate chain (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// File with the private key (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Lets endpoints of webhooks be registered over HTTP.
    #[arg(long)]
    webhooks: bool,
    /// Range of private or special addresses that webhooks may go to all the same, as in 10.0.0.0/8; repeatable.
    #[arg(long, value_name = "CIDR", requires = "webhooks")]
    webhook_allow: Vec<Cidr>,
    /// Delay before a webhook's second attempt; it doubles from there [default: 5].
    #[arg(long, value_name = "SECONDS", requires = "webhooks", value_parser = interval)]
    webhook_first_retry: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
enum Engine {
    Memory,
}

impl Flags {
    pub(crate) fn retention(&self) -> Retention {
        let Engine::Memory = self.engine;
        let retention = Retention::default()
            .with_messages(self.retain_messages.get())
            .with_bytes(self.retain_bytes.get())
            .with_topic_bytes(self.retain_topic_bytes.get())
            .with_keys(self.retain_keys)
            .with_encodings(self.encoded_messages, self.encoded_bytes)
            .with_topics(self.max_topics.get())
            .with_payload(self.max_payload.get());
        match self.retain_seconds {
            Some(age) => retention.with_age(age),
            None => retention,
        }
    }

    pub(crate) fn gate(&self) -> Result<Gate, Box<dyn std::error::Error>> {
        let mut gate = Gate::builder()
            .with_max_connections(self.max_connections.get())
            .with_max_payload(self.max_payload.get())
            .with_keep_alive(self.keep_alive);
        for origin in &self.allow_origin {
            gate = gate.with_origin(origin);
        }
        if let Some(file) = &self.jwt_hs256_file {
            gate = gate
                .with_authorizer(JwtAuthorizer::hs256(read(file)?.trim_ascii_end()).map_err(in_file(file))?);
        }
        if let Some(file) = &self.jwt_public_key_file {
            gate = gate.with_authorizer(JwtAuthorizer::public_key_pem(&read(file)?).map_err(in_file(file))?);
        }
        Ok(gate.build()?)
    }

    pub(crate) fn listener(&self) -> ListenerConfig {
        ListenerConfig::default().with_sockets(self.max_connections.get().saturating_add(SPARE_SOCKETS))
    }

    /// How webhooks are sent, if they are.
    pub(crate) fn webhooks(&self) -> Option<WebhooksConfig> {
        let mut config = self.webhooks.then(WebhooksConfig::default)?;
        for range in &self.webhook_allow {
            config = config.with_allowed(*range);
        }
        Some(match self.webhook_first_retry {
            Some(first) => config.with_policy(RetryPolicy::default().with_first(first)),
            None => config,
        })
    }

    pub(crate) fn tls(&self) -> Result<Option<TlsConfig>, String> {
        let (Some(chain), Some(key)) = (&self.tls_cert, &self.tls_key) else { return Ok(None) };
        let config = TlsConfig::from_pem(&read(chain)?, &read(key)?);
        config
            .map(Some)
            .map_err(|problem: Problem| format!("{} and {}: {problem}", chain.display(), key.display()))
    }
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    fs::read(file).map_err(in_file(file))
}

fn in_file<E: std::fmt::Display>(file: &Path) -> impl FnOnce(E) -> String {
    let file = file.display().to_string();
    move |error| format!("{file}: {error}")
}

fn engine(text: &str) -> Result<Engine, String> {
    match text {
        "memory" => Ok(Engine::Memory),
        _ => Err("this hub is built with the engine `memory` only".to_owned()),
    }
}

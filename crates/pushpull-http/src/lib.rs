//! What pushpull's HTTP adapters share: query, JSON, problems, origins, authorization, metrics, listener.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod body;
pub mod headers;
pub mod json;
mod paths;
pub mod problem;
#[cfg(feature = "proto")]
pub mod proto;
mod query;
mod transport;

#[cfg(feature = "server")]
mod auth;
#[cfg(feature = "client")]
mod client;
#[cfg(feature = "server")]
mod drain;
#[cfg(feature = "server")]
mod gate;
#[cfg(feature = "jwt")]
mod jwt;
#[cfg(feature = "server")]
mod lane;
#[cfg(feature = "server")]
mod listener;
#[cfg(feature = "server")]
mod live;
#[cfg(feature = "server")]
mod metrics;
#[cfg(feature = "server")]
mod origin;
#[cfg(feature = "server")]
mod poll;
#[cfg(feature = "server")]
mod status;
#[cfg(feature = "server")]
mod sweep;
#[cfg(all(feature = "tls", feature = "server"))]
mod tls;
#[cfg(feature = "server")]
mod topics;
#[cfg(all(test, feature = "server"))]
mod wakes;

pub use body::{Body, BoxError};
pub use paths::{Paths, Route};
pub use query::{BatchFormat, Endpoint, Format, KeepAlive, Query, Token, encode_fetch, encode_query};
pub use transport::Transport;

#[cfg(feature = "client")]
pub use client::{
    Answer, BaseUrl, HttpClient, HttpProducer, HttpPull, PollPath, PollingClient, RequestError, StreamClient,
};
#[cfg(feature = "server")]
pub use {
    auth::{Action, AllowAll, Authorizer},
    drain::Drain,
    gate::{
        Call, CallKind, ConfigError, ConnectionGuard, Entry, Gate, GateBuilder, Holding, Limits, Peer,
        Refusal, RefusalKind, expired,
    },
    listener::{Incomings, Listener, ListenerConfig, Rewound},
    live::{Given, Live, in_chunk},
    metrics::{Exposition, Metrics, Observation, Observed, Rejection},
    origin::Origins,
    poll::{MAX_PAGE, PollRequest},
    status::StatusService,
    sweep::{
        Alarm, Connection, Membership, Moment, Nudged, Post, Round, Served, Swept, Taken, Turn, yield_turn,
    },
    topics::TopicService,
};

#[cfg(feature = "jwt")]
pub use jwt::{JwtAuthorizer, KeyError};
#[cfg(all(feature = "tls", feature = "server"))]
pub use tls::TlsConfig;

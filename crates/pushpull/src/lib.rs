#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "server")]
mod backend;
#[cfg(feature = "client")]
mod connect;
#[cfg(feature = "server")]
mod server;
#[cfg(feature = "server")]
mod service;

pub use async_trait::async_trait;
pub use pushpull_core::*;
pub use pushpull_http::{Format, Paths, Transport};

#[cfg(feature = "server")]
pub use {
    backend::Backend,
    pushpull_broker::{Broker, Engine, MemoryEngine, RelayEngine, Retention, Stats},
    pushpull_http::{
        Action, AllowAll, Authorizer, Body, ConfigError, Drain, Endpoint, Entry, Gate, GateBuilder,
        Incomings, Limits, ListenerConfig, Metrics, Origins, Peer,
    },
    server::{BoundServer, Server},
    service::{Service, service},
};
#[cfg(feature = "client")]
pub use {
    connect::{ConnectOptions, Source, connect},
    pushpull_http::{BaseUrl, HttpClient},
};

#[cfg(feature = "grpc-stream")]
pub use pushpull_grpc_stream as grpc_stream;
#[cfg(all(feature = "tls", feature = "server"))]
pub use pushpull_http::TlsConfig;
#[cfg(feature = "jwt")]
pub use pushpull_http::{JwtAuthorizer, KeyError};
#[cfg(feature = "http-poll")]
pub use pushpull_http_poll as http_poll;
#[cfg(feature = "longpoll")]
pub use pushpull_longpoll as longpoll;
#[cfg(feature = "sse")]
pub use pushpull_sse as sse;
#[cfg(feature = "webhook")]
pub use pushpull_webhook as webhook;
#[cfg(feature = "ws")]
pub use pushpull_ws as ws;

/// The server halves that are enabled, over what `backend` can do.
#[cfg(feature = "server")]
#[allow(unused_variables, unused_mut, reason = "without any transport there is nothing to do it with")]
fn transports(backend: &Backend, gate: &Gate) -> service::Transports {
    let mut transports = service::Transports::default();
    #[cfg(feature = "ws")]
    if let Some(push) = &backend.push {
        let mut ws = pushpull_ws::WsService::new(push.clone(), gate.clone());
        if let Some(producer) = &backend.producer {
            ws = ws.with_producer(producer.clone());
        }
        transports.add(Transport::Ws, ws);
    }
    #[cfg(feature = "sse")]
    if let Some(push) = &backend.push {
        transports.add(Transport::Sse, pushpull_sse::SseService::new(push.clone(), gate.clone()));
    }
    #[cfg(feature = "longpoll")]
    if let Some(pull) = &backend.pull {
        transports
            .add(Transport::Longpoll, pushpull_longpoll::LongpollService::new(pull.clone(), gate.clone()));
    }
    #[cfg(feature = "http-poll")]
    if let Some(pull) = &backend.pull {
        transports.add(Transport::Poll, pushpull_http_poll::PollService::new(pull.clone(), gate.clone()));
    }
    #[cfg(feature = "grpc-stream")]
    if let Some(push) = &backend.push {
        let mut grpc = pushpull_grpc_stream::GrpcService::new(push.clone(), gate.clone());
        if let Some(pull) = &backend.pull {
            grpc = grpc.with_pull(pull.clone());
        }
        if let Some(producer) = &backend.producer {
            grpc = grpc.with_producer(producer.clone());
        }
        transports.add_calls(pushpull_grpc_stream::GrpcService::serves, grpc);
    }
    transports
}

#[cfg(feature = "client")]
const TLS: connect::Tls = if cfg!(feature = "tls") { connect::Tls::On } else { connect::Tls::Off };

/// The client halves that are enabled, the best first.
#[cfg(feature = "client")]
fn clients() -> Vec<(Transport, connect::Make)> {
    vec![
        #[cfg(feature = "ws")]
        (Transport::Ws, |asked| Ok(connect::Client::new(pushpull_ws::WsClient::over(asked.http()?)))),
        #[cfg(feature = "sse")]
        (Transport::Sse, |asked| Ok(connect::Client::new(pushpull_sse::SseClient::over(asked.http()?)))),
        #[cfg(feature = "longpoll")]
        (Transport::Longpoll, |asked| {
            let client = pushpull_longpoll::LongpollClient::over(asked.http()?);
            let schedule = Schedule::long_poll(asked.options.wait);
            Ok(connect::Client::pulling(client.with_schedule(schedule)))
        }),
        #[cfg(feature = "http-poll")]
        (Transport::Poll, |asked| {
            let client = pushpull_http_poll::HttpPollClient::over(asked.http()?);
            let schedule = Schedule::every(asked.options.interval);
            Ok(connect::Client::pulling(client.with_schedule(schedule)))
        }),
        #[cfg(feature = "grpc-stream")]
        (Transport::Grpc, |asked| {
            let mut client = pushpull_grpc_stream::GrpcClient::new(&asked.url)?;
            if let Some(token) = &asked.options.token {
                client = client.with_token(token)?;
            }
            Ok(connect::Client::pulling(client))
        }),
    ]
}

#[cfg(all(doctest, feature = "server"))]
#[doc = include_str!("../../../docs/authorization.md")]
mod authorization {}

#[cfg(all(doctest, feature = "client"))]
#[doc = include_str!("../../../docs/connect.md")]
mod connecting {}

#[cfg(all(doctest, feature = "client", feature = "server", feature = "webhook", feature = "http-poll"))]
#[doc = include_str!("../../../docs/webhook.md")]
mod webhooks {}

//! The transports there are, and what each can show.

use pushpull_testkit::{Capabilities, Capability};

/// A way to a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// In process, pushed.
    Broker,
    /// In process, pulled.
    BrokerPull,
    /// WebSocket, in JSON.
    Ws,
    /// WebSocket, in protobuf.
    WsProto,
    /// Server-Sent Events.
    Sse,
    /// Long polling.
    Longpoll,
    /// HTTP polling.
    HttpPoll,
    /// gRPC, `Subscribe`.
    Grpc,
    /// gRPC, `Attach`.
    GrpcAttach,
    /// gRPC, `Fetch`.
    GrpcFetch,
    /// Webhooks, joined with HTTP polling.
    Webhook,
}

/// Who decides when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The producer.
    Pushed,
    /// The consumer.
    Pulled,
}

impl Transport {
    /// Every transport there is. Neighbours, the last and the first too, are every kind of pair: pushed to pulled,
    /// pulled to pushed, and each to its own.
    pub const ALL: &[Self] = &[
        Self::Broker,
        Self::BrokerPull,
        Self::Ws,
        Self::WsProto,
        Self::Sse,
        Self::Longpoll,
        Self::HttpPoll,
        Self::Grpc,
        Self::GrpcAttach,
        Self::GrpcFetch,
        Self::Webhook,
    ];

    /// The name of its tests.
    pub fn name(self) -> &'static str {
        match self {
            Self::Broker => "broker",
            Self::BrokerPull => "broker_pull",
            Self::Ws => "ws",
            Self::WsProto => "ws_proto",
            Self::Sse => "sse",
            Self::Longpoll => "longpoll",
            Self::HttpPoll => "http_poll",
            Self::Grpc => "grpc",
            Self::GrpcAttach => "grpc_attach",
            Self::GrpcFetch => "grpc_fetch",
            Self::Webhook => "webhook",
        }
    }

    /// Who decides when its events come.
    pub fn mode(self) -> Mode {
        match self {
            Self::BrokerPull | Self::Longpoll | Self::HttpPoll | Self::GrpcFetch => Mode::Pulled,
            Self::Broker
            | Self::Ws
            | Self::WsProto
            | Self::Sse
            | Self::Grpc
            | Self::GrpcAttach
            | Self::Webhook => Mode::Pushed,
        }
    }

    /// What it can show.
    pub fn capabilities(self) -> Capabilities {
        use Capability::{Credit, Cut, Heartbeat, OverflowLatest, Publish, Snapshot};
        let all = Capabilities::NONE.with(Publish).with(Snapshot).with(Credit);
        match self {
            Self::Broker => all.with(OverflowLatest),
            Self::BrokerPull => all.with(Heartbeat),
            Self::Ws | Self::WsProto | Self::Sse | Self::Grpc | Self::GrpcAttach => {
                all.with(Cut).with(Heartbeat).with(OverflowLatest)
            }
            Self::Longpoll | Self::HttpPoll | Self::GrpcFetch => all.with(Cut).with(Heartbeat),
            Self::Webhook => Capabilities::NONE.with(Snapshot).with(Cut).with(Heartbeat),
        }
    }
}

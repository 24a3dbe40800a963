//! Every promise on every transport, and from every transport to every other.

mod hand_over;
mod hooks;
mod skips;

use pushpull_broker::Retention;
use pushpull_tests::{Transport, TransportHarness, World};

/// Events of a topic that the worlds of these tests retain.
const RETAINS: usize = 256;

async fn over(transport: Transport) -> TransportHarness {
    World::start(Retention::default().with_messages(RETAINS), 1).await.over(transport)
}

macro_rules! transports {
    ($($name:ident $transport:ident)*) => {
        mod make {
            use super::{Transport, TransportHarness, over};

            $(pub(crate) async fn $name() -> TransportHarness {
                over(Transport::$transport).await
            })*
        }

        $(pushpull_testkit::conformance!($name, crate::make::$name);)*

        #[test]
        fn every_transport_is_held_to_the_promises() {
            let held: &[&str] = &[$(stringify!($name)),*];
            let all: Vec<_> = Transport::ALL.iter().map(|transport| transport.name()).collect();
            assert_eq!(held, all);
        }
    };
}

transports! {
    broker Broker
    broker_pull BrokerPull
    ws Ws
    ws_proto WsProto
    sse Sse
    longpoll Longpoll
    http_poll HttpPoll
    grpc Grpc
    grpc_attach GrpcAttach
    grpc_fetch GrpcFetch
    webhook Webhook
}

//! What one turn does, by count and not by time.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    task::{Wake, Waker},
};

use http_body::Body as _;
use http_body_util::Full;
use pushpull_broker::Broker;
use pushpull_http::proto::Counted;

use super::*;
use crate::{
    codec,
    proto::{Message, PublishRequest, client_frame},
    server::call::streaming,
};

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A frame that publishes a batch, or one message where `batch` is 0.
fn publish(id: Option<u64>, batch: usize) -> Vec<u8> {
    let messages = vec![Message::default(); batch];
    let asked = PublishRequest { id, topic: "a".into(), messages, ..PublishRequest::default() };
    codec::message(&ClientFrame { frame: Some(client_frame::Frame::Publish(asked)) }).to_vec()
}

fn attached(broker: &Broker, said: Vec<u8>) -> Session {
    let body = tonic::body::Body::new(Full::new(Bytes::from(said)));
    let push = Arc::new(broker.clone());
    let shared = Shared {
        push: push.clone(),
        producer: Some(push),
        gate: Gate::open(),
        cx: pushpull_core::Context::default(),
    };
    let frames = streaming(body, 1 << 20, Counted::OfFrame);
    Session::new(shared, None, None, Opening::Attach(frames))
}

#[tokio::test(start_paused = true)]
async fn one_turn_publishes_some_thousand_messages_at_most() {
    for (said, all, most) in [
        (publish(None, 0).repeat(5000), 5000, 1200),
        (publish(Some(1), 0).repeat(5000), 5000, 1200),
        // A batch is one act, and the work of a turn.
        (publish(None, 10_000).repeat(4), 40_000, 10_000),
    ] {
        let broker = Broker::memory();
        let mut session = attached(&broker, said);
        let wakes = Arc::new(Wakes::default());
        let (mut turns, mut before, mut woken) = (0, 0, 0);
        loop {
            let waker = Waker::from(wakes.clone());
            match Pin::new(&mut session).poll_frame(&mut Context::from_waker(&waker)) {
                // What is given is written in the same turn.
                Poll::Ready(Some(_)) => continue,
                Poll::Ready(None) => break,
                Poll::Pending => {}
            }
            let done = broker.place().seq();
            assert!(done - before <= most, "{} in a turn", done - before);
            assert_eq!(wakes.0.load(Ordering::Relaxed), woken, "others come before it");
            tokio::task::yield_now().await;
            let now = wakes.0.load(Ordering::Relaxed);
            assert!(now > woken, "it asks for its next turn");
            (turns, before, woken) = (turns + 1, done, now);
        }
        assert_eq!(broker.place().seq(), all);
        assert!(turns >= all / most - 1, "{turns} turns");
    }
}

//! Many small messages and a reader who pauses: h2 closes the connection of a client that buffers too many short DATA
//! frames, so it is the server that must send none.

use pushpull_broker::{Broker, Retention};
use pushpull_core::{Message, Producer};
use pushpull_http::{Exposition, Gate};

use crate::support::{Node, event, next, topics, until};

const COUNT: usize = 60_000;
/// Enough to use up the budget of a stock client (2.5 MiB), were each sent in a frame of its own length.
const TRICKLE: usize = 20_000;

fn broker() -> Broker {
    Broker::memory_with(Retention::default().with_messages(COUNT))
}

/// How many events were handed to hyper.
fn delivered(gate: &Gate) -> usize {
    let page = gate.metrics().render(Exposition::default(), None);
    let line = page.lines().find(|line| line.starts_with("pushpull_delivered_total{transport=\"grpc\"}"));
    line.unwrap().rsplit(' ').next().unwrap().parse().unwrap()
}

fn small() -> Message {
    Message::new(vec![7; 20])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_who_pauses_gets_all_that_piled_up() {
    let node = Node::start(&broker(), Gate::open()).await;
    let mut frames = node.subscribe(topics(&["a"])).await;
    next(&mut frames).await;
    let (cx, topic) = (Default::default(), "a".parse().unwrap());
    for _ in 0..COUNT / 100 {
        let batch: Vec<_> = (0..100).map(|_| small()).collect();
        node.broker.publish(&cx, &topic, &batch).await.unwrap();
    }
    // Until the stream's window (2 MiB) is all but full: one a frame, 17,500 would use up the budget.
    until(|| delivered(&node.gate) >= 19_000).await;
    for n in 1..=COUNT {
        assert!(event(next(&mut frames).await).cursor.ends_with(&format!("-{n}")));
    }
}

#[tokio::test]
async fn a_reader_who_pauses_gets_all_that_trickled() {
    let node = Node::start(&broker(), Gate::open()).await;
    let mut frames = node.subscribe(topics(&["a"])).await;
    next(&mut frames).await;
    let (cx, topic) = (Default::default(), "a".parse().unwrap());
    for _ in 0..TRICKLE {
        node.broker.publish(&cx, &topic, &[small()]).await.unwrap();
        // On the one thread there is, the stream takes its turn, and the client's connection its own.
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
    }
    for n in 1..=TRICKLE {
        assert!(event(next(&mut frames).await).cursor.ends_with(&format!("-{n}")));
    }
}

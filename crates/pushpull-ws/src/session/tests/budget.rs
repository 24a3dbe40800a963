//! What all peers together may leave unread.

use super::*;

#[tokio::test(start_paused = true)]
async fn who_takes_nothing_for_longest_is_closed_where_all_hold_too_much() {
    let broker = Broker::memory();
    let gate = Gate::builder().with_max_unsent(12_000).build().unwrap();
    let mut peers = Vec::new();
    for _ in 0..4 {
        let mut peer = connect(&broker, &gate, Call::default(), 1024, asks()).await;
        peer.text().await;
        peers.push(peer);
    }
    publish(&broker, "x".repeat(5000)).await;
    // Each waits for its peer now: the first two in order are over.
    tokio::time::sleep(Duration::from_millis(10)).await;
    let ended: Vec<bool> = peers.iter().map(|peer| peer.served.is_finished()).collect();
    assert_eq!(ended.iter().filter(|ended| **ended).count(), 2, "{ended:?}");
    publish(&broker, "y").await;
    for (mut peer, ended) in peers.into_iter().zip(ended) {
        if !ended {
            assert!(peer.text().await.contains("xxx"), "it goes on");
            assert!(peer.text().await.contains("\"y\""));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_read_is_held_no_more() {
    let broker = Broker::memory();
    let gate = Gate::builder().with_max_unsent(12_000).build().unwrap();
    let mut peer = connect(&broker, &gate, Call::default(), 1024, asks()).await;
    peer.text().await;
    for _ in 0..20 {
        publish(&broker, "x".repeat(5000)).await;
        assert!(peer.text().await.contains("xxx"));
    }
}

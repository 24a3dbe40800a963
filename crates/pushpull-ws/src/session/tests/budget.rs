//! What all peers together may leave unread.

use super::*;

#[tokio::test(start_paused = true)]
async fn who_takes_nothing_for_longest_is_closed_where_all_hold_too_much() {
    let broker = Broker::memory();
    let gate = Gate::builder().with_max_unsent(9_000).build().unwrap();
    let mut peers = Vec::new();
    for _ in 0..4 {
        let mut peer = connect(&broker, &gate, Call::default(), 1024, asks()).await;
        peer.text().await;
        peers.push(peer);
    }
    let (mut late, mut early) = (peers.split_off(2), peers);
    publish(&broker, "x".repeat(5000)).await;
    // All wait for their peers now, which is too much for longer than a moment: two of them go on a little.
    tokio::time::sleep(Duration::from_secs(3)).await;
    for peer in &mut late {
        peer.read = vec![0; 500];
        peer.io.read_exact(&mut peer.read).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(10)).await;
    let peers = early.drain(..).chain(late).collect::<Vec<_>>();
    let ended: Vec<bool> = peers.iter().map(|peer| peer.served.is_finished()).collect();
    assert_eq!(ended, [true, true, false, false]);
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

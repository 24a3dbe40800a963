//! Members that come and go on several threads, while others publish.

use std::sync::atomic::AtomicU64;

use super::*;

const MEMBERS: u64 = 100;
const PUBLISHERS: usize = 3;
const EACH: usize = 300;

/// Comes and goes until all is there: each time it has left it looks by itself, and behind each time that it joins.
async fn come_and_go(member: Arc<Member>, sweeps: Arc<Sweeps>, mut seed: u64) {
    let mut next = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        seed >> 33
    };
    let mut membership = None;
    while lock(&member.seen).len() < PUBLISHERS * EACH {
        if membership.is_none() {
            member.look();
            membership = Some(member.join(&sweeps));
            member.look();
        } else if next() % 16 == 0 {
            membership = None;
        }
        for _ in 0..next() % 8 {
            yield_now().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_has_everything_in_order() {
    let (broker, sweeps) = (Broker::memory(), sweeps());
    let mut all = Vec::new();
    for at in 0..MEMBERS {
        all.push(Member::with(&broker, if at % 3 == 0 { &LOUD } else { &PLAIN }).await);
    }
    // Half come and go; to the others the sweep alone brings what there is.
    let (movers, stayers) = all.split_at(all.len() / 2);
    let stay: Vec<_> = stayers.iter().map(|member| member.join(&sweeps)).collect();
    let seed = AtomicU64::new(1);
    let moving: Vec<_> = movers
        .iter()
        .map(|member| {
            let seed = seed.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(come_and_go(member.clone(), sweeps.clone(), seed))
        })
        .collect();
    let publishing: Vec<_> = (0..PUBLISHERS)
        .map(|publisher| {
            let broker = broker.clone();
            thread::spawn(move || (0..EACH).for_each(|at| publish(&broker, &format!("{publisher}-{at}"))))
        })
        .collect();
    let caught_up = async {
        for moving in moving {
            moving.await.unwrap();
        }
        while stayers.iter().any(|member| lock(&member.seen).len() < PUBLISHERS * EACH) {
            yield_now().await;
        }
    };
    let is_caught_up = tokio::time::timeout(Duration::from_secs(60), caught_up).await.is_ok();
    publishing.into_iter().for_each(|thread| thread.join().unwrap());
    let expected = all[0].seen();
    assert_eq!(expected.len(), PUBLISHERS * EACH);
    for member in &all {
        assert_eq!(member.seen(), expected);
    }
    assert!(is_caught_up, "everybody had everything at last");
    drop(stay);
    let ended = async {
        while state(&sweeps) != (false, 0) {
            yield_now().await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(60), ended).await.is_ok(), "and every task ends");
    assert_eq!(all[0].signal().waiting(), 0);
}

//! Subscriptions that stand together, and follow one another.

use std::{sync::Arc, task::Context};

use pushpull_core::{Batch, Bounds, PushExt, Start, Stride, Subscription, silent_waker};

use crate::{Broker, asking, consume, drain, publish, small};

#[tokio::test]
async fn equal_subscriptions_stand_together() {
    let broker = Broker::memory();
    let mut one = consume(&broker, "a", Start::Latest).await;
    let mut two = consume(&broker, "a", Start::Earliest).await;
    assert!(one.standing().is_none(), "not before its first word");
    drain(&mut one);
    drain(&mut two);
    let (first, second) = (one.standing().unwrap(), two.standing().unwrap());
    assert_eq!((first.place, first.history), (second.place, second.history));
    assert!(Arc::ptr_eq(&first.signal, &second.signal));
    let mut thin = broker.consume(asking("a").conflate_by_key()).await.unwrap();
    drain(&mut thin);
    assert!(thin.standing().is_none());
    assert_eq!(first.signal.waiting(), 0, "who sweeps registers nothing");
}

/// What `subscription`, which stands, takes next, for those who stand with it.
pub(crate) fn stride(subscription: &mut Subscription) -> Option<Stride> {
    let from = subscription.standing()?;
    let mut batch = Batch::default();
    let mut cx = Context::from_waker(silent_waker());
    let polled = subscription.poll_batch(&mut cx, Bounds::default(), &mut batch);
    assert!(polled.is_ready(), "something was to be taken");
    Stride::new(from, &subscription.standing()?, &batch.deliveries)
}

#[tokio::test]
async fn who_stands_with_another_takes_its_stride() {
    let broker = Broker::memory();
    let mut one = consume(&broker, "a", Start::Latest).await;
    let mut two = consume(&broker, "a", Start::Latest).await;
    let mut other = consume(&broker, "b", Start::Latest).await;
    let mut wide = consume(&broker, "*", Start::Latest).await;
    for subscription in [&mut one, &mut two, &mut other, &mut wide] {
        drain(subscription);
    }
    publish(&broker, "a", 2).await;
    let taken = stride(&mut one).unwrap();
    assert_eq!(taken.events().len(), 2);
    assert!(!other.follow(&taken), "of another topic");
    assert!(!wide.follow(&taken), "of more topics");
    assert!(two.follow(&taken));
    assert_eq!(two.place(), one.place());
    assert!(!two.follow(&taken), "it has them");
    publish(&broker, "a", 1).await;
    assert_eq!(drain(&mut two), "e3", "goes on behind what it followed");
    assert!(!two.follow(&stride(&mut one).unwrap()), "it was asked meanwhile");
}

#[tokio::test]
async fn places_of_a_quiet_topic_stand_together_whenever_they_were_asked() {
    let broker = Broker::memory();
    let mut early = consume(&broker, "a", Start::Latest).await;
    let mut late = consume(&broker, "a", Start::Latest).await;
    publish(&broker, "a", 1).await;
    assert_eq!((drain(&mut early), drain(&mut late)), ("p0 e1".into(), "p0 e1".into()));
    publish(&broker, "b", 3).await;
    drain(&mut late);
    assert_ne!(early.place(), late.place());
    publish(&broker, "a", 1).await;
    let taken = stride(&mut late).unwrap();
    assert!(early.follow(&taken), "nothing of a lies between");
    publish(&broker, "a", 1).await;
    let taken = stride(&mut early).unwrap();
    assert!(late.follow(&taken));
    assert_eq!(early.place(), late.place());
}

#[tokio::test]
async fn nobody_follows_over_what_he_lost() {
    let broker = small(2);
    let mut quick = consume(&broker, "a", Start::Latest).await;
    let mut slow = consume(&broker, "a", Start::Latest).await;
    drain(&mut quick);
    drain(&mut slow);
    publish(&broker, "a", 5).await;
    assert_eq!(drain(&mut quick), "lagged 0..4@0 e4 e5");
    publish(&broker, "a", 1).await;
    let taken = stride(&mut quick).unwrap();
    assert!(!slow.follow(&taken));
    assert!(drain(&mut slow).starts_with("lagged 0.."));
}

#[tokio::test]
async fn a_gap_is_nobodys_stride() {
    let broker = small(2);
    let mut one = consume(&broker, "a", Start::Latest).await;
    drain(&mut one);
    publish(&broker, "a", 5).await;
    assert!(stride(&mut one).is_none());
}

//! The ring against a model: any publishes, any bounds, any cursor.

use std::collections::{BTreeSet, HashMap};

use proptest::prelude::*;
use pushpull_broker::{Broker, Retention};
use pushpull_core::{Delivery, Topics};

use crate::{asking, at, fetch, fetching, publish};

const TOPICS: [&str; 4] = ["a", "b.x", "b.y", "c"];
const ASKED: [&str; 6] = ["a", "b.x", "b.*", ">", "a b.x", "c b.>"];

/// What is retained of each topic: the newest `messages`.
fn retained(published: &[&'static str], messages: usize) -> (BTreeSet<u64>, HashMap<&'static str, u64>) {
    let mut by_topic: HashMap<&'static str, Vec<u64>> = HashMap::new();
    for (n, topic) in published.iter().enumerate() {
        by_topic.entry(topic).or_default().push(n as u64 + 1);
    }
    let mut kept = BTreeSet::new();
    let mut lost_to = HashMap::new();
    for (topic, seqs) in by_topic {
        let (lost, rest) = seqs.split_at(seqs.len().saturating_sub(messages));
        kept.extend(rest);
        lost_to.insert(topic, lost.last().copied().unwrap_or(0));
    }
    (kept, lost_to)
}

fn matches(topics: &Topics, topic: &str) -> bool {
    topics.matches(&topic.parse().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn a_fetch_gives_what_is_retained_and_tells_what_is_not(
        published in prop::collection::vec(prop::sample::select(&TOPICS[..]), 0..60),
        asked in prop::sample::select(&ASKED[..]),
        messages in 1usize..8,
        place in 0u64..60,
    ) {
        let place = place.min(published.len() as u64);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let deliveries = runtime.block_on(async {
            let broker = Broker::memory_with(Retention::default().with_messages(messages));
            for topic in &published {
                publish(&broker, topic, 1).await;
            }
            fetch(&broker, fetching(asked, at(&broker, place)).with_limit(1000)).await.1.deliveries
        });
        let topics = asking(asked).topics;
        let (kept, lost_to) = retained(&published, messages);
        let wanted = |seq: &u64| *seq > place && matches(&topics, published[*seq as usize - 1]);
        let expected: Vec<u64> = kept.into_iter().filter(wanted).collect();
        let told: Vec<u64> = deliveries.iter().filter_map(|d| match d {
            Delivery::Event(event) => Some(event.cursor().seq()),
            _ => None,
        }).collect();
        prop_assert_eq!(told, expected);
        let lost = lost_to.iter().filter(|(topic, _)| matches(&topics, topic)).map(|(_, seq)| *seq).max();
        let gaps: Vec<_> = deliveries.iter().filter_map(|d| match d {
            Delivery::Gap(gap) => Some((gap.after.seq(), gap.before.seq())),
            _ => None,
        }).collect();
        let gap = lost.filter(|lost| *lost > place).map(|lost| (place, lost + 1));
        prop_assert_eq!(gaps, Vec::from_iter(gap));
        prop_assert!(gap.is_none() || matches!(deliveries[0], Delivery::Gap(_)), "the gap comes first");
    }
}

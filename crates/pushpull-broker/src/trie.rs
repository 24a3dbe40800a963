//! Patterns by their segments, so that what matches a topic is found without looking at all of them.

use std::collections::HashMap;

use pushpull_core::{Pattern, Topic};

/// A value for each of a set of patterns.
#[derive(Debug)]
pub(crate) struct Trie<T>(Node<T>);

#[derive(Debug)]
struct Node<T> {
    named: HashMap<Box<str>, Self>,
    /// Behind a `*`.
    any: Option<Box<Self>>,
    /// Of the pattern that ends here.
    here: Option<T>,
    /// Of the pattern that ends here with a `>`.
    rest: Option<T>,
}

impl<T> Default for Trie<T> {
    fn default() -> Self {
        Self(Node::default())
    }
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self { named: HashMap::new(), any: None, here: None, rest: None }
    }
}

impl<T> Trie<T> {
    /// The value of `pattern`, to be set or taken; [`Trie::prune`] after taking it.
    pub(crate) fn entry(&mut self, pattern: &Pattern) -> &mut Option<T> {
        let mut node = &mut self.0;
        for segment in pattern.as_str().split('.') {
            node = match segment {
                ">" => return &mut node.rest,
                "*" => node.any.get_or_insert_default(),
                name => node.named.entry(name.into()).or_default(),
            };
        }
        &mut node.here
    }

    /// Drops what led to the value of `pattern` alone.
    pub(crate) fn prune(&mut self, pattern: &Pattern) {
        self.0.prune(pattern.as_str().split('.'));
    }

    /// Shows `found` the value of every pattern that matches `topic`.
    pub(crate) fn matching(&self, topic: &Topic, mut found: impl FnMut(&T)) {
        self.0.visit(Some(topic.as_str()), &mut found);
    }

    /// Shows `found` every value.
    pub(crate) fn all(&self, mut found: impl FnMut(&T)) {
        self.0.visit_all(&mut found);
    }
}

impl<T> Node<T> {
    /// Visits what matches the segments of `text`, the rest of a topic; `None` is its end.
    fn visit(&self, text: Option<&str>, found: &mut impl FnMut(&T)) {
        let Some(text) = text else {
            self.here.iter().for_each(found);
            return;
        };
        self.rest.iter().for_each(&mut *found);
        let (segment, rest) = match text.split_once('.') {
            Some((segment, rest)) => (segment, Some(rest)),
            None => (text, None),
        };
        let next = self.named.get(segment).into_iter().chain(self.any.as_deref());
        next.for_each(|node| node.visit(rest, found));
    }

    fn visit_all(&self, found: &mut impl FnMut(&T)) {
        self.here.iter().chain(&self.rest).for_each(&mut *found);
        self.named.values().chain(self.any.as_deref()).for_each(|node| node.visit_all(found));
    }

    /// Prunes below; `true` if nothing is left here.
    fn prune<'a>(&mut self, mut segments: impl Iterator<Item = &'a str>) -> bool {
        match segments.next() {
            None | Some(">") => {}
            Some("*") => {
                if self.any.as_mut().is_some_and(|node| node.prune(segments)) {
                    self.any = None;
                }
            }
            Some(name) => {
                if self.named.get_mut(name).is_some_and(|node| node.prune(segments)) {
                    self.named.remove(name);
                }
            }
        }
        self.named.is_empty() && self.any.is_none() && self.here.is_none() && self.rest.is_none()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern() -> impl Strategy<Value = Pattern> {
        "(a|b|\\*)(\\.(a|b|\\*)){0,3}(\\.>)?|>".prop_map(|text| Pattern::new(&text).unwrap())
    }

    proptest! {
        #[test]
        fn it_finds_what_matches_and_prunes_what_is_taken(
            patterns in prop::collection::vec(pattern(), 0..20),
            topics in prop::collection::vec("(a|b|c)(\\.(a|b|c)){0,4}", 1..10),
            kept in 0usize..20,
        ) {
            let mut trie = Trie::default();
            for pattern in &patterns {
                *trie.entry(pattern) = Some(pattern.clone());
            }
            let (gone, left) = patterns.split_at(patterns.len() - kept.min(patterns.len()));
            for pattern in gone.iter().filter(|pattern| !left.contains(pattern)) {
                trie.entry(pattern).take();
                trie.prune(pattern);
            }
            for topic in topics {
                let topic = Topic::new(&topic).unwrap();
                let mut found = Vec::new();
                trie.matching(&topic, |pattern| found.push(pattern.as_str().to_owned()));
                found.sort();
                let mut expected: Vec<_> =
                    left.iter().filter(|p| p.matches(&topic)).map(|p| p.as_str().to_owned()).collect();
                expected.sort();
                expected.dedup();
                prop_assert_eq!(found, expected);
            }
            for pattern in left {
                trie.entry(pattern).take();
                trie.prune(pattern);
            }
            let mut count = 0;
            trie.all(|_| count += 1);
            prop_assert_eq!(count, 0);
            prop_assert!(trie.0.named.is_empty() && trie.0.any.is_none());
        }
    }
}

//! Topics, patterns and sets of them (wire contract, section 1).

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

const MAX_BYTES: usize = 255;

/// A validated topic name: 1..=255 bytes, segments of `[A-Za-z0-9_-]` joined by `.`, none empty.
///
/// Cheap to clone (shared).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Topic(Arc<str>);

/// A topic name or a pattern over topic names: `*` is exactly one segment, `>` is one or more and only last.
///
/// Cheap to clone (shared).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pattern {
    text: Arc<str>,
    wild: Wild,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Wild {
    No,
    All,
    Yes,
}

/// What a subscription asks for: 1..=64 distinct topics and patterns.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Topics(Arc<[Pattern]>);

/// Why a text is no topic, no pattern or no set of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TopicError {
    /// The text is empty or longer than 255 bytes.
    #[error("a topic has 1 to 255 bytes, not {0}")]
    Length(usize),
    /// Two dots in a row, or one at an end.
    #[error("a topic has no empty segment: {0:?}")]
    EmptySegment(String),
    /// A character outside `[A-Za-z0-9_-]`, or a wildcard where none may stand.
    #[error("{character:?} may not stand in {text:?}: segments are of [A-Za-z0-9_-]")]
    Character {
        /// The first character at fault.
        character: char,
        /// The whole text.
        text: String,
    },
    /// `>` before the last segment.
    #[error("`>` stands only at the end of a pattern: {0:?}")]
    TailNotLast(String),
    /// No topic at all, or more than 64.
    #[error("a subscription has 1 to 64 topics, not {0}")]
    Count(usize),
}

fn check_length(text: &str) -> Result<(), TopicError> {
    if text.is_empty() || text.len() > MAX_BYTES { Err(TopicError::Length(text.len())) } else { Ok(()) }
}

fn check_segment(segment: &str, text: &str) -> Result<(), TopicError> {
    if segment.is_empty() {
        return Err(TopicError::EmptySegment(text.to_owned()));
    }
    match segment.chars().find(|c| !(c.is_ascii_alphanumeric() || *c == '_' || *c == '-')) {
        Some(character) => Err(TopicError::Character { character, text: text.to_owned() }),
        None => Ok(()),
    }
}

impl Topic {
    /// Checks `text` and takes it as a topic.
    ///
    /// # Errors
    /// If the text is none (section 1 of the wire contract).
    pub fn new(text: &str) -> Result<Self, TopicError> {
        check_length(text)?;
        text.split('.').try_for_each(|segment| check_segment(segment, text))?;
        Ok(Self(text.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Pattern {
    /// Checks `text` and takes it as a topic or pattern.
    ///
    /// # Errors
    /// If the text is neither (section 1 of the wire contract).
    pub fn new(text: &str) -> Result<Self, TopicError> {
        check_length(text)?;
        let mut wild = Wild::No;
        let mut segments = text.split('.').peekable();
        while let Some(segment) = segments.next() {
            match segment {
                "*" => wild = Wild::Yes,
                ">" if segments.peek().is_none() => wild = Wild::Yes,
                ">" => return Err(TopicError::TailNotLast(text.to_owned())),
                _ => check_segment(segment, text)?,
            }
        }
        Ok(Self { text: text.into(), wild: if text == ">" { Wild::All } else { wild } })
    }

    /// The pattern as text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it names one topic only.
    pub fn is_exact(&self) -> bool {
        self.wild == Wild::No
    }

    /// Whether it is `>`, which matches every topic.
    pub fn is_all(&self) -> bool {
        self.wild == Wild::All
    }

    /// The one topic it names, if it has no wildcard.
    pub fn to_topic(&self) -> Option<Topic> {
        self.is_exact().then(|| Topic(self.text.clone()))
    }

    /// Whether `topic` is one it asks for.
    pub fn matches(&self, topic: &Topic) -> bool {
        match self.wild {
            Wild::No => *self.text == *topic.0,
            Wild::All => true,
            Wild::Yes => matches_segments(&self.text, &topic.0),
        }
    }

    /// Whether every topic that `other` matches is matched by this one too: what authorization asks.
    pub fn covers(&self, other: &Self) -> bool {
        let mut mine = self.text.split('.');
        let mut theirs = other.text.split('.');
        loop {
            match (mine.next(), theirs.next()) {
                (None, None) => return true,
                (Some(">"), Some(_)) => return true,
                (Some("*"), Some(segment)) if segment != ">" => {}
                (Some(a), Some(b)) if a == b => {}
                _ => return false,
            }
        }
    }
}

fn matches_segments(pattern: &str, topic: &str) -> bool {
    let mut segments = topic.split('.');
    for wanted in pattern.split('.') {
        match (wanted, segments.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (text, Some(segment)) if text == segment => {}
            _ => return false,
        }
    }
    segments.next().is_none()
}

impl Topics {
    /// The most entries a set may have.
    pub const MAX: usize = 64;

    /// A set of the given entries, each counted once.
    ///
    /// # Errors
    /// [`TopicError::Count`] if there is none, or more than [`Topics::MAX`] distinct ones.
    pub fn new(entries: impl IntoIterator<Item = Pattern>) -> Result<Self, TopicError> {
        let mut distinct: Vec<Pattern> = Vec::new();
        for entry in entries {
            if !distinct.contains(&entry) {
                distinct.push(entry);
            }
            if distinct.len() > Self::MAX {
                return Err(TopicError::Count(distinct.len()));
            }
        }
        if distinct.is_empty() { Err(TopicError::Count(0)) } else { Ok(Self(distinct.into())) }
    }

    /// A set of one topic.
    pub fn only(topic: &Topic) -> Self {
        Self(Arc::new([Pattern::from(topic.clone())]))
    }

    /// The entries, in the order in which they were given.
    pub fn iter(&self) -> std::slice::Iter<'_, Pattern> {
        self.0.iter()
    }

    /// Whether `topic` is matched by any entry.
    pub fn matches(&self, topic: &Topic) -> bool {
        self.0.iter().any(|pattern| pattern.matches(topic))
    }

    /// Whether no entry has a wildcard.
    pub fn is_exact(&self) -> bool {
        self.0.iter().all(Pattern::is_exact)
    }

    /// The one topic asked for, if it is one, by name.
    pub fn single(&self) -> Option<Topic> {
        match &*self.0 {
            [one] => one.to_topic(),
            _ => None,
        }
    }

    /// This set and `more`.
    ///
    /// # Errors
    /// [`TopicError::Count`] if both together exceed [`Topics::MAX`].
    pub fn with(&self, more: &Self) -> Result<Self, TopicError> {
        Self::new(self.iter().chain(more.iter()).cloned())
    }

    /// This set less the entries of `fewer` (compared as text). `None` if nothing is left.
    pub fn without(&self, fewer: &Self) -> Option<Self> {
        Self::new(self.iter().filter(|entry| !fewer.0.contains(entry)).cloned()).ok()
    }
}

impl<'a> IntoIterator for &'a Topics {
    type Item = &'a Pattern;
    type IntoIter = std::slice::Iter<'a, Pattern>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl From<Topic> for Pattern {
    fn from(topic: Topic) -> Self {
        Self { text: topic.0, wild: Wild::No }
    }
}

impl From<Pattern> for Topics {
    fn from(pattern: Pattern) -> Self {
        Self(Arc::new([pattern]))
    }
}

impl FromStr for Topic {
    type Err = TopicError;
    fn from_str(text: &str) -> Result<Self, TopicError> {
        Self::new(text)
    }
}

impl FromStr for Pattern {
    type Err = TopicError;
    fn from_str(text: &str) -> Result<Self, TopicError> {
        Self::new(text)
    }
}

impl Borrow<str> for Topic {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Topic {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.text, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::new(text).unwrap()
    }

    #[test]
    fn names_are_checked() {
        for good in ["a", "quotes.AAPL", "a-b_c.9", &"x".repeat(255)] {
            assert_eq!(Topic::new(good).unwrap().as_str(), good);
        }
        assert_eq!(Topic::new(""), Err(TopicError::Length(0)));
        assert_eq!(Topic::new(&"x".repeat(256)), Err(TopicError::Length(256)));
        for bad in [".", "a.", ".a", "a..b", "a b", "ü", "*", "a.>", "a/b", "a\n"] {
            assert!(Topic::new(bad).is_err(), "{bad:?}");
        }
        for bad in [">.a", "a*", "a.>b", "**", "a.>.b"] {
            assert!(Pattern::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn patterns_match() {
        for (wanted, topic, expected) in [
            ("quotes.*", "quotes.AAPL", true),
            ("quotes.*", "quotes", false),
            ("quotes.*", "quotes.AAPL.bid", false),
            ("sport.>", "sport.tennis.final", true),
            ("sport.>", "sport", false),
            ("*.x", "a.x", true),
            ("*.x", "a.y", false),
            (">", "anything.at.all", true),
            ("a.*.c", "a.b.c", true),
            ("a", "a", true),
        ] {
            assert_eq!(pattern(wanted).matches(&topic.parse().unwrap()), expected, "{wanted} {topic}");
        }
    }

    #[test]
    fn covering() {
        for (grant, asked, expected) in [
            (">", "a.b", true),
            (">", ">", true),
            ("a.>", "a.*", true),
            ("a.*", "a.>", false),
            ("a.*", "a.b", true),
            ("a.b", "a.*", false),
            ("a.*.c", "a.b.c", true),
            ("*.b", "*.b", true),
            ("a.>", ">", false),
            ("a.>", "a", false),
        ] {
            assert_eq!(pattern(grant).covers(&pattern(asked)), expected, "{grant} {asked}");
        }
    }

    #[test]
    fn sets_count_distinct_entries() {
        let set = Topics::new([pattern("a"), pattern("a"), pattern("b")]).unwrap();
        assert_eq!(set.iter().count(), 2);
        assert_eq!(Topics::new([]), Err(TopicError::Count(0)));
        assert_eq!(Topics::new((0..65).map(|n| pattern(&format!("t{n}")))), Err(TopicError::Count(65)));
        assert_eq!(set.without(&pattern("a").into()).unwrap(), pattern("b").into());
        assert_eq!(set.without(&set), None);
    }

    proptest! {
        #[test]
        fn what_covers_also_matches(
            grant in "([ab]|\\*)(\\.([ab]|\\*)){0,2}(\\.>)?",
            asked in "([ab]|\\*)(\\.([ab]|\\*)){0,2}(\\.>)?",
            topic in "[ab](\\.[ab]){0,4}",
        ) {
            let (grant, asked) = (pattern(&grant), pattern(&asked));
            let topic = topic.parse().unwrap();
            if grant.covers(&asked) && asked.matches(&topic) {
                prop_assert!(grant.matches(&topic));
            }
        }
    }
}

//! What is kept of endpoints.

use std::{collections::HashMap, fmt, str::FromStr, sync::Mutex};

use async_trait::async_trait;
use pushpull_core::{Cursor, ErrorKind, Problem};
use serde::{Deserialize, Serialize};

use crate::Secret;

/// Names an endpoint: 32 hexadecimal digits, random.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct EndpointId(u128);

/// All that is kept of an endpoint, secrets included: what a [`Store`] saves. Opaque but for its serde form.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EndpointRecord {
    /// Its name.
    pub id: EndpointId,
    /// Where it is.
    pub url: String,
    /// The topics and patterns it asked for.
    pub topics: Vec<String>,
    /// What its deliveries are signed by, the newest first.
    pub secrets: Vec<Secret>,
    /// Whether the body is the payload alone.
    pub is_raw: bool,
    /// Who registered it, if that was established.
    pub owner: Option<String>,
    /// Where it begins, until it has a place.
    pub start: String,
    /// Its place: that of the last delivery it acknowledged.
    pub place: Option<Cursor>,
    /// A later place up to which there was nothing to deliver.
    pub scanned: Option<Cursor>,
    /// The `before` of a gap it was told that moved no place.
    pub told_before: Option<Cursor>,
    /// Whether it is sent to.
    pub state: State,
    /// Failures in a row of the delivery under way.
    pub failures: u32,
    /// When that delivery was first tried: Unix milliseconds.
    pub failing_since: Option<u64>,
}

/// Whether an endpoint is sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum State {
    /// It is sent to.
    Active,
    /// It is not, until it is enabled again.
    Disabled(DisabledBecause),
}

/// Why an endpoint is disabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DisabledBecause {
    /// It answered 410.
    Gone,
    /// A delivery failed until its schedule was exhausted.
    Exhausted,
    /// The source refuses its subscription for good.
    Refused,
}

/// Keeps endpoints. What survives a restart is the store's to promise.
///
/// # Contract
/// Each method is atomic; calls for one endpoint do not overlap.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Every endpoint kept.
    ///
    /// # Errors
    /// If the store cannot be read.
    async fn load(&self) -> Result<Vec<EndpointRecord>, Problem>;

    /// Keeps `record` in place of what was kept of this endpoint.
    ///
    /// # Errors
    /// If it is not kept.
    async fn save(&self, record: &EndpointRecord) -> Result<(), Problem>;

    /// Forgets an endpoint. One that is not there is no error.
    ///
    /// # Errors
    /// If it may still be kept.
    async fn remove(&self, id: EndpointId) -> Result<(), Problem>;
}

/// Keeps endpoints as long as the process lives.
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<HashMap<EndpointId, EndpointRecord>>);

#[async_trait]
impl Store for MemoryStore {
    async fn load(&self) -> Result<Vec<EndpointRecord>, Problem> {
        Ok(lock(&self.0).values().cloned().collect())
    }

    async fn save(&self, record: &EndpointRecord) -> Result<(), Problem> {
        lock(&self.0).insert(record.id, record.clone());
        Ok(())
    }

    async fn remove(&self, id: EndpointId) -> Result<(), Problem> {
        lock(&self.0).remove(&id);
        Ok(())
    }
}

/// What is locked here is whole between any two statements, so that a panic elsewhere spoils nothing.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl EndpointId {
    pub(super) fn random() -> Result<Self, Problem> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)
            .map_err(|error| Problem::new(ErrorKind::Internal, format!("no randomness: {error}")))?;
        Ok(Self(u128::from_be_bytes(bytes)))
    }
}

impl State {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Disabled(_) => "disabled",
        }
    }
}

impl DisabledBecause {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Exhausted => "exhausted",
            Self::Refused => "refused",
        }
    }
}

impl fmt::Display for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for EndpointId {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let is_plain = text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let number = u128::from_str_radix(text, 16).ok().filter(|_| is_plain);
        number.map(Self).ok_or_else(|| Problem::new(ErrorKind::NotFound, "there is no such endpoint"))
    }
}

impl Serialize for EndpointId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EndpointId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_record_survives_its_serde_form_and_the_store() {
        let record = EndpointRecord {
            id: EndpointId(0xabc),
            url: "http://h/".into(),
            topics: vec!["a.*".into()],
            secrets: vec![Secret::from_bytes(&[1; 24]).unwrap()],
            is_raw: false,
            owner: None,
            start: "latest".into(),
            place: Some("e-1".parse().unwrap()),
            scanned: None,
            told_before: None,
            state: State::Disabled(DisabledBecause::Gone),
            failures: 3,
            failing_since: Some(5),
        };
        let text = serde_json::to_string(&record).unwrap();
        let read: EndpointRecord = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
        assert!(!format!("{record:?}").contains(&record.secrets[0].reveal()));
        let store = MemoryStore::default();
        store.save(&record).await.unwrap();
        assert_eq!(store.load().await.unwrap()[0].id, record.id);
        store.remove(record.id).await.unwrap();
        assert!(store.load().await.unwrap().is_empty());
    }

    #[test]
    fn ids() {
        let id = EndpointId::random().unwrap();
        assert_eq!(id.to_string().parse::<EndpointId>().unwrap(), id);
        for bad in ["", "abc", &"A".repeat(32), &"+".repeat(32), &"0".repeat(33)] {
            assert_eq!(bad.parse::<EndpointId>().unwrap_err().kind(), ErrorKind::NotFound, "{bad}");
        }
    }
}

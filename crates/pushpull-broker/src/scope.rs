//! What a hub delivers at all.

use pushpull_core::{Pattern, Problem, Topic, Topics as Wanted};

use crate::hub::Hub;

impl Hub {
    pub(crate) fn limit_to(&self, topics: Wanted) {
        // Said twice, the first holds: what was let in by it stays right.
        let _ = self.scope.set(topics);
    }

    /// Checks that `topic` is delivered at all.
    pub(crate) fn check_topic(&self, topic: &Topic) -> Result<(), Problem> {
        match self.scope.get() {
            Some(scope) if !scope.matches(topic) => self.check_scope(&Wanted::only(topic)),
            _ => Ok(()),
        }
    }

    /// Checks that all of `wanted` is delivered at all.
    pub(crate) fn check_scope(&self, wanted: &Wanted) -> Result<(), Problem> {
        let Some(scope) = self.scope.get() else { return Ok(()) };
        let is_covered = |entry: &&Pattern| scope.iter().any(|pattern| pattern.covers(entry));
        match wanted.iter().find(|entry| !is_covered(entry)) {
            None => Ok(()),
            Some(entry) => {
                let carried: Vec<_> = scope.iter().map(Pattern::as_str).collect();
                let detail = format!("{} is not carried here, only {}", entry.as_str(), carried.join(", "));
                Err(Problem::invalid("topic", detail))
            }
        }
    }
}

//! A live connection, and what its end says of it.

use std::time::Duration;

use tokio::time::Instant;

use crate::{End, ErrorKind, Feed, Problem, Retry};

pub(super) struct Live {
    pub(super) feed: Box<dyn Feed>,
    pub(super) opened: Instant,
    /// When it brought something last.
    pub(super) heard: Instant,
}

impl Live {
    pub(super) fn new(feed: Box<dyn Feed>) -> Self {
        let opened = Instant::now();
        Self { feed, opened, heard: opened }
    }

    /// Its end, if that was `retry` or else `cause`.
    pub(super) fn end(&self, cause: Option<&Problem>, retry: Option<Duration>) -> End {
        if retry.is_some() || cause.is_some_and(is_announced) {
            return End::Announced { age: self.opened.elapsed() };
        }
        // Whoever was found silent was no use since he was heard last.
        match cause.is_some_and(|cause| cause.kind() == ErrorKind::Timeout) {
            true => End::Lost { age: self.heard - self.opened },
            false => End::Lost { age: self.opened.elapsed() },
        }
    }
}

/// Whether the source itself is there and asks to come back later.
pub(crate) fn is_announced(problem: &Problem) -> bool {
    let asks = problem.kind() == ErrorKind::Busy || matches!(problem.retry(), Retry::After(_));
    asks && !problem.is_doubtful()
}

//! How to connect.

use std::time::Duration;

/// No time is longer: what a clock can still add.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// How to connect, beyond the URL.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    pub(crate) token: Option<String>,
    pub(crate) interval: Duration,
    pub(crate) wait: Duration,
    pub(super) patience: Duration,
    pub(super) probe_interval: Duration,
    pub(super) publish_timeout: Duration,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            token: None,
            interval: Duration::from_secs(1),
            wait: Duration::from_secs(25),
            patience: Duration::from_secs(10),
            probe_interval: Duration::from_secs(30),
            publish_timeout: Duration::from_secs(30),
        }
    }
}

impl ConnectOptions {
    /// Every default.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bears `token` (RFC 6750). Default: none.
    #[must_use]
    pub fn with_token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// The time between two polls, jittered by a tenth. Default: 1 s.
    #[must_use]
    pub fn with_interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// How long the server may hold a long poll, in whole seconds up to 60. Default: 25 s.
    #[must_use]
    pub fn with_wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// How long a transport may take to bring its first word before the next one is tried. Default: 10 s. Where none
    /// answers a first subscribe may take so long for each, 40 s with every default, unless the deadline of its
    /// [`Context`](crate::Context) ends it before. Without meaning where the scheme pins a transport.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The time after which a better transport is probed again, jittered by a quarter. Default: 30 s; at least
    /// 10 ms. It doubles, up to ten times, with each step up that has to be taken back, until one holds. Without meaning
    /// where the scheme pins a transport.
    #[must_use]
    pub fn with_probe_interval(mut self, interval: Duration) -> Self {
        self.probe_interval = interval;
        self
    }

    /// How long a publish is tried whose [`Context`](crate::Context) names no deadline. Default: 30 s; at most a year.
    /// Where no server is there it fails once no further attempt would come in time.
    #[must_use]
    pub fn with_publish_timeout(mut self, timeout: Duration) -> Self {
        self.publish_timeout = timeout.min(LONGEST);
        self
    }
}

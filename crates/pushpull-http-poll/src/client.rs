//! The client half.

use pushpull_http::{HttpClient, HttpPull, PollPath, PollingClient};

/// A [`Pull`](pushpull_core::Pull) over a server's `/poll`, a [`Push`](pushpull_core::Push) by asking again and again,
/// and a [`Producer`](pushpull_core::Producer) by `POST /topics/{topic}`. Cheap to clone.
///
/// By default it asks every second, jittered by a tenth. The server never waits, whatever the request's `wait`: an
/// answer with nothing new comes at once. The rest is said at [`PollingClient`].
pub type HttpPollClient = PollingClient<Poll>;

/// `/poll`.
#[derive(Debug)]
pub enum Poll {}

impl PollPath for Poll {
    fn pull(http: HttpClient) -> HttpPull {
        HttpPull::polling(http)
    }
}

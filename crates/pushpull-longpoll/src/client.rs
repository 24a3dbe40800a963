//! The client half.

use pushpull_http::{HttpClient, HttpPull, PollPath, PollingClient};

/// A [`Pull`](pushpull_core::Pull) over a server's `/longpoll`, a [`Push`](pushpull_core::Push) by asking again and
/// again, and a [`Producer`](pushpull_core::Producer) by `POST /topics/{topic}`. Cheap to clone.
///
/// By default it asks again at once, each time waiting up to 25 s. A wait goes in whole seconds, rounded down. The rest
/// is said at [`PollingClient`].
pub type LongpollClient = PollingClient<Longpoll>;

/// `/longpoll`.
#[derive(Debug)]
pub enum Longpoll {}

impl PollPath for Longpoll {
    fn pull(http: HttpClient) -> HttpPull {
        HttpPull::long_polling(http)
    }
}

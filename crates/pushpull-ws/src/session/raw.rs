//! Raw mode: a data message is a payload to be published.

use pushpull_core::{Message as Published, Problem, Retry};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Session, command::Done};
use crate::{close::Closing, codec::server::weigh, decoder::Message};

impl<I: AsyncRead + AsyncWrite + Unpin + Send + 'static> Session<I> {
    pub(super) fn publish_raw(&mut self, message: Message) {
        let message = match message {
            Message::Text(text) => Published::new(text).with_content_type("text/plain; charset=utf-8"),
            Message::Binary(bytes) => Published::new(bytes),
            _ => return,
        };
        // A raw connection is let in with one exact topic only.
        if let Some(topic) = self.topics.as_ref().and_then(|topics| topics.single()) {
            self.spent.add(weigh(&message));
            self.inbox.fill().work =
                Some(self.shared.publish(self.caller.context(), None, topic, vec![message]));
        }
    }

    /// There are no error messages here: what was not published closes the connection.
    pub(super) fn on_raw_done(&mut self, done: Done) {
        let Done::Published { result: Err(error), .. } = done else { return };
        let problem: &Problem = error.problem();
        self.shared.gate.metrics().rejected(problem.into());
        let retry = match problem.retry() {
            Retry::After(delay) => Some(delay),
            _ => None,
        };
        self.close(&Closing::over(problem.kind()).resuming(retry, None));
    }
}

//! What a poller hands over.

use std::{
    future::Future,
    task::{self, Poll, ready},
};

use super::{Polling, State};
use crate::{
    Batch, Bounds, ConsumeError, Cursor, Delivery, Feed, Standing, Start, StartAt, SubscribeError, Topics,
};

impl Polling {
    fn hand_over(&mut self, bounds: Bounds, out: &mut Batch) {
        let (mut events, mut bytes) = (0, 0);
        while let Some(delivery) = self.waiting.front() {
            if let Delivery::Event(event) = delivery {
                bytes += event.payload().len();
                if events >= bounds.events || (events > 0 && bytes > bounds.bytes) {
                    break;
                }
                events += 1;
            }
            self.place = delivery.place().or(self.place);
            out.deliveries.extend(self.waiting.pop_front());
        }
        out.more = !self.waiting.is_empty();
    }
}

impl Feed for Polling {
    fn poll_batch(
        &mut self,
        cx: &mut task::Context<'_>,
        bounds: Bounds,
        out: &mut Batch,
    ) -> Poll<Option<Result<(), ConsumeError>>> {
        loop {
            let before = out.deliveries.len();
            self.hand_over(bounds, out);
            if out.deliveries.len() > before {
                return Poll::Ready(Some(Ok(())));
            }
            if !self.waiting.is_empty() {
                return Poll::Pending;
            }
            match &mut self.state {
                State::Ended => return Poll::Ready(None),
                State::Due => self.ask(),
                State::Resting(pause) => {
                    ready!(pause.as_mut().poll(cx));
                    self.ask();
                }
                State::Asking(answer, question) => {
                    let question = *question;
                    match ready!(answer.as_mut().poll(cx)) {
                        Ok(batch) => self.take(batch, question),
                        Err(error) => {
                            if let Some(error) = self.fail(error) {
                                return Poll::Ready(Some(Err(error)));
                            }
                        }
                    }
                }
            }
        }
    }

    fn place(&self) -> Option<Cursor> {
        self.place
    }

    fn retarget(&mut self, topics: Topics) -> Result<(), SubscribeError> {
        self.request.topics = topics;
        if matches!(self.state, State::Ended) {
            return Ok(());
        }
        self.waiting.retain(|delivery| matches!(delivery, Delivery::Link(_)));
        if let (None, Some(asked), StartAt::Start(Start::Latest)) =
            (self.place, self.asked, self.request.start)
        {
            // The starting place holds, though it was not told yet.
            self.request.start = StartAt::After(asked);
        }
        self.asked = self.place;
        if !(self.troubled && matches!(self.state, State::Resting(_))) {
            self.state = State::Due;
        }
        Ok(())
    }

    fn grant(&mut self, _: u64) {}

    fn conflated(&self) -> u64 {
        self.conflated
    }

    fn standing(&self) -> Option<Standing> {
        None
    }
}

//! The server half: `GET /longpoll`.

use std::{
    convert::Infallible,
    fmt,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::{self, Poll, Waker},
    time::Duration,
};

use http::{Request, Response, header::IF_NONE_MATCH, request::Parts};
use pushpull_core::{Batch, Context, Cursor, Fetch, FetchError, Pull, Start, StartAt};
use pushpull_http::{Alarm, Body, Endpoint, Gate, PollRequest, Query, Turn};
use tokio::time::Instant;
use tower_service::Service;

/// Serves long polls over any [`Pull`]: each waits for its first event. Cheap to clone.
///
/// It answers every path it is called with: mount it where `/longpoll` should be. A poll whose client is gone is
/// given up, if the server drops its future then, as hyper does.
#[derive(Clone)]
pub struct LongpollService {
    pull: Arc<dyn Pull>,
    gate: Gate,
}

impl LongpollService {
    /// Serves `pull` to whom `gate` lets in.
    pub fn new(pull: Arc<dyn Pull>, gate: Gate) -> Self {
        Self { pull, gate }
    }

    /// The poll, which names a place if it waits; or what to answer at once.
    async fn understand(self, request: Parts) -> Result<Box<PollRequest>, Response<Body>> {
        let (poll, arrived) = self.enter(&request).await?;
        match self.begin(&poll, arrived).await {
            Ok(Some(place)) => Ok(Box::new(poll.after(place))),
            Ok(None) => Ok(Box::new(poll)),
            Err(error) => Err(poll.answer(Err(error))),
        }
    }

    /// Lets the request in. Where that takes time, the place at which it arrived is noted meanwhile.
    async fn enter(&self, request: &Parts) -> Result<(PollRequest, Option<Cursor>), Response<Body>> {
        let mut entering = pin!(PollRequest::enter(&self.gate, request, Endpoint::Longpoll));
        let at_once = poll_fn(|cx| Poll::Ready(entering.as_mut().poll(cx))).await;
        if let Poll::Ready(entered) = at_once {
            return Ok((entered?, None));
        }
        let (entered, arrived) = tokio::join!(entering, self.arrival(request));
        Ok((entered?, arrived))
    }

    /// The place at which a request that names none arrived. Nothing else of it is known yet, so nobody is told.
    async fn arrival(&self, request: &Parts) -> Option<Cursor> {
        if request.headers.contains_key(IF_NONE_MATCH) {
            return None;
        }
        let query = Query::parse(request.uri.query(), Endpoint::Longpoll).ok()?;
        let asked = query.fetch(None).ok().filter(is_latest)?;
        self.newest(&Context::default(), asked).await.ok()?
    }

    /// The place that a poll is given which named none, so that it can be asked a second time.
    async fn begin(&self, poll: &PollRequest, arrived: Option<Cursor>) -> Result<Option<Cursor>, FetchError> {
        let fetch = poll.fetch();
        match arrived {
            _ if !is_latest(fetch) => Ok(None),
            None if !fetch.wait.is_zero() => self.newest(poll.cx(), fetch.clone()).await,
            arrived => Ok(arrived),
        }
    }

    async fn newest(&self, cx: &Context, fetch: Fetch) -> Result<Option<Cursor>, FetchError> {
        let asked = fetch.with_limit(1).with_wait(Duration::ZERO);
        (*self.pull).fetch(cx, asked).await.map(|batch| batch.place)
    }

    async fn wait(&self, poll: &PollRequest) -> Response<Body> {
        match self.fetched(poll).await {
            Waited::Fetched(fetched) => return poll.answer(fetched),
            Waited::Expired => return poll.answer_expired(),
            Waited::Drained => {}
        }
        let fetched = (*self.pull).fetch(poll.cx(), poll.fetch().clone().with_wait(Duration::ZERO)).await;
        poll.answer(fetched)
    }

    /// Waits for the first of what ends the wait.
    async fn fetched(&self, poll: &PollRequest) -> Waited {
        let mut fetching = (*self.pull).fetch(poll.cx(), poll.fetch().clone());
        let expires = poll.cx().identity.as_ref().and_then(|identity| identity.expires);
        let (mut alarm, mut waker) = (None::<Alarm>, None::<Waker>);
        let mut turn = None::<Turn>;
        // Which has all of it: what waits is to hold no references to what it holds itself.
        poll_fn(move |cx| {
            // Of a thousand that one event wakes each goes on in its turn, and takes what came until then along.
            if waker.is_some() && turn.is_none() {
                turn = self.gate.turn(cx.waker());
            }
            if turn.as_ref().is_none_or(Turn::has_come) {
                turn = None;
                if let Poll::Ready(fetched) = fetching.as_mut().poll(cx) {
                    return Poll::Ready(Waited::Fetched(fetched));
                }
            }
            let alarm = alarm.get_or_insert_with(|| self.gate.alarm());
            if !waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
                waker = Some(cx.waker().clone());
                alarm.unset();
            }
            // No wait is longer. Where no identity ends, the alarm is for a drain alone.
            let at = expires.unwrap_or_else(|| Instant::now() + Fetch::MAX_WAIT);
            match alarm.poll_at(at, cx).is_ready() {
                true => Poll::Ready(Waited::Expired),
                // Looked at last: what began before the alarm was set wakes nobody.
                false if self.gate.drain().is_draining() => Poll::Ready(Waited::Drained),
                false => Poll::Pending,
            }
        })
        .await
    }
}

/// What ended a wait.
enum Waited {
    Fetched(Result<Batch, FetchError>),
    Expired,
    Drained,
}

fn is_latest(fetch: &Fetch) -> bool {
    fetch.start == StartAt::Start(Start::Latest)
}

impl<B> Service<Request<B>> for LongpollService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (parts, _) = request.into_parts();
        // Boxed, and by itself: a poll that waits is to cost nothing of what it took to understand it.
        let (service, understanding) = (self.clone(), Box::pin(self.clone().understand(parts)));
        Box::pin(async move {
            Ok(match understanding.await {
                Ok(poll) => service.wait(&poll).await,
                Err(answer) => answer,
            })
        })
    }
}

impl fmt::Debug for LongpollService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LongpollService").field("gate", &self.gate).finish_non_exhaustive()
    }
}

//! The fast lane: plain HTTP/1.1 requests, taken from the socket and answered without hyper.
//!
//! What has come is received into a buffer that all connections of a thread share, and judged ([`head::judge`]). What is a
//! plain request is answered by the same service; requests that came together are answered together, as far as nothing waits
//! ([`turn`]). What is left when others have their turn, mostly nothing, is kept in as many bytes ([`received`]). In any doubt
//! the socket goes to hyper together with all that was received and not taken ([`Rewound`]).

mod answer;
mod date;
mod head;
mod live;
mod received;
mod rest;
mod socket;
mod stream;
mod turn;
mod write;

use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    ops::ControlFlow,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::Response;
use pin_project_lite::pin_project;
use tokio::net::TcpStream;
use tower_service::Service;

use crate::{
    Body,
    listener::{Answering, Checked, Incomings, Place, Rewound, Shared},
    yield_turn,
};

use answer::{Framing, Unsent};
use head::{Asked, Plain, Verdict};
use rest::{Next, Rest};
use turn::{Ahead, Turn};

/// What the lane leaves a connection to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Onward {
    Http1,
    Http2,
    /// HTTP/1.1, with a bare `>` in the request line.
    Bare,
}

/// The socket and what is to be spoken on it, where a request is not plain; `None` once the connection has ended.
type Left = Option<(Rewound, Onward)>;

/// The socket, and whether bytes of the next request came; `None` once the connection has ended.
type Finished = Option<(TcpStream, bool)>;

pin_project! {
    /// A connection in the lane, until it is left to others or has ended.
    ///
    /// Written out, since the future of an `async fn` has room for many a thing twice.
    pub(crate) struct Lane<S, F> {
        // Elsewhere while an answer is finished.
        stream: Option<TcpStream>,
        peer: SocketAddr,
        place: Place<S>,
        asked: Asked,
        // Whether bytes of the next request came before the answer was done.
        is_early: bool,
        rest: Rest,
        aside: Option<Box<Aside>>,
        #[pin]
        stage: Stage<F>,
    }
}

/// What is rare, and lasts no longer than an answer or the rest of a request.
#[derive(Default)]
struct Aside {
    /// What the socket did not take of the answers before the one under way.
    behind: Option<write::Left>,
    /// What was received and not taken yet: at most [`received::ROOM`] bytes.
    kept: Option<Box<[u8]>>,
}

pin_project! {
    #[project = StageProj]
    enum Stage<F> {
        Resting,
        Answering { #[pin] answering: Answering<F> },
        Streaming { live: live::Stream },
        // Boxed: only an answer that needs it is to pay for it.
        Finishing { finishing: Pin<Box<dyn Future<Output = Finished> + Send>> },
    }
}

impl<S> Lane<S, S::Future>
where
    S: Service<Incomings, Response = Response<Body>, Error = Infallible> + Clone,
{
    pub(crate) fn new(stream: TcpStream, peer: SocketAddr, place: Place<S>) -> Self {
        let rest = Rest::new(&place.config, place.alarms.alarm());
        let asked = Asked { is_head: false, closes: false };
        let (stream, stage) = (Some(stream), Stage::Resting);
        Self { stream, peer, place, asked, is_early: false, rest, aside: None, stage }
    }

    pub(crate) fn peer(&self) -> SocketAddr {
        self.peer
    }

    pub(crate) fn shared(&self) -> &Arc<Shared<S>> {
        &self.place
    }

    fn poll_turn(mut self: Pin<&mut Self>, turn: &mut Turn, cx: &mut Context<'_>) -> Poll<Left> {
        loop {
            let lane = self.as_mut().project();
            let step = match lane.stage.project() {
                StageProj::Resting => ready!(self.as_mut().poll_rest(turn, cx)),
                StageProj::Answering { .. } => ready!(self.as_mut().poll_answer(turn, cx)),
                StageProj::Streaming { live } => {
                    let finished = ready!(live.poll(cx));
                    self.as_mut().finished(finished, turn)
                }
                StageProj::Finishing { finishing } => {
                    let finished = ready!(finishing.as_mut().poll(cx));
                    self.as_mut().finished(finished, turn)
                }
            };
            if let ControlFlow::Break(left) = step {
                return Poll::Ready(left);
            }
        }
    }

    fn poll_rest(mut self: Pin<&mut Self>, turn: &mut Turn, cx: &mut Context<'_>) -> Poll<ControlFlow<Left>> {
        let lane = self.as_mut().project();
        turn.resume(lane.aside.take().and_then(|aside| aside.kept));
        let verdict = match turn.ahead() {
            Ahead::Request(plain) => return Poll::Ready(self.ask(*plain, turn)),
            Ahead::Other(verdict) => verdict,
        };
        let Some(stream) = lane.stream else { return Poll::Ready(ControlFlow::Break(None)) };
        match turn.settle(stream) {
            Ok(None) if turn.is_over() => {
                yield_turn(cx);
                Poll::Pending
            }
            Ok(None) => self.poll_next(turn, verdict, cx),
            Ok(Some(left)) => Poll::Ready(self.send_on(Unsent::Left(left))),
            Err(_) => Poll::Ready(ControlFlow::Break(None)),
        }
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        turn: &mut Turn,
        verdict: Option<Verdict>,
        cx: &mut Context<'_>,
    ) -> Poll<ControlFlow<Left>> {
        let lane = self.as_mut().project();
        let Some(stream) = lane.stream else { return Poll::Ready(ControlFlow::Break(None)) };
        let times = (&lane.place.config, &lane.place.drain);
        let onward = match ready!(lane.rest.poll_next(stream, turn, verdict, times, cx)) {
            Next::Request(plain) => return Poll::Ready(self.ask(*plain, turn)),
            Next::Onward(onward) => onward,
            Next::End => {
                lane.stream.take().as_ref().map(socket::close);
                return Poll::Ready(ControlFlow::Break(None));
            }
        };
        lane.rest.pause();
        let first = turn.kept().unwrap_or_default();
        let left = lane.stream.take().map(|stream| (Rewound::new(first, stream), onward));
        Poll::Ready(ControlFlow::Break(left))
    }

    /// Hands a request to the service.
    fn ask(self: Pin<&mut Self>, plain: Plain, turn: &mut Turn) -> ControlFlow<Left> {
        let mut lane = self.project();
        let Plain { asked, request, .. } = plain;
        let answering = Checked::new(lane.place.service.clone(), *lane.peer).call(request);
        turn.begin();
        *lane.asked = asked;
        lane.stage.set(Stage::Answering { answering });
        ControlFlow::Continue(())
    }

    fn poll_answer(
        mut self: Pin<&mut Self>,
        turn: &mut Turn,
        cx: &mut Context<'_>,
    ) -> Poll<ControlFlow<Left>> {
        let mut lane = self.as_mut().project();
        let (StageProj::Answering { answering }, Some(stream)) =
            (lane.stage.as_mut().project(), &lane.stream)
        else {
            return Poll::Ready(ControlFlow::Continue(()));
        };
        if let Some(aside) = lane.aside
            && let Some(left) = &mut aside.behind
        {
            if ready!(write::poll_left(stream, left, cx)).is_err() {
                return Poll::Ready(ControlFlow::Break(None));
            }
            aside.behind = None;
        }
        let Poll::Ready(Ok(response)) = answering.poll(cx) else {
            return match turn.settle(stream) {
                Ok(None) => socket::poll_gone(stream, lane.is_early, cx).map(|()| ControlFlow::Break(None)),
                Ok(Some(left)) => {
                    lane.aside.get_or_insert_default().behind = Some(left);
                    Poll::Ready(ControlFlow::Continue(()))
                }
                Err(_) => Poll::Ready(ControlFlow::Break(None)),
            };
        };
        lane.stage.set(Stage::Resting);
        let asked = lane.asked.closing_if(lane.place.drain.is_draining());
        let Ok((unsent, closes)) = answer::send(stream, turn, response, asked) else {
            return Poll::Ready(ControlFlow::Break(None));
        };
        lane.asked.closes = closes;
        match unsent {
            None => {
                let stream = lane.stream.take();
                Poll::Ready(self.go_on(stream, turn))
            }
            Some(unsent) => Poll::Ready(self.send_on(unsent)),
        }
    }

    /// Sends what is left of an answer, before which nothing more is taken.
    fn send_on(self: Pin<&mut Self>, unsent: Unsent) -> ControlFlow<Left> {
        let mut lane = self.project();
        let Some(stream) = lane.stream.take() else { return ControlFlow::Break(None) };
        lane.rest.pause();
        lane.stage.set(Stage::after(unsent, stream, *lane.is_early));
        ControlFlow::Continue(())
    }

    fn finished(mut self: Pin<&mut Self>, finished: Finished, turn: &mut Turn) -> ControlFlow<Left> {
        let Some((stream, is_early)) = finished else { return ControlFlow::Break(None) };
        let lane = self.as_mut().project();
        *lane.is_early = is_early;
        // Said or not: a client that sends its next request while the server goes away gets a clean end.
        *lane.asked = lane.asked.closing_if(lane.place.drain.is_draining());
        self.go_on(Some(stream), turn)
    }

    /// Begins to rest after an answer, or ends the connection.
    fn go_on(self: Pin<&mut Self>, stream: Option<TcpStream>, turn: &mut Turn) -> ControlFlow<Left> {
        let mut lane = self.project();
        lane.stage.set(Stage::Resting);
        match (lane.asked.closes, stream) {
            (false, Some(stream)) => {
                let is_early = std::mem::take(lane.is_early);
                *lane.stream = if is_early { socket::rearm(stream) } else { Some(stream) };
                lane.rest.begin(&lane.place.config, turn.now());
                ControlFlow::Continue(())
            }
            (_, stream) => {
                stream.as_ref().map(socket::close);
                ControlFlow::Break(None)
            }
        }
    }
}

impl<F> Stage<F> {
    /// What sends the rest of an answer.
    fn after(unsent: Unsent, stream: TcpStream, is_early: bool) -> Self {
        let (head, body, framing) = match unsent {
            Unsent::Left(left) => {
                let sent = async move { write::rest(&stream, left).await.ok().map(|()| (stream, is_early)) };
                return Self::Finishing { finishing: Box::pin(sent) };
            }
            Unsent::Stream(head, body, framing) => (head, body, framing),
        };
        let body = match body.into_live() {
            Ok(body) if framing == Framing::Chunked => {
                return Self::Streaming { live: live::Stream::new(stream, head, body, is_early) };
            }
            Ok(body) => Body::from(body),
            Err(body) => body,
        };
        Self::Finishing { finishing: Box::pin(finish(stream, head, body, framing, is_early)) }
    }
}

async fn finish(
    stream: TcpStream,
    head: Vec<u8>,
    body: Body,
    framing: Framing,
    mut is_early: bool,
) -> Finished {
    let sent = stream::send(&stream, head, body, framing, &mut is_early).await;
    sent.ok().map(|()| (stream, is_early))
}

impl<S> Future for Lane<S, S::Future>
where
    S: Service<Incomings, Response = Response<Body>, Error = Infallible> + Clone,
{
    type Output = Left;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Left> {
        let mut turn = Turn::default();
        let polled = self.as_mut().poll_turn(&mut turn, cx);
        if polled.is_pending()
            && let Some(kept) = turn.kept()
        {
            self.project().aside.get_or_insert_default().kept = Some(kept);
        }
        polled
    }
}

#[cfg(test)]
mod tests;

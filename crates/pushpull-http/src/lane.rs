//! The fast lane: plain HTTP/1.1 requests, taken from the socket and answered without hyper.
//!
//! What has come is only looked at until it is sure to be plain ([`head::judge`]); then exactly its bytes are taken, and
//! the same service answers it. In any doubt the socket goes to hyper, with all its bytes in it. Between two requests a
//! connection holds no buffer.
//!
//! A socket with bytes in it is always readable, so after a look at a head that is not whole its readiness is cleared: the
//! next bytes, or the end, wake the connection again (edge-triggered polling, which tokio has on every Unix).

mod answer;
mod date;
mod head;
mod rest;
mod socket;
mod stream;
mod write;

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    net::SocketAddr,
    pin::{Pin, pin},
    task::Poll,
};

use http::Response;
use tokio::net::TcpStream;
use tower_service::Service;

use crate::{
    Body,
    listener::{Checked, Incomings, Shared},
};

use rest::{Next, Rest};

/// What the lane leaves a connection to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Onward {
    Http1,
    Http2,
    /// Bytes that have come, with a bare `>` in the request line among them.
    Bare(usize),
}

/// Answers the plain requests of a connection. Returns the socket and what is to be spoken on it where a request is not
/// plain; `None` once the connection has ended.
pub(crate) async fn run<S>(
    mut stream: TcpStream,
    peer: SocketAddr,
    shared: &Shared<S>,
) -> Option<(TcpStream, Onward)>
where
    S: Service<Incomings, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    let mut rest = pin!(Rest::new(&shared.config, &shared.drain));
    loop {
        let (asked, request) = match poll_fn(|cx| rest.as_mut().poll_next(&stream, cx)).await {
            Next::Request(asked, request) => (asked, request),
            Next::Onward(onward) => return Some((stream, onward)),
            Next::Late(onward) => return Some((socket::rearm(stream).ok()?, onward)),
            Next::End => return None,
        };
        let mut early = false;
        let response = {
            let answering = pin!(Checked::new(shared.service.clone(), peer).call(request));
            answered(&stream, answering, &mut early).await?
        };
        let asked = asked.closing_if(shared.drain.is_draining());
        if !answer::send(&stream, response, asked, &mut early).await {
            return None;
        }
        if early {
            stream = socket::rearm(stream).ok()?;
        }
        rest.as_mut().begin();
    }
}

/// What `answering` comes to; `None` if the client is gone before. `early` is set where bytes of a next request come.
async fn answered<F>(
    stream: &TcpStream,
    mut answering: Pin<&mut F>,
    early: &mut bool,
) -> Option<Response<Body>>
where
    F: Future<Output = Result<Response<Body>, Infallible>>,
{
    poll_fn(|cx| match answering.as_mut().poll(cx) {
        Poll::Ready(Ok(response)) => Poll::Ready(Some(response)),
        Poll::Ready(Err(never)) => match never {},
        Poll::Pending => socket::poll_gone(stream, early, cx).map(|()| None),
    })
    .await
}

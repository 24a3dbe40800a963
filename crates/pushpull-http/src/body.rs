//! The one nameable response body.

use std::{
    any::Any,
    error::Error,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

#[cfg(feature = "server")]
use crate::{Live, Nudged};

/// An error of any type.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// A response body: empty, whole, live, or any other body of bytes.
///
/// Dropping it ends what it streams.
#[derive(Default)]
pub struct Body(Inner);

#[derive(Default)]
enum Inner {
    #[default]
    Empty,
    Full(Bytes),
    Stream(Pin<Box<dyn ErasedBody>>),
    #[cfg(feature = "server")]
    Live(Box<dyn Live>, Nudged),
}

trait ErasedBody: Send {
    fn poll_erased(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>>;
    fn is_done(&self) -> bool;
    fn hint(&self) -> SizeHint;
}

impl<B> ErasedBody for B
where
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send,
{
    fn poll_erased(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.poll_frame(cx).map_err(Into::into)
    }

    fn is_done(&self) -> bool {
        self.is_end_stream()
    }

    fn hint(&self) -> SizeHint {
        self.size_hint()
    }
}

impl Body {
    /// A body of no bytes.
    pub fn empty() -> Self {
        Self(Inner::Empty)
    }

    /// A body of these bytes, in one frame.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self(if bytes.is_empty() { Inner::Empty } else { Inner::Full(bytes) })
    }

    /// A body that streams what `body` does; one of this type is taken as it is.
    pub fn new<B>(body: B) -> Self
    where
        B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        let mut body = Some(body);
        if let Some(same) = (&mut body as &mut dyn Any).downcast_mut::<Option<Self>>() {
            return same.take().unwrap_or_default();
        }
        body.map_or_else(Self::empty, |body| Self(Inner::Stream(Box::pin(body))))
    }

    /// A body that streams what a subscription gives, and may be swept.
    #[cfg(feature = "server")]
    pub fn live(body: impl Live) -> Self {
        Self(Inner::Live(Box::new(body), Nudged::default()))
    }

    /// What it streams, if that may be swept; else the body again.
    #[cfg(feature = "server")]
    pub(crate) fn into_live(self) -> Result<Box<dyn Live>, Self> {
        match self.0 {
            Inner::Live(body, _) => Ok(body),
            other => Err(Self(other)),
        }
    }

    /// Its bytes, if all of them are there; else the body again.
    #[cfg(feature = "server")]
    pub(crate) fn into_whole(self) -> Result<Bytes, Self> {
        match self.0 {
            Inner::Empty => Ok(Bytes::new()),
            Inner::Full(bytes) => Ok(bytes),
            stream @ (Inner::Stream(_) | Inner::Live(..)) => Err(Self(stream)),
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let inner = &mut self.get_mut().0;
        match inner {
            Inner::Empty => Poll::Ready(None),
            Inner::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                *inner = Inner::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Inner::Stream(body) => body.as_mut().poll_erased(cx),
            #[cfg(feature = "server")]
            Inner::Live(body, nudged) => {
                let is_swept = nudged.stand(body.gate(), body.standing().as_ref(), cx);
                body.poll_bytes(cx, is_swept).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::Empty => true,
            Inner::Full(_) => false,
            Inner::Stream(body) => body.is_done(),
            #[cfg(feature = "server")]
            Inner::Live(..) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Empty => SizeHint::with_exact(0),
            Inner::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Inner::Stream(body) => body.hint(),
            #[cfg(feature = "server")]
            Inner::Live(..) => SizeHint::default(),
        }
    }
}

/// What answers a `HEAD`: the same without the body, which is dropped, and with its length if that is known
/// (RFC 9110, 9.3.2).
#[cfg(feature = "server")]
pub(crate) fn without_body(mut response: http::Response<Body>) -> http::Response<Body> {
    let body = std::mem::take(response.body_mut());
    if let Some(length @ 1..) = http_body::Body::size_hint(&body).exact() {
        response.headers_mut().insert(http::header::CONTENT_LENGTH, length.into());
    }
    response
}

#[cfg(feature = "server")]
impl From<Box<dyn Live>> for Body {
    fn from(body: Box<dyn Live>) -> Self {
        Self(Inner::Live(body, Nudged::default()))
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::full(bytes)
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Self::full(text)
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Self::full(text)
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Inner::Empty => f.write_str("Body(empty)"),
            Inner::Full(bytes) => write!(f, "Body({} bytes)", bytes.len()),
            Inner::Stream(_) => f.write_str("Body(stream)"),
            #[cfg(feature = "server")]
            Inner::Live(..) => f.write_str("Body(live)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body::Body as _;
    use http_body_util::{BodyExt, StreamBody};

    #[tokio::test]
    async fn bodies_say_their_size_and_give_their_bytes() {
        for (body, size, bytes) in [
            (Body::empty(), Some(0), ""),
            (Body::full(""), Some(0), ""),
            (Body::full("abc"), Some(3), "abc"),
            (Body::new(http_body_util::Full::new(Bytes::from_static(b"abcd"))), Some(4), "abcd"),
        ] {
            assert_eq!(body.size_hint().exact(), size);
            assert_eq!(body.is_end_stream(), size == Some(0));
            assert_eq!(body.collect().await.unwrap().to_bytes(), bytes);
        }
    }

    #[tokio::test]
    async fn an_error_in_a_stream_comes_through() {
        let frames = [Ok(Frame::data(Bytes::from_static(b"x"))), Err(std::io::Error::other("cut"))];
        let mut body = Body::new(StreamBody::new(futures_util::stream::iter(frames)));
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "x");
        assert_eq!(body.frame().await.unwrap().unwrap_err().to_string(), "cut");
    }
}

//! One attempt: a request to a checked address, and what the answer means.

use std::{net::SocketAddr, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use pushpull_http::problem::parse_retry_after;
use tokio::{net::TcpStream, time::timeout};

use super::{
    target::{Guard, Target},
    tls::Tls,
};

/// Most bytes of an answer's body that are read, and dropped, to keep the connection: 64 KiB.
const MAX_ANSWER: usize = 64 * 1024;
/// How long that may take; the status counts all the same.
const ANSWER_TIME: Duration = Duration::from_secs(1);

/// What an endpoint answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) retry_after: Option<Duration>,
}

/// Brings requests to one endpoint.
#[async_trait]
pub(super) trait Carry: Send + Sync {
    /// Brings one request, and says why there was no answer.
    ///
    /// # Cancel safety
    /// Dropping the future gives the request up; it may have reached the endpoint.
    async fn carry(&mut self, headers: HeaderMap, body: Bytes) -> Result<Reply, String>;
}

/// Carries by HTTP/1.1 over a connection that is kept while its address stays one that may be reached.
pub(super) struct HttpCarrier {
    guard: Guard,
    target: Target,
    tls: Tls,
    live: Option<(SocketAddr, SendRequest<Full<Bytes>>)>,
}

impl HttpCarrier {
    pub(super) fn new(guard: Guard, target: Target, tls: Tls) -> Self {
        Self { guard, target, tls, live: None }
    }

    fn request(&self, headers: HeaderMap, body: Bytes) -> Result<Request<Full<Bytes>>, String> {
        let request = Request::builder().method(Method::POST).uri(&self.target.path);
        let request = request.header(header::HOST, &self.target.authority).body(Full::new(body));
        let mut request = request.map_err(|error| error.to_string())?;
        request.headers_mut().extend(headers);
        let agent = HeaderValue::from_static(concat!("pushpull-webhook/", env!("CARGO_PKG_VERSION")));
        request.headers_mut().insert(header::USER_AGENT, agent);
        Ok(request)
    }

    async fn connect(
        &self,
        addresses: &[SocketAddr],
    ) -> Result<(SocketAddr, SendRequest<Full<Bytes>>), String> {
        let mut failed = String::new();
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    // A delivery is one small write; failing to say so costs time only.
                    let _ = stream.set_nodelay(true);
                    return Ok((*address, self.greet(stream).await?));
                }
                Err(error) => failed = format!("{address}: {error}"),
            }
        }
        Err(failed)
    }

    async fn greet(&self, stream: TcpStream) -> Result<SendRequest<Full<Bytes>>, String> {
        match self.target.is_https {
            true => speak(self.tls.wrap(&self.target.host, stream).await?).await,
            false => speak(stream).await,
        }
    }

    async fn send(
        &mut self,
        mut live: (SocketAddr, SendRequest<Full<Bytes>>),
        request: Request<Full<Bytes>>,
    ) -> Result<Reply, String> {
        let response = live.1.send_request(request).await.map_err(|error| error.to_string())?;
        let reply = Reply { status: response.status(), retry_after: parse_retry_after(response.headers()) };
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect();
        if matches!(timeout(ANSWER_TIME, body).await, Ok(Ok(_))) {
            self.live = Some(live);
        }
        Ok(reply)
    }
}

async fn speak<S>(stream: S) -> Result<SendRequest<Full<Bytes>>, String>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    // It ends with its sender, or when the endpoint closes it.
    tokio::spawn(connection);
    Ok(sender)
}

#[async_trait]
impl Carry for HttpCarrier {
    async fn carry(&mut self, headers: HeaderMap, body: Bytes) -> Result<Reply, String> {
        let kept = self.live.take();
        let addresses = self.guard.addresses(&self.target).await.map_err(|error| error.to_string())?;
        if let Some((address, mut sender)) = kept.filter(|(address, _)| addresses.contains(address))
            && sender.ready().await.is_ok()
        {
            let request = self.request(headers.clone(), body.clone())?;
            // An endpoint may close a kept connection at any time; the same id makes it safe to send again.
            if let Ok(reply) = self.send((address, sender), request).await {
                return Ok(reply);
            }
        }
        let live = self.connect(&addresses).await?;
        let request = self.request(headers, body)?;
        self.send(live, request).await
    }
}

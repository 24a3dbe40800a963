//! The client half.

use std::time::Duration;

use async_trait::async_trait;
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{
        CONNECTION, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY,
        SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
    },
};
use hyper_util::rt::TokioIo;
use pushpull_core::{
    Backoff, Context, Dial, Dialing, ErrorKind, Feed, Message, Problem, Producer, PublishError, Published,
    Push, Subscribe, SubscribeError, Subscription, Topic,
};
use pushpull_http::{BaseUrl, Endpoint, HttpClient, StreamClient, Transport, encode_query};
use tungstenite::handshake::{client::generate_key, derive_accept_key};

use crate::{Subprotocol, feed::WsFeed};

/// A [`Push`] over a server's `/ws` by a [`Subprotocol`], and a [`Producer`] by `POST /topics/{topic}`.
///
/// A subscription reconnects, resumes from its place, and tells every change of the link. What is granted
/// ([`Subscription::grant`]) reaches the server at the next poll. Cheap to clone.
///
/// A consumer that is not polled answers no pings: after two of the server's intervals its connection is closed, and made
/// anew at the next poll.
#[derive(Clone, Debug)]
pub struct WsClient {
    stream: StreamClient,
    subprotocol: Subprotocol,
}

impl WsClient {
    /// A client of the server at `url`, as in `http://host:port/prefix` or `ws://host:port/prefix`; the path is
    /// `/ws` below it.
    ///
    /// # Errors
    /// If `url` is none, or is `https` or `wss` without the feature for it.
    pub fn new(url: &str) -> Result<Self, Problem> {
        let url = match url.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("ws") => format!("http://{rest}"),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("wss") => format!("https://{rest}"),
            _ => url.to_owned(),
        };
        Ok(Self::over(HttpClient::new(url.parse::<BaseUrl>()?)?))
    }

    /// A client over `http`.
    pub fn over(http: HttpClient) -> Self {
        Self { stream: StreamClient::over(http), subprotocol: Subprotocol::default() }
    }

    /// The same, bearing `token`.
    ///
    /// # Errors
    /// If `token` cannot stand in a header.
    pub fn with_token(self, token: &str) -> Result<Self, Problem> {
        Ok(Self { stream: self.stream.with_token(token)?, ..self })
    }

    /// Sets what is spoken. Default: [`Subprotocol::Json`], which every server of ours knows.
    #[must_use]
    pub fn with_subprotocol(mut self, subprotocol: Subprotocol) -> Self {
        self.subprotocol = subprotocol;
        self
    }

    /// Sets after how long without a byte a connection counts as dead. Default: 37.5 s, two and a half of a
    /// server's keep-alive intervals; at most a year.
    #[must_use]
    pub fn with_silence(self, silence: Duration) -> Self {
        Self { stream: self.stream.with_silence(silence), ..self }
    }

    /// Sets the delays between two attempts to connect.
    #[must_use]
    pub fn with_backoff(self, backoff: Backoff) -> Self {
        Self { stream: self.stream.with_backoff(backoff), ..self }
    }

    async fn connect(self, request: Subscribe) -> Result<Box<dyn Feed>, SubscribeError> {
        let deadline = self.stream.deadline();
        let key = generate_key();
        let path = format!("/ws?{}", encode_query(&request, Endpoint::WsSubprotocol));
        let answer = self.stream.http().get(&path, handshake(&key, self.subprotocol)?, deadline).await?;
        if answer.status != StatusCode::SWITCHING_PROTOCOLS {
            return Err(refusal(answer.problem(deadline).await).into());
        }
        check(&answer.headers, &key, self.subprotocol)?;
        let upgraded = answer.upgraded(deadline).await?;
        Ok(Box::new(WsFeed::new(TokioIo::new(upgraded), self.subprotocol, self.stream.silence(), &request)))
    }
}

/// What a refusal before the upgrade says. A server of ours names the header that is wrong with a handshake, and the
/// parameter of a query by a lower-case word. Of this client's handshake nothing is wrong: somebody in between has changed
/// it, or the server does not speak what is offered.
fn refusal(problem: Problem) -> Problem {
    let of_handshake = |name: &str| name.starts_with(|first: char| first.is_ascii_uppercase());
    match problem.parameter() {
        Some(name) if of_handshake(name) => {
            let detail = format!("the handshake is refused: {name}: {}", problem.detail());
            Problem::new(ErrorKind::Unsupported, detail)
        }
        _ => problem,
    }
}

fn handshake(key: &str, subprotocol: Subprotocol) -> Result<HeaderMap, Problem> {
    let texts: [(HeaderName, &str); 5] = [
        (UPGRADE, "websocket"),
        (CONNECTION, "Upgrade"),
        (SEC_WEBSOCKET_VERSION, "13"),
        (SEC_WEBSOCKET_KEY, key),
        (SEC_WEBSOCKET_PROTOCOL, subprotocol.as_str()),
    ];
    let header = |(name, text)| HeaderValue::from_str(text).map(|value| (name, value));
    let headers: Result<HeaderMap, _> = texts.into_iter().map(header).collect();
    headers.map_err(|_| Problem::new(ErrorKind::Internal, "a key that cannot stand in a header"))
}

/// Checks the answer to a handshake (RFC 6455, 4.1).
fn check(headers: &HeaderMap, key: &str, subprotocol: Subprotocol) -> Result<(), Problem> {
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let names = |name, token: &str| {
        text(name).is_some_and(|list| list.split(',').any(|item| item.trim().eq_ignore_ascii_case(token)))
    };
    let checks = [
        ("Upgrade", names(&UPGRADE, "websocket")),
        ("Connection", names(&CONNECTION, "upgrade")),
        ("Sec-WebSocket-Accept", text(&SEC_WEBSOCKET_ACCEPT) == Some(&*derive_accept_key(key.as_bytes()))),
        ("Sec-WebSocket-Protocol", text(&SEC_WEBSOCKET_PROTOCOL) == Some(subprotocol.as_str())),
        ("Sec-WebSocket-Extensions", !headers.contains_key(SEC_WEBSOCKET_EXTENSIONS)),
    ];
    match checks.iter().find(|(_, holds)| !holds) {
        Some((name, _)) => Err(Problem::new(ErrorKind::Protocol, format!("the server's {name} is wrong"))),
        None => Ok(()),
    }
}

impl Dial for WsClient {
    fn dial(&self, request: Subscribe) -> Dialing {
        Box::pin(self.clone().connect(request))
    }

    fn transport(&self) -> Option<&'static str> {
        Some(Transport::Ws.as_str())
    }
}

#[async_trait]
impl Push for WsClient {
    async fn subscribe(&self, _cx: &Context, request: Subscribe) -> Result<Subscription, SubscribeError> {
        self.stream.subscribe(self.clone(), request).await
    }
}

#[async_trait]
impl Producer for WsClient {
    async fn publish(
        &self,
        cx: &Context,
        topic: &Topic,
        messages: &[Message],
    ) -> Result<Published, PublishError> {
        self.stream.publish(cx, topic, messages).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_checked_in_every_part() {
        const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
        let good = [
            ("upgrade", "WebSocket"),
            ("connection", "keep-alive, Upgrade"),
            ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
            ("sec-websocket-protocol", "pushpull.v1.json"),
        ];
        let headers = |pairs: &[(&'static str, &'static str)]| {
            HeaderMap::from_iter(
                pairs
                    .iter()
                    .map(|(name, text)| (HeaderName::from_static(name), HeaderValue::from_static(text))),
            )
        };
        let check = |headers: &HeaderMap| check(headers, KEY, Subprotocol::Json);
        assert!(check(&headers(&good)).is_ok());
        for at in 0..good.len() {
            let mut bad = good;
            bad[at].1 = "x";
            assert_eq!(check(&headers(&bad)).unwrap_err().kind(), ErrorKind::Protocol, "{bad:?}");
            let missing: Vec<_> = good.iter().copied().filter(|pair| *pair != good[at]).collect();
            assert!(check(&headers(&missing)).is_err(), "{missing:?}");
        }
        let extended = [&good[..], &[("sec-websocket-extensions", "permessage-deflate")]].concat();
        assert!(check(&headers(&extended)).is_err(), "none was offered");
    }

    #[test]
    fn a_handshake_that_was_changed_on_its_way_is_no_bad_request() {
        for (name, kind) in [
            ("Upgrade", ErrorKind::Unsupported),
            ("Sec-WebSocket-Version", ErrorKind::Unsupported),
            ("HTTP", ErrorKind::Unsupported),
            ("topic", ErrorKind::Invalid),
        ] {
            assert_eq!(refusal(Problem::invalid(name, "it is wrong")).kind(), kind, "{name}");
        }
        assert_eq!(refusal(Problem::new(ErrorKind::Forbidden, "no")).kind(), ErrorKind::Forbidden);
    }

    #[test]
    fn urls_of_both_kinds_are_taken() {
        for (url, base) in [
            ("ws://127.0.0.1:8080/live", "http://127.0.0.1:8080/live"),
            ("http://127.0.0.1:8080/live/", "http://127.0.0.1:8080/live"),
        ] {
            assert_eq!(WsClient::new(url).unwrap().stream.http().base().to_string(), base);
        }
        for bad in ["ftp://h", "ws://", "h:80"] {
            assert_eq!(WsClient::new(bad).unwrap_err().parameter(), Some("url"), "{bad}");
        }
    }
}

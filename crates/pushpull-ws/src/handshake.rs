//! The opening handshake of a server (RFC 6455, 4.2; over HTTP/2 RFC 8441).

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{
    HeaderMap, HeaderValue, Method, Response, StatusCode, Version,
    header::{
        CONNECTION, CONTENT_LENGTH, HOST, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS,
        SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
    },
    request::Parts,
};
use hyper::ext::Protocol;
use pushpull_core::{ErrorKind, Problem};
use pushpull_http::{Body, Endpoint, problem::problem_response_as};
use tungstenite::handshake::derive_accept_key;

use crate::{Subprotocol, deflate};

/// A valid request for a WebSocket.
#[derive(Debug)]
pub(crate) struct Handshake {
    pub(crate) mode: Mode,
    /// Whether messages may come, and go, deflated.
    pub(crate) deflate: bool,
    extensions: Option<String>,
    /// `None` over HTTP/2, which needs none.
    accept: Option<String>,
}

/// What the messages of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Payloads alone.
    Raw,
    /// Frames, and how they are written.
    Framed(Subprotocol),
}

impl Mode {
    pub(crate) fn endpoint(self) -> Endpoint {
        match self {
            Self::Raw => Endpoint::WsRaw,
            Self::Framed(_) => Endpoint::WsSubprotocol,
        }
    }
}

impl Handshake {
    /// Checks a request.
    ///
    /// # Errors
    /// The status and what is wrong.
    pub(crate) fn check(request: &Parts) -> Result<Self, (StatusCode, Problem)> {
        let accept = match request.version {
            Version::HTTP_11 => Some(check_http1(request)?),
            Version::HTTP_2 => {
                check_http2(request)?;
                None
            }
            _ => return Err(bad("HTTP", "a WebSocket needs HTTP/1.1 or HTTP/2")),
        };
        if single(&request.headers, &SEC_WEBSOCKET_VERSION) != Some("13") {
            return Err(upgrade_required("Sec-WebSocket-Version", "this server speaks version 13"));
        }
        let mode = mode(&request.headers)?;
        let extensions = deflate::accept(&request.headers);
        Ok(Self { mode, deflate: extensions.is_some(), extensions, accept })
    }

    /// The response that ends the handshake: 101, or 200 over HTTP/2.
    pub(crate) fn response(&self) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        let is_http1 = self.accept.is_some();
        *response.status_mut() = if is_http1 { StatusCode::SWITCHING_PROTOCOLS } else { StatusCode::OK };
        let headers = response.headers_mut();
        if is_http1 {
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        }
        insert(headers, SEC_WEBSOCKET_ACCEPT, self.accept.as_deref());
        insert(headers, SEC_WEBSOCKET_EXTENSIONS, self.extensions.as_deref());
        if let Mode::Framed(subprotocol) = self.mode {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(subprotocol.as_str()));
        }
        response
    }
}

/// The response to a request that is no handshake (RFC 6455, 4.4; RFC 9110, 15.5.22).
pub(crate) fn refuse(request: &Parts, status: StatusCode, problem: &Problem) -> Response<Body> {
    let mut response = problem_response_as(status, problem, None);
    if status == StatusCode::UPGRADE_REQUIRED {
        let headers = response.headers_mut();
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        if request.version == Version::HTTP_11 {
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        }
    }
    response
}

fn bad(parameter: &'static str, detail: &'static str) -> (StatusCode, Problem) {
    (StatusCode::BAD_REQUEST, Problem::invalid(parameter, detail))
}

fn upgrade_required(parameter: &'static str, detail: &'static str) -> (StatusCode, Problem) {
    (StatusCode::UPGRADE_REQUIRED, Problem::invalid(parameter, detail))
}

fn check_http1(request: &Parts) -> Result<String, (StatusCode, Problem)> {
    let headers = &request.headers;
    if single(headers, &HOST).is_none() {
        return Err(bad("Host", "it must be given once"));
    }
    if !has_token(headers, &UPGRADE, "websocket") {
        return Err(upgrade_required("Upgrade", "this path speaks WebSocket"));
    }
    if !has_token(headers, &CONNECTION, "upgrade") {
        return Err(bad("Connection", "it must name Upgrade"));
    }
    let has_length = headers.get(CONTENT_LENGTH).is_some_and(|length| length != "0");
    if request.method != Method::GET || has_length || headers.contains_key(TRANSFER_ENCODING) {
        return Err(bad("Content-Length", "a handshake is a GET and has no body"));
    }
    let key = single(headers, &SEC_WEBSOCKET_KEY)
        .filter(|key| BASE64_STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 16));
    key.map(|key| derive_accept_key(key.as_bytes()))
        .ok_or_else(|| bad("Sec-WebSocket-Key", "it must be 16 bytes in base64"))
}

fn check_http2(request: &Parts) -> Result<(), (StatusCode, Problem)> {
    match request.extensions.get::<Protocol>() {
        Some(protocol) if protocol.as_str() == "websocket" => Ok(()),
        Some(_) => {
            let problem = Problem::new(ErrorKind::Unsupported, "this path speaks WebSocket only");
            Err((StatusCode::NOT_IMPLEMENTED, problem.with_parameter(":protocol")))
        }
        None => Err(bad(":protocol", "over HTTP/2 a WebSocket begins with an extended CONNECT")),
    }
}

/// By the first subprotocol offered that is known: a client names them in the order it prefers (RFC 6455, 4.1).
fn mode(headers: &HeaderMap) -> Result<Mode, (StatusCode, Problem)> {
    if !headers.contains_key(SEC_WEBSOCKET_PROTOCOL) {
        return Ok(Mode::Raw);
    }
    let known = tokens(headers, &SEC_WEBSOCKET_PROTOCOL).find_map(Subprotocol::named);
    known.map(Mode::Framed).ok_or_else(|| {
        bad(
            "Sec-WebSocket-Protocol",
            "none of the subprotocols offered is known: offer pushpull.v1.json, pushpull.v1.proto, or none",
        )
    })
}

fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|found| found.eq_ignore_ascii_case(token))
}

fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value.trim())
}

fn insert(headers: &mut HeaderMap, name: HeaderName, text: Option<&str>) {
    if let Some(value) = text.and_then(|text| HeaderValue::from_str(text).ok()) {
        headers.insert(name, value);
    }
}

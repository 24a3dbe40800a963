//! Heads of HTTP/1.1: as much of them as a proxy must know.

use super::body::{Body, Chunks};

/// Most bytes of a head; what has a longer one counts as another protocol.
const MAX_HEAD: usize = 64 * 1024;

const METHODS: [&str; 7] = ["GET ", "POST ", "PUT ", "HEAD ", "DELETE ", "PATCH ", "OPTIONS "];

/// A head that is coming in.
#[derive(Debug, Default)]
pub(super) struct Incoming(Vec<u8>);

/// What a head's bytes so far are.
#[derive(Debug)]
pub(super) enum Told {
    /// All came that was to be taken, and the head is not complete.
    More,
    /// The head, complete.
    Head(Head),
    /// Not HTTP/1.1: all that came.
    Other(Vec<u8>),
}

/// A complete head, its blank line included.
#[derive(Debug)]
pub(super) struct Head(Vec<u8>);

impl Incoming {
    /// Takes from `came` what belongs to the head. `is_plausible` judges its beginning.
    pub(super) fn take(&mut self, came: &mut &[u8], is_plausible: fn(&[u8]) -> bool) -> Told {
        // The blank line may have begun in what came before.
        let before = self.0.len();
        let from = before.saturating_sub(3);
        self.0.extend_from_slice(came);
        if !is_plausible(&self.0) {
            *came = &[];
            return Told::Other(std::mem::take(&mut self.0));
        }
        let end = self.0[from..].windows(4).position(|four| four == b"\r\n\r\n").map(|at| from + at + 4);
        match end {
            Some(end) if end <= MAX_HEAD => {
                *came = &came[end - before..];
                self.0.truncate(end);
                Told::Head(Head(std::mem::take(&mut self.0)))
            }
            None if self.0.len() <= MAX_HEAD => {
                *came = &[];
                Told::More
            }
            _ => {
                *came = &[];
                Told::Other(std::mem::take(&mut self.0))
            }
        }
    }

    /// What came of a head that is not complete.
    pub(super) fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0)
    }
}

/// Whether a request may begin with `bytes`.
pub(super) fn may_be_request(bytes: &[u8]) -> bool {
    METHODS.iter().any(|method| agree(bytes, method.as_bytes()))
}

/// Whether a response may begin with `bytes`.
pub(super) fn may_be_response(bytes: &[u8]) -> bool {
    agree(bytes, b"HTTP/1.")
}

/// Whether they are the same as far as both go.
fn agree(bytes: &[u8], start: &[u8]) -> bool {
    bytes.iter().zip(start).all(|(one, other)| one == other)
}

impl Head {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn is_to_head(&self) -> bool {
        self.0.starts_with(b"HEAD ")
    }

    /// A response's status; 0 if it has none.
    pub(super) fn status(&self) -> u16 {
        let number = self.0.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok());
        number.and_then(|digits| digits.parse().ok()).unwrap_or(0)
    }

    /// The body of a request with this head.
    pub(super) fn request_body(&self) -> Body {
        self.told_body().unwrap_or(Body::NONE)
    }

    /// The body of a response with this head.
    pub(super) fn response_body(&self, is_to_head: bool) -> Body {
        match self.status() {
            _ if is_to_head => Body::NONE,
            100..200 | 204 | 304 => Body::NONE,
            _ => self.told_body().unwrap_or(Body::UntilEnd),
        }
    }

    fn told_body(&self) -> Option<Body> {
        if self.values("transfer-encoding").any(|value| value.to_ascii_lowercase().ends_with("chunked")) {
            return Some(Body::Chunked(Chunks::START));
        }
        self.values("content-length").find_map(|value| value.parse().ok()).map(Body::Length)
    }

    /// The same without what an upgrade needs: `Upgrade`, `Connection`, and what that names.
    pub(super) fn without_upgrade(self) -> Self {
        if self.values("upgrade").next().is_none() {
            return self;
        }
        let connection = self.values("connection").flat_map(|value| value.split(','));
        let mut dropped: Vec<_> = connection.map(|name| name.trim().to_ascii_lowercase()).collect();
        dropped.extend(["upgrade", "connection"].map(str::to_owned));
        let is_kept = |line: &&[u8]| {
            let name = field(line).map(|(name, _)| name.to_ascii_lowercase());
            name.is_none_or(|name| !dropped.contains(&name))
        };
        Self(lines(&self.0).filter(is_kept).flatten().copied().collect())
    }

    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let fields = lines(&self.0).skip(1).filter_map(field);
        fields.filter(move |(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// The lines of a head, each with its end.
fn lines(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    head.split_inclusive(|byte| *byte == b'\n')
}

fn field(line: &[u8]) -> Option<(&str, &str)> {
    let (name, value) = std::str::from_utf8(line).ok()?.split_once(':')?;
    // A request's target may hold a colon, a name no space.
    (!name.contains(' ')).then(|| (name, value.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Head {
        let mut came = text.as_bytes();
        match Incoming::default().take(&mut came, |_| true) {
            Told::Head(head) if came.is_empty() => head,
            told => panic!("{told:?}, and {came:?}"),
        }
    }

    #[test]
    fn a_head_ends_with_its_blank_line_however_it_is_split() {
        let (whole, length) = (b"GET / HTTP/1.1\r\na: b\r\n\r\nrest", 24);
        for piece in 1..whole.len() {
            let (mut incoming, mut found) = (Incoming::default(), None);
            let mut pieces = whole.chunks(piece);
            while found.is_none() {
                let mut came = pieces.next().unwrap();
                if let Told::Head(head) = incoming.take(&mut came, may_be_request) {
                    let left = came.len() + pieces.by_ref().map(<[u8]>::len).sum::<usize>();
                    assert_eq!((head.bytes(), left), (&whole[..length], 4), "in pieces of {piece}");
                    found = Some(head);
                }
            }
        }
    }

    #[test]
    fn other_protocols_are_told_from_the_first_bytes() {
        for bytes in [&b"PRI * HTTP/2.0\r\n\r\n"[..], b"\x16\x03\x01", b"hello", b"CONNECT a:1"] {
            assert!(!may_be_request(bytes), "{bytes:?}");
        }
        assert!(may_be_request(b"G") && may_be_request(b"POST /topics"));
        assert!(may_be_response(b"HT") && !may_be_response(b"\x00\x00\x12"));
    }

    #[test]
    fn a_head_without_end_is_another_protocol() {
        let mut incoming = Incoming::default();
        let endless = [b'a'; MAX_HEAD];
        assert!(matches!(incoming.take(&mut &endless[..], |_| true), Told::More));
        assert!(
            matches!(incoming.take(&mut &b"a"[..], |_| true), Told::Other(all) if all.len() == MAX_HEAD + 1)
        );
    }

    #[test]
    fn an_upgrade_loses_what_belongs_to_the_hop() {
        let asked = "GET /ws?a=b:c HTTP/1.1\r\nHost: h:1\r\nConnection: keep-alive, Upgrade, X-Hop\r\n\
                     upgrade: websocket\r\nX-Hop: 1\r\nSec-WebSocket-Key: k\r\n\r\n";
        let left = "GET /ws?a=b:c HTTP/1.1\r\nHost: h:1\r\nSec-WebSocket-Key: k\r\n\r\n";
        assert_eq!(head(asked).without_upgrade().bytes(), left.as_bytes());
        let plain = "GET / HTTP/1.1\r\nConnection: keep-alive\r\n\r\n";
        assert_eq!(head(plain).without_upgrade().bytes(), plain.as_bytes());
    }

    #[test]
    fn bodies_are_as_their_heads_say() {
        let body = |text, is_to_head| format!("{:?}", head(text).response_body(is_to_head));
        let with_length = "HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n";
        assert_eq!(body(with_length, false), "Length(12)");
        assert_eq!(body(with_length, true), "Length(0)");
        assert_eq!(body("HTTP/1.1 304 Not Modified\r\n\r\n", false), "Length(0)");
        assert_eq!(body("HTTP/1.0 200 OK\r\n\r\n", false), "UntilEnd");
        assert!(body("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n", false).starts_with("Chunked"));
        let post = head("POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\n").request_body();
        assert!(matches!(post, Body::Length(3)));
        assert!(head("GET / HTTP/1.1\r\n\r\n").request_body().is_over());
    }
}

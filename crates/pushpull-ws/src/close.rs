//! How a connection is closed (RFC 6455, 7.4; wire contract, section 4).

#[cfg(feature = "server")]
use std::fmt::Write as _;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use pushpull_core::{Cursor, ErrorKind};

/// Done.
pub(crate) const NORMAL: u16 = 1000;
/// The server goes away.
pub(crate) const AWAY: u16 = 1001;
/// The peer broke the protocol.
pub(crate) const PROTOCOL: u16 = 1002;
/// Data of a kind that is not taken.
#[cfg(feature = "server")]
pub(crate) const UNSUPPORTED: u16 = 1003;
/// Text that is no UTF-8, or data that cannot be inflated.
pub(crate) const INVALID: u16 = 1007;
/// A rule of ours: too many fragments, or silence.
pub(crate) const POLICY: u16 = 1008;
/// A message over the limit.
pub(crate) const TOO_BIG: u16 = 1009;
/// A fault of ours.
#[cfg(feature = "server")]
pub(crate) const INTERNAL: u16 = 1011;
/// The server starts anew (IANA).
#[cfg(feature = "client")]
pub(crate) const RESTART: u16 = 1012;
/// Try again later (IANA).
pub(crate) const OVERLOADED: u16 = 1013;
/// A bad request.
pub(crate) const BAD_REQUEST: u16 = 4400;
/// Who asks is not known, or no longer.
pub(crate) const UNAUTHENTICATED: u16 = 4401;
/// Who asks may not.
pub(crate) const FORBIDDEN: u16 = 4403;
/// The consumer fell off what is retained.
pub(crate) const LAGGED: u16 = 4409;

/// The longest reason: a control frame has at most 125 bytes, and the code takes two.
const MAX_REASON: usize = 123;

/// A close code and its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Closing {
    pub(crate) code: u16,
    pub(crate) reason: String,
}

impl Closing {
    /// The reason is cut at 123 bytes.
    pub(crate) fn new(code: u16, reason: impl Into<String>) -> Self {
        let mut reason = reason.into();
        reason.truncate(reason.floor_char_boundary(MAX_REASON));
        Self { code, reason }
    }

    /// What closes a connection over a problem of that kind.
    #[cfg(feature = "server")]
    pub(crate) fn over(kind: ErrorKind) -> Self {
        let code = match kind {
            ErrorKind::Invalid => BAD_REQUEST,
            ErrorKind::Unauthenticated => UNAUTHENTICATED,
            ErrorKind::Forbidden => FORBIDDEN,
            ErrorKind::TooLarge => TOO_BIG,
            ErrorKind::Unsupported | ErrorKind::UnsupportedType => UNSUPPORTED,
            ErrorKind::Busy | ErrorKind::Unavailable | ErrorKind::Timeout => OVERLOADED,
            _ => INTERNAL,
        };
        Self::new(code, kind.slug())
    }

    /// The same, telling when and from where to come back.
    #[cfg(feature = "server")]
    pub(crate) fn resuming(mut self, retry: Option<Duration>, cursor: Option<Cursor>) -> Self {
        // Writing to a string does not fail.
        if let Some(retry) = retry {
            let _ = write!(self.reason, " retry={}", retry.as_millis());
        }
        if let Some(cursor) = cursor {
            let _ = write!(self.reason, " cursor={cursor}");
        }
        Self::new(self.code, self.reason)
    }

    /// The payload of a close frame.
    pub(crate) fn payload(&self) -> Bytes {
        let mut payload = BytesMut::with_capacity(2 + self.reason.len());
        payload.put_u16(self.code);
        payload.put_slice(self.reason.as_bytes());
        payload.freeze()
    }

    /// Reads the payload of a peer's close frame; `Ok(None)` if it is empty.
    ///
    /// # Errors
    /// The code to answer with.
    pub(crate) fn parse(payload: &[u8]) -> Result<Option<Self>, u16> {
        let [high, low, reason @ ..] = payload else {
            return if payload.is_empty() { Ok(None) } else { Err(PROTOCOL) };
        };
        let code = u16::from_be_bytes([*high, *low]);
        let reason = std::str::from_utf8(reason).map_err(|_| INVALID)?;
        if may_be_sent(code) { Ok(Some(Self::new(code, reason))) } else { Err(PROTOCOL) }
    }

    /// The slug, the delay and the place that a reason of ours tells.
    #[cfg(feature = "client")]
    pub(crate) fn told(&self) -> (Option<ErrorKind>, Option<Duration>, Option<Cursor>) {
        let mut words = self.reason.split(' ');
        let kind = words.next().and_then(ErrorKind::from_slug);
        let (mut retry, mut cursor) = (None, None);
        for word in words {
            match word.split_once('=') {
                Some(("retry", millis)) => retry = millis.parse().ok().map(Duration::from_millis),
                Some(("cursor", text)) => cursor = text.parse().ok(),
                _ => {}
            }
        }
        (kind, retry, cursor)
    }
}

/// Whether a code may stand in a close frame (RFC 6455, 7.4.1, 7.4.2; and 1012 to 1014 by IANA).
fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_cut_at_a_character() {
        let closing = Closing::new(4400, "é".repeat(100));
        assert_eq!((closing.reason.len(), closing.payload().len()), (122, 124));
        assert_eq!(Closing::parse(&closing.payload()), Ok(Some(closing)));
    }

    #[test]
    fn codes_that_may_not_be_sent_break_the_protocol() {
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
            assert_eq!(Closing::parse(&u16::to_be_bytes(code)), Err(PROTOCOL), "{code}");
        }
        for code in [1000, 1001, 1002, 1003, 1007, 1011, 1014, 3000, 3999, 4000, 4999] {
            assert_eq!(Closing::parse(&u16::to_be_bytes(code)), Ok(Some(Closing::new(code, ""))), "{code}");
        }
        assert_eq!(Closing::parse(b""), Ok(None));
        assert_eq!(Closing::parse(b"\x03"), Err(PROTOCOL));
        assert_eq!(Closing::parse(b"\x03\xe8\xff"), Err(INVALID));
    }

    #[test]
    #[cfg(all(feature = "server", feature = "client"))]
    fn a_reason_tells_when_and_from_where_to_come_back() {
        let cursor: Cursor = "e-7".parse().unwrap();
        let closing =
            Closing::over(ErrorKind::Unavailable).resuming(Some(Duration::from_millis(1500)), Some(cursor));
        assert_eq!((closing.code, closing.reason.as_str()), (1013, "unavailable retry=1500 cursor=e-7"));
        assert_eq!(
            closing.told(),
            (Some(ErrorKind::Unavailable), Some(Duration::from_millis(1500)), Some(cursor))
        );
        assert_eq!(Closing::new(1001, "").told(), (None, None, None));
    }
}

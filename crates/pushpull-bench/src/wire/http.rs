//! Answers of HTTP/1.1, with a length, and the pages of polls.

use std::{io, str::FromStr, time::Duration};

use memchr::{memchr, memchr_iter, memmem};

/// A whole answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    pub(crate) body: &'a [u8],
    /// Bytes of head and body.
    pub(crate) length: usize,
}

/// A whole answer to a poll.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Page<'a> {
    pub(crate) body: &'a [u8],
    /// Where to ask on from.
    pub(crate) cursor: &'a str,
    /// Whether more is there than it holds.
    pub(crate) has_more: bool,
    /// Bytes of head and body.
    pub(crate) length: usize,
}

/// The answer at the beginning of `bytes`, if all of it is there.
///
/// # Errors
///
/// It is no answer, or one whose length is not told.
pub(crate) fn answer(bytes: &[u8]) -> io::Result<Option<Answer<'_>>> {
    let Some(end) = memmem::find(bytes, b"\r\n\r\n") else { return Ok(None) };
    let head = &bytes[..end];
    let status = status(head).ok_or_else(|| refused(bytes))?;
    let length = match status {
        204 | 304 => 0,
        _ => content_length(head).ok_or_else(|| refused(bytes))?,
    };
    let body = bytes[end + 4..].get(..length);
    Ok(body.map(|body| Answer { status, body, length: end + 4 + length }))
}

/// The page at the beginning of `bytes`, if all of it is there.
///
/// # Errors
///
/// It is an answer of another kind.
pub(crate) fn page(bytes: &[u8]) -> io::Result<Option<Page<'_>>> {
    let Some(Answer { status, body, length }) = answer(bytes)? else { return Ok(None) };
    let cursor = last_member(body, b"\"cursor\":\"", b'"').filter(|_| status == 200);
    let cursor = cursor.ok_or_else(|| refused(bytes))?;
    let has_more = last_member(body, b"\"more\":", b'}') == Some("true");
    Ok(Some(Page { body, cursor, has_more, length }))
}

/// What stands behind the last `marker` and before the `end` that follows.
pub(crate) fn last_member<'a>(body: &'a [u8], marker: &[u8], end: u8) -> Option<&'a str> {
    let rest = &body[memmem::rfind(body, marker)? + marker.len()..];
    str::from_utf8(&rest[..memchr(end, rest)?]).ok()
}

/// The sequence number of a cursor.
pub(crate) fn seq(cursor: &str) -> Option<u64> {
    cursor.rsplit_once('-')?.1.parse().ok()
}

/// How long a server that is full, by its answer's head, asks to be left alone: a second where it does not say.
pub(crate) fn pause(head: &[u8]) -> Option<Duration> {
    const UNTOLD: Duration = Duration::from_secs(1);
    let is_full = matches!(status(head), Some(429 | 503));
    is_full.then(|| header(head, "retry-after").map_or(UNTOLD, Duration::from_secs))
}

/// An error that shows what came.
pub(crate) fn refused(bytes: &[u8]) -> io::Error {
    let shown = &bytes[..bytes.len().min(2048)];
    io::Error::other(format!("not the answer that was asked for: {}", String::from_utf8_lossy(shown)))
}

fn status(head: &[u8]) -> Option<u16> {
    let digits = head.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
    str::from_utf8(digits).ok()?.parse().ok()
}

fn content_length(head: &[u8]) -> Option<usize> {
    header(head, "content-length")
}

/// The value of a header.
fn header<T: FromStr>(head: &[u8], name: &str) -> Option<T> {
    memchr_iter(b'\n', head).find_map(|at| {
        let (found, value) = head[at + 1..].split_at_checked(name.len())?;
        let value = value.strip_prefix(b": ").filter(|_| found.eq_ignore_ascii_case(name.as_bytes()))?;
        let value = &value[..memchr(b'\r', value).unwrap_or(value.len())];
        str::from_utf8(value).ok()?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_or_not_there() {
        let body = r#"{"events":[{"cursor":"a-1","data":"one"},{"cursor":"a-2","data":"two"}],"cursor":"a-9","more":false}"#;
        let bytes = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        for cut in 0..bytes.len() {
            assert_eq!(page(&bytes.as_bytes()[..cut]).unwrap(), None);
        }
        let more = format!("{bytes}HTTP/1.1 2");
        let whole = page(more.as_bytes()).unwrap().unwrap();
        let wanted = Page { body: body.as_bytes(), cursor: "a-9", has_more: false, length: bytes.len() };
        assert_eq!(whole, wanted);
        let mut payloads = Vec::new();
        super::super::objects(whole.body, None, &mut |payload| payloads.push(payload.to_vec()));
        assert_eq!(payloads, [b"one", b"two"]);
    }

    #[test]
    fn a_page_says_whether_there_is_more() {
        let body = r#"{"events":[],"cursor":"a-9","more":true}"#;
        let bytes = format!("HTTP/1.1 200 OK\r\nx: y\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        assert!(page(bytes.as_bytes()).unwrap().unwrap().has_more);
    }

    #[test]
    fn an_answer_that_is_no_page_is_an_error() {
        for bytes in [
            "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: two\r\n\r\n{}",
            "HTTP/1.1 304 Not Modified\r\n\r\n",
            "no HTTP\r\n\r\n",
        ] {
            assert!(page(bytes.as_bytes()).is_err(), "{bytes}");
        }
    }

    #[test]
    fn a_304_has_no_body() {
        let bytes = b"HTTP/1.1 304 Not Modified\r\npushpull-cursor: a-1\r\n\r\nHTTP/1.1 304";
        let whole = Answer { status: 304, body: b"", length: bytes.len() - 12 };
        assert_eq!(answer(bytes).unwrap(), Some(whole));
    }

    #[test]
    fn a_full_server_says_for_how_long() {
        let pause = |head: &str| pause(head.as_bytes()).map(|pause| pause.as_secs());
        assert_eq!(pause("HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\nx: y"), Some(7));
        assert_eq!(pause("HTTP/1.1 429 Too Many Requests\r\nx: y"), Some(1));
        assert_eq!(pause("HTTP/1.1 101 Switching Protocols\r\nretry-after: 7"), None);
    }

    #[test]
    fn a_seq_is_behind_the_epoch() {
        assert_eq!(seq("6qz3k1-1042"), Some(1042));
        assert_eq!([seq("1042"), seq("a-"), seq("a-b")], [None; 3]);
    }
}

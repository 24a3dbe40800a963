//! The forms of Nchan's answers.

use std::{
    io::{self, Read},
    str::FromStr,
};

use memchr::{memchr_iter, memmem};

use crate::wire::http::{answer, refused};

/// A whole answer to a poll.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Page<'a> {
    /// The one message, if there is one.
    pub(crate) message: Option<&'a [u8]>,
    /// Where to ask on from, for [`validators`]. None before the first message.
    pub(crate) place: Option<String>,
    /// Bytes of head and body.
    pub(crate) length: usize,
}

/// The page at the beginning of `bytes`, if all of it is there.
///
/// # Errors
///
/// It is an answer of another kind, or a message without a place.
pub(crate) fn page(bytes: &[u8]) -> io::Result<Option<Page<'_>>> {
    let Some(answer) = answer(bytes)? else { return Ok(None) };
    let place = place(&bytes[..answer.length - answer.body.len()]);
    let message = match answer.status {
        200 if place.is_some() => Some(answer.body),
        304 => None,
        _ => return Err(refused(bytes)),
    };
    Ok(Some(Page { message, place, length: answer.length }))
}

/// Reads the answer to a poll that does not wait: the place to poll from.
pub(crate) fn read_place(stream: &mut impl Read) -> io::Result<String> {
    let (mut bytes, mut chunk) = (Vec::new(), [0; 2048]);
    loop {
        let read = stream.read(&mut chunk)?;
        bytes.extend_from_slice(&chunk[..read]);
        if let Some(page) = page(&bytes)? {
            return page.place.ok_or_else(|| refused(&bytes));
        }
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// The headers of a request that goes on from `place`.
pub(crate) fn validators(place: &str) -> String {
    let (tag, time) = place.split_once(' ').unwrap_or((place, ""));
    format!("If-None-Match: {tag}\r\nIf-Modified-Since: {time}\r\n")
}

/// The second of a message's id, by the answer to its POST. The number behind it has 16 bits and turns over where more
/// are published in a second, so it says nothing of their order.
pub(crate) fn acknowledged(body: &[u8]) -> Option<u64> {
    const NAME: &[u8] = b"last message id: ";
    let id = str::from_utf8(&body[memmem::find(body, NAME)? + NAME.len()..]).ok()?;
    let (second, number) = id.trim_end().split_once(':')?;
    number.parse::<i16>().is_ok().then(|| second.parse().ok())?
}

/// How many messages were published, by the body of `/status`.
pub(crate) fn published(body: &[u8]) -> Option<u64> {
    let line = body.strip_prefix(b"total published messages: ")?;
    number(&line[..memchr_iter(b'\n', line).next()?])
}

/// `ETag` and `Last-Modified`, with a space between them.
fn place(head: &[u8]) -> Option<String> {
    Some(format!("{} {}", header::<String>(head, "etag")?, header::<String>(head, "last-modified")?))
}

fn header<T: FromStr>(head: &[u8], name: &str) -> Option<T> {
    let lines = str::from_utf8(head).ok()?.split("\r\n");
    let mut found = lines.filter_map(|line| line.split_once(": "));
    found.find(|(found, _)| found.eq_ignore_ascii_case(name))?.1.parse().ok()
}

fn number(digits: &[u8]) -> Option<u64> {
    str::from_utf8(digits).ok()?.trim_end().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Nchan 1.3.6 answered.
    const MESSAGE: &str = "HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nContent-Type: text/plain\r\n\
        Content-Length: 4\r\nLast-Modified: Thu, 26 Nov 2026 00:13:06 GMT\r\nConnection: keep-alive\r\n\
        Etag: 1\r\nVary: If-None-Match, If-Modified-Since\r\n\r\nmsg2";
    const NOTHING: &str = "HTTP/1.1 304 Not Modified\r\nContent-Length: 0\r\n\
        Last-Modified: Thu, 26 Nov 2026 00:13:06 GMT\r\nEtag: 2\r\n\r\n";

    #[test]
    fn a_message_has_a_place_to_go_on_from() {
        for cut in 0..MESSAGE.len() {
            assert_eq!(page(&MESSAGE.as_bytes()[..cut]).unwrap(), None);
        }
        let more = format!("{MESSAGE}HTTP");
        let page = page(more.as_bytes()).unwrap().unwrap();
        assert_eq!((page.message, page.length), (Some(&b"msg2"[..]), MESSAGE.len()));
        let asked = "If-None-Match: 1\r\nIf-Modified-Since: Thu, 26 Nov 2026 00:13:06 GMT\r\n";
        let place = page.place.unwrap();
        assert_eq!(validators(&place), asked);
        assert_eq!(read_place(&mut MESSAGE.as_bytes()).unwrap(), place);
        assert!(read_place(&mut &MESSAGE.as_bytes()[..99]).is_err());
    }

    #[test]
    fn nothing_new_has_no_message() {
        let told = page(NOTHING.as_bytes()).unwrap().unwrap();
        assert_eq!((told.message, told.length), (None, NOTHING.len()));
        assert_eq!(told.place.unwrap(), "2 Thu, 26 Nov 2026 00:13:06 GMT");
        let empty = page(b"HTTP/1.1 304 Not Modified\r\n\r\n").unwrap().unwrap();
        assert_eq!(empty.place, None);
    }

    #[test]
    fn an_answer_that_is_no_page_is_an_error() {
        let placeless = MESSAGE.replace("Etag", "X");
        for bytes in [&placeless, "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"] {
            assert!(page(bytes.as_bytes()).is_err(), "{bytes}");
        }
    }

    #[test]
    fn an_id_tells_its_second() {
        let body = |id: &str| format!("queued messages: 1\r\nactive subscribers: 0\r\nlast message id: {id}");
        for id in ["1795651986:0", "1795651986:32767", "1795651986:-32768"] {
            assert_eq!(acknowledged(body(id).as_bytes()), Some(1_795_651_986));
        }
        for id in ["", "7", "7:x", "-1:0"] {
            assert_eq!(acknowledged(body(id).as_bytes()), None, "{id}");
        }
    }

    #[test]
    fn the_status_tells_how_many_were_published() {
        assert_eq!(published(b"total published messages: 3\nstored messages: 2\n"), Some(3));
        assert_eq!(published(b"stored messages: 2\n"), None);
    }
}

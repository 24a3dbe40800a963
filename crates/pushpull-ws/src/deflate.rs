//! permessage-deflate without context takeover (RFC 7692): a deflated payload is a pure function of the message, so
//! that one frame serves every subscriber.

use std::cell::RefCell;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use http::{HeaderMap, header::SEC_WEBSOCKET_EXTENSIONS};

use crate::{close, decoder::Fault};

/// What a sync flush ends with, which does not travel (7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
/// Smaller payloads gain nothing.
const WORTH_IT: usize = 128;
/// The most that one step of inflation adds.
const STEP: usize = 16 * 1024;

thread_local! {
    // 380 KB and 48 KB each: one a thread, never one a connection.
    static COMPRESS: RefCell<Compress> = RefCell::new(Compress::new(Compression::default(), false));
    static DECOMPRESS: RefCell<Decompress> = RefCell::new(Decompress::new(false));
}

/// The answer to the first offer that can be accepted, if there is one (5, 7.1).
pub(crate) fn accept(headers: &HeaderMap) -> Option<String> {
    let values = headers.get_all(SEC_WEBSOCKET_EXTENSIONS).iter();
    values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).find_map(accept_offer)
}

/// No quoted value that is valid here holds a comma or a semicolon, so splitting by them finds every valid offer.
fn accept_offer(offer: &str) -> Option<String> {
    let mut parts = offer.split(';').map(str::trim);
    if !parts.next()?.eq_ignore_ascii_case("permessage-deflate") {
        return None;
    }
    let mut seen = Vec::new();
    let mut answer =
        String::from("permessage-deflate; server_no_context_takeover; client_no_context_takeover");
    for part in parts {
        let (name, value) = match part.split_once('=') {
            Some((name, value)) => (name.trim(), Some(unquoted(value.trim())?)),
            None => (part, None),
        };
        if seen.contains(&name) {
            return None;
        }
        seen.push(name);
        match (name, value) {
            ("server_no_context_takeover" | "client_no_context_takeover", None)
            | ("client_max_window_bits", None) => {}
            ("client_max_window_bits", Some(bits)) if window_bits(bits).is_some() => {}
            // A smaller window would need frames of its own.
            ("server_max_window_bits", Some(bits)) if window_bits(bits) == Some(15) => {
                answer.push_str("; server_max_window_bits=15");
            }
            _ => return None,
        }
    }
    Some(answer)
}

fn unquoted(value: &str) -> Option<&str> {
    match value.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"'),
        None => Some(value),
    }
}

fn window_bits(text: &str) -> Option<u8> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    let bits = is_plain.then(|| text.parse().ok())??;
    (8..=15).contains(&bits).then_some(bits)
}

/// The deflated payload; `None` if that would not be smaller.
pub(crate) fn deflate(payload: &[u8]) -> Option<Vec<u8>> {
    if payload.len() < WORTH_IT {
        return None;
    }
    let mut out = Vec::with_capacity(payload.len());
    let status = COMPRESS.with_borrow_mut(|compress| {
        compress.reset();
        compress.compress_vec(payload, &mut out, FlushCompress::Sync)
    });
    // With no room left the output is as large as the input, or cut.
    let is_whole = matches!(status, Ok(Status::Ok)) && out.len() < out.capacity() && out.ends_with(&TAIL);
    out.truncate(out.len().saturating_sub(TAIL.len()));
    (is_whole && out.len() < payload.len()).then_some(out)
}

/// The payload that `deflated` stands for, of at most `limit` bytes.
///
/// # Errors
/// 1009 if it is larger, however small it came; 1007 if it cannot be inflated.
pub(crate) fn inflate(deflated: &[u8], limit: usize) -> Result<Vec<u8>, Fault> {
    DECOMPRESS.with_borrow_mut(|decompress| {
        decompress.reset(false);
        let mut out = Vec::new();
        for mut input in [deflated, &TAIL] {
            take_in(decompress, &mut input, &mut out, limit)?;
        }
        Ok(out)
    })
}

fn take_in(
    decompress: &mut Decompress,
    input: &mut &[u8],
    out: &mut Vec<u8>,
    limit: usize,
) -> Result<(), Fault> {
    const BROKEN: Fault = Fault { code: close::INVALID, reason: "a message cannot be inflated" };
    loop {
        out.reserve(STEP.min(limit + 1 - out.len()));
        let (before_in, before_out) = (decompress.total_in(), out.len());
        let status = decompress.decompress_vec(input, out, FlushDecompress::None).map_err(|_| BROKEN)?;
        let taken = (decompress.total_in() - before_in) as usize;
        *input = &input[taken..];
        if out.len() > limit {
            return Err(Fault { code: close::TOO_BIG, reason: "too-large" });
        }
        if status == Status::StreamEnd {
            // A final block is allowed, and others may follow it (7.2.3.4).
            decompress.reset(false);
        }
        let is_full = out.len() == out.capacity();
        match (input.is_empty(), is_full) {
            (true, false) => return Ok(()),
            (false, false) if taken == 0 && out.len() == before_out => return Err(BROKEN),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

    #[test]
    fn offers_are_taken_strictly() {
        let with_bits = format!("{ANSWER}; server_max_window_bits=15");
        for (offer, answer) in [
            ("permessage-deflate", Some(ANSWER)),
            ("Permessage-Deflate; client_max_window_bits", Some(ANSWER)),
            ("permessage-deflate;client_max_window_bits=15", Some(ANSWER)),
            ("permessage-deflate; client_max_window_bits=\"10\"", Some(ANSWER)),
            ("permessage-deflate; server_no_context_takeover; client_no_context_takeover", Some(ANSWER)),
            ("permessage-deflate; server_max_window_bits=15", Some(&*with_bits)),
            ("permessage-deflate; server_max_window_bits=10, permessage-deflate", Some(ANSWER)),
            ("x-webkit-deflate-frame, permessage-deflate", Some(ANSWER)),
            ("permessage-deflate; server_max_window_bits=10", None),
            ("permessage-deflate; server_max_window_bits", None),
            ("permessage-deflate; client_max_window_bits=99", None),
            ("permessage-deflate; client_max_window_bits=08", None),
            ("permessage-deflate; client_max_window_bits=7", None),
            ("permessage-deflate; client_max_window_bits=16", None),
            ("permessage-deflate; client_max_window_bits=", None),
            ("permessage-deflate; client_max_window_bits=\"10", None),
            ("permessage-deflate; client_no_context_takeover; client_no_context_takeover", None),
            ("permessage-deflate; client_no_context_takeover=1", None),
            ("permessage-deflate; unknown", None),
            ("permessage-deflate;", None),
            ("x-webkit-deflate-frame", None),
            ("", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(SEC_WEBSOCKET_EXTENSIONS, offer.parse().unwrap());
            assert_eq!(accept(&headers).as_deref(), answer, "{offer}");
        }
    }

    #[test]
    fn what_is_deflated_inflates_again() {
        let text = "the same again, ".repeat(100_000);
        let deflated = deflate(text.as_bytes()).unwrap();
        assert!(deflated.len() < text.len() / 50);
        assert_eq!(deflate(text.as_bytes()).unwrap(), deflated, "a pure function of the message");
        assert_eq!(inflate(&deflated, text.len()).unwrap(), text.as_bytes());
        let over = inflate(&deflated, text.len() - 1);
        assert_eq!(over.unwrap_err().code, close::TOO_BIG);
    }

    #[test]
    fn what_gains_nothing_is_left_alone() {
        let mut random = fastrand::Rng::with_seed(7);
        let noise: Vec<u8> = (0..4096).map(|_| random.u8(..)).collect();
        assert_eq!(deflate(&noise), None);
        assert_eq!(deflate(b"short"), None);
    }

    #[test]
    fn the_standards_own_examples_inflate() {
        for (deflated, text) in [
            (&b"\xf2\x48\xcd\xc9\xc9\x07\x00"[..], &b"Hello"[..]),
            (b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", b"Hello"),
            (b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00", b"Hello"),
            (b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", b"Hello"),
            (b"\x00", b""),
        ] {
            assert_eq!(inflate(deflated, 100).unwrap(), text, "{deflated:x?}");
        }
        assert_eq!(inflate(b"\xff\xff\xff\xff", 100).unwrap_err().code, close::INVALID);
    }

    #[test]
    fn a_bomb_is_cut_at_the_limit() {
        let zeros = deflate(&vec![0; 16 << 20]).unwrap();
        assert!(zeros.len() < 100_000);
        assert_eq!(inflate(&zeros, 1 << 20).unwrap_err().code, close::TOO_BIG);
    }
}

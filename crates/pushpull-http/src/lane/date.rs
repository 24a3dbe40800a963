//! The `date` of an answer, made once a second.

use std::{
    cell::Cell,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::time::Instant;

/// Bytes of a date.
const LENGTH: usize = 29;

thread_local! {
    /// The date, and until when it is that of now.
    static KEPT: Cell<Option<(Instant, [u8; LENGTH])>> = const { Cell::new(None) };
}

/// Puts the date of `now` as RFC 9110, 5.6.7 has it. A clock that is set is followed within a second.
pub(super) fn put(now: Instant, out: &mut Vec<u8>) {
    match KEPT.get() {
        Some((until, text)) if now < until => out.extend_from_slice(&text),
        _ => out.extend_from_slice(&made(now)),
    }
}

fn made(now: Instant) -> [u8; LENGTH] {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = Duration::from_secs(since.as_secs());
    // Of as many bytes until the year 10,000.
    let text = httpdate::fmt_http_date(UNIX_EPOCH + seconds).as_bytes().try_into().unwrap_or([b' '; LENGTH]);
    KEPT.set(Some((now + Duration::from_secs(1) - (since - seconds), text)));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_kept_until_its_second_is_over() {
        let put = |now| {
            let mut out = Vec::new();
            put(now, &mut out);
            httpdate::parse_http_date(std::str::from_utf8(&out).unwrap()).unwrap()
        };
        let now = Instant::now();
        let before = SystemTime::now();
        let first = put(now);
        assert!(first <= SystemTime::now() && before < first + Duration::from_secs(1));
        let (until, _) = KEPT.get().unwrap();
        assert!(until > now && until <= now + Duration::from_secs(1));
        KEPT.set(Some((until, *b"Thu, 01 Jan 1970 00:00:07 GMT")));
        assert_eq!(put(until - Duration::from_nanos(1)), UNIX_EPOCH + Duration::from_secs(7));
        assert!(put(until) >= first, "made anew");
    }
}

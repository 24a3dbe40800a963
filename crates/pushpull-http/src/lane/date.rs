//! The `date` of an answer, made once a second.

use std::{
    cell::Cell,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Bytes of a date.
const LENGTH: usize = 29;

thread_local! {
    static KEPT: Cell<(u64, [u8; LENGTH])> = const { Cell::new((u64::MAX, [0; LENGTH])) };
}

/// Puts the date of now as RFC 9110, 5.6.7 has it.
pub(super) fn put(out: &mut Vec<u8>) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (at, mut text) = KEPT.get();
    if at != now {
        let made = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(now));
        if let Ok(made) = made.as_bytes().try_into() {
            text = made;
            KEPT.set((now, text));
        }
    }
    out.extend_from_slice(&text);
}

//! Numbers, as they are asked for and as they are told.

use std::{fmt, num::NonZeroUsize};

use pushpull::Fetch;
use pushpull_examples::at_least_one;

/// So many of what has this name in the singular, an `s` away from its plural.
pub(crate) struct Count(pub(crate) u64, pub(crate) &'static str);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(number, name) = self;
        write!(f, "{number} {name}{}", if *number == 1 { "" } else { "s" })
    }
}

/// How many records a batch may have: as many as a poll brings at most.
///
/// # Errors
/// If it is no number, or lies outside.
pub(crate) fn limit(text: &str) -> Result<usize, String> {
    match at_least_one::<NonZeroUsize>(text)?.get() {
        limit if limit <= Fetch::MAX_LIMIT => Ok(limit),
        _ => Err(format!("must be at most {}", Fetch::MAX_LIMIT)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_told_in_the_singular() {
        let told = [0, 1, 2].map(|number| Count(number, "gap").to_string());
        assert_eq!(told, ["0 gaps", "1 gap", "2 gaps"]);
    }

    #[test]
    fn a_batch_has_as_many_records_as_a_poll_brings() {
        assert_eq!((limit("1"), limit("1000")), (Ok(1), Ok(1000)));
        assert_eq!(limit("1001"), Err("must be at most 1000".to_owned()));
        assert_eq!(limit("0"), Err("must be at least 1".to_owned()));
    }
}

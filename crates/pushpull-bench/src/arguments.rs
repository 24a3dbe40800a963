//! What numbers on the command line may be.

use std::{fmt::Display, ops::RangeInclusive, str::FromStr};

use crate::stamp::LEAST;

/// The most of anything that is counted, and the most bytes of a payload: more is a slip of the hand.
const MOST: usize = 1_000_000;

/// How many there are of something, at least one.
pub(crate) fn count(text: &str) -> Result<usize, String> {
    within(text, &(1..=MOST))
}

/// Bytes of a payload, which has room for a stamp.
pub(crate) fn payload(text: &str) -> Result<usize, String> {
    within(text, &(LEAST..=MOST))
}

/// How long something goes on, in seconds, at most a day.
pub(crate) fn seconds(text: &str) -> Result<u64, String> {
    within(text, &(0..=86_400))
}

/// The same where nothing would come of no time.
pub(crate) fn some_seconds(text: &str) -> Result<u64, String> {
    within(text, &(1..=86_400))
}

/// How often something is done in a second.
pub(crate) fn rate(text: &str) -> Result<f64, String> {
    within(text, &(0.001..=1e9))
}

/// A number of cores.
pub(crate) fn cores(text: &str) -> Result<f64, String> {
    within(text, &(0.0..=1e6))
}

fn within<T>(text: &str, range: &RangeInclusive<T>) -> Result<T, String>
where
    T: FromStr<Err: Display> + PartialOrd + Display,
{
    let number: T = text.parse().map_err(|error: T::Err| error.to_string())?;
    let told = || format!("it is not from {} to {}", range.start(), range.end());
    range.contains(&number).then_some(number).ok_or_else(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_little_or_too_much_is_refused() {
        assert_eq!(["1", "1000000"].map(count), [Ok(1), Ok(1_000_000)]);
        assert!(["0", "1000001", "-1", "x", ""].map(count).iter().all(Result::is_err));
        assert_eq!(payload("40"), Ok(40));
        assert_eq!(payload("39"), Err("it is not from 40 to 1000000".to_owned()));
        assert_eq!((seconds("0"), some_seconds("1")), (Ok(0), Ok(1)));
        assert!(some_seconds("0").is_err() && seconds("86401").is_err());
        assert_eq!((rate("0.5"), cores("0")), (Ok(0.5), Ok(0.0)));
        assert!(["0", "-1", "nan", "inf", "1e-300"].map(rate).iter().all(Result::is_err));
        assert!(["-1", "nan", "inf"].map(cores).iter().all(Result::is_err));
    }
}

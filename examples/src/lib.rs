//! What the examples share: how they are stopped, what they say of an error, and what their flags may be.

mod page;

use std::{
    error::Error,
    fmt,
    future::Future,
    io,
    net::SocketAddr,
    num::{IntErrorKind, ParseIntError},
    process::ExitCode,
    str::FromStr,
    time::Duration,
};

use tokio::signal::unix::{SignalKind, signal};

pub use page::page;

/// Longest time that a flag may give: a hundred years, in seconds.
const LONGEST: f64 = 3.2e9;

/// Listens for SIGTERM and SIGINT from now on; what it returns is done at the first. To be called before the program
/// says that it is ready, since until then either signal ends it at once.
///
/// # Errors
/// If the system does not let the process listen for them.
pub fn stopped() -> io::Result<impl Future<Output = ()> + Send> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// How a program ends: an error is told on standard error as a sentence, not as a value, and makes it 1.
pub fn end(result: Result<(), Box<dyn Error>>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What to say where `address` could not be listened on.
pub fn not_bound<E: fmt::Display>(address: SocketAddr) -> impl FnOnce(E) -> String {
    move |error| format!("cannot listen on {address}: {error}; use --listen for another address")
}

/// An address to listen on.
///
/// # Errors
/// If it is no IP address with a port: a host name may stand for several.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "an IP address and a port are wanted, as in 127.0.0.1:8080 or [::1]:8080".to_owned())
}

/// Seconds as a decimal, up to a hundred years.
///
/// # Errors
/// If it is no number, or lies outside.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    match (0.0..=LONGEST).contains(&number) {
        true => Ok(Duration::from_secs_f64(number)),
        false => Err(format!("not between 0 and {LONGEST} seconds")),
    }
}

/// [`seconds`], and more than none.
///
/// # Errors
/// As [`seconds`], and for zero.
pub fn interval(text: &str) -> Result<Duration, String> {
    match seconds(text)? {
        Duration::ZERO => Err("must be more than 0 seconds".to_owned()),
        interval => Ok(interval),
    }
}

/// A whole number, for the types that hold no zero.
///
/// # Errors
/// If it is no number, or zero, or too large for the type.
pub fn at_least_one<N: FromStr<Err = ParseIntError>>(text: &str) -> Result<N, String> {
    let number: Result<N, ParseIntError> = text.parse();
    number.map_err(|error| {
        let wrong = match error.kind() {
            IntErrorKind::Zero => "must be at least 1",
            IntErrorKind::PosOverflow => "too large",
            _ => "not a whole number",
        };
        wrong.to_owned()
    })
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;

    #[test]
    fn an_interval_is_a_positive_number_of_seconds() {
        assert_eq!(interval("0.25"), Ok(Duration::from_millis(250)));
        assert_eq!(interval("0"), Err("must be more than 0 seconds".to_owned()));
        assert_eq!(seconds("0"), Ok(Duration::ZERO));
        for outside in ["nan", "inf", "-1", "1e10"] {
            assert_eq!(
                interval(outside),
                Err("not between 0 and 3200000000 seconds".to_owned()),
                "{outside}"
            );
        }
        assert_eq!(interval("soon"), Err("not a number of seconds".to_owned()));
    }

    #[test]
    fn a_count_is_at_least_one() {
        assert_eq!(at_least_one("7"), Ok(NonZeroU64::MIN.saturating_add(6)));
        let refused = [
            ("0", "must be at least 1"),
            ("99999999999999999999", "too large"),
            ("a", "not a whole number"),
            ("-1", "not a whole number"),
        ];
        for (text, wrong) in refused {
            assert_eq!(at_least_one::<NonZeroU64>(text), Err(wrong.to_owned()), "{text}");
        }
    }

    #[test]
    fn an_address_has_an_ip_and_a_port() {
        assert_eq!(address("[::1]:0"), Ok(SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 0))));
        for text in ["localhost:0", "127.0.0.1", "8080"] {
            assert!(
                address(text).is_err_and(|wrong| wrong.starts_with("an IP address and a port")),
                "{text}"
            );
        }
    }
}

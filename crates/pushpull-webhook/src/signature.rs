//! Signatures of the Standard Webhooks specification 1.0.0, scheme `v1`: HMAC-SHA256 over `id.timestamp.body`.

use std::{fmt, str::FromStr, time::Duration};

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
    prelude::BASE64_STANDARD,
};
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderName};
use sha2::Sha256;

use crate::{WEBHOOK_ID, WEBHOOK_SIGNATURE, WEBHOOK_TIMESTAMP};

/// Some tools print secrets without padding.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
const PREFIX: &str = "whsec_";
/// Most signatures of one delivery that are looked at.
const MAX_SIGNATURES: usize = 16;
const MAX_ID: usize = 255;

/// A signing secret: 24 to 64 bytes, as text `whsec_` and their base64. `Debug` does not show it.
#[derive(Clone)]
pub struct Secret(Box<[u8]>);

/// A text or bytes that are no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a secret has the form whsec_<base64 of 24 to 64 bytes>")]
pub struct SecretError;

/// Why a delivery is not taken for what its sender signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// A header is missing, given twice, or not of its form.
    #[error("{0} is missing or malformed")]
    Header(HeaderName),
    /// It was signed too long ago.
    #[error("webhook-timestamp lies too far back")]
    TooOld,
    /// It was signed too far in the future.
    #[error("webhook-timestamp lies ahead")]
    TooNew,
    /// No signature is by a secret that is known.
    #[error("no signature matches")]
    Signature,
}

impl Secret {
    /// A secret of these bytes.
    ///
    /// # Errors
    /// If they are not 24 to 64.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SecretError> {
        (24..=64).contains(&bytes.len()).then(|| Self(bytes.into())).ok_or(SecretError)
    }

    /// A secret of 32 random bytes.
    ///
    /// # Errors
    /// If the system has no randomness to give.
    #[cfg(feature = "sender")]
    pub fn random() -> Result<Self, pushpull_core::Problem> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|error| {
            let kind = pushpull_core::ErrorKind::Internal;
            pushpull_core::Problem::new(kind, format!("no randomness: {error}"))
        })?;
        Ok(Self(bytes.into()))
    }

    /// The secret as text, as in `whsec_…`.
    pub fn reveal(&self) -> String {
        format!("{PREFIX}{}", BASE64_STANDARD.encode(&self.0))
    }

    fn mac(&self, id: &str, timestamp: &str, body: &[u8]) -> Hmac<Sha256> {
        // HMAC takes a key of any length.
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).unwrap_or_else(|_| unreachable!("any length"));
        for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
            mac.update(part);
        }
        mac
    }
}

/// The value of `webhook-signature` by all of `secrets`, for an attempt at `timestamp` (Unix seconds).
pub fn sign<'a>(
    secrets: impl IntoIterator<Item = &'a Secret>,
    id: &str,
    timestamp: u64,
    body: &[u8],
) -> String {
    let timestamp = timestamp.to_string();
    let signatures = secrets.into_iter().map(|secret| {
        let mac = secret.mac(id, &timestamp, body).finalize().into_bytes();
        format!("v1,{}", BASE64_STANDARD.encode(mac))
    });
    signatures.collect::<Vec<_>>().join(" ")
}

/// Checks that a delivery was signed by one of `secrets` within `tolerance` of `now` (Unix seconds), and gives its id.
/// Signatures are compared in constant time.
///
/// # Errors
/// If it was not, or its headers are not of their form. An id holds no `.`, since with one in it two deliveries could
/// bear the same signature.
pub fn verify<'h>(
    secrets: &[Secret],
    headers: &'h HeaderMap,
    body: &[u8],
    now: u64,
    tolerance: Duration,
) -> Result<&'h str, VerifyError> {
    let id = one(headers, WEBHOOK_ID)?;
    if id.is_empty() || id.len() > MAX_ID || id.contains('.') {
        return Err(VerifyError::Header(WEBHOOK_ID));
    }
    let timestamp = one(headers, WEBHOOK_TIMESTAMP)?;
    let digits = !timestamp.is_empty() && timestamp.bytes().all(|byte| byte.is_ascii_digit());
    let signed_at = timestamp.parse::<u64>().ok().filter(|_| digits);
    let signed_at = signed_at.ok_or(VerifyError::Header(WEBHOOK_TIMESTAMP))?;
    let signatures = one(headers, WEBHOOK_SIGNATURE)?;
    let given = signatures.split(' ').filter_map(|signature| signature.strip_prefix("v1,"));
    let given = given.take(MAX_SIGNATURES).filter_map(|text| BASE64_STANDARD.decode(text).ok());
    let matches = |signature: &[u8]| {
        secrets.iter().any(|secret| secret.mac(id, timestamp, body).verify_slice(signature).is_ok())
    };
    if !given.into_iter().any(|signature| matches(&signature)) {
        return Err(VerifyError::Signature);
    }
    match tolerance.as_secs() {
        seconds if signed_at.saturating_add(seconds) < now => Err(VerifyError::TooOld),
        seconds if signed_at > now.saturating_add(seconds) => Err(VerifyError::TooNew),
        _ => Ok(id),
    }
}

fn one(headers: &HeaderMap, name: HeaderName) -> Result<&str, VerifyError> {
    let mut values = headers.get_all(&name).iter();
    let value = values.next().filter(|_| values.next().is_none()).and_then(|value| value.to_str().ok());
    value.ok_or(VerifyError::Header(name))
}

impl FromStr for Secret {
    type Err = SecretError;

    fn from_str(text: &str) -> Result<Self, SecretError> {
        let bytes = LENIENT.decode(text.strip_prefix(PREFIX).ok_or(SecretError)?).map_err(|_| SecretError)?;
        Self::from_bytes(&bytes)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl serde::Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.reveal())
    }
}

impl<'de> serde::Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const MINUTES_5: Duration = Duration::from_secs(300);

    fn secret(text: &str) -> Secret {
        text.parse().unwrap()
    }

    fn headers(id: &str, timestamp: &str, signature: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(WEBHOOK_ID, id.parse().unwrap());
        headers.insert(WEBHOOK_TIMESTAMP, timestamp.parse().unwrap());
        headers.insert(WEBHOOK_SIGNATURE, signature.parse().unwrap());
        headers
    }

    #[test]
    fn the_specifications_own_example_is_met() {
        let signature = sign(
            [&secret(SECRET)],
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn secrets_have_24_to_64_bytes() {
        for (bytes, is_good) in [(23, false), (24, true), (64, true), (65, false)] {
            let text = format!("whsec_{}", BASE64_STANDARD.encode(vec![7; bytes]));
            assert_eq!(
                text.parse::<Secret>().map(|secret| secret.reveal()),
                is_good.then_some(text).ok_or(SecretError)
            );
        }
        let unpadded = BASE64_STANDARD.encode([7; 25]).trim_end_matches('=').to_owned();
        assert!(format!("whsec_{unpadded}").parse::<Secret>().is_ok());
        for bad in ["", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_?"] {
            assert_eq!(bad.parse::<Secret>().unwrap_err(), SecretError, "{bad}");
        }
        assert_eq!(format!("{:?}", secret(SECRET)), "Secret(…)");
    }

    #[test]
    fn what_is_verified() {
        let (known, other) = (secret(SECRET), Secret::from_bytes(&[9; 32]).unwrap());
        let by = |secret: &Secret| sign([secret], "e-1", 1000, b"body");
        let both = sign([&other, &known], "e-1", 1000, b"body");
        let tampered = by(&known).replacen("v1,", "v1,A", 1);
        for (name, signature, now, expected) in [
            ("its own", by(&known), 1000, Ok("e-1")),
            ("one of two", both, 1000, Ok("e-1")),
            ("at the edge", by(&known), 1300, Ok("e-1")),
            ("too old", by(&known), 1301, Err(VerifyError::TooOld)),
            ("at the other edge", by(&known), 700, Ok("e-1")),
            ("too new", by(&known), 699, Err(VerifyError::TooNew)),
            ("another's", by(&other), 1000, Err(VerifyError::Signature)),
            ("tampered", tampered, 1000, Err(VerifyError::Signature)),
            ("another scheme", by(&known).replacen("v1,", "v1a,", 1), 1000, Err(VerifyError::Signature)),
            ("another scheme beside it", format!("v1a,xx {}", by(&known)), 1000, Ok("e-1")),
            ("none", String::new(), 1000, Err(VerifyError::Signature)),
            ("cut", by(&known)[..20].to_owned(), 1000, Err(VerifyError::Signature)),
        ] {
            let headers = headers("e-1", "1000", &signature);
            let verified = verify(std::slice::from_ref(&known), &headers, b"body", now, MINUTES_5);
            assert_eq!(verified, expected, "{name}");
        }
    }

    #[test]
    fn whatever_was_signed_is_bound() {
        let known = [secret(SECRET)];
        let signature = sign(&known, "e-1", 1000, b"body");
        let check =
            |headers: &HeaderMap, body: &[u8]| verify(&known, headers, body, 1000, MINUTES_5).map(drop);
        assert_eq!(check(&headers("e-2", "1000", &signature), b"body"), Err(VerifyError::Signature));
        assert_eq!(check(&headers("e-1", "1001", &signature), b"body"), Err(VerifyError::Signature));
        assert_eq!(check(&headers("e-1", "01000", &signature), b"body"), Err(VerifyError::Signature));
        assert_eq!(check(&headers("e-1", "1000", &signature), b"bodY"), Err(VerifyError::Signature));
    }

    #[test]
    fn headers_are_there_once_and_of_their_form() {
        let known = [secret(SECRET)];
        let good = headers("e-1", "1000", &sign(&known, "e-1", 1000, b""));
        for name in [WEBHOOK_ID, WEBHOOK_TIMESTAMP, WEBHOOK_SIGNATURE] {
            let mut missing = good.clone();
            missing.remove(&name);
            let mut double = good.clone();
            double.append(&name, good[&name].clone());
            for headers in [missing, double] {
                let refused = verify(&known, &headers, b"", 1000, MINUTES_5);
                assert_eq!(refused, Err(VerifyError::Header(name.clone())));
            }
        }
        for (id, timestamp) in [("", "1000"), ("a.b", "1000"), ("e-1", "+1000"), ("e-1", ""), ("e-1", "1e3")]
        {
            let signed = headers(id, timestamp, &sign(&known, id, 1000, b""));
            assert!(
                matches!(verify(&known, &signed, b"", 1000, MINUTES_5), Err(VerifyError::Header(_))),
                "{id} {timestamp}"
            );
        }
    }

    proptest! {
        #[test]
        fn the_reference_library_agrees(body in "\\PC{0,200}", key in prop::collection::vec(any::<u8>(), 24..=64), id in "[a-z0-9]{1,12}-[0-9]{1,6}") {
            let secret = Secret::from_bytes(&key).unwrap();
            let oracle = standardwebhooks::Webhook::new(&secret.reveal()).unwrap();
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
            let ours = sign([&secret], &id, now, body.as_bytes());
            let theirs = oracle.sign(&id, i64::try_from(now).unwrap(), body.as_bytes()).unwrap();
            prop_assert_eq!(&ours, &theirs);
            let headers = headers(&id, &now.to_string(), &ours);
            prop_assert!(oracle.verify(body.as_bytes(), &headers).is_ok());
            prop_assert_eq!(verify(&[secret], &headers, body.as_bytes(), now, MINUTES_5), Ok(id.as_str()));
        }

        #[test]
        fn no_headers_make_it_panic(id in "\\PC{0,20}", timestamp in "[0-9 .a]{0,24}", signature in "[v1a, A-Za-z0-9+/=]{0,80}") {
            let Ok(id) = http::HeaderValue::from_str(&id) else { return Ok(()) };
            let mut headers = headers("x", &timestamp, &signature);
            headers.insert(WEBHOOK_ID, id);
            prop_assert!(verify(&[secret(SECRET)], &headers, b"", 0, MINUTES_5).is_err());
        }
    }
}

//! An authorizer that takes JSON Web Tokens (RFC 7519, RFC 8725).

use std::{fmt, time::Duration};

use async_trait::async_trait;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use pushpull_core::{Context, ErrorKind, Identity, Pattern, Problem};
use serde::Deserialize;
use tokio::time::Instant;

use crate::{Action, Authorizer, Token};

/// How long a token holds beyond its `exp`, for clocks that differ.
const LEEWAY: Duration = Duration::from_secs(5);

/// The uncompressed points of the two curves.
const P256_POINT: usize = 65;
const P384_POINT: usize = 97;

/// Takes JSON Web Tokens with the claims `sub`, `exp` (required, 5 s leeway), `subscribe` and `publish` (lists of
/// patterns).
///
/// The algorithm is that of the key it was made with, whatever a token's header says. A topic or pattern is
/// allowed if one granted pattern covers all of it. `nbf` is kept to; a token that names an audience is refused unless
/// [`JwtAuthorizer::with_audience`] names it too (RFC 7519, 4.1.3).
pub struct JwtAuthorizer {
    key: DecodingKey,
    validation: Validation,
}

/// A key that no token can be checked with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// An empty secret.
    #[error("the secret is empty")]
    Empty,
    /// A private key, which has no business on a server that only checks.
    #[error("a private key was given, the public one is needed")]
    Private,
    /// No PEM of an RSA, P-256, P-384 or Ed25519 public key.
    #[error("not the PEM of an RSA, P-256, P-384 or Ed25519 public key")]
    Unknown,
}

#[derive(Deserialize)]
struct Claims {
    #[serde(default)]
    sub: String,
    exp: f64,
    #[serde(default)]
    subscribe: Vec<String>,
    #[serde(default)]
    publish: Vec<String>,
}

/// What a token lets its bearer do: put into the context by [`JwtAuthorizer`].
#[derive(Clone, Debug)]
struct Grants {
    subscribe: Vec<Pattern>,
    publish: Vec<Pattern>,
}

impl JwtAuthorizer {
    /// Checks by HMAC with SHA-256. RFC 7518, 3.2 asks for a secret of at least 32 bytes.
    ///
    /// # Errors
    /// If the secret is empty.
    pub fn hs256(secret: &[u8]) -> Result<Self, KeyError> {
        match secret {
            [] => Err(KeyError::Empty),
            _ => Ok(Self::new(DecodingKey::from_secret(secret), Algorithm::HS256)),
        }
    }

    /// Checks by a public key in PEM form: RS256, ES256, ES384 or EdDSA, by the kind of key.
    ///
    /// # Errors
    /// If it is no such key.
    pub fn public_key_pem(pem: &[u8]) -> Result<Self, KeyError> {
        if pem.windows(12).any(|window| window == b"PRIVATE KEY-") {
            return Err(KeyError::Private);
        }
        if let Ok(key) = DecodingKey::from_rsa_pem(pem) {
            return Ok(Self::new(key, Algorithm::RS256));
        }
        if let Ok(key) = DecodingKey::from_ed_pem(pem) {
            return Ok(Self::new(key, Algorithm::EdDSA));
        }
        let key = DecodingKey::from_ec_pem(pem).map_err(|_| KeyError::Unknown)?;
        match key.try_get_as_bytes().map(<[u8]>::len) {
            Ok(P256_POINT) => Ok(Self::new(key, Algorithm::ES256)),
            Ok(P384_POINT) => Ok(Self::new(key, Algorithm::ES384)),
            _ => Err(KeyError::Unknown),
        }
    }

    fn new(key: DecodingKey, algorithm: Algorithm) -> Self {
        let mut validation = Validation::new(algorithm);
        validation.leeway = LEEWAY.as_secs();
        validation.validate_nbf = true;
        Self { key, validation }
    }

    /// Takes only tokens for this audience (`aud`).
    #[must_use]
    pub fn with_audience(mut self, audience: &str) -> Self {
        self.validation.set_audience(&[audience]);
        self.validation.required_spec_claims.insert("aud".to_owned());
        self
    }

    /// Takes only tokens of this issuer (`iss`).
    #[must_use]
    pub fn with_issuer(mut self, issuer: &str) -> Self {
        self.validation.set_issuer(&[issuer]);
        self.validation.required_spec_claims.insert("iss".to_owned());
        self
    }

    fn claims(&self, token: &str) -> Result<Claims, Problem> {
        if token.len() > Token::MAX {
            return Err(unauthenticated("the token is too long"));
        }
        let decoded = decode::<Claims>(token, &self.key, &self.validation);
        decoded.map(|token| token.claims).map_err(|error| {
            let detail = match error.kind() {
                jsonwebtoken::errors::ErrorKind::ExpiredSignature => "the token has expired",
                _ => "the token does not hold",
            };
            unauthenticated(detail).with_source(error)
        })
    }
}

#[async_trait]
impl Authorizer for JwtAuthorizer {
    async fn identify(&self, token: Option<&str>, mut cx: Context) -> Result<Context, Problem> {
        let token = token.ok_or_else(|| unauthenticated("a token is needed"))?;
        let claims = self.claims(token)?;
        let grants = Grants { subscribe: patterns(&claims.subscribe)?, publish: patterns(&claims.publish)? };
        let mut identity = Identity::new(claims.sub);
        identity.expires = expires(claims.exp, unix_now(), Instant::now());
        cx.extensions.insert(grants);
        Ok(cx.with_identity(identity))
    }

    async fn authorize(&self, cx: &Context, action: Action<'_>) -> Result<(), Problem> {
        let grants = cx.extensions.get::<Grants>().ok_or_else(|| unauthenticated("a token is needed"))?;
        let is_granted = match action {
            Action::Subscribe(asked) => grants.subscribe.iter().any(|granted| granted.covers(asked)),
            Action::Publish(topic) => grants.publish.iter().any(|granted| granted.matches(topic)),
        };
        let problem = || Problem::new(ErrorKind::Forbidden, format!("the token does not let you {action}"));
        if is_granted { Ok(()) } else { Err(problem()) }
    }
}

/// When a token of that `exp` ceases to hold; `None` if that lies beyond what a clock can tell.
fn expires(exp: f64, unix_now: Duration, now: Instant) -> Option<Instant> {
    let left = exp + LEEWAY.as_secs_f64() - unix_now.as_secs_f64();
    now.checked_add(Duration::try_from_secs_f64(left.max(0.0)).ok()?)
}

fn unix_now() -> Duration {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
}

fn patterns(texts: &[String]) -> Result<Vec<Pattern>, Problem> {
    let parse = |text: &String| {
        Pattern::new(text).map_err(|error| unauthenticated("a granted pattern is none").with_source(error))
    };
    texts.iter().map(parse).collect()
}

fn unauthenticated(detail: &'static str) -> Problem {
    Problem::new(ErrorKind::Unauthenticated, detail)
}

impl fmt::Debug for JwtAuthorizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtAuthorizer")
            .field("algorithms", &self.validation.algorithms)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::{Value, json};

    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

    fn hs256() -> JwtAuthorizer {
        JwtAuthorizer::hs256(SECRET).unwrap()
    }

    fn sign(algorithm: Algorithm, key: &EncodingKey, claims: &Value) -> String {
        encode(&Header::new(algorithm), claims, key).unwrap()
    }

    fn token(claims: &Value) -> String {
        sign(Algorithm::HS256, &EncodingKey::from_secret(SECRET), claims)
    }

    fn in_seconds(seconds: i64) -> i64 {
        unix_now().as_secs() as i64 + seconds
    }

    async fn identify(authorizer: &JwtAuthorizer, token: &str) -> Result<Context, ErrorKind> {
        authorizer.identify(Some(token), Context::default()).await.map_err(|problem| problem.kind())
    }

    #[tokio::test(start_paused = true)]
    async fn a_good_token_makes_an_identity_that_ends() {
        let claims =
            json!({"sub": "ann", "exp": in_seconds(100), "subscribe": ["a.>"], "publish": ["b.*"], "x": {}});
        let cx = identify(&hs256(), &token(&claims)).await.unwrap();
        let identity = cx.identity.unwrap();
        assert_eq!(&*identity.subject, "ann");
        let left = identity.expires.unwrap() - Instant::now();
        assert!((Duration::from_secs(103)..=Duration::from_secs(105)).contains(&left), "{left:?}");
    }

    #[test]
    fn the_end_is_computed_for_any_claim() {
        let now = Instant::now();
        let at = |exp| expires(exp, Duration::from_millis(1_000_500), now).map(|at| at - now);
        assert_eq!(at(1000.0), Some(Duration::from_millis(4_500)));
        assert_eq!(at(10.0), Some(Duration::ZERO));
        assert_eq!(at(-1e300), Some(Duration::ZERO));
        assert_eq!(at(1e300), None);
    }

    #[tokio::test]
    async fn what_a_token_lets_its_bearer_do() {
        let claims = json!({"exp": in_seconds(9), "subscribe": ["a.>", "x.*.z", "q"], "publish": ["b.*"]});
        let cx = identify(&hs256(), &token(&claims)).await.unwrap();
        for (asked, expected) in [
            ("a.b", true),
            ("a.b.c", true),
            ("a.*", true),
            ("a.>", true),
            ("a", false),
            (">", false),
            ("*.b", false),
            ("x.y.z", true),
            ("x.*.z", true),
            ("x.>", false),
            ("q", true),
            ("q.r", false),
            ("b.c", false),
        ] {
            let pattern = Pattern::new(asked).unwrap();
            let answer = hs256().authorize(&cx, Action::Subscribe(&pattern)).await;
            assert_eq!(
                answer.map_err(|problem| problem.kind()),
                if expected { Ok(()) } else { Err(ErrorKind::Forbidden) },
                "{asked}"
            );
        }
        for (topic, expected) in [("b.c", true), ("b", false), ("b.c.d", false), ("a.b", false)] {
            let answer = hs256().authorize(&cx, Action::Publish(&topic.parse().unwrap())).await;
            assert_eq!(answer.is_ok(), expected, "{topic}");
        }
        let bare = identify(&hs256(), &token(&json!({"exp": in_seconds(9)}))).await.unwrap();
        let refused = hs256().authorize(&bare, Action::Publish(&"b.c".parse().unwrap())).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Forbidden);
        let nobody = hs256().authorize(&Context::default(), Action::Publish(&"b.c".parse().unwrap())).await;
        assert_eq!(nobody.unwrap_err().kind(), ErrorKind::Unauthenticated);
    }

    #[tokio::test]
    async fn bad_tokens_are_refused() {
        let good = token(&json!({"sub": "ann", "exp": in_seconds(9)}));
        let (head, signature) = good.rsplit_once('.').unwrap();
        let (header, claims) = head.split_once('.').unwrap();
        let other =
            sign(Algorithm::HS256, &EncodingKey::from_secret(b"other"), &json!({"exp": in_seconds(9)}));
        let longer =
            sign(Algorithm::HS512, &EncodingKey::from_secret(SECRET), &json!({"exp": in_seconds(9)}));
        for bad in [
            String::new(),
            "..".into(),
            "a.b.c".into(),
            head.to_owned(),
            format!("{head}."),
            format!("{good}.x"),
            format!("{header}.{claims}.{}", &signature[1..]),
            // {"alg":"none"} and {"alg":"none","typ":"JWT"}
            format!("eyJhbGciOiJub25lIn0.{claims}."),
            format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{claims}.{signature}"),
            other,
            longer,
            "x".repeat(Token::MAX + 1),
            token(&json!({"sub": "ann"})),
            token(&json!({"exp": in_seconds(-7)})),
            token(&json!({"exp": "soon"})),
            token(&json!({"exp": null})),
            token(&json!({"exp": in_seconds(9), "nbf": in_seconds(60)})),
            token(&json!({"exp": in_seconds(9), "aud": "elsewhere"})),
            token(&json!({"exp": in_seconds(9), "sub": 7})),
            token(&json!({"exp": in_seconds(9), "subscribe": ">"})),
            token(&json!({"exp": in_seconds(9), "subscribe": ["a..b"]})),
            token(&json!({"exp": in_seconds(9), "publish": [1]})),
            token(&json!([])),
        ] {
            assert_eq!(identify(&hs256(), &bad).await.unwrap_err(), ErrorKind::Unauthenticated, "{bad}");
        }
        let none = hs256().identify(None, Context::default()).await.unwrap_err();
        assert_eq!(none.kind(), ErrorKind::Unauthenticated);
        assert!(identify(&hs256(), &token(&json!({"exp": in_seconds(-3)}))).await.is_ok(), "5 s leeway");
    }

    #[tokio::test]
    async fn audience_and_issuer_are_kept_to_once_named() {
        let strict = || hs256().with_audience("live").with_issuer("us");
        for (claims, expected) in [
            (json!({"exp": in_seconds(9), "aud": "live", "iss": "us"}), true),
            (json!({"exp": in_seconds(9), "aud": ["x", "live"], "iss": "us"}), true),
            (json!({"exp": in_seconds(9), "aud": "x", "iss": "us"}), false),
            (json!({"exp": in_seconds(9), "aud": "live", "iss": "them"}), false),
            (json!({"exp": in_seconds(9), "iss": "us"}), false),
            (json!({"exp": in_seconds(9), "aud": "live"}), false),
        ] {
            assert_eq!(identify(&strict(), &token(&claims)).await.is_ok(), expected, "{claims}");
        }
    }

    #[tokio::test]
    async fn the_kind_of_key_is_the_algorithm() {
        let claims = json!({"exp": in_seconds(9)});
        let kinds: [(&[u8], EncodingKey, Algorithm); 4] = [
            (
                include_bytes!("../testdata/rsa.public.pem"),
                EncodingKey::from_rsa_pem(include_bytes!("../testdata/rsa.private.pem")).unwrap(),
                Algorithm::RS256,
            ),
            (
                include_bytes!("../testdata/p256.public.pem"),
                EncodingKey::from_ec_pem(include_bytes!("../testdata/p256.private.pem")).unwrap(),
                Algorithm::ES256,
            ),
            (
                include_bytes!("../testdata/p384.public.pem"),
                EncodingKey::from_ec_pem(include_bytes!("../testdata/p384.private.pem")).unwrap(),
                Algorithm::ES384,
            ),
            (
                include_bytes!("../testdata/ed25519.public.pem"),
                EncodingKey::from_ed_pem(include_bytes!("../testdata/ed25519.private.pem")).unwrap(),
                Algorithm::EdDSA,
            ),
        ];
        for (public, private, algorithm) in &kinds {
            let authorizer = JwtAuthorizer::public_key_pem(public).unwrap();
            let good = sign(*algorithm, private, &claims);
            assert!(identify(&authorizer, &good).await.is_ok(), "{algorithm:?}");
            // The public key must not serve as a shared secret.
            let confused = sign(Algorithm::HS256, &EncodingKey::from_secret(public), &claims);
            assert!(identify(&authorizer, &confused).await.is_err(), "{algorithm:?}");
            assert!(identify(&hs256(), &good).await.is_err(), "{algorithm:?}");
        }
        let rsa = JwtAuthorizer::public_key_pem(kinds[0].0).unwrap();
        assert!(identify(&rsa, &sign(Algorithm::RS512, &kinds[0].1, &claims)).await.is_err(), "RS256 alone");
    }

    #[test]
    fn keys_that_are_none_are_refused() {
        let refused = |pem: &[u8]| JwtAuthorizer::public_key_pem(pem).unwrap_err();
        assert!(matches!(refused(include_bytes!("../testdata/rsa.private.pem")), KeyError::Private));
        assert!(matches!(refused(include_bytes!("../testdata/p256.private.pem")), KeyError::Private));
        assert!(matches!(refused(include_bytes!("../testdata/p521.public.pem")), KeyError::Unknown));
        assert!(matches!(refused(b""), KeyError::Unknown));
        assert!(matches!(
            refused(b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"),
            KeyError::Unknown
        ));
        assert!(matches!(JwtAuthorizer::hs256(b"").unwrap_err(), KeyError::Empty));
    }
}

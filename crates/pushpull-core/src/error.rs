//! Errors: one a kind of operation, each a [`Problem`] told by what the caller can do about it.

use std::{borrow::Cow, error::Error, fmt, sync::Arc, time::Duration};

/// What went wrong, by what the caller can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request is at fault; [`Problem::parameter`] names what.
    Invalid,
    /// Who asks is not known, or no longer.
    Unauthenticated,
    /// Who asks may not.
    Forbidden,
    /// There is no such thing.
    NotFound,
    /// The payload or the answer would be too large.
    TooLarge,
    /// The payload's type does not fit the request.
    UnsupportedType,
    /// The same idempotency id came with another payload.
    Conflict,
    /// A limit is reached; later it may not be.
    Busy,
    /// The source cannot be reached, is draining or is down; later it may be back.
    Unavailable,
    /// The source cannot do this at all.
    Unsupported,
    /// The deadline passed.
    Timeout,
    /// The other side did not keep to the protocol.
    Protocol,
    /// A fault of ours.
    Internal,
}

/// When to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Retry {
    /// At once, or when the caller's own back-off says.
    Now,
    /// Not before this has passed.
    After(Duration),
    /// Never: the same request will fail again.
    Never,
}

/// Whether a failed publish may have been applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// Nothing was published.
    NotApplied,
    /// It may have been published: repeat it with the same idempotency id.
    Unknown,
}

/// A described error. Cheap to clone.
#[derive(Clone)]
pub struct Problem(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    detail: Cow<'static, str>,
    parameter: Option<Cow<'static, str>>,
    retry: Option<Duration>,
    is_doubtful: bool,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl ErrorKind {
    /// The slug on the wire: the end of a problem's `type`, the first word of a WebSocket close reason.
    pub fn slug(self) -> &'static str {
        match self {
            Self::Invalid => "bad-request",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not-found",
            Self::TooLarge => "too-large",
            Self::UnsupportedType => "unsupported-media-type",
            Self::Conflict => "idempotency-conflict",
            Self::Busy => "overloaded",
            Self::Unavailable => "unavailable",
            Self::Unsupported => "unsupported",
            Self::Timeout => "timeout",
            Self::Protocol => "protocol",
            Self::Internal => "internal",
        }
    }

    /// The kind of that slug.
    pub fn from_slug(slug: &str) -> Option<Self> {
        [
            Self::Invalid,
            Self::Unauthenticated,
            Self::Forbidden,
            Self::NotFound,
            Self::TooLarge,
            Self::UnsupportedType,
            Self::Conflict,
            Self::Busy,
            Self::Unavailable,
            Self::Unsupported,
            Self::Timeout,
            Self::Protocol,
            Self::Internal,
        ]
        .into_iter()
        .find(|kind| kind.slug() == slug)
    }

    fn is_transient(self) -> bool {
        matches!(self, Self::Busy | Self::Unavailable | Self::Timeout | Self::Protocol)
    }
}

impl Problem {
    /// A problem of that kind; `detail` is a sentence for people.
    pub fn new(kind: ErrorKind, detail: impl Into<Cow<'static, str>>) -> Self {
        let detail = detail.into();
        Self(Arc::new(Inner { kind, detail, parameter: None, retry: None, is_doubtful: false, source: None }))
    }

    /// A request at fault in `parameter`.
    pub fn invalid(parameter: impl Into<Cow<'static, str>>, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Invalid, detail).with_parameter(parameter)
    }

    /// The same, naming the parameter at fault.
    #[must_use]
    pub fn with_parameter(mut self, parameter: impl Into<Cow<'static, str>>) -> Self {
        Arc::make_mut(&mut self.0).parameter = Some(parameter.into());
        self
    }

    /// The same, not to be tried again before `delay` has passed.
    #[must_use]
    pub fn with_retry(mut self, delay: Duration) -> Self {
        Arc::make_mut(&mut self.0).retry = Some(delay);
        self
    }

    /// The same, but perhaps not the source's own word: somebody in between may have said it, as with the status of an
    /// HTTP answer whose body no source wrote.
    #[must_use]
    pub fn with_doubt(mut self) -> Self {
        Arc::make_mut(&mut self.0).is_doubtful = true;
        self
    }

    /// The same, caused by `source`.
    #[must_use]
    pub fn with_source(mut self, source: impl Error + Send + Sync + 'static) -> Self {
        Arc::make_mut(&mut self.0).source = Some(Arc::new(source));
        self
    }

    /// What went wrong, by what the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// A sentence for people.
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// The parameter at fault.
    pub fn parameter(&self) -> Option<&str> {
        self.0.parameter.as_deref()
    }

    /// Whether somebody between here and the source may have said it: by another way the source may say otherwise.
    pub fn is_doubtful(&self) -> bool {
        self.0.is_doubtful
    }

    /// When to try again.
    pub fn retry(&self) -> Retry {
        match self.0.retry {
            Some(delay) => Retry::After(delay),
            None if self.0.kind.is_transient() => Retry::Now,
            None => Retry::Never,
        }
    }

    /// Whether trying again can help.
    pub fn is_retryable(&self) -> bool {
        self.retry() != Retry::Never
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.parameter() {
            Some(parameter) => write!(f, "{}: {parameter}: {}", self.kind().slug(), self.detail()),
            None => write!(f, "{}: {}", self.kind().slug(), self.detail()),
        }
    }
}

impl fmt::Debug for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Problem");
        shown.field("kind", &self.0.kind).field("detail", &self.0.detail);
        shown
            .field("parameter", &self.0.parameter)
            .field("retry", &self.0.retry)
            .field("is_doubtful", &self.0.is_doubtful)
            .field("source", &self.0.source);
        shown.finish()
    }
}

impl Error for Problem {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

macro_rules! operation_error {
    ($(#[$doc:meta])* $name:ident, $verb:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $name(Problem);

        impl $name {
            /// What went wrong, described.
            pub fn problem(&self) -> &Problem {
                &self.0
            }

            /// What went wrong, by what the caller can do about it.
            pub fn kind(&self) -> ErrorKind {
                self.0.kind()
            }

            /// When to try again.
            pub fn retry(&self) -> Retry {
                self.0.retry()
            }

            /// Whether trying again can help.
            pub fn is_retryable(&self) -> bool {
                self.0.is_retryable()
            }
        }

        impl From<Problem> for $name {
            fn from(problem: Problem) -> Self {
                Self(problem)
            }
        }

        impl From<$name> for Problem {
            fn from(error: $name) -> Self {
                error.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!("could not ", $verb, ": {}"), self.0)
            }
        }

        impl Error for $name {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                self.0.source()
            }
        }
    };
}

operation_error! {
    /// A subscription was refused.
    SubscribeError, "subscribe"
}
operation_error! {
    /// A fetch failed.
    FetchError, "fetch"
}
operation_error! {
    /// A consumer cannot go on.
    ConsumeError, "go on consuming"
}

/// A publish failed; [`PublishError::outcome`] says whether it may have been applied.
#[derive(Clone, Debug)]
pub struct PublishError {
    problem: Problem,
    outcome: Outcome,
}

impl PublishError {
    /// Nothing was published.
    pub fn not_applied(problem: Problem) -> Self {
        Self { problem, outcome: Outcome::NotApplied }
    }

    /// It may have been published.
    pub fn unknown(problem: Problem) -> Self {
        Self { problem, outcome: Outcome::Unknown }
    }

    /// Whether it may have been published.
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// What went wrong, described.
    pub fn problem(&self) -> &Problem {
        &self.problem
    }

    /// What went wrong, by what the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        self.problem.kind()
    }

    /// When to try again.
    pub fn retry(&self) -> Retry {
        self.problem.retry()
    }

    /// Whether trying again can help.
    pub fn is_retryable(&self) -> bool {
        self.problem.is_retryable()
    }
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "could not publish: {}", self.problem)
    }
}

impl Error for PublishError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.problem.source()
    }
}

impl From<crate::TopicError> for Problem {
    fn from(error: crate::TopicError) -> Self {
        Self::invalid("topic", error.to_string())
    }
}

impl From<crate::MessageError> for Problem {
    fn from(error: crate::MessageError) -> Self {
        use crate::MessageError as E;
        let parameter = match &error {
            E::Json(_) | E::Text => "payload",
            E::Name => "event",
            E::Key => "key",
            E::Idempotency => "idempotency",
            E::ContentType => "type",
        };
        Self::invalid(parameter, error.to_string())
    }
}

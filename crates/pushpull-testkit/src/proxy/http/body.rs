//! Where a body of HTTP/1.1 ends (RFC 9112, section 6).

/// What is left of a body.
#[derive(Debug)]
pub(super) enum Body {
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked(Chunks),
    /// All until the connection ends.
    UntilEnd,
}

/// Where in the chunks it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chunks {
    /// In the line that tells a chunk's size.
    Size { size: u64, is_extension: bool },
    /// In a chunk, its line end included.
    Data(u64),
    /// In the trailers.
    Trailer { is_blank: bool },
    /// Behind them.
    Over,
}

/// A body that is none.
#[derive(Debug)]
pub(super) struct Malformed;

impl Body {
    pub(super) const NONE: Self = Self::Length(0);

    /// How many of `bytes` belong to it.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        match self {
            Self::Length(left) => Ok(take_up_to(left, bytes)),
            Self::Chunked(chunks) => chunks.take(bytes),
            Self::UntilEnd => Ok(bytes.len()),
        }
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunked(Chunks::Over))
    }
}

impl Chunks {
    pub(super) const START: Self = Self::Size { size: 0, is_extension: false };

    fn take(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        let mut taken = 0;
        while taken < bytes.len() && *self != Self::Over {
            if let Self::Data(left) = self {
                taken += take_up_to(left, &bytes[taken..]);
                if *left == 0 {
                    *self = Self::START;
                }
            } else {
                *self = self.after(bytes[taken])?;
                taken += 1;
            }
        }
        Ok(taken)
    }

    /// Where it stands after `byte` of a line.
    fn after(self, byte: u8) -> Result<Self, Malformed> {
        Ok(match (self, byte) {
            (Self::Size { size: 0, .. }, b'\n') => Self::Trailer { is_blank: true },
            (Self::Size { size, .. }, b'\n') => Self::Data(size.checked_add(2).ok_or(Malformed)?),
            (Self::Trailer { is_blank: true }, b'\n') => Self::Over,
            (Self::Trailer { .. }, b'\n') => Self::Trailer { is_blank: true },
            (_, b'\r') => self,
            (Self::Size { size, is_extension: false }, byte) if byte.is_ascii_hexdigit() => {
                let digit = char::from(byte).to_digit(16).map_or(0, u64::from);
                let size = size.checked_mul(16).ok_or(Malformed)? + digit;
                Self::Size { size, is_extension: false }
            }
            (Self::Size { is_extension: false, .. }, byte) if !b"; \t".contains(&byte) => {
                return Err(Malformed);
            }
            (Self::Size { size, .. }, _) => Self::Size { size, is_extension: true },
            _ => Self::Trailer { is_blank: false },
        })
    }
}

fn take_up_to(left: &mut u64, bytes: &[u8]) -> usize {
    let taken = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
    *left -= taken as u64;
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How much of `bytes` a chunked body is, handed over in pieces of `piece` bytes.
    fn chunked(bytes: &[u8], piece: usize) -> Result<usize, Malformed> {
        let (mut body, mut taken) = (Body::Chunked(Chunks::START), 0);
        for piece in bytes.chunks(piece) {
            taken += body.take(piece)?;
            if body.is_over() {
                break;
            }
        }
        assert!(body.is_over(), "after {taken} bytes: {body:?}");
        Ok(taken)
    }

    #[test]
    fn chunks_end_where_they_say_however_they_are_split() {
        let body = b"4\r\nab\r\n\r\nA;x=0\r\n0123456789\r\n0\r\nExpires: 0\r\n\r\n";
        let with_more = [&body[..], b"HTTP/1.1 200"].concat();
        for piece in 1..with_more.len() {
            assert_eq!(chunked(&with_more, piece).unwrap(), body.len(), "in pieces of {piece}");
        }
    }

    #[test]
    fn what_is_no_size_is_malformed() {
        for bytes in [&b"x\r\n"[..], b"fffffffffffffffff\r\n", b"ffffffffffffffff\r\n"] {
            assert!(Body::Chunked(Chunks::START).take(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn a_length_is_taken_to_the_byte() {
        let mut body = Body::Length(5);
        assert_eq!((body.take(b"abc").unwrap(), body.is_over()), (3, false));
        assert_eq!((body.take(b"defg").unwrap(), body.is_over()), (2, true));
    }
}

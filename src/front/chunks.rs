//! A chunked body (RFC 9112 §7.1), read strictly and written anew.
//!
//! Readers of chunks forgive different things: a bare LF, a sign, spaces, what stands in an extension. Pingora and the
//! upstream therefore see none of that: sizes come without leading zeros and extensions (§7.1.1 lets a recipient ignore
//! them), and trailers are checked and dropped (RFC 9110 §6.5.1). What has another form is a fault.

use bytes::{BufMut, BytesMut};

use crate::engine::may_trail;

/// Bytes of all extensions of one body together, and of its trailers.
const ASIDE: usize = 8 << 10;
/// Hexadecimal digits of a size, zeros in front included.
const DIGITS: u8 = 16;

/// Not a chunked body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// Where in a chunked body the reader is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In a size, after so many digits.
    Size { digits: u8 },
    /// After a size, in spaces that must lead to an extension.
    Space,
    /// In an extension, outside or inside of a quoted string.
    Extension { quoted: bool, escaped: bool },
    /// After the CR that ends the line of a size.
    SizeEnd,
    /// In data.
    Data,
    /// After data.
    DataEnd,
    /// After the CR after data.
    DataEndLf,
    /// At the beginning of a line after the last chunk.
    Line,
    /// In the name of a trailer.
    Name,
    /// In its value.
    Value,
    /// After the CR that ends it.
    ValueEnd,
    /// After the CR that ends the body.
    End,
    /// Behind the body.
    Done,
}

/// Reads one chunked body.
#[derive(Debug)]
pub(super) struct Chunks {
    state: State,
    /// The size of the chunk being read, then what is left of it.
    left: u64,
    aside: usize,
    name: Vec<u8>,
}

impl Chunks {
    pub fn new() -> Self {
        Self {
            state: State::Size { digits: 0 },
            left: 0,
            aside: 0,
            name: Vec::new(),
        }
    }

    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Reads on, and writes what was read to `out` in its one form. Returns how many bytes of `input` belong to the body.
    pub fn read(&mut self, input: &[u8], out: &mut BytesMut) -> Result<usize, Malformed> {
        let mut at = 0;
        while let Some(&byte) = input.get(at) {
            if self.state == State::Done {
                break;
            }
            if self.state == State::Data {
                let rest = input.get(at..).unwrap_or_default();
                let most = usize::try_from(self.left).unwrap_or(usize::MAX);
                let data = rest.get(..most).unwrap_or(rest);
                out.put_slice(data);
                self.left -= data.len() as u64;
                at += data.len();
                if self.left == 0 {
                    self.state = State::DataEnd;
                }
                continue;
            }
            self.state = self.step(byte, out)?;
            at += 1;
        }
        Ok(at)
    }

    fn step(&mut self, byte: u8, out: &mut BytesMut) -> Result<State, Malformed> {
        Ok(match (self.state, byte) {
            (State::Size { digits }, _) if byte.is_ascii_hexdigit() && digits < DIGITS => {
                let digit = char::from(byte).to_digit(16).ok_or(Malformed)?;
                if self.left >> 59 != 0 {
                    return Err(Malformed);
                }
                self.left = self.left << 4 | u64::from(digit);
                State::Size { digits: digits + 1 }
            }
            (State::Size { digits: 1.. }, b'\r') => State::SizeEnd,
            (State::Size { digits: 1.. } | State::Space, b';') => self.extension(false, false)?,
            (State::Size { digits: 1.. } | State::Space, b' ' | b'\t') => {
                self.count()?;
                State::Space
            }
            (State::Extension { quoted: false, .. }, b'\r') => State::SizeEnd,
            (State::Extension { quoted, escaped: true }, b'\t' | b' '..=b'~') => self.extension(quoted, false)?,
            (State::Extension { quoted: true, .. }, b'\\') => self.extension(true, true)?,
            (State::Extension { quoted, .. }, b'"') => self.extension(!quoted, false)?,
            (State::Extension { quoted, .. }, b'\t' | b' '..=b'~') => self.extension(quoted, false)?,
            (State::SizeEnd, b'\n') if self.left == 0 => {
                out.put_slice(b"0\r\n");
                State::Line
            }
            (State::SizeEnd, b'\n') => {
                out.put_slice(format!("{:X}\r\n", self.left).as_bytes());
                State::Data
            }
            (State::DataEnd, b'\r') => State::DataEndLf,
            (State::DataEndLf, b'\n') => {
                out.put_slice(b"\r\n");
                State::Size { digits: 0 }
            }
            (State::Line, b'\r') => State::End,
            (State::End, b'\n') => {
                out.put_slice(b"\r\n");
                State::Done
            }
            (State::Line | State::Name, _) if is_token(byte) => {
                self.count()?;
                self.name.push(byte.to_ascii_lowercase());
                State::Name
            }
            (State::Name, b':') => {
                if !std::str::from_utf8(&self.name).is_ok_and(may_trail) {
                    return Err(Malformed);
                }
                self.name.clear();
                State::Value
            }
            (State::Value, b'\r') => State::ValueEnd,
            (State::Value, b'\t' | b' '..=b'~' | 0x80..) => {
                self.count()?;
                State::Value
            }
            (State::ValueEnd, b'\n') => State::Line,
            _ => return Err(Malformed),
        })
    }

    fn extension(&mut self, quoted: bool, escaped: bool) -> Result<State, Malformed> {
        self.count()?;
        Ok(State::Extension { quoted, escaped })
    }

    /// Counts a byte that the body is not made of.
    fn count(&mut self) -> Result<(), Malformed> {
        self.aside += 1;
        if self.aside > ASIDE {
            return Err(Malformed);
        }
        Ok(())
    }
}

/// RFC 9110 §5.6.2.
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The one form, and what is left behind the body; `None` in the first where the body is not whole.
    fn read(input: &[u8], piece: usize) -> Result<(Option<Vec<u8>>, usize), Malformed> {
        let (mut chunks, mut out, mut used) = (Chunks::new(), BytesMut::new(), 0);
        for piece in input.chunks(piece) {
            used += chunks.read(piece, &mut out)?;
        }
        Ok((chunks.is_done().then(|| out.to_vec()), input.len() - used))
    }

    #[test]
    fn writes_every_body_in_one_form() {
        for (body, form) in [
            ("0\r\n\r\n", "0\r\n\r\n"),
            ("5\r\nhello\r\n0\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n"),
            ("00a\r\n0123456789\r\n000\r\n\r\n", "A\r\n0123456789\r\n0\r\n\r\n"),
            ("5;a=b;c=\"d;\\\"\"\r\nhello\r\n0 ;x\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n"),
            ("1\r\n\n\r\n0\r\nX-Sum: 1\r\nx-b:\r\n\r\n", "1\r\n\n\r\n0\r\n\r\n"),
        ] {
            for piece in [1, 2, 3, 1000] {
                let input = format!("{body}GET / HTTP/1.1");
                let found = read(input.as_bytes(), piece);
                assert_eq!(found, Ok((Some(form.as_bytes().to_vec()), 14)), "{body:?} by {piece}");
            }
        }
        assert_eq!(read(b"5\r\nhel", 100), Ok((None, 0)));
    }

    #[test]
    fn takes_nothing_else_for_a_chunk() {
        let long = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(ASIDE + 1));
        let trailer = format!("0\r\nx: {}\r\n\r\n", "x".repeat(ASIDE + 1));
        for body in [
            "\r\n",
            "zz\r\n",
            "-5\r\n",
            "+5\r\n",
            "0x5\r\n",
            " 5\r\n",
            "5 \r\nhello",
            "5\nhello",
            "5\rhello",
            "5;a\nhello",
            "5;a\rb\r\nhello",
            "5;a=\"\r\n\"\r\nhello",
            "5;a\0\r\nhello",
            "5;\u{e9}\r\nhello",
            "5_0\r\nhello",
            "5\r\nhello6\r\n",
            "5\r\nhello\n0\r\n",
            "5\r\nhello\r0\r\n",
            "5\r\nhello\r\n\r\n",
            "10000000000000000\r\n",
            "ffffffffffffffff\r\n",
            "00000000000000001\r\n",
            "0\r\n\n",
            "0\r\nx y: 1\r\n\r\n",
            "0\r\nx : 1\r\n\r\n",
            "0\r\n: 1\r\n\r\n",
            "0\r\nx\r\n\r\n",
            "0\r\nx: 1\n\r\n",
            "0\r\nx: 1\r\n y\r\n\r\n",
            "0\r\nx: \0\r\n\r\n",
            "0\r\nContent-Length: 1\r\n\r\n",
            "0\r\ntransfer-encoding: chunked\r\n\r\n",
            "0\r\nhost: a\r\n\r\n",
            "0\r\nauthorization: b\r\n\r\n",
            &*long,
            &*trailer,
        ] {
            for piece in [1, 7, 100_000] {
                assert_eq!(read(body.as_bytes(), piece), Err(Malformed), "{body:?} by {piece}");
            }
        }
    }

    proptest! {
        #[test]
        fn a_body_in_its_one_form_is_read_as_it_is(input in "[0-9a-f;\\r\\n\" x:]{0,60}", piece in 1..20_usize) {
            if let Ok((Some(form), _)) = read(input.as_bytes(), piece) {
                prop_assert_eq!(read(&form, 1).unwrap(), (Some(form.clone()), 0));
                prop_assert!(form.len() <= input.len());
            }
        }

        #[test]
        fn how_it_comes_in_pieces_changes_nothing(input in proptest::collection::vec(any::<u8>(), 0..60), piece in 1..20_usize) {
            prop_assert_eq!(read(&input, piece), read(&input, 1000));
        }
    }
}

//! Undoing the codings of a whole body (RFC 9110 §8.4), within bounds: a few bytes can stand for gigabytes.
//!
//! `gzip`, `br`, `zstd` and `deflate`, one on the other at most twice. `deflate` is read with and without the frame of zlib
//! (RFC 9110 §8.4.1.2: some leave it out). What is cut short, damaged, or followed by something else is refused.

use std::io::{self, Read};

use http::{HeaderMap, header};

/// So many codings, one on the other.
const MAX_CODINGS: usize = 2;
/// A body may grow to so many times its size, once it is larger than [`FREE`].
const RATIO: usize = 200;
const FREE: usize = 1 << 20;
const PIECE: usize = 64 << 10;
/// 8 MiB, which is what RFC 9659 lets a window of zstd be.
const ZSTD_WINDOW_LOG: u32 = 23;

/// A coding that can be undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coded {
    /// RFC 1952.
    Gzip,
    /// RFC 7932.
    Brotli,
    /// RFC 8878.
    Zstd,
    /// RFC 1950, or RFC 1951 alone.
    Deflate,
}

/// Why a body cannot be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeFailure {
    /// Not what its coding says.
    #[error("the body is not coded as it says")]
    Damaged,
    /// Larger than the bound, or out of all proportion.
    #[error("the decoded body is too large")]
    TooLarge,
}

/// The codings of a message, in the order they were applied; `None` where one is not known.
pub fn codings(headers: &HeaderMap) -> Option<Vec<Coded>> {
    let mut found = Vec::new();
    for line in headers.get_all(header::CONTENT_ENCODING) {
        for name in line.to_str().ok()?.split(',') {
            let coded = match name.trim().to_ascii_lowercase().as_str() {
                "" | "identity" => continue,
                "gzip" | "x-gzip" => Coded::Gzip,
                "br" => Coded::Brotli,
                "zstd" => Coded::Zstd,
                "deflate" => Coded::Deflate,
                _ => return None,
            };
            found.push(coded);
        }
    }
    (found.len() <= MAX_CODINGS).then_some(found)
}

/// The body without its codings, of at most `most` bytes.
pub fn decode(codings: &[Coded], body: &[u8], most: usize) -> Result<Vec<u8>, DecodeFailure> {
    let mut whole = body.to_vec();
    for coded in codings.iter().rev() {
        whole = undo(*coded, &whole, most)?;
    }
    Ok(whole)
}

fn undo(coded: Coded, body: &[u8], most: usize) -> Result<Vec<u8>, DecodeFailure> {
    let most = most.min(FREE.max(body.len().saturating_mul(RATIO)));
    if body.is_empty() {
        return Err(DecodeFailure::Damaged);
    }
    match coded {
        // Of several members, as the format allows (RFC 1952 §2.2).
        Coded::Gzip => read(flate2::bufread::MultiGzDecoder::new(body), most),
        Coded::Brotli => unbrotli(body, most),
        Coded::Zstd => {
            let decoder = zstd::stream::read::Decoder::with_buffer(body).and_then(|mut decoder| {
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                Ok(decoder)
            });
            read(decoder.map_err(|_| DecodeFailure::Damaged)?, most)
        }
        Coded::Deflate => inflate(body, most),
    }
}

fn read(decoder: impl Read, most: usize) -> Result<Vec<u8>, DecodeFailure> {
    let mut whole = Vec::new();
    let bound = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    decoder
        .take(bound)
        .read_to_end(&mut whole)
        .map_err(|_: io::Error| DecodeFailure::Damaged)?;
    if whole.len() > most {
        return Err(DecodeFailure::TooLarge);
    }
    Ok(whole)
}

/// By hand: the crate's reader takes what is cut short for whole.
fn inflate(body: &[u8], most: usize) -> Result<Vec<u8>, DecodeFailure> {
    // The check of RFC 1950 §2.2: without the frame it holds by accident only.
    let framed = match body {
        [method, flags, ..] => method & 0x0f == 8 && (u16::from(*method) * 256 + u16::from(*flags)) % 31 == 0,
        _ => false,
    };
    let mut state = flate2::Decompress::new(framed);
    let mut whole = Vec::new();
    loop {
        let consumed = usize::try_from(state.total_in()).unwrap_or(usize::MAX);
        let rest = body.get(consumed..).unwrap_or_default();
        let before = whole.len();
        whole.reserve(PIECE);
        let status = state.decompress_vec(rest, &mut whole, flate2::FlushDecompress::None);
        if whole.len() > most {
            return Err(DecodeFailure::TooLarge);
        }
        let consumed = usize::try_from(state.total_in()).unwrap_or(usize::MAX);
        match status {
            Ok(flate2::Status::StreamEnd) if consumed == body.len() => return Ok(whole),
            Ok(flate2::Status::Ok | flate2::Status::BufError)
                if whole.len() > before || body.len() - rest.len() < consumed => {}
            _ => return Err(DecodeFailure::Damaged),
        }
    }
}

/// By hand: the crate's reader reads ahead, so that what follows the end is not seen, and lets a window be a gigabyte.
fn unbrotli(body: &[u8], most: usize) -> Result<Vec<u8>, DecodeFailure> {
    use brotli::enc::StandardAlloc;
    use brotli::{BrotliDecompressStream, BrotliResult, BrotliState};

    let alloc = StandardAlloc::default;
    let mut state = BrotliState::new_strict(alloc(), alloc(), alloc());
    let mut whole = Vec::new();
    let mut piece = vec![0; PIECE];
    let (mut left, mut at, mut total) = (body.len(), 0, 0);
    loop {
        let (mut room, mut filled) = (piece.len(), 0);
        let result = BrotliDecompressStream(
            &mut left,
            &mut at,
            body,
            &mut room,
            &mut filled,
            &mut piece,
            &mut total,
            &mut state,
        );
        whole.extend_from_slice(piece.get(..filled).unwrap_or_default());
        if whole.len() > most {
            return Err(DecodeFailure::TooLarge);
        }
        match result {
            BrotliResult::ResultSuccess if left == 0 => return Ok(whole),
            BrotliResult::NeedsMoreOutput => {}
            _ => return Err(DecodeFailure::Damaged),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use std::io::Write;

    use http::HeaderValue;

    use super::super::accept::Coding;
    use super::super::encode::Encoder;
    use super::*;

    const MOST: usize = 8 << 20;
    const ALL: [Coded; 4] = [Coded::Gzip, Coded::Brotli, Coded::Zstd, Coded::Deflate];

    fn encoded(coded: Coded, body: &[u8]) -> Vec<u8> {
        let coding = match coded {
            Coded::Gzip => Coding::Gzip,
            Coded::Brotli => Coding::Brotli,
            Coded::Zstd => Coding::Zstd,
            Coded::Deflate => {
                let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(body).unwrap();
                return encoder.finish().unwrap();
            }
        };
        let mut encoder = Encoder::new(coding).unwrap();
        let mut whole = encoder.push(body).unwrap().to_vec();
        whole.extend_from_slice(&encoder.finish().unwrap());
        whole
    }

    #[test]
    fn undoes_every_coding_and_two_on_each_other() {
        let text: Vec<u8> = (0..50_000_u32).flat_map(|n| n.to_string().into_bytes()).collect();
        for body in [&b""[..], b"{}", &text] {
            for inner in ALL {
                let once = encoded(inner, body);
                assert!(decode(&[inner], &once, MOST).unwrap() == body, "{inner:?}");
                for outer in ALL {
                    let twice = encoded(outer, &once);
                    assert!(decode(&[inner, outer], &twice, MOST).unwrap() == body);
                }
            }
        }
        let mut bare = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        bare.write_all(&text).unwrap();
        assert!(decode(&[Coded::Deflate], &bare.finish().unwrap(), MOST).unwrap() == text);
        let members = [encoded(Coded::Gzip, b"[1,"), encoded(Coded::Gzip, b"2]")].concat();
        assert_eq!(decode(&[Coded::Gzip], &members, MOST).unwrap(), b"[1,2]");
    }

    #[test]
    fn refuses_what_is_damaged_cut_short_or_goes_on() {
        let text: Vec<u8> = (0..5_000_u32).flat_map(|n| n.to_string().into_bytes()).collect();
        for coded in ALL {
            let whole = encoded(coded, &text);
            let mut damaged = whole.clone();
            let middle = damaged.len() / 2;
            damaged[middle..].fill(0x55);
            for body in [
                &whole[..whole.len() - 1],
                &whole[..whole.len() / 2],
                &[],
                &damaged,
                b"{\"plain\":1}",
                &[&whole[..], b"{}"].concat(),
            ] {
                let outcome = decode(&[coded], body, MOST);
                assert_eq!(outcome, Err(DecodeFailure::Damaged), "{coded:?} {}", body.len());
            }
        }
    }

    #[test]
    fn stops_at_the_bound_and_at_what_is_out_of_all_proportion() {
        let spaces = vec![b' '; 64 << 20];
        for coded in ALL {
            let bomb = encoded(coded, &spaces);
            assert!(bomb.len() < 1 << 20, "{coded:?}: {}", bomb.len());
            assert_eq!(decode(&[coded], &bomb, MOST), Err(DecodeFailure::TooLarge), "{coded:?}");
        }
        // Within the size, but 1,000 times what was sent.
        let some = encoded(Coded::Gzip, &spaces[..4 << 20]);
        assert_eq!(decode(&[Coded::Gzip], &some, MOST), Err(DecodeFailure::TooLarge));
        assert!(decode(&[Coded::Gzip], &encoded(Coded::Gzip, &spaces[..FREE]), MOST).is_ok());
    }

    #[test]
    fn knows_the_names_of_codings() {
        let of = |lines: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::CONTENT_ENCODING, HeaderValue::from_static(line));
            }
            codings(&headers)
        };
        assert_eq!(of(&[]), Some(vec![]));
        assert_eq!(of(&["identity"]), Some(vec![]));
        assert_eq!(of(&["X-GZip, br"]), Some(vec![Coded::Gzip, Coded::Brotli]));
        assert_eq!(of(&["deflate", "zstd"]), Some(vec![Coded::Deflate, Coded::Zstd]));
        assert_eq!(of(&["compress"]), None);
        assert_eq!(of(&["gzip, aes128gcm"]), None);
        assert_eq!(of(&["gzip, gzip, gzip"]), None);
    }
}

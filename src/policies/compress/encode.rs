//! Encoding bodies piece by piece.
//!
//! Pingora's own module is not used: its Brotli streams lack their last block, and its encoders are made for every request.

use std::io::{self, Write};

use bytes::Bytes;

use super::accept::Coding;

/// Levels at which an answer costs about what it saves on the wire.
const GZIP: u32 = 5;
const BROTLI: u32 = 4;
const ZSTD: i32 = 3;
/// 2^19 bytes, which every decoder allows.
const BROTLI_WINDOW: u32 = 19;
const BUFFER: usize = 4096;

/// A body being encoded.
pub enum Encoder {
    /// RFC 1952.
    Gzip(flate2::write::GzEncoder<Vec<u8>>),
    /// RFC 7932.
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    /// RFC 8878.
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl Encoder {
    /// An encoder that has seen nothing.
    pub fn new(coding: Coding) -> io::Result<Self> {
        Ok(match coding {
            Coding::Gzip => Self::Gzip(flate2::write::GzEncoder::new(
                Vec::new(),
                flate2::Compression::new(GZIP),
            )),
            Coding::Brotli => {
                let writer = brotli::CompressorWriter::new(Vec::new(), BUFFER, BROTLI, BROTLI_WINDOW);
                Self::Brotli(Box::new(writer))
            }
            Coding::Zstd => Self::Zstd(zstd::stream::write::Encoder::new(Vec::new(), ZSTD)?),
        })
    }

    /// Takes a piece of the body, and gives what is ready of the encoded one; often nothing.
    pub fn push(&mut self, piece: &[u8]) -> io::Result<Bytes> {
        let ready = match self {
            Self::Gzip(encoder) => {
                encoder.write_all(piece)?;
                std::mem::take(encoder.get_mut())
            }
            Self::Brotli(encoder) => {
                encoder.write_all(piece)?;
                std::mem::take(encoder.get_mut())
            }
            Self::Zstd(encoder) => {
                encoder.write_all(piece)?;
                std::mem::take(encoder.get_mut())
            }
        };
        Ok(ready.into())
    }

    /// The end of the encoded body.
    pub fn finish(self) -> io::Result<Bytes> {
        let rest = match self {
            Self::Gzip(encoder) => encoder.finish()?,
            Self::Brotli(encoder) => encoder.into_inner(),
            Self::Zstd(encoder) => encoder.finish()?,
        };
        Ok(rest.into())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn decoded(coding: Coding, body: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        match coding {
            Coding::Gzip => flate2::read::GzDecoder::new(body).read_to_end(&mut plain).unwrap(),
            Coding::Brotli => brotli::Decompressor::new(body, 4096).read_to_end(&mut plain).unwrap(),
            Coding::Zstd => zstd::stream::read::Decoder::new(body)
                .unwrap()
                .read_to_end(&mut plain)
                .unwrap(),
        };
        plain
    }

    #[test]
    fn whole_streams_decode_to_what_went_in_whatever_the_pieces() {
        let text: Vec<u8> = (0..200_000_u32)
            .flat_map(|number| (number % 97).to_string().into_bytes())
            .collect();
        for coding in Coding::ALL {
            for pieces in [1, 7, 65_536, text.len()] {
                let body = text.get(..text.len().min(pieces * 500)).unwrap();
                let mut encoder = Encoder::new(coding).unwrap();
                let mut encoded = Vec::new();
                for piece in body.chunks(pieces) {
                    encoded.extend_from_slice(&encoder.push(piece).unwrap());
                }
                encoded.extend_from_slice(&encoder.finish().unwrap());
                assert!(decoded(coding, &encoded) == body, "{coding:?} in pieces of {pieces}");
            }
            let empty = Encoder::new(coding).unwrap().finish().unwrap();
            assert_eq!(decoded(coding, &empty), b"", "{coding:?}");
        }
    }
}

//! The PROXY protocol, versions 1 and 2 (haproxy.org, `proxy-protocol.txt`): a load balancer that forwards bytes says whose they
//! are before the first of them. Believed of configured proxies alone, and then required.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Whose word on the caller's address is believed, and how it is given.
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    /// Their networks.
    pub from: Vec<IpNet>,
    /// Whether every connection begins with a PROXY header.
    pub speak_proxy_protocol: bool,
}

impl Proxies {
    /// Whether `address` is one of theirs.
    pub(super) fn has(&self, address: &IpAddr) -> bool {
        self.from.iter().any(|network| network.contains(address))
    }
}

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// The longest header of version 1, CR LF counted.
const MAX_LINE: usize = 107;
/// Addresses and extensions of version 2; those that are known take a tenth of that.
const MAX_BLOCK: usize = 4096;
/// The extension that holds a checksum (§2.2.3).
const CRC32C: u8 = 3;

/// Reads the header, and nothing beyond it. `None` where the proxy speaks for itself, or does not say for whom.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<SocketAddr>> {
    let mut start = [0; SIGNATURE.len()];
    stream.read_exact(&mut start).await?;
    if start == SIGNATURE {
        let mut rest = [0; 4];
        stream.read_exact(&mut rest).await?;
        let [_, _, high, low] = rest;
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length > MAX_BLOCK {
            return Err(malformed());
        }
        let mut block = vec![0; length];
        stream.read_exact(&mut block).await?;
        return version2(rest, &block).ok_or_else(malformed);
    }
    // No header of version 1 is shorter than what was read.
    let mut line = start.to_vec();
    while !line.ends_with(b"\n") && line.len() < MAX_LINE {
        line.push(stream.read_u8().await?);
    }
    version1(&line).ok_or_else(malformed)
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not a PROXY header")
}

fn version1(line: &[u8]) -> Option<Option<SocketAddr>> {
    let line = std::str::from_utf8(line)
        .ok()?
        .strip_prefix("PROXY ")?
        .strip_suffix("\r\n")?;
    let words: Vec<&str> = line.split(' ').collect();
    let port = |text: &str| -> Option<u16> {
        let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
        text.parse().ok().filter(|_| is_plain)
    };
    match words[..] {
        ["UNKNOWN", ..] => Some(None),
        ["TCP4", source, target, from, to] => {
            let (_, _): (Ipv4Addr, u16) = (target.parse().ok()?, port(to)?);
            Some(Some((source.parse::<Ipv4Addr>().ok()?, port(from)?).into()))
        }
        ["TCP6", source, target, from, to] => {
            let (_, _): (Ipv6Addr, u16) = (target.parse().ok()?, port(to)?);
            Some(Some((source.parse::<Ipv6Addr>().ok()?, port(from)?).into()))
        }
        _ => None,
    }
}

fn version2(rest: [u8; 4], block: &[u8]) -> Option<Option<SocketAddr>> {
    let [version, family, ..] = rest;
    match version {
        // For itself, a health check say: whatever stands there besides is skipped (§2.2).
        0x20 => return Some(None),
        0x21 => {}
        _ => return None,
    }
    let (address, extensions) = match family {
        0x11 | 0x12 => {
            let (address, extensions) = block.split_at_checked(12)?;
            let (ip, ports) = address.split_first_chunk::<4>()?;
            (Some((IpAddr::from(*ip), ports.get(4..6)?)), extensions)
        }
        0x21 | 0x22 => {
            let (address, extensions) = block.split_at_checked(36)?;
            let (ip, ports) = address.split_first_chunk::<16>()?;
            (Some((IpAddr::from(*ip), ports.get(16..18)?)), extensions)
        }
        0x31 | 0x32 => (None, block.get(216..)?),
        // What is said of a family that nobody knows is skipped (§2.2).
        0x00 => (None, &[][..]),
        _ => return None,
    };
    check_extensions(rest, block, extensions)?;
    // UDP carries no HTTP/1 and no HTTP/2.
    let is_stream = family & 0x0f != 2;
    let address = match address.filter(|_| is_stream) {
        Some((ip, port)) => Some(SocketAddr::new(ip, u16::from_be_bytes(port.try_into().ok()?))),
        None => None,
    };
    match family == 0 || address.is_some() {
        true => Some(address),
        false => None,
    }
}

/// Each has its length, and a checksum is right where there is one.
fn check_extensions(rest: [u8; 4], block: &[u8], extensions: &[u8]) -> Option<()> {
    let mut left = extensions;
    while let Some((&kind, after)) = left.split_first() {
        let (length, after) = after.split_first_chunk::<2>()?;
        let (value, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        if kind == CRC32C {
            let said = u32::from_be_bytes(value.try_into().ok()?);
            // It is counted with zeros in its own place.
            let at = block.len() - after.len() - value.len();
            let before = block.get(..at)?;
            let whole = SIGNATURE.iter().chain(&rest).chain(before).chain(&[0; 4]).chain(after);
            if crc32c(whole) != said {
                return None;
            }
        }
        left = after;
    }
    Some(())
}

/// RFC 9260 appendix A.
fn crc32c<'a>(bytes: impl Iterator<Item = &'a u8>) -> u32 {
    !bytes.fold(!0, |mut sum, byte| {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = (sum >> 1) ^ (0x82f6_3b78 & (sum & 1).wrapping_neg());
        }
        sum
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use futures::FutureExt;

    use super::*;

    /// The address told, and what is left behind the header.
    fn told(bytes: &[u8]) -> Result<(Option<String>, usize), io::ErrorKind> {
        let mut left = bytes;
        let address = read(&mut left).now_or_never().unwrap().map_err(|error| error.kind())?;
        Ok((address.map(|address| address.to_string()), left.len()))
    }

    fn second(version: u8, family: u8, block: &[u8]) -> Vec<u8> {
        let length = u16::try_from(block.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[version, family], &length, block, b"GET"].concat()
    }

    const V4: [u8; 12] = [192, 0, 2, 1, 10, 0, 0, 1, 0x12, 0x34, 0, 80];

    #[test]
    fn reads_version_1() {
        for (line, address) in [
            ("PROXY TCP4 192.0.2.1 10.0.0.1 4660 80", Some("192.0.2.1:4660")),
            ("PROXY TCP6 2001:db8::1 ::1 1 0", Some("[2001:db8::1]:1")),
            ("PROXY UNKNOWN", None),
            ("PROXY UNKNOWN ffff::1 ffff::2 1 2", None),
        ] {
            let found = told(format!("{line}\r\nGET").as_bytes());
            assert_eq!(found, Ok((address.map(str::to_owned), 3)), "{line}");
        }
        for line in [
            "GET / HTTP/1.1",
            "PROXY TCP4 192.0.2.1 10.0.0.1 4660",
            "PROXY TCP4 192.0.2.1 10.0.0.1 4660 80 1",
            "PROXY TCP4 192.0.2.1  10.0.0.1 4660 80",
            "PROXY TCP4 192.0.2.01 10.0.0.1 4660 80",
            "PROXY TCP4 2001:db8::1 ::1 1 0",
            "PROXY TCP4 192.0.2.1 10.0.0.1 04660 80",
            "PROXY TCP4 192.0.2.1 10.0.0.1 +4660 80",
            "PROXY TCP4 192.0.2.1 10.0.0.1 70000 80",
            "PROXY TCP5 192.0.2.1 10.0.0.1 4660 80",
            "proxy TCP4 192.0.2.1 10.0.0.1 4660 80",
        ] {
            assert_eq!(
                told(format!("{line}\r\n").as_bytes()),
                Err(io::ErrorKind::InvalidData),
                "{line}"
            );
        }
        let endless = format!("PROXY UNKNOWN {}", "x".repeat(200));
        assert_eq!(told(endless.as_bytes()), Err(io::ErrorKind::InvalidData));
        assert_eq!(
            told(b"PROXY TCP4 192.0.2.1 10.0.0.1 4660 80\n"),
            Err(io::ErrorKind::InvalidData)
        );
        assert_eq!(told(b"PROXY TCP4 192"), Err(io::ErrorKind::UnexpectedEof));
    }

    #[test]
    fn reads_version_2() {
        assert_eq!(told(&second(0x21, 0x11, &V4)), Ok((Some("192.0.2.1:4660".into()), 3)));
        let mut v6 = [0; 36];
        (v6[15], v6[33]) = (1, 7);
        assert_eq!(told(&second(0x21, 0x21, &v6)), Ok((Some("[::1]:7".into()), 3)));
        let more = [&V4[..], &[4, 0, 2, 1, 1]].concat();
        assert_eq!(told(&second(0x21, 0x11, &more)), Ok((Some("192.0.2.1:4660".into()), 3)));
        // For itself, or not said for whom.
        assert_eq!(told(&second(0x20, 0x11, &V4)), Ok((None, 3)));
        for (family, block) in [
            (0x00, &[][..]),
            (0x11, &[]),
            (0x11, &V4[..11]),
            (0x99, b"whatever"),
            (0x12, &V4),
        ] {
            assert_eq!(told(&second(0x20, family, block)), Ok((None, 3)), "{family:x}");
        }
        assert_eq!(told(&second(0x21, 0x00, b"whatever")), Ok((None, 3)));
        for (version, family, block) in [
            (0x21, 0x11, &V4[..11]),
            (0x21, 0x11, &[]),
            (0x21, 0x21, &V4),
            (0x11, 0x11, &V4),
            (0x22, 0x11, &V4),
            (0x21, 0x13, &V4),
            (0x21, 0x41, &V4),
            (0x21, 0x12, &V4),
            (0x21, 0x31, &[0; 216]),
            (0x21, 0x11, &[&V4[..], &[4, 0, 9, 1]].concat()),
            (0x21, 0x11, &[&V4[..], &[4]].concat()),
            (0x21, 0x11, &[0; 5000]),
        ] {
            let found = told(&second(version, family, block));
            assert_eq!(
                found,
                Err(io::ErrorKind::InvalidData),
                "{version:x} {family:x} {}",
                block.len()
            );
        }
    }

    #[test]
    fn believes_no_header_with_a_wrong_checksum() {
        assert_eq!(crc32c(b"123456789".iter()), 0xe306_9283);
        let blank = second(0x21, 0x11, &[&V4[..], &[CRC32C, 0, 4, 0, 0, 0, 0], &[4, 0, 0]].concat());
        let blank = &blank[..blank.len() - 3];
        let sum = crc32c(blank.iter()).to_be_bytes();
        let mut right = blank.to_vec();
        right[31..35].copy_from_slice(&sum);
        assert_eq!(told(&right), Ok((Some("192.0.2.1:4660".into()), 0)));
        assert_eq!(told(blank), Err(io::ErrorKind::InvalidData));
        right[16] ^= 1;
        assert_eq!(told(&right), Err(io::ErrorKind::InvalidData));
    }
}

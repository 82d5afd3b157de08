//! Where the frames of one direction of a socket end (RFC 6455 §5.2), so that the gate knows when it may add one of its own.

/// The longest header of a frame.
const MAX_HEAD: usize = 14;
/// The opcode of a frame that closes.
const CLOSE: u8 = 8;

/// Follows frames that pass, and keeps nothing of them.
#[derive(Debug, Default)]
pub struct Frames {
    head: [u8; MAX_HEAD],
    /// Bytes of `head` that are there; none within a payload.
    known: usize,
    /// Bytes of the payload that are still to come.
    left: u64,
    has_closed: bool,
}

impl Frames {
    /// Takes note of the next bytes.
    pub fn pass(&mut self, mut bytes: &[u8]) {
        while let Some((first, rest)) = bytes.split_first() {
            if self.left > 0 {
                let own = usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
                self.left -= own as u64;
                bytes = bytes.get(own..).unwrap_or_default();
                continue;
            }
            if let Some(byte) = self.head.get_mut(self.known) {
                *byte = *first;
            }
            self.known += 1;
            bytes = rest;
            if let Some(payload) = self.payload() {
                let [opcode, ..] = self.head;
                self.has_closed |= opcode & 15 == CLOSE;
                (self.known, self.left) = (0, payload);
            }
        }
    }

    /// How long the payload is, once the header is whole.
    fn payload(&self) -> Option<u64> {
        let [_, second, extended @ ..] = &self.head;
        let of = |count: usize| {
            let bytes = extended.iter().take(count);
            bytes.fold(0, |length, byte| length << 8 | u64::from(*byte))
        };
        let (more, length) = match second & 127 {
            126 => (2, of(2)),
            127 => (8, of(8)),
            short => (0, u64::from(short)),
        };
        let mask = if second & 128 == 0 { 0 } else { 4 };
        (self.known == 2 + more + mask).then_some(length)
    }

    /// Whether a frame may follow here.
    pub fn may_add(&self) -> bool {
        self.known == 0 && self.left == 0 && !self.has_closed
    }
}

/// A frame that closes, with a status of RFC 6455 §7.4.1 and at most 123 bytes of why.
pub fn close(status: u16, why: &str) -> Vec<u8> {
    let why = why.get(..why.floor_char_boundary(123)).unwrap_or_default();
    let length = 2 + why.len();
    let mut frame = vec![128 | CLOSE, length as u8];
    frame.extend_from_slice(&status.to_be_bytes());
    frame.extend_from_slice(why.as_bytes());
    frame
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn frame(opcode: u8, masked: bool, length: usize) -> Vec<u8> {
        let mask = if masked { 128 } else { 0 };
        let mut frame = vec![128 | opcode];
        match length {
            0..126 => frame.push(mask | length as u8),
            126..65536 => {
                frame.push(mask | 126);
                frame.extend_from_slice(&(length as u16).to_be_bytes());
            }
            _ => {
                frame.push(mask | 127);
                frame.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        frame.extend(std::iter::repeat_n(0xff, length + if masked { 4 } else { 0 }));
        frame
    }

    #[test]
    fn knows_where_frames_end_however_they_come() {
        let frames = [
            frame(1, false, 0),
            frame(2, true, 5),
            frame(9, false, 125),
            frame(1, true, 126),
            frame(0, false, 65_535),
            frame(2, true, 65_536),
            frame(10, true, 0),
        ];
        let mut ends = vec![0];
        for frame in &frames {
            ends.push(ends.last().unwrap() + frame.len());
        }
        let all = frames.concat();
        for step in [1, 2, 3, 7, 1000, all.len()] {
            let mut followed = Frames::default();
            let mut at = 0;
            while at < all.len() {
                let next = (at + step).min(all.len());
                followed.pass(&all[at..next]);
                at = next;
                assert_eq!(followed.may_add(), ends.contains(&at), "{step} {at}");
            }
        }
    }

    #[test]
    fn adds_nothing_to_what_was_closed() {
        let mut followed = Frames::default();
        followed.pass(&frame(CLOSE, false, 2));
        assert!(!followed.may_add());
        followed.pass(&[]);
        assert!(!followed.may_add());
    }

    #[test]
    fn closes_with_a_status_and_a_short_reason() {
        assert_eq!(close(1008, "no"), [0x88, 4, 3, 0xf0, b'n', b'o']);
        let long = close(1001, &"가".repeat(100));
        assert_eq!((long.len(), long[1]), (2 + 2 + 123, 125));
        let mut followed = Frames::default();
        followed.pass(&long);
        assert!(followed.has_closed && followed.known == 0 && followed.left == 0);
        assert!(std::str::from_utf8(&long[4..]).is_ok());
    }
}

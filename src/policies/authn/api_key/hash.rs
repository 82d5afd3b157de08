//! Hashes of API keys, new keys, and which keys can be told by a fast hash at all.

use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use subtle::ConstantTimeEq;

use super::super::credential::can_be_sent;

const HEAD: &str = "sha256:";
/// How many letters of its hash stand for a key that shows nothing of itself.
const SHOWN_OF_HASH: usize = 12;
/// How many letters of a key are shown in its place, at most.
const SHOWN: usize = 8;
/// Nobody can try as many keys as there are with so many random bits.
const MIN_BITS: f64 = 128.0;
/// Of a key that was drawn letter by letter, at least.
const MIN_LETTERS: usize = 8;

/// The SHA-256 of a whole API key.
#[derive(Clone, Copy)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// The hash of a key.
    pub fn of(key: &[u8]) -> Self {
        let mut bytes = [0; 32];
        for (byte, hashed) in bytes.iter_mut().zip(digest(&SHA256, key).as_ref()) {
            *byte = *hashed;
        }
        Self(bytes)
    }

    /// Reads `sha256:` and 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(HEAD)?.as_bytes();
        let (pairs, rest) = digits.as_chunks::<2>();
        if pairs.len() != 32 || !rest.is_empty() {
            return None;
        }
        let mut bytes = [0; 32];
        let digit = |letter: u8| {
            char::from(letter)
                .to_digit(16)
                .and_then(|digit| u8::try_from(digit).ok())
        };
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = digit(*high)? << 4 | digit(*low)?;
        }
        Some(Self(bytes))
    }

    /// What is shown of a key whose own letters are not: the beginning of its hash.
    pub fn shown(&self) -> String {
        self.to_string().chars().take(HEAD.len() + SHOWN_OF_HASH).collect()
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HEAD)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyHash({})", self.shown())
    }
}

impl PartialEq for KeyHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for KeyHash {}

impl Hash for KeyHash {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.0);
    }
}

/// A key as it is given to a caller, with what is shown of it later.
pub struct NewKey {
    /// The whole key. It is in no log, and stands nowhere but with the caller.
    pub key: String,
    /// Its beginning, where the rest alone cannot be guessed.
    pub prefix: Option<String>,
}

impl NewKey {
    /// Draws a key of 256 bits; `None` where the system has no random bytes.
    pub fn random() -> Option<Self> {
        let mut bytes = [0; 32];
        SystemRandom::new().fill(&mut bytes).ok()?;
        // Eight letters are shown, the word before them says what it is where a key is found lying about.
        let key = format!("gwk_{}", URL_SAFE_NO_PAD.encode(bytes));
        let prefix = key.get(.."gwk_".len() + SHOWN).map(str::to_owned);
        Some(Self { key, prefix })
    }

    /// Takes a key that was made elsewhere.
    ///
    /// # Errors
    /// What is wrong with it, as the rest of a sentence about the key, of which no letter is repeated.
    pub fn given(key: String) -> Result<Self, String> {
        if !can_be_sent(&key) {
            return Err(
                "cannot be sent in a header: it is to be visible ASCII without spaces, 512 letters at most".into(),
            );
        }
        let bits = bits(&key);
        if bits < MIN_BITS {
            return Err(format!(
                "can be guessed: by its length and letters it has {bits:.0} random bits at most, and {MIN_BITS} are needed. \
                 A fast hash, which every request can afford, protects only what nobody can try out"
            ));
        }
        if let Some(pattern) = pattern(&key) {
            return Err(format!(
                "can be guessed: {pattern}; a key is to be random, letter by letter"
            ));
        }
        // What is shown is known to many; the rest has to stand alone.
        let shown = key
            .get(..SHOWN)
            .filter(|_| key.get(SHOWN..).is_some_and(|rest| self::bits(rest) >= MIN_BITS));
        let prefix = shown.map(str::to_owned);
        Ok(Self { key, prefix })
    }

    /// The hash of the key.
    pub fn hash(&self) -> KeyHash {
        KeyHash::of(self.key.as_bytes())
    }
}

impl fmt::Debug for NewKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NewKey({})", self.hash().shown())
    }
}

/// How many random bits the letters could hold at most, if each were drawn from the smallest alphabet that they fit.
fn bits(key: &str) -> f64 {
    let fits = |is_letter: fn(&char) -> bool| key.chars().all(|letter| is_letter(&letter));
    let letters: f64 = if fits(char::is_ascii_digit) {
        10.0
    } else if fits(|letter| letter.is_ascii_digit() || matches!(letter, 'a'..='f' | '-'))
        || fits(|letter| letter.is_ascii_digit() || matches!(letter, 'A'..='F' | '-'))
    {
        16.0
    } else if fits(|letter| letter.is_ascii_digit() || letter.is_ascii_lowercase())
        || fits(|letter| letter.is_ascii_digit() || letter.is_ascii_uppercase())
    {
        36.0
    } else {
        64.0
    };
    // What comes again adds nothing, and the dashes of a UUID neither.
    let length = key
        .chars()
        .filter(|letter| *letter != '-' || letters > 16.0)
        .count()
        .min(period(key));
    length as f64 * letters.log2()
}

/// After how many letters the key begins again.
fn period(key: &str) -> usize {
    let bytes = key.as_bytes();
    let begins_again = |at: &usize| bytes.get(*at..).is_some_and(|rest| bytes.starts_with(rest));
    // A few letters that happen to come again at the end are no repetition.
    (1..=bytes.len() / 2).find(begins_again).unwrap_or(bytes.len())
}

/// What shows that the key was not drawn letter by letter.
fn pattern(key: &str) -> Option<&'static str> {
    let different: HashSet<char> = key.chars().collect();
    if different.len() < MIN_LETTERS {
        return Some("it has few different letters");
    }
    let follow = key
        .bytes()
        .zip(key.bytes().skip(1))
        .filter(|(a, b)| a.abs_diff(*b) <= 1)
        .count();
    if follow * 2 > key.len() {
        return Some("its letters follow each other");
    }
    let has = |is_letter: fn(&char) -> bool| key.chars().any(|letter| is_letter(&letter));
    let cases = [has(char::is_ascii_lowercase), has(char::is_ascii_uppercase)];
    if !has(char::is_ascii_digit) && cases != [true, true] {
        return Some("it looks like words");
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::string_slice)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_written_and_read() {
        // As `printf %s abc | sha256sum` prints it.
        let written = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let hash = KeyHash::of(b"abc");
        assert_eq!(hash.to_string(), written);
        assert!(KeyHash::parse(written) == Some(hash) && KeyHash::parse(&written.to_uppercase()).is_none());
        assert_eq!(
            KeyHash::parse(&format!("sha256:{}", written[7..].to_uppercase())),
            Some(hash)
        );
        assert_eq!(hash.shown(), "sha256:ba7816bf8f01");
        assert_ne!(KeyHash::of(b"abd"), hash);
        for wrong in [
            "",
            "sha256:",
            &written[..70],
            &format!("{written}0"),
            &written.replace("ba", "b "),
            &written.replace("ba", "bé"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        ] {
            assert_eq!(KeyHash::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn new_keys_differ_and_are_good() {
        let (one, two) = (NewKey::random().unwrap(), NewKey::random().unwrap());
        assert_ne!(one.key, two.key);
        assert_eq!(one.key.len(), 47);
        let prefix = one.prefix.clone().unwrap();
        assert!(prefix.len() == 12 && one.key.starts_with(&prefix));
        assert!(!format!("{one:?}").contains(&prefix));
        for _ in 0..200 {
            let key = NewKey::random().unwrap().key;
            NewKey::given(key).unwrap();
        }
    }

    #[test]
    fn takes_random_keys_of_others_and_shows_what_can_be_spared() {
        for (key, prefix) in [
            // `openssl rand -hex 16`: nothing of it can be spared.
            ("3f9a1c7be02d4856a1f7c09b8e6d2534", None),
            ("3f9a1c7be02d4856a1f7c09b8e6d25340f1e2d3c", Some("3f9a1c7b")),
            ("sk_live_51H8xQeKZvM2nT7yWqR3sLpA", Some("sk_live_")),
            ("3f9a1c7b-e02d-4856-a1f7-c09b8e6d2534-0f1e-4d3c", Some("3f9a1c7b")),
        ] {
            let given = NewKey::given(key.to_owned());
            assert_eq!(given.unwrap().prefix.as_deref(), prefix, "{key}");
        }
    }

    #[test]
    fn refuses_what_can_be_guessed_and_repeats_none_of_it() {
        for (key, why) in [
            ("", "cannot be sent"),
            ("with space 3f9a1c7be02d4856a1f7c09b8e6d2534", "cannot be sent"),
            ("schlüssel3f9a1c7be02d4856a1f7c09b8e6d2534", "cannot be sent"),
            (&"Ab3-".repeat(200), "cannot be sent"),
            ("hunter2", "random bits at most"),
            ("3f9a1c7be02d4856a1f7c09b8e6d253", "124 random bits"),
            ("3f9a1c7b-e02d-4856-a1f7-c09b8e6d253", "124 random bits"),
            ("31415926535897932384626433832795028841", "random bits at most"),
            (&"Xk3dP9qL".repeat(8), "48 random bits"),
            (&"ab1".repeat(20), "random bits at most"),
            (
                "1121122112211212121122112121122112121121121212121221",
                "few different letters",
            ),
            ("abcdefghijklmnopqrstuvwxyz0123456789", "follow each other"),
            ("correct-horse-battery-staple-wallpaper", "looks like words"),
            ("CORRECTHORSEBATTERYSTAPLEWALLPAPER", "looks like words"),
        ] {
            let fault = NewKey::given(key.to_owned()).unwrap_err();
            assert!(fault.contains(why), "{key}: {fault}");
            assert!(key.is_empty() || !fault.contains(key), "{fault}");
        }
    }
}

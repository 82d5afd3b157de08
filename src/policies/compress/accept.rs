//! What a client accepts: q-lists (RFC 9110 §12.4.2), read once for codings and languages.

use std::cmp::Reverse;

/// A content coding that bodies are sent in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Coding {
    /// RFC 8878.
    Zstd,
    /// RFC 7932.
    Brotli,
    /// RFC 1952.
    Gzip,
}

impl Coding {
    /// Every coding, the ones to prefer first: at like levels zstd costs a third of gzip's time.
    pub const ALL: [Self; 3] = [Self::Zstd, Self::Brotli, Self::Gzip];

    /// The name in `Accept-Encoding` and `Content-Encoding`.
    pub fn token(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        }
    }

    fn is(self, name: &str) -> bool {
        // RFC 9110 §8.4.1.3: `x-gzip` means `gzip`.
        name.eq_ignore_ascii_case(self.token()) || self == Self::Gzip && name.eq_ignore_ascii_case("x-gzip")
    }
}

/// The coding to answer in (RFC 9110 §12.5.3), `None` for the body as it is. `header` holds all lines of
/// `Accept-Encoding` joined by `,`. The highest weight wins, among equals the first `offered`; a client that weighs
/// `identity` above every coding gets that.
pub fn choose_coding(header: Option<&str>, offered: &[Coding]) -> Option<Coding> {
    let accepted = read(header?);
    let weight = |is: &dyn Fn(&str) -> bool| {
        let named = accepted.iter().find(|(name, _)| is(name));
        named
            .or_else(|| accepted.iter().find(|(name, _)| *name == "*"))
            .map(|(_, weight)| *weight)
    };
    // Not named, the plain body is acceptable but what the client wants least.
    let plain = accepted.iter().find(|(name, _)| name.eq_ignore_ascii_case("identity"));
    let plain = plain.map_or(0, |(_, weight)| *weight);
    let mut best = None;
    for coding in offered {
        let weight = weight(&|name| coding.is(name)).unwrap_or(0);
        if weight > 0 && weight >= plain && best.is_none_or(|(_, standing)| weight > standing) {
            best = Some((*coding, weight));
        }
    }
    best.map(|(coding, _)| coding)
}

/// The index of the language to answer in (RFC 4647 §3.4, lookup: `ko-KR` finds `ko`); 0, the fallback, where none of
/// `available` is asked for. `header` holds all lines of `Accept-Language` joined by `,`.
pub fn choose_language<T: AsRef<str>>(header: Option<&str>, available: &[T]) -> usize {
    let mut ranges = read(header.unwrap_or(""));
    ranges.retain(|(_, weight)| *weight > 0);
    ranges.sort_by_key(|(_, weight)| Reverse(*weight));
    ranges
        .iter()
        .find_map(|(range, _)| look_up(range, available))
        .unwrap_or(0)
}

fn look_up<T: AsRef<str>>(range: &str, available: &[T]) -> Option<usize> {
    let mut range = range;
    loop {
        let found = available
            .iter()
            .position(|tag| tag.as_ref().eq_ignore_ascii_case(range));
        if found.is_some() {
            return found;
        }
        range = range.rsplit_once('-')?.0;
        // A single letter only introduces what was just cut off.
        while let Some((shorter, last)) = range.rsplit_once('-') {
            if last.len() != 1 {
                break;
            }
            range = shorter;
        }
    }
}

/// More members are not looked at.
const MAX_MEMBERS: usize = 64;

/// The members of a q-list with their weights in thousandths, in order. Members that cannot be read are left out.
fn read(header: &str) -> Vec<(&str, u16)> {
    let members = header.split(',').take(MAX_MEMBERS);
    members
        .filter_map(|member| {
            let mut parameters = member.split(';');
            let name = parameters.next()?.trim();
            if name.is_empty() {
                return None;
            }
            let mut weight = 1000;
            for parameter in parameters {
                let (key, value) = parameter.split_once('=')?;
                if key.trim().eq_ignore_ascii_case("q") {
                    weight = thousandths(value.trim())?;
                }
            }
            Some((name, weight))
        })
        .collect()
}

/// `0`, `0.5`, `1.000`: at most three digits, at most 1.
fn thousandths(text: &str) -> Option<u16> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !matches!(whole, "0" | "1") || fraction.len() > 3 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let fraction: u16 = format!("{fraction:0<3}").parse().ok()?;
    let weight = if whole == "1" { 1000 + fraction } else { fraction };
    (weight <= 1000).then_some(weight)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coding(header: &str) -> Option<&'static str> {
        choose_coding(Some(header), &Coding::ALL).map(Coding::token)
    }

    #[test]
    fn honours_weights_of_codings() {
        assert_eq!(coding("gzip, deflate, br, zstd"), Some("zstd"));
        assert_eq!(coding("gzip, br"), Some("br"));
        assert_eq!(coding("gzip;q=1.0, br;q=0.5"), Some("gzip"));
        assert_eq!(coding("gzip;q=0"), None);
        assert_eq!(coding("GZIP ; Q=0.001"), Some("gzip"));
        assert_eq!(coding("x-gzip"), Some("gzip"));
        assert_eq!(coding("dcz, dcb, gzip"), Some("gzip"));
    }

    #[test]
    fn honours_the_star_and_the_plain_body() {
        assert_eq!(coding("*"), Some("zstd"));
        assert_eq!(coding("zstd;q=0, *"), Some("br"));
        assert_eq!(coding("*;q=0"), None);
        assert_eq!(coding("*;q=0, gzip"), Some("gzip"));
        assert_eq!(coding("identity, gzip;q=0.1"), None);
        assert_eq!(coding("identity;q=0.5, gzip"), Some("gzip"));
        assert_eq!(coding("identity;q=0"), None);
        assert_eq!(coding("identity"), None);
        assert_eq!(coding(""), None);
        assert_eq!(choose_coding(None, &Coding::ALL), None);
    }

    #[test]
    fn leaves_unreadable_members_out() {
        for bad in [
            "gzip;q=2",
            "gzip;q=1.001",
            "gzip;q=0.0001",
            "gzip;q=-1",
            "gzip;q",
            "gzip;q=",
            ";q=1",
            ",,,",
            "gz ip",
        ] {
            assert_eq!(coding(bad), None, "{bad}");
            assert_eq!(coding(&format!("{bad}, br")), Some("br"), "{bad}");
        }
    }

    #[test]
    fn looks_languages_up_by_ever_shorter_ranges() {
        let available = ["en", "ko", "zh-Hant"];
        let at = |header: &str| available.get(choose_language(Some(header), &available)).copied();
        assert_eq!(at("ko-KR,ko;q=0.9,en;q=0.8"), Some("ko"));
        assert_eq!(at("zh-hant-TW-x-private"), Some("zh-Hant"));
        assert_eq!(at("fr, ko;q=0.1"), Some("ko"));
        assert_eq!(at("ko;q=0.5, en;q=0.7"), Some("en"));
        assert_eq!(at("zh"), Some("en"));
        assert_eq!(at("ko;q=0"), Some("en"));
        assert_eq!(at("*"), Some("en"));
        assert_eq!(at("-, --, a-"), Some("en"));
        assert_eq!(choose_language::<&str>(None, &[]), 0);
    }
}

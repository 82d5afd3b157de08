//! Distinguished names as text (RFC 4514), of which no two that differ are written alike.

use std::fmt::Write;

use x509_parser::der_parser::asn1_rs::{Any, Class, Tag};
use x509_parser::prelude::X509Name;

/// Attribute types that have a name: those of RFC 4514 §3, and what `openssl x509 -nameopt RFC2253` calls others that are common.
const KNOWN: [(&str, &str); 15] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.6", "C"),
    ("2.5.4.9", "STREET"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("2.5.4.4", "SN"),
    ("2.5.4.42", "GN"),
    ("2.5.4.12", "title"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.97", "organizationIdentifier"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
];

/// `CN=acme,O=Acme Corp,C=KR`: the last part first, the parts of one level with `+` between them. `None` for what cannot be written.
pub(super) fn name(name: &X509Name<'_>) -> Option<String> {
    let levels: Vec<String> = name
        .iter_rdn()
        .map(|level| {
            let parts: Option<Vec<String>> = level
                .iter()
                .map(|part| attribute(&part.attr_type().to_id_string(), part.attr_value()))
                .collect();
            Some(parts?.join("+"))
        })
        .collect::<Option<_>>()?;
    Some(levels.into_iter().rev().collect::<Vec<_>>().join(","))
}

fn attribute(kind: &str, value: &Any<'_>) -> Option<String> {
    let known = KNOWN.iter().find(|(id, _)| *id == kind).map(|(_, name)| *name);
    match known.zip(text(value)) {
        Some((name, text)) => Some(format!("{name}={}", escaped(text))),
        // RFC 4514 §2.4: what has no name, or is no text, as the bytes it is.
        None => Some(format!("{}=#{}", known.unwrap_or(kind), encoded(value)?)),
    }
}

/// The value, where it is text in an encoding that has one reading.
fn text<'a>(value: &'a Any<'_>) -> Option<&'a str> {
    let is_ascii = match value.tag() {
        Tag::Utf8String => false,
        Tag::PrintableString | Tag::Ia5String | Tag::NumericString | Tag::VisibleString => true,
        _ => return None,
    };
    let text = std::str::from_utf8(value.data).ok()?;
    (!is_ascii || text.is_ascii()).then_some(text)
}

/// RFC 4514 §2.4; control characters too, so that the text is one line.
fn escaped(text: &str) -> String {
    let last = text.chars().count().saturating_sub(1);
    let mut written = String::with_capacity(text.len());
    for (at, letter) in text.chars().enumerate() {
        match letter {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => written.extend(['\\', letter]),
            ' ' if at == 0 || at == last => written.push_str("\\ "),
            '#' if at == 0 => written.push_str("\\#"),
            _ if letter.is_control() => {
                for byte in letter.encode_utf8(&mut [0; 4]).bytes() {
                    let _ = write!(written, "\\{byte:02X}");
                }
            }
            _ => written.push(letter),
        }
    }
    written
}

/// The value in DER, in hexadecimal.
fn encoded(value: &Any<'_>) -> Option<String> {
    let tag = u8::try_from(value.tag().0).ok().filter(|tag| *tag < 31)?;
    let class = match value.class() {
        Class::Universal => 0,
        Class::Application => 0x40,
        Class::ContextSpecific => 0x80,
        Class::Private => 0xc0,
    };
    let constructed = if value.header.is_constructed() { 0x20 } else { 0 };
    let mut der = vec![class | constructed | tag];
    let length = value.data.len().to_be_bytes();
    match u8::try_from(value.data.len()).ok().filter(|short| *short < 0x80) {
        Some(short) => der.push(short),
        None => {
            let digits = length.iter().skip_while(|byte| **byte == 0);
            der.push(0x80 | u8::try_from(digits.clone().count()).ok()?);
            der.extend(digits);
        }
    }
    der.extend_from_slice(value.data);
    Some(der.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rcgen::{CertificateParams, DnType, DnValue, KeyPair};
    use x509_parser::prelude::{FromDer, X509Certificate};

    use super::*;

    fn written(parts: &[(DnType, DnValue)]) -> String {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in parts {
            params.distinguished_name.push(kind.clone(), value.clone());
        }
        let der = params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone();
        let (_, read) = X509Certificate::from_der(&der).unwrap();
        name(read.subject()).unwrap()
    }

    fn common(text: &str) -> String {
        written(&[(DnType::CommonName, DnValue::Utf8String(text.into()))])
    }

    #[test]
    fn writes_the_last_part_first() {
        let of = |text: &str| DnValue::Utf8String(text.into());
        let parts = [
            (DnType::CountryName, DnValue::PrintableString("KR".try_into().unwrap())),
            (DnType::OrganizationName, of("Acme, Inc.")),
            (DnType::CommonName, of("acme")),
        ];
        assert_eq!(written(&parts), r"CN=acme,O=Acme\, Inc.,C=KR");
    }

    #[test]
    fn no_value_can_pass_for_another_part() {
        assert_eq!(common("a,O=bank"), r"CN=a\,O=bank");
        assert_eq!(common("a+O=bank"), r"CN=a\+O=bank");
        assert_eq!(common(r"a\,O=bank"), r"CN=a\\\,O=bank");
        assert_eq!(common(" #a "), r"CN=\ #a\ ");
        assert_eq!(common("#04"), r"CN=\#04");
        assert_eq!(common("a\nb\0"), r"CN=a\0Ab\00");
        assert_eq!(common("관문"), "CN=관문");
        assert_eq!(common(""), "CN=");
    }

    #[test]
    fn writes_as_bytes_what_has_no_name_or_is_no_text() {
        let unknown = DnType::CustomDnType(vec![1, 3, 6, 1, 4, 1, 99]);
        assert_eq!(
            written(&[(unknown, DnValue::Utf8String("x".into()))]),
            "1.3.6.1.4.1.99=#0c0178"
        );
        let wide = DnValue::BmpString("x".try_into().unwrap());
        assert_eq!(written(&[(DnType::CommonName, wide)]), "CN=#1e020078");
        let long = DnType::CustomDnType(vec![1, 2, 3]);
        let text = written(&[(long, DnValue::Utf8String("y".repeat(200)))]);
        assert!(text.starts_with("1.2.3=#0c81c87979"), "{text}");
    }
}

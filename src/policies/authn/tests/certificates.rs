//! `client_certificate:` — pure: certificates and the instant are given.

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
};
use rustls::pki_types::CertificateDer;

use super::super::{Authenticator, Authenticators, CertificateAuthenticator};
use super::kit::noon;
use crate::conf::{Load, Named, Read};
use crate::engine::ClientCertificate;

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn params(name: &str, days: i64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let time = |at: Timestamp| (std::time::UNIX_EPOCH + std::time::Duration::from_secs(at.as_second() as u64)).into();
    params.not_before = time(noon());
    params.not_after = time(noon() + SignedDuration::from_hours(24 * days));
    params
}

fn authority(name: &str) -> Issuer {
    let mut params = params(name, 1_000);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// The chain that a client shows, its own first.
fn chain(by: &Issuer, days: i64, between: &[&Issuer], more: impl FnOnce(&mut CertificateParams)) -> ClientCertificate {
    let mut params = params("acme", days);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    more(&mut params);
    let own = params.signed_by(&KeyPair::generate().unwrap(), by).unwrap();
    let mut chain: Vec<CertificateDer<'static>> = vec![own.der().clone()];
    chain.extend(between.iter().map(|authority| authority.der().clone()));
    ClientCertificate::read(&chain).unwrap()
}

/// An authenticator `main` that trusts the authority, with further keys.
fn authenticator(trusts: &Issuer, more: &str) -> std::sync::Arc<CertificateAuthenticator> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ca.pem"), trusts.pem()).unwrap();
    let load = Load::new();
    let path = folder.path().join("ca.pem").display().to_string();
    let yaml = format!("main: {{ client_certificate: {{ authorities: '{path}', {more} }} }}");
    let node = load.text("t.yaml", &yaml).unwrap();
    let all = Authenticators::compile(&Named::read(&node, &load).unwrap(), &load);
    let findings = load.into_findings(Some(&node));
    assert!(findings.is_empty(), "{findings:?}");
    let Authenticator::Certificate(one) = all.get("main").unwrap().1 else {
        panic!()
    };
    one.clone()
}

fn said(authenticator: &CertificateAuthenticator, certificate: &ClientCertificate, days: i64) -> String {
    let at = noon() + SignedDuration::from_hours(24 * days);
    match authenticator.prove(certificate, at) {
        Ok(principal) => principal.subject.to_string(),
        Err(refusal) => refusal.code.to_owned(),
    }
}

fn named(names: &[(&str, &str)]) -> impl FnOnce(&mut CertificateParams) {
    let names: Vec<SanType> = names
        .iter()
        .map(|(kind, name)| match *kind {
            "dns" => SanType::DnsName((*name).try_into().unwrap()),
            "uri" => SanType::URI((*name).try_into().unwrap()),
            _ => SanType::Rfc822Name((*name).try_into().unwrap()),
        })
        .collect();
    |params| params.subject_alt_names = names
}

#[test]
fn says_who_calls_by_the_name_that_is_asked_for() {
    let root = authority("root");
    let three = [("dns", "A.example"), ("uri", "spiffe://a/b"), ("email", "a@b.example")];
    let certificate = chain(&root, 10, &[], named(&three));
    for (kind, name) in [
        ("dn", "CN=acme"),
        ("dns", "a.example"),
        ("uri", "spiffe://a/b"),
        ("email", "a@b.example"),
    ] {
        let everybody = authenticator(&root, &format!("subject: {kind}"));
        assert_eq!(said(&everybody, &certificate, 1), name);
        let listed = authenticator(&root, &format!("subject: {kind}, callers: [{{ subject: '{name}' }}]"));
        assert_eq!(said(&listed, &certificate, 1), name);
        let others = authenticator(&root, &format!("subject: {kind}, callers: [{{ subject: 'x={name}' }}]"));
        assert_eq!(said(&others, &certificate, 1), "certificate-unknown");
    }
    let nobody = authenticator(&root, "callers: []");
    assert_eq!(said(&nobody, &certificate, 1), "certificate-unknown");
}

#[test]
fn takes_no_name_where_there_is_none_or_more_than_one() {
    let root = authority("root");
    let two = chain(&root, 10, &[], named(&[("uri", "spiffe://a"), ("uri", "spiffe://b")]));
    let every = authenticator(&root, "subject: uri");
    assert_eq!(said(&every, &two, 1), "certificate-unknown");
    let one = authenticator(&root, "subject: uri, callers: [{ subject: 'spiffe://b' }]");
    assert_eq!(said(&one, &two, 1), "spiffe://b");
    let both = authenticator(
        &root,
        "subject: uri, callers: [{ subject: 'spiffe://b' }, { subject: 'spiffe://a' }]",
    );
    assert_eq!(said(&both, &two, 1), "certificate-unknown");
    let none = chain(&root, 10, &[], |_| {});
    assert_eq!(said(&every, &none, 1), "certificate-unknown");
    let nameless = chain(&root, 10, &[], |params| {
        params.distinguished_name = rcgen::DistinguishedName::new();
    });
    assert_eq!(said(&authenticator(&root, ""), &nameless, 1), "certificate-unknown");
}

#[test]
fn is_good_within_its_time_however_often_it_was_seen() {
    let root = authority("root");
    let certificate = chain(&root, 10, &[], |_| {});
    let main = authenticator(&root, "");
    for (days, expected) in [
        (0, "CN=acme"),
        (10, "CN=acme"),
        (11, "certificate-expired"),
        (5, "CN=acme"),
        (-1, "certificate-not-yet-valid"),
        (0, "CN=acme"),
    ] {
        assert_eq!(said(&main, &certificate, days), expected, "{days}");
    }
}

#[test]
fn what_has_no_end_is_good_for_as_long_as_can_be_written() {
    let mut params = params("root", 1);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.not_after = rcgen::date_time_ymd(9999, 12, 31);
    let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let certificate = chain(&root, 10, &[&root], |params| {
        params.not_after = rcgen::date_time_ymd(9999, 12, 31);
    });
    assert_eq!(certificate.until(noon()), Some(Timestamp::MAX));
    let principal = authenticator(&root, "").prove(&certificate, noon()).unwrap();
    assert_eq!(
        principal.expires.map(Timestamp::as_second),
        Some(Timestamp::MAX.as_second())
    );
}

#[test]
fn what_cannot_be_read_was_shown_and_proves_nobody() {
    let root = authority("root");
    let certificate = chain(&root, 10, &[], |params| {
        let names = vec![0x30, 0x04, 0x82, 0x02, 0xff, 0xfe];
        params.custom_extensions = vec![rcgen::CustomExtension::from_oid_content(&[2, 5, 29, 17], names)];
    });
    assert!(certificate.said.is_none());
    assert_eq!(
        said(&authenticator(&root, ""), &certificate, 1),
        "certificate-unreadable"
    );
    // When it ends can be.
    let end = noon() + SignedDuration::from_hours(240);
    assert_eq!(certificate.until(noon()), Some(end));
    let odd = ClientCertificate::read(&[certificate.chain[0].clone(), b"?".as_slice().into()]).unwrap();
    assert_eq!(odd.until(noon()), None);
}

#[test]
fn tells_when_the_next_of_the_chain_ends() {
    let root = authority("root");
    let mut between = params("between", 5);
    between.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let between = CertifiedIssuer::signed_by(between, KeyPair::generate().unwrap(), &root).unwrap();
    let certificate = chain(&between, 10, &[&between], |_| {});
    let day = |days: i64| noon() + SignedDuration::from_hours(24 * days);
    let half = SignedDuration::from_millis(500);
    assert_eq!(certificate.until(day(5) + half), Some(day(5)));
    assert_eq!(certificate.until(day(6)), Some(day(10)));
    assert_eq!(certificate.until(day(11)), None);
}

#[test]
fn an_authority_between_that_has_run_out_vouches_for_nobody() {
    let root = authority("root");
    let mut between = params("between", 5);
    between.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let between = CertifiedIssuer::signed_by(between, KeyPair::generate().unwrap(), &root).unwrap();
    let certificate = chain(&between, 10, &[&between], |_| {});
    let main = authenticator(&root, "");
    assert_eq!(said(&main, &certificate, 4), "CN=acme");
    assert_eq!(said(&main, &certificate, 6), "certificate-expired");
    // Remembered once more, and shown without it: the end of the chain that was verified still counts.
    assert_eq!(said(&main, &certificate, 4), "CN=acme");
    let alone = ClientCertificate::read(certificate.chain.get(..1).unwrap()).unwrap();
    assert_eq!(said(&main, &alone, 6), "certificate-untrusted");
}

#[test]
fn trusts_nobody_elses_authorities() {
    let (root, other) = (authority("root"), authority("root"));
    let main = authenticator(&root, "");
    assert_eq!(said(&main, &chain(&other, 10, &[], |_| {}), 1), "certificate-untrusted");
    let of_server = chain(&root, 10, &[], |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    assert_eq!(said(&main, &of_server, 1), "certificate-untrusted");
}

#[test]
fn claims_what_the_certificate_says() {
    let root = authority("root");
    let certificate = chain(&root, 10, &[], |params| {
        named(&[("dns", "a.example"), ("uri", "spiffe://a"), ("email", "a@b.example")])(params);
        params.serial_number = Some(vec![0x0a, 0xbc].into());
    });
    let main = authenticator(
        &root,
        "callers: [{ subject: CN=acme, roles: [a, b], scopes: ['x:y', z] }]",
    );
    let principal = main.prove(&certificate, noon()).unwrap();
    assert_eq!(
        (&*principal.authenticator, &*principal.issuer),
        ("main", "client-certificate:main")
    );
    assert!(principal.has_role("b") && principal.has_scope("x:y") && principal.has_scope("z"));
    let claim = |path: &str| principal.claim(path).unwrap().to_string();
    assert_eq!(claim("cert.subject"), r#""CN=acme""#);
    assert_eq!(claim("cert.issuer"), r#""CN=root""#);
    assert_eq!(claim("cert.serial"), r#""0ABC""#);
    assert_eq!(
        claim("cert.sans"),
        r#"["DNS:a.example","URI:spiffe://a","email:a@b.example"]"#
    );
    assert_eq!(principal.expires.unwrap(), noon() + SignedDuration::from_hours(240));
    assert_eq!(principal.issued(), Some(noon().as_second()));
    assert_eq!(principal.token_id.as_deref(), Some(&*certificate.thumbprint));
    assert_eq!(certificate.thumbprint.len(), 43);
}

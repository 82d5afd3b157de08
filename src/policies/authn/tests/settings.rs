//! `authenticators:` as written.

use super::super::Source;
use super::super::keys::KeySet;
use super::super::settings::*;
use super::kit::*;
use jsonwebtoken::Algorithm;

fn findings(jwt: &str) -> Vec<String> {
    compile(&format!("main: {{ jwt: {{ {jwt} }} }}")).1
}

#[test]
fn fills_in_defaults() {
    let authenticator = authenticator("RS256, ES256, RS256", "jwks: discover");
    assert_eq!(
        (
            &*authenticator.roles,
            &*authenticator.scopes,
            authenticator.leeway.as_secs()
        ),
        ("roles", "scope", 30)
    );
    assert_eq!(authenticator.algorithms.to_vec(), [Algorithm::RS256, Algorithm::ES256]);
    assert_eq!(authenticator.keys, KeysFrom::Discover);
    assert_eq!(authenticator.max_lifetime, None);
}

#[test]
fn tells_how_long_tokens_are_good_for() {
    let (all, findings) = compile(
        "a: { jwt: { issuer: https://a.example, audience: x, algorithms: RS256, jwks: discover, max_lifetime: 12h } }\n\
         b: { jwt: { issuer: https://b.example, audience: x, algorithms: RS256, jwks: discover } }\n",
    );
    assert_eq!(findings, Vec::<String>::new());
    let told: Vec<_> = all
        .lifetimes()
        .into_iter()
        .map(|(name, life)| (name.to_string(), life))
        .collect();
    let hours = std::time::Duration::from_secs(12 * 3600);
    assert_eq!(told, [("a".to_owned(), Some(hours)), ("b".to_owned(), None)]);
}

#[test]
fn points_at_what_is_wrong() {
    let good = "issuer: https://id.example, audience: [a], algorithms: [RS256]";
    let cases = [
        (
            "issuer: https://id.example, audience: [a], algorithms: [RS257], jwks: discover",
            "t.yaml:1:72: unknown word `RS257`, did you mean `RS256`",
        ),
        (
            "issuer: https://id.example, audience: [a], algorithms: [none], jwks: discover",
            "unknown word `none`",
        ),
        (
            "issuer: https://id.example, audience: [a], algorithms: [ES512], jwks: discover",
            "unknown word `ES512`",
        ),
        (
            "issuer: https://id.example, audience: [a], algorithms: [], jwks: discover",
            "at least one algorithm",
        ),
        (
            "issuer: https://id.example, audience: [a], algorithms: [es256], jwks: discover",
            "unknown word `es256`, did you mean `ES256`?",
        ),
        (
            "issuer: https://id.example, audience: [], algorithms: [RS256], jwks: discover",
            "at least one audience",
        ),
        (
            "issuer: https://id.example, audience: [''], algorithms: [RS256], jwks: discover",
            "at least one audience",
        ),
        (
            "issuer: https://id.example, algorithms: [RS256], jwks: discover",
            "missing `audience`",
        ),
        (
            "issuer: '', audience: [a], algorithms: [RS256], jwks: 'https://id.example/keys'",
            "the issuer must be",
        ),
        (
            "issuer: http://id.example, audience: [a], algorithms: [RS256], jwks: discover",
            "plain http is accepted for loopback only",
        ),
        (
            "issuer: http://127.0.0.1.example, audience: [a], algorithms: [RS256], jwks: discover",
            "plain http",
        ),
        (
            "issuer: 'http://127.0.0.1@evil.example', audience: [a], algorithms: [RS256], jwks: discover",
            "plain http",
        ),
        (
            "issuer: 'https://id.example?a=b', audience: [a], algorithms: [RS256], jwks: discover",
            "cannot be discovered",
        ),
        (
            "issuer: bank, audience: [a], algorithms: [RS256], jwks: discover",
            "cannot be discovered",
        ),
        (good, "`jwks` or `secret`"),
        (
            &format!("{good}, jwks: 'http://id.example/keys'"),
            "is not an `https` URL",
        ),
        (
            &format!("{good}, jwks: 'ftp://id.example/keys'"),
            "is not an `https` URL",
        ),
        (&format!("{good}, jwks: discovr"), "cannot read `discovr`"),
        (&format!("{good}, jwks: discover, typ: ''"), "the type is empty"),
        (&format!("{good}, jwks: discover, leeway: 6m"), "more than `5m`"),
        (&format!("{good}, jwks: discover, leeway: 30"), "has no unit"),
        (
            &format!("{good}, jwks: discover, max_lifetime: 0s"),
            "t.yaml:1:110: no token would be good for so short a time",
        ),
        (
            &format!("{good}, jwks: discover, isuer: x"),
            "unknown key `isuer`, did you mean `issuer`",
        ),
        (
            &format!("{good}, jwks: discover, secret: '${{env:PATH}}'"),
            "never stands beside public keys",
        ),
        (
            &format!("{good}, secret: '${{env:PATH}}'"),
            "for the HS algorithms alone",
        ),
        (&format!("{good}, secret: hunter2"), "a secret is not written here"),
        (
            "issuer: x, audience: [a], algorithms: [HS256], jwks: 'https://id.example/keys'",
            "never `jwks`",
        ),
        (
            "issuer: https://id.example, audience: [a], algorithms: [RS256, HS256], jwks: discover",
            "never `jwks`",
        ),
    ];
    for (jwt, expected) in cases {
        let found = findings(jwt);
        assert!(
            found.iter().any(|finding| finding.contains(expected)),
            "{jwt}: {found:?}"
        );
    }
    let missing = compile("main: {}").1;
    assert!(missing[0].contains("say how it learns who calls: `jwt` or `api_key` or `introspection`"));
    let unknown = compile("main: { oidc: {} }").1;
    assert!(unknown.iter().any(|finding| finding.contains("unknown key `oidc`")));
}

#[test]
fn accepts_plain_http_on_loopback() {
    for issuer in [
        "http://127.0.0.1:9800",
        "http://localhost:9800",
        "http://[::1]:9800/a",
        "https://id.example/",
    ] {
        let jwt = format!("issuer: '{issuer}', audience: a, algorithms: RS256, jwks: discover");
        assert_eq!(findings(&jwt), Vec::<String>::new());
    }
    assert!(is_loopback_url("http://127.8.9.10") && is_loopback_url("http://LOCALHOST/x"));
    for url in [
        "http://localhost.example",
        "http://10.0.0.1",
        "http://0.0.0.0",
        "localhost",
        "http://[::2]",
        "http://",
    ] {
        assert!(!is_loopback_url(url), "{url}");
    }
}

#[test]
fn a_missing_secret_is_a_warning_that_run_can_see() {
    let jwt = "issuer: x, audience: [a], algorithms: [HS256], secret: '${env:GWANMUN_TEST_NO_SUCH}'";
    let (all, found) = compile(&format!("main: {{ jwt: {{ {jwt} }} }}"));
    assert!(found.len() == 1 && found[0].contains("warning: the variable `GWANMUN_TEST_NO_SUCH` is not set"));
    assert_eq!(all.unfetched_secrets().len(), 1);
    assert_eq!(main_jwt(&all).keys, KeysFrom::Missing);
}

#[test]
fn refuses_a_short_secret_and_never_shows_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    let jwt = format!(
        "issuer: x, audience: [a], algorithms: [HS256], secret: '${{file:{}}}'",
        path.display()
    );
    std::fs::write(&path, "0123456789abcdef0123456789abcde\n").unwrap();
    assert!(
        findings(&jwt)
            .iter()
            .any(|finding| finding.contains("shorter than 32 bytes"))
    );
    std::fs::write(&path, SECRET).unwrap();
    let (all, found) = compile(&format!("main: {{ jwt: {{ {jwt} }} }}"));
    assert!(!found.iter().any(|finding| !finding.contains("warning")), "{found:?}");
    let shown = format!("{all:?}");
    assert!(!shown.contains("0123456789") && !shown.contains("[48, 49"), "{shown}");
}

#[test]
fn reads_keys_from_a_file_and_says_what_it_skips() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    let jwt = format!(
        "issuer: x, audience: [a], algorithms: [ES256], jwks: {}",
        path.display()
    );
    let signer = Signer::ec(Algorithm::ES256);
    std::fs::write(
        &path,
        set(&[signer.jwk(""), Signer::secret(Algorithm::HS256, SECRET).jwk("")]),
    )
    .unwrap();
    let (all, found) = compile(&format!("main: {{ jwt: {{ {jwt} }} }}"));
    assert!(found.len() == 1 && found[0].contains("warning: 1 keys in"), "{found:?}");
    let authenticator = main_jwt(&all);
    let KeysFrom::Fixed(keys) = &authenticator.keys else {
        panic!()
    };
    assert_eq!(**keys, key_set(&[signer.jwk("")]));
    for (text, expected) in [
        ("{\"keys\":[]}", "no key that can be used"),
        ("{}", "not a JSON Web Key Set"),
    ] {
        std::fs::write(&path, text).unwrap();
        assert!(findings(&jwt)[0].contains(expected));
    }
}

#[test]
fn uses_only_keys_that_are_bound_to_verifying() {
    let (rsa, ec, ed) = (
        Signer::rsa(Algorithm::RS256, 2048),
        Signer::ec(Algorithm::ES384),
        Signer::ed(),
    );
    let weak = Signer::rsa(Algorithm::RS256, 1024);
    let exponent = |e: &[u8]| {
        let (n, _) = rsa.public.rsplit_once(",\"e\"").unwrap();
        format!("{{{n},\"e\":\"{}\"}}", b64(e))
    };
    let small = |x: &[u8]| format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{}"}}"#, b64(x));
    let usable = [
        rsa.jwk(""),
        ec.jwk(r#""use":"sig","alg":"ES384","#),
        ed.jwk(r#""key_ops":["sign","verify"],"x5c":["AAAA"],"#),
        ec.jwk(r#""kid":"\ud83d\ude00","#),
        exponent(&[3]),
        exponent(&[0, 1, 0, 1]),
    ];
    let unusable = [
        weak.jwk(""),
        Signer::secret(Algorithm::HS256, SECRET).jwk(""),
        rsa.jwk(r#""use":"enc","#),
        rsa.jwk(r#""alg":"RSA-OAEP","#),
        rsa.jwk(r#""alg":"ES256","#),
        rsa.jwk(r#""alg":"HS256","#),
        rsa.jwk(r#""crv":"P-256","#),
        rsa.jwk(r#""d":"AQAB","#),
        rsa.jwk(r#""kid":5,"#),
        rsa.jwk(r#""kid":"a","kid":"b","#),
        rsa.jwk(r#""key_ops":["encrypt"],"#),
        rsa.jwk(r#""key_ops":[],"#),
        ec.jwk(r#""alg":"ES256","#),
        ec.jwk("").replace("P-384", "P-256"),
        ec.jwk("").replace("P-384", "P-521"),
        ec.jwk("").replace("P-384", "secp256k1"),
        ec.jwk("").replace("\"EC\"", "\"RSA\""),
        ed.jwk("").replace("Ed25519", "Ed448"),
        ed.jwk("").replace("Ed25519", "X25519"),
        ed.jwk("").replace("\"x\":\"", "\"x\":\"AAAA"),
        small(&[0; 32]),
        small(&{
            let mut one = [0; 32];
            one[0] = 1;
            one
        }),
        small(&{
            let mut negative = [0; 32];
            negative[31] = 0x80;
            negative
        }),
        small(&{
            let mut p = [0xff; 32];
            (p[0], p[31]) = (0xed, 0x7f);
            p
        }),
        small(&hex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85")),
        small(&hex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a")),
        exponent(&[1]),
        exponent(&[2]),
        exponent(&[0]),
        exponent(&[]),
        exponent(&[1, 0, 0]),
        exponent(&[2, 0, 0, 0, 1]),
        r#"{"kty":"RSA","n":"AQ==","e":"AQAB"}"#.into(),
        r#"{"kty":"EC","crv":"P-256"}"#.into(),
        "{}".into(),
        "null".into(),
        "5".into(),
    ];
    for key in &usable {
        assert_eq!(key_set(std::slice::from_ref(key)).keys.len(), 1, "{key}");
    }
    for key in &unusable {
        assert_eq!(key_set(std::slice::from_ref(key)).keys.len(), 0, "{key}");
    }
    let both = key_set(&[&unusable[..], &usable[..]].concat());
    assert_eq!((both.keys.len(), both.skipped), (usable.len(), unusable.len()));
}

#[test]
fn bounds_a_key_set() {
    let deep = format!("{{\"keys\":[{}{}]}}", "[".repeat(10_000), "]".repeat(10_000));
    assert_eq!(KeySet::parse(deep.as_bytes()).map(|set| set.skipped), Ok(1));
    assert!(KeySet::parse(&vec![b' '; (256 << 10) + 1]).is_err());
    assert!(KeySet::parse(set(&vec!["{}".to_owned(); 64]).as_bytes()).is_ok());
    assert!(KeySet::parse(set(&vec!["{}".to_owned(); 65]).as_bytes()).is_err());
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2)
        .map(|at| u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).unwrap())
        .collect()
}

#[test]
fn says_where_tokens_may_stand() {
    let written = |from: &str| {
        let jwt = format!("issuer: x, audience: a, algorithms: RS256, jwks: https://x.example/k, from: {from}");
        let (all, found) = compile(&format!("main: {{ jwt: {{ {jwt} }} }}"));
        let sources = all.get("main").map(|(_, main)| Box::<[Source]>::from(main.sources()));
        (sources.unwrap_or_default().into_vec(), found)
    };
    assert_eq!(
        written("{ header: Authorization, cookie: __Host-t, query: access_token }"),
        (
            vec![
                Source::Authorization,
                Source::Cookie("__Host-t".into()),
                Source::Query("access_token".into())
            ],
            vec![]
        )
    );
    let own = Source::Header("x-token".parse().unwrap());
    assert_eq!(written("{ header: X-Token }"), (vec![own], vec![]));
    for (from, expected) in [
        ("{}", "say where tokens stand"),
        ("{ heather: x }", "unknown key `heather`, did you mean `header`?"),
        ("header", "expected a map"),
        ("{ header: cookie }", "`cookie` is no header that a caller"),
        ("{ header: host }", "`host` is no header that a caller"),
        ("{ header: x_token }", "`x_token` is no header that a caller"),
        (
            "{ header: gwanmun-token }",
            "`gwanmun-token` is no header that a caller",
        ),
        (
            "{ header: sec-fetch-site }",
            "`sec-fetch-site` is no header that a caller",
        ),
        ("{ header: 'x token' }", "`x token` is no header that a caller"),
        ("{ cookie: '' }", "`` is not a name that needs no encoding"),
        ("{ cookie: a=b }", "`a=b` is not a name"),
        ("{ query: 'a b' }", "`a b` is not a name"),
        ("{ query: a%62 }", "`a%62` is not a name"),
    ] {
        let (_, found) = written(from);
        assert!(found.len() == 1 && found[0].contains(expected), "{from}: {found:?}");
    }
}

#[test]
fn points_at_paths_of_no_claim() {
    for path in ["''", "a..b", ".a", "a."] {
        let found = findings(&format!(
            "issuer: x, audience: a, algorithms: RS256, jwks: https://x.example/k, roles: {path}"
        ));
        assert!(
            found.len() == 1 && found[0].contains("is not the path of a claim"),
            "{found:?}"
        );
    }
}

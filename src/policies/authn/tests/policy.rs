//! `auth:` on a route.

use std::sync::Arc;

use futures::executor::block_on;
use http::{HeaderName, Method};

use super::super::{Authenticators, KIND, Source, sources};
use super::kit::*;
use crate::conf::Load;
use crate::engine::*;
use crate::policies::Defined;
use crate::policies::Scope;

const THREE: &str = "
a: { jwt: { issuer: https://a.example, audience: x, algorithms: RS256, jwks: discover } }
b: { jwt: { issuer: https://b.example, audience: x, algorithms: RS256, jwks: discover } }
again: { jwt: { issuer: https://a.example, audience: y, algorithms: RS256, jwks: discover } }
carried: { jwt: { issuer: https://a.example, audience: x, algorithms: RS256, jwks: discover, from: { cookie: t } } }
either: { jwt: { issuer: https://a.example, audience: x, algorithms: RS256, jwks: discover, from: { header: authorization, cookie: t, query: token } } }
";

fn three() -> Authenticators {
    let (authenticators, findings) = compile(THREE);
    assert_eq!(findings, Vec::<String>::new());
    authenticators
}

/// The rules that a value of `auth` makes, and the findings.
fn compiled(auth: &str) -> (Vec<Rule>, Vec<String>) {
    let defined = Defined {
        authenticators: three(),
        ..Defined::default()
    };
    let load = Load::new();
    let node = load.text("r.yaml", auth).unwrap();
    let scope = Scope {
        load: &load,
        route: "route".into(),
        has_auth: true,
        params: None,
        cors: None,
        defined: &defined,
    };
    let rules = (KIND.compile)(&node, &scope)
        .into_iter()
        .map(|draft| Rule {
            name: draft.name,
            kind: KIND.name,
            stage: draft.stage,
            shadow: draft.shadow,
            origin: draft.place.to_string().into(),
            policy: draft.policy,
        })
        .collect();
    let findings = load.into_findings(None).iter().map(ToString::to_string).collect();
    (rules, findings)
}

/// Lines of one header.
struct Lines(HeaderName, Vec<&'static [u8]>);

impl Headers for Lines {
    fn first(&self, name: &HeaderName) -> Option<&[u8]> {
        self.1.first().copied().filter(|_| *name == self.0)
    }

    fn is_repeated(&self, name: &HeaderName) -> bool {
        *name == self.0 && self.1.len() > 1
    }
}

/// Gives one answer, and notes what was asked.
struct Says(Answer, parking_lot::Mutex<Vec<String>>);

impl Lookup for Says {
    async fn answer(&self, asked: &[(u16, Question<'_>)]) -> Answers {
        for (_, question) in asked {
            let (authenticators, what) = match question {
                Question::Token {
                    authenticators, token, ..
                } => (authenticators, *token),
                Question::Certificate {
                    authenticators,
                    certificate,
                } => (authenticators, &*certificate.said.as_ref().unwrap().subject),
                _ => panic!(),
            };
            let ids: Vec<u16> = authenticators.iter().map(|id| id.0).collect();
            self.1.lock().push(format!("{ids:?} {what}"));
        }
        asked.iter().map(|_| self.0.clone()).collect()
    }
}

/// What `auth` decides about these lines of `Authorization`: status, code, challenge, who calls; and what it asked.
fn decided(auth: &str, lines: &[&'static [u8]], answer: &Answer) -> (String, Vec<String>) {
    judged(
        auth,
        &Method::GET,
        &Lines(http::header::AUTHORIZATION, lines.to_vec()),
        answer,
    )
}

fn judged(auth: &str, method: &Method, headers: &dyn Headers, answer: &Answer) -> (String, Vec<String>) {
    let (rules, findings) = compiled(auth);
    assert_eq!((findings.len(), rules.len()), (0, 1), "{findings:?}");
    let client = Client::unnamed();
    let mut facts = Facts {
        now: noon(),
        window_at: noon(),
        address: "192.0.2.1".parse().unwrap(),
        client: &client,
        request: RequestView {
            method,
            host: "h",
            path: "/",
            query: "",
            headers,
        },
        params: Params::default(),
        principal: None,
    };
    let lookup = Says(answer.clone(), parking_lot::Mutex::default());
    let decision = block_on(decide(&rules, &mut facts, &lookup));
    assert_eq!(decision.trail.len(), 1);
    let said = match &decision.effect {
        Effect::Forward => match &decision.principal {
            Some(principal) => format!("{} calls", principal.subject),
            None => "anonymous".into(),
        },
        Effect::Deny(denial) => {
            let challenge = denial.challenge.as_ref().map_or("", |value| value.to_str().unwrap());
            format!("{} {} {challenge}", denial.status.as_u16(), denial.code)
        }
        Effect::Reply(_) => panic!(),
    };
    (said, lookup.1.into_inner())
}

fn somebody() -> Answer {
    Answer::Principal(Arc::new(Principal {
        authenticator: "a".into(),
        issuer: "https://a.example".into(),
        subject: "u1".into(),
        scopes: Default::default(),
        roles: Default::default(),
        claims: [].into_iter().collect(),
        auth_time: None,
        acr: None,
        expires: None,
        token_id: None,
        identity: Principal::frame("a", "https://a.example", "u1"),
    }))
}

fn refused() -> Answer {
    Answer::Refused(CredentialRefusal {
        code: "token-expired",
        detail: "The token has expired.",
        claimed_sub: None,
    })
}

const MISSING: &str = "401 token-missing Bearer realm=\"gwanmun\"";
const UNREADABLE: &str = "401 credential-unreadable Bearer realm=\"gwanmun\", error=\"invalid_token\"";
const REPEATED: &str = "401 credential-unreadable Bearer realm=\"gwanmun\", error=\"invalid_request\"";
const ANOTHER: &str = "401 credential-unreadable Bearer realm=\"gwanmun\"";

#[test]
fn a_good_token_says_who_calls() {
    for line in [&b"Bearer t.o.k"[..], b"bearer t.o.k", b"BEARER   t.o.k "] {
        let (said, asked) = decided("[b, a]", &[line], &somebody());
        assert_eq!((said.as_str(), asked), ("u1 calls", vec!["[1, 0] t.o.k".to_owned()]));
    }
}

#[test]
fn a_bad_token_is_refused_also_where_none_would_do() {
    for auth in ["a", "[a, none]"] {
        let said = decided(auth, &[b"Bearer t"], &refused()).0;
        assert_eq!(
            said,
            "401 token-expired Bearer realm=\"gwanmun\", error=\"invalid_token\""
        );
        let away = Answer::Unavailable {
            code: "keys-unavailable",
        };
        assert_eq!(decided(auth, &[b"Bearer t"], &away).0, "503 keys-unavailable ");
    }
}

#[test]
fn no_credential_is_fine_only_where_none_is_listed() {
    assert_eq!(decided("a", &[], &somebody()), (MISSING.into(), vec![]));
    assert_eq!(decided("[a, none]", &[], &somebody()), ("anonymous".into(), vec![]));
    assert_eq!(decided("none", &[], &somebody()), ("anonymous".into(), vec![]));
}

#[test]
fn what_cannot_be_read_is_no_missing_credential() {
    let cases: [(&[&'static [u8]], &str); 14] = [
        (&[b""], ANOTHER),
        (&[b"Bearer"], UNREADABLE),
        (&[b"Bearer "], UNREADABLE),
        (&[b"Bearer  "], UNREADABLE),
        (&[b"Basic dTpw"], ANOTHER),
        (&[b"Digest a=b"], ANOTHER),
        (&[b"Bearert.o.k"], ANOTHER),
        (&[b"Bearer\tt.o.k"], UNREADABLE),
        (&[b"Bearer t.o.k, Bearer x"], UNREADABLE),
        (&[b"Bearer t o k"], UNREADABLE),
        (&[b"Bearer t\xff"], UNREADABLE),
        (&[b"bearer \"t\""], UNREADABLE),
        (&[b"Bearer t", b"Bearer t"], REPEATED),
        (&[b"Basic dTpw", b"Bearer t"], REPEATED),
    ];
    for (lines, expected) in cases {
        for auth in ["a", "[a, none]"] {
            assert_eq!(
                decided(auth, lines, &somebody()),
                (expected.into(), vec![]),
                "{lines:?}"
            );
        }
        // Nobody asked for it, so nobody looks at it.
        assert_eq!(decided("none", lines, &somebody()).0, "anonymous");
    }
}

#[test]
fn points_at_lists_that_make_no_sense() {
    let cases = [
        ("[none, a]", "r.yaml:1:2: `none` stands alone or last"),
        ("[a, none, none]", "r.yaml:1:5: `none` stands alone or last"),
        (
            "agan",
            "r.yaml:1:1: unknown authenticator `agan`, did you mean `again`?",
        ),
        ("[a, a]", "`a` would never be asked: the tokens of its issuer go to `a`"),
        (
            "[either, carried]",
            "r.yaml:1:10: `carried` would never be asked: the tokens of its issuer go to `either`",
        ),
        (
            "[b, a, again]",
            "r.yaml:1:8: `again` would never be asked: the tokens of its issuer go to `a`\n  r.yaml:1:5: which stands here",
        ),
        ("[]", "say who may call"),
        ("{ a: b }", "expected a text, found a map"),
    ];
    for (auth, expected) in cases {
        let found = compiled(auth).1;
        assert!(found.len() == 1 && found[0].contains(expected), "{auth}: {found:?}");
    }
    for auth in ["[a, b, none]", "none", "[a, carried]", "[carried, either]"] {
        assert_eq!(compiled(auth).1, Vec::<String>::new(), "{auth}");
    }
}

#[test]
fn asks_those_that_take_tokens_from_where_one_stood() {
    let cookie = |line: &'static [u8]| Lines(http::header::COOKIE, vec![line]);
    let asked = |auth: &str, headers: &Lines| judged(auth, &Method::GET, headers, &somebody()).1;
    // By their place in the file: a is 0, carried 3, either 4.
    assert_eq!(asked("[a, b, carried]", &cookie(b"t=x.y")), ["[3] x.y"]);
    assert_eq!(asked("[b, either]", &cookie(b"t=x.y")), ["[4] x.y"]);
    let line = Lines(http::header::AUTHORIZATION, vec![b"Bearer x.y"]);
    assert_eq!(asked("[carried, b, either]", &line), ["[1, 4] x.y"]);
    assert_eq!(asked("carried", &line), Vec::<String>::new());
    let said = |auth: &str, headers: &Lines| judged(auth, &Method::GET, headers, &somebody()).0;
    assert_eq!(said("[carried, none]", &line), UNREADABLE);
    assert_eq!(said("[carried, none]", &cookie(b"u=x")), "anonymous");
    assert_eq!(said("a", &cookie(b"t=x.y")), MISSING);
    let places = |auth: &str| {
        let load = Load::new();
        sources(&load.text("r.yaml", auth).unwrap(), &three()).into_vec()
    };
    assert_eq!(
        places("[carried, b, none]"),
        [Source::Cookie("t".into()), Source::Authorization]
    );
    assert_eq!(places("[nobody, none]"), []);
}

#[test]
fn another_site_cannot_make_a_cookie_speak() {
    struct Both(&'static str);
    impl Headers for Both {
        fn first(&self, name: &HeaderName) -> Option<&[u8]> {
            match name.as_str() {
                "cookie" => Some(b"t=x.y"),
                "sec-fetch-site" => Some(self.0.as_bytes()),
                _ => None,
            }
        }

        fn is_repeated(&self, _: &HeaderName) -> bool {
            false
        }
    }
    let said = |method, site| judged("either", method, &Both(site), &somebody()).0;
    assert_eq!(said(&Method::POST, "cross-site"), "403 cross-site ");
    assert_eq!(said(&Method::POST, "same-origin"), "u1 calls");
    assert_eq!(said(&Method::GET, "cross-site"), "u1 calls");
    let reads = |auth: &str| compiled(auth).0[0].policy.reads_headers().len();
    assert_eq!((reads("a"), reads("either")), (0, 2));
}

#[test]
fn a_told_credential_stands_where_the_route_looks() {
    struct Told(&'static str);
    impl Headers for Told {
        fn first(&self, _: &HeaderName) -> Option<&[u8]> {
            None
        }

        fn is_repeated(&self, _: &HeaderName) -> bool {
            false
        }

        fn credential(&self) -> Option<&'static str> {
            Some(self.0)
        }
    }
    let said = |auth: &str, word| judged(auth, &Method::GET, &Told(word), &somebody()).0;
    for word in ["bearer", "header", "cookie", "query"] {
        for auth in ["a", "carried", "either", "[b, carried, none]"] {
            assert_eq!(said(auth, word), "u1 calls", "{word} {auth}");
        }
        assert_eq!(said("none", word), "anonymous");
    }
    assert_eq!(said("carried", "absent"), MISSING);
    assert_eq!(said("carried", "repeated"), REPEATED);
    assert_eq!(said("carried", "unreadable"), UNREADABLE);
}

//! A real OpenID provider that others wrote and certified.

use crate::support::{Gateway, Provider, Reply, Upstream, fill};

const YAML: &str = "
upstreams:
  origin: { endpoints: [$upstream] }
authenticators:
  customer:
    jwt:
      issuer: $issuer
      audience: mobile-bank
      algorithms: [RS256, PS256, ES256, EdDSA]
      jwks: discover
      typ: at+jwt
routes:
  read: { match: GET /read, auth: customer, scopes: [transfer:read], forward: { x-user: principal.sub }, upstream: origin }
  write: { match: GET /write, auth: customer, scopes: [transfer:write], upstream: origin }
";

#[test]
fn believes_what_a_certified_provider_issues_also_after_it_changed_its_keys() {
    let mut provider = Provider::start();
    let upstream = Upstream::http1(|seen| Reply::text(seen.header("x-user").unwrap_or_default()));
    let yaml = fill(
        YAML,
        &[("upstream", &upstream.address()), ("issuer", &provider.issuer())],
    );
    let gateway = Gateway::start(&yaml);
    let get = |path: &str, token: &str| gateway.get(path).bearer(token).send();
    let resources = ["urn:jwt:RS256", "urn:jwt:PS256", "urn:jwt:ES256", "urn:jwt:EdDSA"];
    let tokens = resources.map(|resource| provider.token(resource));
    for token in &tokens {
        assert_eq!(get("/read", token).expect(200).text(), "robot");
        let response = get("/write", token);
        response.expect_problem(403, "scope-missing");
        let challenge = "Bearer realm=\"gwanmun\", error=\"insufficient_scope\", scope=\"transfer:write\"";
        assert_eq!(response.header("www-authenticate"), Some(challenge));
    }
    get("/read", &provider.token("urn:opaque")).expect_problem(401, "token-malformed");
    provider.rotate();
    for resource in resources {
        assert_eq!(get("/read", &provider.token(resource)).expect(200).text(), "robot");
    }
    // Their keys are gone, and with them what was remembered.
    for token in &tokens {
        get("/read", token).expect_problem(401, "token-key-unknown");
    }
}

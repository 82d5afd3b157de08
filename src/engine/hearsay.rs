//! Headers in which a proxy tells the server behind it who calls, from where and for what. Servers believe them, so from a
//! caller they are hearsay: no rule reads them and no upstream gets them.
//!
//! What is merely somebody's own (`x-user`, `x-tenant`) is none: that the gate says it, a `forward:` has to tell.

use http::HeaderName;

/// Whether a header, its name in lower case, is hearsay.
///
/// The families are those of reverse proxies and single sign-on in front of applications, of Kubernetes (`x-remote-…`) and of
/// client certificates (RFC 9440 and its forerunners), and of the gates of Amazon, Cloudflare, Envoy, Google and Microsoft.
pub fn is_hearsay(name: &str) -> bool {
    const FAMILIES: [&str; 13] = [
        "forwarded",
        "original-",
        "auth-request-",
        "ssl-",
        "remote-",
        "client-cert",
        "tls-client-",
        "arr-clientcert",
        "amzn-mtls-",
        "amzn-oidc-",
        "goog-authenticated-user-",
        "goog-iap-",
        "ms-client-principal",
    ];
    let is_named = |rest: &str, families: &[&str]| families.iter().any(|family| rest.starts_with(family));
    match name.as_bytes().first() {
        Some(b'x') => name.strip_prefix("x-").is_some_and(|rest| {
            let single = matches!(
                rest,
                "real-ip"
                    | "client-ip"
                    | "client-dn"
                    | "client-s-dn"
                    | "client-i-dn"
                    | "client-verify"
                    | "cluster-client-ip"
                    | "envoy-external-address"
                    | "proxyuser-ip"
                    | "rewrite-url"
                    | "scheme"
                    | "url-scheme"
                    | "webauth-user"
            );
            single || is_named(rest, &FAMILIES)
        }),
        Some(b'r') => matches!(
            name,
            "remote-addr" | "remote-email" | "remote-groups" | "remote-name" | "remote-user"
        ),
        Some(b'c') => {
            name.starts_with("client-cert")
                || name.strip_prefix("cf-").is_some_and(|rest| {
                    is_named(rest, &["connecting-ip", "client-cert-", "access-authenticated-user-"])
                })
        }
        Some(b'f') => matches!(
            name,
            "forwarded" | "fastly-client-ip" | "fly-client-ip" | "front-end-https"
        ),
        Some(b's') => name.starts_with("ssl-client-"),
        Some(b't') => name == "true-client-ip",
        _ => false,
    }
}

/// Why a header cannot be read, in whatever place of the configuration, as the rest of a sentence; `None` where it can.
pub fn never_read(name: &HeaderName) -> Option<&'static str> {
    is_hearsay(name.as_str()).then_some("is taken from every request, as any caller could have written it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_what_proxies_say_from_what_is_merely_custom() {
        for name in [
            "forwarded",
            "x-forwarded",
            "x-forwarded-for",
            "x-forwarded-user",
            "x-forwarded-client-cert",
            "x-auth-request-groups",
            "x-original-url",
            "x-original-forwarded-for",
            "x-rewrite-url",
            "x-ssl-client-s-dn",
            "x-remote-user",
            "x-remote-extra-scopes",
            "x-real-ip",
            "x-cluster-client-ip",
            "x-client-cert-chain",
            "client-cert",
            "client-cert-chain",
            "ssl-client-verify",
            "remote-user",
            "cf-connecting-ip",
            "cf-connecting-ipv6",
            "cf-client-cert-verified",
            "cf-access-authenticated-user-email",
            "x-amzn-mtls-clientcert",
            "x-amzn-mtls-clientcert-subject",
            "x-amzn-oidc-identity",
            "x-arr-clientcert",
            "x-client-s-dn",
            "x-tls-client-cert",
            "x-goog-authenticated-user-email",
            "x-goog-iap-jwt-assertion",
            "x-ms-client-principal",
            "x-ms-client-principal-name",
            "x-envoy-external-address",
            "fastly-client-ip",
            "true-client-ip",
        ] {
            assert!(is_hearsay(name), "{name}");
        }
        for name in [
            "x",
            "x-",
            "x-user",
            "x-user-id",
            "x-client",
            "x-client-version",
            "x-request-id",
            "x-original",
            "x-auth",
            "x-api-key",
            "x-amzn-trace-id",
            "x-goog-request-params",
            "x-ms-version",
            "x-envoy-attempt-count",
            "cf-ray",
            "cf-access-client-id",
            "remote",
            "client",
            "content-type",
            "cookie",
            "range",
            "referer",
            "traceparent",
            "te",
            "forwarded-by-hand",
            "scheme",
        ] {
            assert!(!is_hearsay(name), "{name}");
        }
    }
}

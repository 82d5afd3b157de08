//! `client_certificate:` as written.

use std::collections::HashMap;
use std::sync::Arc;

use quick_cache::sync::Cache;
use rustls::crypto::ring;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;

use super::super::claimed::is_subject;
use super::{CertificateAuthenticator, REMEMBERED, Rights};
use crate::conf::{Certificates, Load, OneOrMany, Place, Spanned};
use crate::policies::access::ScopeName;

crate::settings! {
    /// How callers are known by the certificate that their connection was made with.
    pub struct ClientCertificateSettings {
        /// Who signs the callers' certificates.
        pub authorities: Certificates,
        /// Which of a certificate's names says who calls.
        pub subject: NameKind = NameKind::Dn,
        /// Who may call, by that name; without it everybody whose certificate is good.
        pub callers: Option<Vec<CallerSettings>>,
    }
}

crate::words! {
    /// A kind of name that a certificate may have.
    pub enum NameKind {
        /// The whole distinguished name, as RFC 4514 writes it: `CN=acme,O=Acme,C=KR`.
        Dn = "dn",
        /// The one DNS name.
        Dns = "dns",
        /// The one URI, such as a SPIFFE id.
        Uri = "uri",
        /// The one address of mail.
        Email = "email",
    }
}

crate::settings! {
    /// Somebody who may call.
    pub struct CallerSettings {
        /// The certificate's name, to the letter.
        subject: Spanned<String>,
        /// The roles of the caller.
        roles: Option<OneOrMany<Spanned<String>>>,
        /// The scopes that the caller has.
        scopes: Option<OneOrMany<ScopeName>>,
    }
}

impl ClientCertificateSettings {
    pub(in crate::policies::authn) fn compile(&self, name: &str, load: &Load) -> CertificateAuthenticator {
        CertificateAuthenticator {
            name: name.into(),
            issuer: format!("client-certificate:{name}").into(),
            authorities: self.authorities.all.clone(),
            verifier: self.verifier(load),
            kind: self.subject,
            callers: self.callers.as_ref().map(|callers| self.rights(callers, load)),
            proved: Cache::new(REMEMBERED),
        }
    }

    fn verifier(&self, load: &Load) -> Option<Arc<dyn ClientCertVerifier>> {
        let roots = Arc::new(self.authorities.roots(load)?);
        let provider = Arc::new(ring::default_provider());
        let built = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
        if let Err(error) = &built {
            let message = format!("callers cannot be judged by these: {error}");
            load.error(&self.authorities.place, message);
        }
        built.ok()
    }

    fn rights(&self, callers: &[CallerSettings], load: &Load) -> HashMap<Box<str>, Rights> {
        let mut all = HashMap::with_capacity(callers.len());
        let mut places: HashMap<Box<str>, &Place> = HashMap::with_capacity(callers.len());
        for CallerSettings { subject, roles, scopes } in callers {
            let Spanned { value, place } = subject;
            if !is_subject(value) {
                load.error(place, "the subject names nobody, or has control characters in it");
            } else if self.subject == NameKind::Dn && !value.contains('=') {
                let which = "`subject:` says which name is meant";
                let message = format!("`{value}` is no distinguished name such as `CN=acme,O=Acme`; {which}");
                load.error(place, message);
            }
            for role in roles.iter().flat_map(|roles| &roles.0) {
                if role.value.is_empty() || role.value.contains(char::is_control) {
                    load.error(&role.place, "a role names nothing, or has control characters in it");
                }
            }
            // Certificates have DNS names in any spelling.
            let key: Box<str> = match self.subject {
                NameKind::Dns => value.to_ascii_lowercase().into(),
                _ => value.as_str().into(),
            };
            if let Some(first) = places.insert(key.clone(), place) {
                load.error_with(place, "this caller is listed a second time", first, "first here");
            }
            let rights = Rights {
                roles: listed(roles, |role| role.value.as_str().into()),
                scopes: listed(scopes, |scope| scope.0.clone()),
            };
            all.insert(key, rights);
        }
        all
    }
}

fn listed<T>(names: &Option<OneOrMany<T>>, name: fn(&T) -> Box<str>) -> Vec<Box<str>> {
    names
        .as_ref()
        .map_or_else(Vec::new, |names| names.0.iter().map(name).collect())
}

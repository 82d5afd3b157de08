//! An explanation for programs: `{route, decision: {effect, status, policy, code, reopens_at}, rules: […], …}`.

use serde_json::{Map, Value, json};

use super::{Explanation, Next, ToldDecision};

impl Explanation {
    /// As JSON.
    pub fn json(&self) -> Value {
        let rules: Vec<Value> = self
            .rules
            .iter()
            .map(|rule| {
                json!({
                    "name": rule.name, "kind": rule.kind, "place": rule.place, "shadow": rule.shadow,
                    "verdict": rule.verdict, "why": rule.why, "because": rule.because,
                })
            })
            .collect();
        let matched = self.route.as_ref().map(|route| {
            {
                let parts = route.parts.iter();
                let parts: Vec<Value> = parts.map(|(name, call)| json!({ "name": name, "call": call })).collect();
                json!({ "name": route.name, "place": route.place, "matches": route.matches, "target": route.target, "parts": parts })
            }
        });
        let rivals = self.rivals.iter().map(|rival| {
            json!({
                "name": rival.name, "place": rival.place, "matches": rival.matches, "fits": rival.fits,
                "because": rival.because,
            })
        });
        let principal = self.principal.as_ref().map(|principal| {
            json!({
                "authenticator": &*principal.authenticator, "issuer": &*principal.issuer, "sub": &*principal.subject,
                "roles": principal.roles, "scopes": principal.scopes,
            })
        });
        let limits = self.limits.iter().map(|limit| {
            json!({
                "name": limit.name, "place": limit.place, "key": limit.key, "rate": limit.rate, "burst": limit.burst,
                "approximate": limit.approximate, "asked": limit.asked, "admitted": limit.admitted,
            })
        });
        let mut told = json!({
            "route": self.route.as_ref().map(|route| &route.name),
            "decision": self.decision.json(),
            "rules": rules,
            "matched": matched,
            "rivals": rivals.collect::<Vec<_>>(),
            "client": self.client,
            "address": self.address,
            "principal": principal,
            "limits": limits.collect::<Vec<_>>(),
            "answer": self.answer(),
            "next": self.next(),
        });
        if let (Some(record), Some(members)) = (self.record(), told.as_object_mut()) {
            members.insert("record".to_owned(), record);
        }
        told
    }

    fn answer(&self) -> Value {
        let mut headers: Map<String, Value> = Map::new();
        for (name, value) in &self.answer.headers {
            // Lines of one name are one list (RFC 9110 §5.3).
            match headers
                .get_mut(name)
                .and_then(|known| known.as_str().map(str::to_owned))
            {
                Some(known) => headers.insert(name.clone(), format!("{known}, {value}").into()),
                None => headers.insert(name.clone(), value.as_str().into()),
            };
        }
        json!({ "status": self.answer.status, "headers": headers, "body": self.answer.body })
    }

    fn next(&self) -> Value {
        match &self.next {
            Next::Never => Value::Null,
            Next::At { at, decision } => json!({ "at": at, "decision": decision.json() }),
            Next::NotBefore(at) => json!({ "not_before": at }),
        }
    }

    fn record(&self) -> Option<Value> {
        let record = self.record.as_ref()?;
        let differences = record
            .differences
            .iter()
            .map(|difference| json!({ "what": difference.what, "then": difference.then, "now": difference.now }));
        Some(json!({
            "n": record.n, "id": record.id, "at": record.at, "request": record.request, "status": record.status,
            "config": record.decided_under.as_ref().unwrap_or(&record.explained_under),
            "is_same_config": record.decided_under.is_none(),
            "differences": differences.collect::<Vec<_>>(),
            "lacking": record.lacking,
        }))
    }
}

impl ToldDecision {
    fn json(&self) -> Value {
        json!({
            "effect": self.effect,
            "status": self.status,
            "policy": self.policy,
            "code": self.code,
            "reopens_at": self.reopens_at,
        })
    }
}

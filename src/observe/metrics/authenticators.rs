//! Authenticators that have no keys to fetch: how many API keys there are, and how asking about tokens goes.

use std::sync::Arc;
use std::time::Duration;

use prometheus::{GaugeVec, IntCounterVec, IntGaugeVec, Opts, Registry};

/// How asking about tokens goes for one authenticator.
#[derive(Debug, Clone)]
pub struct IntrospectionFigures {
    /// The authenticator's name.
    pub authenticator: Arc<str>,
    /// How often its endpoint was asked, and how often that brought no answer.
    pub asked: (u64, u64),
    /// How long ago it last answered; `None` where it never has.
    pub age: Option<Duration>,
    /// Answers remembered.
    pub remembered: usize,
}

/// The metrics by name.
pub(super) struct Authenticators {
    api_keys: IntGaugeVec,
    asked: IntCounterVec,
    failures: IntCounterVec,
    age: GaugeVec,
    remembered: IntGaugeVec,
}

impl Authenticators {
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        const LABELS: &[&str] = &["authenticator"];
        let named = |name: &str, help: &str| Opts::new(format!("gwanmun_{name}"), help);
        let made = Self {
            api_keys: IntGaugeVec::new(named("api_keys", "API keys of an authenticator."), LABELS)?,
            asked: IntCounterVec::new(
                named(
                    "introspection_requests_total",
                    "Questions to the endpoint that tells whose tokens are.",
                ),
                LABELS,
            )?,
            failures: IntCounterVec::new(
                named(
                    "introspection_failures_total",
                    "Tokens of which that endpoint did not tell.",
                ),
                LABELS,
            )?,
            age: GaugeVec::new(
                named("introspection_age_seconds", "Since that endpoint last told of a token."),
                LABELS,
            )?,
            remembered: IntGaugeVec::new(
                named(
                    "introspection_remembered",
                    "Tokens of which is remembered what was told.",
                ),
                LABELS,
            )?,
        };
        registry.register(Box::new(made.api_keys.clone()))?;
        registry.register(Box::new(made.asked.clone()))?;
        registry.register(Box::new(made.failures.clone()))?;
        registry.register(Box::new(made.age.clone()))?;
        registry.register(Box::new(made.remembered.clone()))?;
        Ok(made)
    }

    /// Shows how many keys each authenticator has, and none of those that are gone.
    pub fn show_api_keys<'a>(&self, all: impl Iterator<Item = (&'a str, usize)>) {
        self.api_keys.reset();
        for (name, count) in all {
            self.api_keys.with_label_values(&[name]).set(whole(count));
        }
    }

    /// Shows how asking goes for all authenticators, and none of those that are gone.
    pub fn show_introspection(&self, all: impl Iterator<Item = IntrospectionFigures>) {
        self.asked.reset();
        self.failures.reset();
        self.age.reset();
        self.remembered.reset();
        for figures in all {
            let name = &[&*figures.authenticator];
            let (asked, failed) = figures.asked;
            self.asked.with_label_values(name).inc_by(asked);
            self.failures.with_label_values(name).inc_by(failed);
            self.remembered.with_label_values(name).set(whole(figures.remembered));
            if let Some(age) = figures.age {
                self.age.with_label_values(name).set(age.as_secs_f64());
            }
        }
    }
}

fn whole(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

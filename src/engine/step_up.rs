//! A login that would do, where the one that there was will not (RFC 9470).

use std::time::Duration;

use http::HeaderValue;

use super::Bearer;

/// What a login has to be. A caller whose login is not is challenged to log in again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepUp {
    /// The contexts of authentication of which one will do, the preferred one first; any where none is named. Each can stand
    /// in a quoted challenge.
    pub acr: Vec<Box<str>>,
    /// How long ago it may have been, in whole seconds; however long where nothing is said.
    pub max_age: Option<Duration>,
}

impl StepUp {
    /// What satisfies both: the contexts that both name, in the order of this one, and the shorter age. Where they have no
    /// context in common no login would do, and those of this one are asked for.
    pub fn and(&self, other: &Self) -> Self {
        let mut acr = match self.acr.is_empty() {
            true => other.acr.clone(),
            false => self.acr.clone(),
        };
        if acr.iter().any(|context| other.acr.contains(context)) {
            acr.retain(|context| other.acr.contains(context));
        }
        Self {
            acr,
            max_age: match (self.max_age, other.max_age) {
                (Some(own), Some(others)) => Some(own.min(others)),
                (own, others) => own.or(others),
            },
        }
    }

    /// Whether some login satisfies both.
    pub fn agrees_with(&self, other: &Self) -> bool {
        let is_any = self.acr.is_empty() || other.acr.is_empty();
        is_any || self.acr.iter().any(|context| other.acr.contains(context))
    }

    /// `WWW-Authenticate` as RFC 9470 §3 has it.
    pub fn challenge(&self) -> HeaderValue {
        let mut challenge = Bearer::error("insufficient_user_authentication")
            .with("error_description", "a stronger or more recent login is needed");
        if !self.acr.is_empty() {
            challenge = challenge.with("acr_values", &self.acr.join(" "));
        }
        if let Some(age) = self.max_age {
            challenge = challenge.with("max_age", &age.as_secs().to_string());
        }
        challenge.value()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn step_up(acr: &[&str], max_age: Option<u64>) -> StepUp {
        StepUp {
            acr: acr.iter().map(|context| Box::from(*context)).collect(),
            max_age: max_age.map(Duration::from_secs),
        }
    }

    #[test]
    fn asks_for_what_satisfies_all() {
        let any = step_up(&[], Some(600));
        let strong = step_up(&["hwk", "otp", "sms"], None);
        let both = any.and(&strong).and(&step_up(&["otp", "hwk"], Some(60)));
        assert_eq!(both, step_up(&["hwk", "otp"], Some(60)));
        // Nothing will do for both: the first is asked for.
        let clash = step_up(&["otp"], None).and(&step_up(&["hwk"], Some(5)));
        assert_eq!(clash, step_up(&["otp"], Some(5)));
        assert!(!step_up(&["otp"], None).agrees_with(&step_up(&["hwk"], None)));
        assert!(any.agrees_with(&strong) && strong.agrees_with(&step_up(&["otp"], None)));
    }

    #[test]
    fn challenges_as_the_rfc_has_it() {
        let described = "Bearer realm=\"gwanmun\", error=\"insufficient_user_authentication\", \
                         error_description=\"a stronger or more recent login is needed\"";
        for (asked, rest) in [
            (
                step_up(&["otp", "hwk"], Some(300)),
                ", acr_values=\"otp hwk\", max_age=\"300\"",
            ),
            (step_up(&["otp"], None), ", acr_values=\"otp\""),
            (step_up(&[], Some(5)), ", max_age=\"5\""),
        ] {
            assert_eq!(asked.challenge(), format!("{described}{rest}").as_str());
        }
    }
}

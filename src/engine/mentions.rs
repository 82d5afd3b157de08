//! What a rule looks at, for those who try everything that may turn its verdict.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method};
use ipnet::IpNet;
use jiff::tz::TimeZone;
use serde_json::Value;

/// What the verdicts of some rules may depend on, as it is written in them.
///
/// A request that differs from another in nothing but what is not mentioned here gets the same verdict.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Mentions {
    /// Windows, `calendar.window`.
    pub windows: Vec<Arc<str>>,
    /// Roles.
    pub roles: Vec<String>,
    /// Scopes that one of several may be held of.
    pub scopes: Vec<String>,
    /// Scopes that must be held together.
    pub required_scopes: Vec<Vec<String>>,
    /// Claims by path, with the values they are compared to; without any where only their absence matters.
    pub claims: Vec<(String, Vec<Value>)>,
    /// How long ago a login may have been.
    pub login_ages: Vec<Duration>,
    /// Networks, those of one condition together.
    pub networks: Vec<Vec<IpNet>>,
    /// Clients.
    pub clients: Vec<String>,
    /// Methods.
    pub methods: Vec<Method>,
    /// Headers, with the values they are compared to.
    pub headers: Vec<(HeaderName, Vec<String>)>,
    /// Query parameters, with the values they are compared to.
    pub query: Vec<(String, Vec<String>)>,
    /// Zones on whose clocks `now` stands.
    pub clocks: Vec<TimeZone>,
    /// What cannot be taken apart, in words that are the same where its meaning is: nobody knows which facts would matter.
    pub opaque: Vec<String>,
    /// Whether what cannot be taken apart refuses everybody who is not known, for sure.
    pub refuses_strangers: bool,
}

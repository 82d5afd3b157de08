//! What may be done when, and by whom: calendars, and policies and scopes that refuse.
//!
//! - [`Calendars`]: `calendars:`, named windows in a time zone.
//! - [`Policies`]: `policies:`, each a `deny` or `require` over conditions, or a `step_up` over the login; [`POLICIES`] puts
//!   them on routes by name.
//! - [`SCOPES`]: the route's `scopes:`, all of which the caller must hold.

mod calendar;
#[cfg(test)]
mod calendar_tests;
mod check;
mod civil;
mod claim;
mod condition;
mod days;
mod expression;
mod holidays;
mod intervals;
mod login;
mod policy;
mod reply;
mod scopes;
mod until;
mod when;
mod window;

pub use calendar::{Calendar, Calendars};
pub use civil::midnight;
pub use holidays::Holidays;
pub use policy::{KIND as POLICIES, Policies};
pub use scopes::KIND as SCOPES;
pub(super) use scopes::Scope as ScopeName;
pub use when::When;
pub use window::{Opening, WindowRef};

#[cfg(test)]
mod login_tests;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

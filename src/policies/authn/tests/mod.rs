mod api_keys;
mod certificates;
mod introspection;
pub(super) mod kit;
mod live;
mod policy;
mod rotation;
mod settings;
mod tokens;

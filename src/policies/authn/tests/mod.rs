mod kit;
mod live;
mod policy;
mod rotation;
mod settings;
mod tokens;

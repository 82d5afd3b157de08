mod kit;
mod live;
mod policy;
mod settings;
mod tokens;

//! Gwanmun: an edge API gateway.

pub mod demo;

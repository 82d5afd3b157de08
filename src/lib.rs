//! Gwanmun: an edge API gateway.

//! Whether sockets can be opened where a route lets callers open them.

use http::Method;

use super::Route;
use super::routes::TARGETS;
use crate::conf::{Load, Named, Node, Read, Value};
use crate::policies::websocket;
use crate::routing::Match;
use crate::upstreams::{Protocol, Upstream};

/// Reports routes that let callers open sockets where none can be opened.
pub(super) fn check(routes: &Named<Node>, upstreams: &[Upstream], load: &Load) {
    for (_, node) in &routes.0 {
        let Some(socket) = node.get(websocket::KIND.name) else {
            continue;
        };
        if bool::read(socket, &Load::new()) != Some(true) {
            continue;
        }
        let target = TARGETS.into_iter().find_map(|key| Some((key, node.get(key)?)));
        match target {
            Some(("upstream", upstream)) => {
                let is_meant =
                    |known: &&Upstream| matches!(&upstream.value, Value::Scalar { text, .. } if **text == *known.name);
                let known = upstreams.iter().find(is_meant);
                if known.is_some_and(|known| known.settings.protocol == Protocol::Http2) {
                    let message = "sockets are opened over HTTP/1.1 alone";
                    load.error_with(&socket.place, message, &upstream.place, "this upstream speaks HTTP/2");
                }
            }
            Some((key, _)) => load.error(
                &socket.place,
                format!("`websocket` opens nothing here: it stands with `upstream`, not with `{key}`"),
            ),
            None => {}
        }
        let matches = node.get("match").and_then(|node| Match::read(node, &Load::new()));
        if matches.is_some_and(|matches| matches.methods.fit(&Method::GET).is_none()) {
            load.error(
                &socket.place,
                "a socket is opened by GET, which this route does not match",
            );
        }
    }
}

impl Route {
    /// Whether callers may open sockets through it.
    pub fn has_sockets(&self) -> bool {
        self.rules.iter().any(|rule| rule.kind == websocket::KIND.name)
    }
}

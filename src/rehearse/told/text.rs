//! An explanation for people.

use super::{Explanation, Next, ToldDecision, ToldRecord, ToldRule};
use crate::conf::one_line;
use crate::rehearse::Paint;

/// So many routes beside the one taken are named.
const MAX_RIVALS: usize = 5;
/// Longer bodies are cut.
const MAX_BODY: usize = 2000;

impl Explanation {
    /// As text.
    pub fn text(&self, paint: Paint) -> String {
        let mut lines = Vec::new();
        if let Some(record) = &self.record {
            record.add_to(&mut lines, paint);
        }
        match &self.route {
            Some(route) => {
                lines.push(format!("  route      {} ({})", paint.bold(&route.name), route.place));
                lines.push(format!("  matches    {}", route.matches));
                lines.push(format!("  target     {}", route.target));
                let parts = route.parts.iter();
                lines.extend(parts.map(|(name, words)| format!("    part     {name}: {words}")));
            }
            None => lines.push("  route      none".to_owned()),
        }
        self.add_rivals(&mut lines, paint);
        if !self.client.is_empty() {
            lines.push(format!("  client     {}", self.client));
        }
        lines.push(format!("  address    {}", self.address));
        lines.push(format!("  principal  {}", self.caller()));
        lines.push(String::new());
        lines.push("rules, the defaults and the route's own, in the order they are judged".to_owned());
        self.rules.iter().for_each(|rule| rule.add_to(&mut lines, paint));
        lines.push(String::new());
        self.decision.add_to(&mut lines, paint);
        lines.push(String::new());
        self.add_answer(&mut lines);
        lines.push(String::new());
        lines.push(self.changes(paint));
        lines.push(String::new());
        lines.join("\n")
    }

    fn add_rivals(&self, lines: &mut Vec<String>, paint: Paint) {
        for (at, rival) in self.rivals.iter().take(MAX_RIVALS).enumerate() {
            let head = if at == 0 { "beside it" } else { "" };
            let word = if rival.fits { "next best" } else { "not taken" };
            let line = format!(
                "  {head:10} {} ({}), {}",
                paint.bold(&rival.name),
                rival.place,
                rival.matches
            );
            lines.push(line);
            lines.push(format!("               {word}: {}", rival.because));
        }
        if let Some(more) = self.rivals.len().checked_sub(MAX_RIVALS).filter(|more| *more > 0) {
            lines.push(format!("             and {more} more"));
        }
    }

    fn caller(&self) -> String {
        let Some(principal) = &self.principal else {
            return "anonymous".to_owned();
        };
        // Claims and records may hold what a terminal would obey.
        let mut caller = format!("`{}` by `{}`", one_line(&principal.subject), principal.authenticator);
        for (word, names) in [("roles", &principal.roles), ("scopes", &principal.scopes)] {
            if !names.is_empty() {
                caller.push_str(&format!(", {word} {}", one_line(&names.join(" "))));
            }
        }
        caller
    }

    fn add_answer(&self, lines: &mut Vec<String>) {
        lines.push(match self.answer.status {
            Some(status) => format!("what the caller gets: {status}"),
            None => "what the caller gets: the answer of the service, to which the gate adds".to_owned(),
        });
        let headers = self.answer.headers.iter();
        lines.extend(headers.map(|(name, value)| format!("  {name}: {}", one_line(value))));
        if let Some(body) = self.answer.body.as_deref().filter(|body| !body.is_empty()) {
            let cut = body.get(..body.floor_char_boundary(MAX_BODY)).unwrap_or_default();
            lines.push(String::new());
            lines.extend(cut.lines().map(|line| format!("  {}", one_line(line))));
            if cut.len() < body.len() {
                lines.push(format!("  … of {} bytes", body.len()));
            }
        }
    }

    fn changes(&self, paint: Paint) -> String {
        match &self.next {
            Next::Never => "no window and no end of a freeze changes this".to_owned(),
            Next::At { at, decision } => format!("changes at {}: {}", paint.bold(at), decision.in_short()),
            Next::NotBefore(at) => format!("no window changes this before {at}; later ones were not looked at"),
        }
    }
}

impl ToldDecision {
    fn add_to(&self, lines: &mut Vec<String>, paint: Paint) {
        let status = self.status.map(|status| format!(" {status}")).unwrap_or_default();
        let Some(code) = &self.code else {
            return lines.push(paint.green(&format!("allow{status}")));
        };
        lines.push(paint.red(&format!("{}{status} {code}", self.effect)));
        if let (Some(policy), Some(place)) = (&self.policy, &self.place) {
            lines.push(format!("  by         {policy} ({place})"));
        }
        let details = self.details.iter();
        lines.extend(details.map(|detail| format!("  detail     {detail}")));
        lines.extend(self.allow.iter().map(|allow| format!("  methods    {allow}")));
        lines.extend(self.reopens_at.iter().map(|at| format!("  reopens    {at}")));
    }
}

impl ToldRule {
    fn add_to(&self, lines: &mut Vec<String>, paint: Paint) {
        let verdict = format!("{:13}", self.verdict);
        let verdict = match self.verdict {
            "refuses" | "challenges" => paint.red(&verdict),
            "would refuse" => paint.yellow(&verdict),
            "passes" => paint.green(&verdict),
            _ => verdict,
        };
        let kind = match self.kind == self.name {
            true => String::new(),
            false => format!("{} ", self.kind),
        };
        let shadow = if self.shadow {
            ", in shadow: it changes no answer"
        } else {
            ""
        };
        lines.push(format!(
            "  {verdict}  {kind}{} ({}){shadow}",
            paint.bold(&self.name),
            self.place
        ));
        let because = match (&self.why, self.because.as_slice()) {
            (Some(why), []) => vec![why.clone()],
            (_, because) => because.to_vec(),
        };
        lines.extend(
            because
                .iter()
                .map(|line| format!("                   {}", one_line(line))),
        );
    }
}

impl ToldRecord {
    fn add_to(&self, lines: &mut Vec<String>, paint: Paint) {
        let request = one_line(&self.request);
        lines.push(format!(
            "record {} of {}: {request}, answered {}",
            self.n, self.at, self.status
        ));
        match &self.decided_under {
            None => lines.push(format!(
                "  decided under this configuration, {}",
                short(&self.explained_under)
            )),
            Some(then) => lines.push(paint.yellow(&format!(
                "  decided under another configuration: {} then, {} now",
                one_line(short(then)),
                short(&self.explained_under)
            ))),
        }
        match self.differences.as_slice() {
            [] => lines.push("  the decision is the recorded one".to_owned()),
            differences => {
                lines.push(paint.yellow("  the decision is another than the recorded one"));
                lines.extend(
                    differences
                        .iter()
                        .map(|difference| format!("    {}", one_line(&difference.to_string()))),
                );
            }
        }
        let lacking = self.lacking.iter();
        lines.extend(lacking.map(|lacking| paint.yellow(&format!("  not recorded: {}", one_line(lacking)))));
        lines.push(String::new());
    }
}

fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}

//! Whatever two configurations say: a line is true of all whom it names, and names all whom it is about.
//!
//! Lines are read as people read them, from their words, and each is decided again by the engine.

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use proptest::prelude::*;
use proptest::sample::subsequence;
use serde_json::json;

use super::super::compare::{Change, Line};
use super::super::sides::Refusal;
use super::samples::cases;
use super::{FROM, compare, compiled};
use crate::policies::access::midnight;
use crate::rehearse::{self, Paint, ToldDecision};
use crate::snapshot::{Asked, Snapshot};

const ROLES: [&str; 3] = ["a", "b", "c"];
const REQUESTS: [&str; 3] = ["GET /pay", "POST /pay", "GET /see"];
const DAYS: i64 = 7;

/// Who calls: with these roles, or without a credential.
type Caller = Option<Vec<&'static str>>;

fn condition() -> impl Strategy<Value = String> {
    let some =
        |words: &'static [&'static str]| subsequence(words, 1..=2).prop_map(|words| format!("[{}]", words.join(", ")));
    let windows = some(&["seoul.night", "seoul.work", "seoul.rest"]);
    prop_oneof![
        2 => windows.clone().prop_map(|windows| format!("during: {windows}")),
        1 => windows.prop_map(|windows| format!("outside: {windows}")),
        2 => some(&ROLES).prop_map(|roles| format!("roles: {roles}")),
        1 => some(&["GET", "POST"]).prop_map(|methods| format!("methods: {methods}")),
    ]
}

fn policy() -> impl Strategy<Value = String> {
    (
        prop_oneof![Just("deny"), Just("require")],
        condition(),
        prop::option::of(condition()),
        0..2_u8,
    )
        .prop_map(|(word, when, unless, code)| {
            let unless = unless.map(|unless| format!(", unless: {{ {unless} }}"));
            format!(
                "{word}: {{ {when} }}{}, reply: {{ code: C{code} }}",
                unless.unwrap_or_default()
            )
        })
}

fn configuration() -> impl Strategy<Value = String> {
    let auth = || prop_oneof![3 => Just("customer"), 1 => Just("[customer, none]")];
    ([policy(), policy()], auth(), prop::option::weighted(0.8, auth())).prop_map(|([p, q], auth, see)| {
        let route = |name: &str, matching: &str, auth: &str| {
            format!("  {name}: {{ match: '{matching}', auth: {auth}, policies: [p, q], upstream: one }}\n")
        };
        let see = see.map(|auth| route("see", "GET /see", auth));
        format!(
            "policies: {{ p: {{ {p} }}, q: {{ {q} }} }}\nroutes:\n{}{}",
            route("pay", "GET,POST /pay", auth),
            see.unwrap_or_default()
        )
    })
}

/// The roles that rules of the route name on either side: what else somebody holds is not said.
fn roles_named(sides: [&str; 2], route: &str) -> Vec<&'static str> {
    let has_route = |yaml: &&str| yaml.contains(&format!("  {route}: {{"));
    let lists = sides
        .into_iter()
        .filter(has_route)
        .flat_map(|yaml| yaml.split("roles: [").skip(1));
    let named: Vec<&str> = lists.filter_map(|rest| rest.split(']').next()).collect();
    let is_named = |role: &&str| named.iter().any(|list| list.split(", ").any(|one| one == *role));
    ROLES.into_iter().filter(is_named).collect()
}

fn caller() -> impl Strategy<Value = Caller> {
    prop::option::weighted(0.85, subsequence(&ROLES[..], 0..=3))
}

fn instant() -> impl Strategy<Value = Timestamp> {
    (0..DAYS * 1440).prop_map(|minute| start() + minute.minutes())
}

fn start() -> Timestamp {
    midnight(&TimeZone::get("Asia/Seoul").unwrap(), FROM)
}

fn decided(snapshot: &Snapshot, request: &str, caller: &Caller, at: Timestamp) -> ToldDecision {
    let mut asked = Asked::new(request, "192.0.2.1".parse().unwrap(), at).unwrap();
    if let Some(roles) = caller {
        let claims = json!({ "sub": "u1", "roles": roles });
        asked.hold(claims.as_object().unwrap().clone()).unwrap();
    }
    asked.strip(snapshot);
    rehearse::decide(snapshot, &asked).unwrap()
}

fn is_allowed(decision: &ToldDecision) -> bool {
    decision.effect == "allow"
}

fn is_refused_so(decision: &ToldDecision, refusal: &Refusal) -> bool {
    (decision.effect, decision.status) == (refusal.effect, Some(refusal.status))
        && decision.code.as_deref() == Some(&*refusal.code)
        && decision.policy.as_deref() == refusal.policy.as_deref()
}

/// Whether what was decided changed as the line says.
fn is_changed_so(line: &Line, before: &ToldDecision, after: &ToldDecision) -> bool {
    match &line.change {
        Change::Closed(refusal) => is_allowed(before) && is_refused_so(after, refusal),
        Change::Opened(refusal) => is_refused_so(before, refusal) && is_allowed(after),
        Change::Refused(was, is) => is_refused_so(before, was) && is_refused_so(after, is),
        Change::Answered(..) => is_allowed(before) && is_allowed(after),
    }
}

/// Whether `GET,POST /pay` names the request.
fn names_request(line: &Line, request: &str) -> bool {
    let (method, path) = request.split_once(' ').unwrap();
    line.requests.iter().any(|named| {
        let (methods, of) = named.split_once(' ').unwrap();
        of == path && methods.split(',').any(|named| named == method)
    })
}

/// Whether all sets of roles are told, and none only counted.
fn names_all(line: &Line) -> bool {
    !line.who.ends_with(" more")
}

fn names_caller(line: &Line, caller: &Caller) -> bool {
    let who = line.who.as_str();
    let (who, but) = who
        .split_once(", but not those with ")
        .or(who.split_once(" but those with "))
        .map_or((who, None), |(who, but)| (who, Some(but)));
    let (who, with) = who
        .split_once(" with ")
        .map_or((who, None), |(who, with)| (who, Some(with)));
    let is_meant = match who {
        "everybody" => true,
        "callers" | "callers by `customer`" => caller.is_some(),
        "anonymous callers" => caller.is_none(),
        other => panic!("whom does `{other}` name?"),
    };
    let holds = |words: &str| caller.as_ref().is_some_and(|roles| holds(words, roles));
    is_meant && with.is_none_or(holds) && !but.is_some_and(holds)
}

/// `role a or b but not c`, `roles a and b`, `only role a or no role`.
fn holds(words: &str, held: &[&str]) -> bool {
    let (words, not) = words
        .split_once(" but not ")
        .map_or((words, None), |(words, not)| (words, Some(not)));
    let any = |names: &str| names.split(" or ").any(|name| held.contains(&name));
    // In the order of `ROLES`, as they are held.
    let list = |names: &str| -> Vec<String> {
        let mut list: Vec<_> = names.replace(" and ", ", ").split(", ").map(str::to_owned).collect();
        list.sort_unstable();
        list
    };
    let is_held = match (words.strip_prefix("role "), words.strip_prefix("roles ")) {
        (Some(names), _) => any(names),
        (None, Some(names)) => list(names).iter().all(|name| held.contains(&name.as_str())),
        (None, None) => words
            .replace(", only", " or only")
            .replace(", no", " or no")
            .split(" or ")
            .any(|set| {
                let only = set.strip_prefix("only role ").or(set.strip_prefix("only roles "));
                match only {
                    Some(names) => list(names) == held,
                    None if set == "no role" => held.is_empty(),
                    None => panic!("which roles are `{words}`?"),
                }
            }),
    };
    is_held && !not.is_some_and(any)
}

fn names_instant(line: &Line, at: Timestamp) -> bool {
    line.pieces.is_empty() || line.pieces.iter().any(|(from, to)| (*from..*to).contains(&at))
}

/// Instants that the line names: where its times begin, and before they end.
fn instants(line: &Line, random: &[Timestamp]) -> Vec<Timestamp> {
    let edges = line.pieces.iter().flat_map(|(from, to)| [*from, *to - 1.seconds()]);
    let random = random.iter().copied().filter(|at| names_instant(line, *at));
    edges.take(3).chain(random).collect()
}

fn everybody(roles: &[&'static str]) -> Vec<Caller> {
    let sets = (0..1_usize << roles.len()).map(|set| {
        let held = roles.iter().enumerate().filter(|(at, _)| set >> at & 1 == 1);
        Some(held.map(|(_, role)| *role).collect())
    });
    [None].into_iter().chain(sets).collect()
}

proptest! {
    // Each is a search of its own, and asks the engine thousands of times.
    #![proptest_config(ProptestConfig { cases: cases().cases.div_ceil(2), ..cases() })]

    #[test]
    fn says_what_the_engine_decides_of_whom_it_decides_it(
        now in configuration(),
        next in configuration(),
        instants_of in prop::collection::vec(instant(), 4),
        samples in prop::collection::vec((0..REQUESTS.len(), caller(), instant()), 60),
    ) {
        let (was, is) = (compiled(&now), compiled(&next));
        let report = compare(&was, &is, Some(FROM), 7);
        let text = report.text(Paint::plain());
        let decide = |request: &str, caller: &Caller, at| {
            (decided(&was, request, caller, at), decided(&is, request, caller, at))
        };
        for line in report.lines.iter().filter(|line| names_all(line)) {
            let (mut named, mut changed) = (0, 0);
            for request in REQUESTS.into_iter().filter(|request| names_request(line, request)) {
                for caller in everybody(&roles_named([&now, &next], &line.route)).iter().filter(|caller| names_caller(line, caller)) {
                    for at in instants(line, &instants_of) {
                        let (before, after) = decide(request, caller, at);
                        named += 1;
                        // Who may not before and after is not counted among those who lose something.
                        if is_changed_so(line, &before, &after) {
                            changed += 1;
                        } else {
                            prop_assert!(
                                !is_allowed(&before) && !is_allowed(&after),
                                "{request} {caller:?} {at}: {before:?} {after:?}\n{line:?}\n{now}{next}{text}"
                            );
                        }
                    }
                }
            }
            // It may be about an hour of the week that was not hit.
            let is_about_somebody = || {
                let requests = || REQUESTS.into_iter().filter(|request| names_request(line, request));
                let callers = everybody(&roles_named([&now, &next], &line.route));
                let hours = (0..DAYS * 24).map(|hour| start() + hour.hours()).filter(|at| names_instant(line, *at));
                hours.into_iter().any(|at| {
                    requests().any(|request| {
                        callers.iter().filter(|caller| names_caller(line, caller)).any(|caller| {
                            let (before, after) = decide(request, caller, at);
                            is_changed_so(line, &before, &after)
                        })
                    })
                })
            };
            prop_assert!(named > 0 && (changed > 0 || is_about_somebody()), "{named} {line:?}\n{now}{next}{text}");
        }
        for (request, caller, at) in samples {
            let request = REQUESTS[request];
            let (before, after) = decide(request, &caller, at);
            if is_allowed(&before) == is_allowed(&after) || !report.is_complete() {
                continue;
            }
            let of_note = |route: &str| -> Caller {
                let named = roles_named([&now, &next], route);
                let held = caller.as_ref()?.iter().filter(|role| named.contains(role));
                Some(held.copied().collect())
            };
            let is_told = |line: &&Line| {
                names_request(line, request)
                    && (!names_all(line) || names_caller(line, &of_note(&line.route)))
                    && names_instant(line, at)
                    && is_changed_so(line, &before, &after)
            };
            prop_assert!(
                report.lines.iter().any(|line| is_told(&line)),
                "{request} {caller:?} {at}: {before:?} {after:?}\n{now}{next}{text}"
            );
        }
    }
}

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::time::Instant;

use super::*;
use crate::conf::Load;

fn program(text: &str) -> Program {
    Program::compile(text).unwrap()
}

fn run(text: &str, input: &str) -> Result<String, ReshapeFailure> {
    program(text).run(input)
}

fn made(text: &str, input: &str) -> String {
    run(text, input).unwrap_or_else(|failure| format!("{failure}"))
}

#[test]
fn makes_one_value_of_what_it_gets() {
    let body = r#"{"products":[{"id":7,"name":"Kettle","x":1},{"name":"Pot","id":8}],"z":null}"#;
    assert_eq!(
        made("{items: [.products[] | {id, name}]}", body),
        r#"{"items":[{"id":7,"name":"Kettle"},{"id":8,"name":"Pot"}]}"#
    );
    assert_eq!(made(".products | map(.name) | join(\", \")", body), r#""Kettle, Pot""#);
    assert_eq!(made("[.products[] | select(.id > 7) | .name]", body), r#"["Pot"]"#);
    assert_eq!(
        made(".products[0].id |= tostring | .products[0]", body),
        r#"{"id":"7","name":"Kettle","x":1}"#
    );
    assert_eq!(made(". as $all | {n: ($all.products | length)}", body), r#"{"n":2}"#);
    assert_eq!(made("if .z then 1 else \"none: \\(.z)\" end", body), r#""none: null""#);
    assert_eq!(made(".q.r.s // \"gone\"", body), r#""gone""#);
    assert_eq!(made("try error(\"x\") catch .", body), r#""x""#);
    assert_eq!(made(".products | sort_by(.name) | reverse | map(.id)", body), "[8,7]");
    assert_eq!(
        made("with_entries(select(.key != \"products\"))", body),
        r#"{"z":null}"#
    );
    assert_eq!(
        made("[.products[] as {$id, $name} | [$id, $name]]", body),
        r#"[[7,"Kettle"],[8,"Pot"]]"#
    );
    assert_eq!(made("[.products[].id] | add", body), "15");
    assert_eq!(
        made(".products[].name += \"!\" | [.products[].name]", body),
        r#"["Kettle!","Pot!"]"#
    );
    assert_eq!(
        made(
            "\"a, b,\" | [split(\", \"), split(\"\")[1:3], (\"\" | split(\"\"))]",
            body
        ),
        r#"[["a","b,"],[","," "],[]]"#
    );
    assert_eq!(
        made("{(.products[0].name): 1} + {b: @json \"\\([1])\"}", body),
        r#"{"Kettle":1,"b":"[1]"}"#
    );
}

#[test]
fn keeps_the_digits_of_what_it_does_not_compute_with() {
    for literal in [
        "90071992547409931.10",
        "1e400",
        "-0",
        "1.0",
        "9223372036854775808",
        "-9223372036854775809",
        "1E5",
        "0.10",
        "9223372036854775807",
    ] {
        let body = format!(r#"{{"b":[{literal}],"a":{literal}}}"#);
        assert_eq!(made(".", &body), body);
        assert_eq!(
            made("{x: .a, y: .b[0]}", &body),
            format!(r#"{{"x":{literal},"y":{literal}}}"#)
        );
        assert_eq!(made("map_values(.)", &body), body);
        assert_eq!(made("\"\\(.a)\" | tonumber", &body), literal);
        assert_eq!(made("[.a] | sort | .[0]", &body), literal);
    }
    assert_eq!(
        made("[.[] * 2]", "[1, 1.5, 9223372036854775807]"),
        "[2,3,18446744073709551614]"
    );
    assert_eq!(
        made("[.[0] / .[1], .[0] - .[1], .[0] % .[1], -.[0]]", "[7, 2]"),
        "[3.5,5,1,-7]"
    );
}

#[test]
fn keeps_the_order_of_members() {
    let body = r#"{"z":1,"a":2,"m":{"y":1,"b":2},"\u0000":"\ud83d\ude00\n"}"#;
    let same = r#"{"z":1,"a":2,"m":{"y":1,"b":2},"\u0000":"😀\n"}"#;
    assert_eq!(made(".", body), same);
    assert_eq!(
        made(".z |= . + 1 | .m.b = 3", body),
        r#"{"z":2,"a":2,"m":{"y":1,"b":3},"\u0000":"😀\n"}"#
    );
    assert_eq!(run(".z |= empty", body), Err(ReshapeFailure::Program));
}

#[test]
fn gives_exactly_one_value_or_fails() {
    for text in [
        ".[]",
        "empty",
        "1, 2",
        ".a",
        ".[0].x",
        "error(\"no\")",
        "1 / 0",
        "{(1): 2}",
        "\"\\(.)\" * 3",
        "[.] - [.]",
    ] {
        assert_eq!(run(text, "[1,2]"), Err(ReshapeFailure::Program), "{text}");
    }
    assert_eq!(run("[.[] | \"x\"[0:1]] | first", "[1]").unwrap(), r#""x""#);
}

fn faults(text: &str) -> Vec<String> {
    let load = Load::new();
    let node = load.text("t.yaml", text).unwrap();
    let program = Program::read(node.get("jq").unwrap(), &load);
    let found: Vec<String> = load
        .into_findings(Some(&node))
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(program.is_none(), !found.is_empty());
    found
}

#[test]
fn points_at_what_is_wrong() {
    for (text, start) in [
        ("jq: '{a: }'", "t.yaml:1:"),
        ("jq: '.a | frobnicate(1)'", "t.yaml:1:11: `frobnicate` is no function"),
        (
            "jq: '.a | lenght'",
            "t.yaml:1:11: unknown function `lenght`, did you mean `length`?",
        ),
        ("jq: '.a | map'", "t.yaml:1:11: `map` takes 1 arguments, not 0"),
        ("jq: '.a + $x'", "t.yaml:1:11: `$x` is no"),
        ("jq: |\n  .a |\n  env\n", "t.yaml:3:3: `env` is no function"),
        ("jq: '.a ¶'", "t.yaml:1:9: "),
        ("jq: '\"a'", "t.yaml:1:"),
        ("jq: '@base64 \"x\"'", "t.yaml:1:6: unknown format"),
        ("jq: ''", "t.yaml:1:"),
        ("jq: [1]", "t.yaml:1:5: expected a jq program"),
    ] {
        let found = faults(text);
        assert!(found.len() == 1 && found[0].starts_with(start), "{text}: {found:?}");
    }
    assert_eq!(faults("jq: '[foo, bar, baz]'").len(), 3);
    assert_eq!(faults(&format!("jq: '{}.{}'", "[".repeat(65), "]".repeat(65))).len(), 1);
    assert_eq!(faults(&format!("jq: '{}'", ".|".repeat(600) + ".")).len(), 1);
    assert_eq!(faults(&format!("jq: '{}.{}'", "[".repeat(64), "]".repeat(64))), [""; 0]);
}

#[test]
fn knows_nothing_that_loops_leaves_or_reads_what_is_outside() {
    for text in [
        "env",
        "$ENV",
        "input",
        "inputs",
        "now",
        "halt",
        "halt(0)",
        "halt_error",
        "debug",
        "stderr",
        "def f: f; f",
        "def f: 1+f; f",
        "range(1e12)",
        "[range(3)]",
        "recurse",
        "recurse(.[])",
        "..",
        "repeat(.)",
        "while(true; .)",
        "until(false; .)",
        "limit(3; repeat(1))",
        "reduce .[] as $x (0; . + $x)",
        "foreach .[] as $x (0; 1)",
        "label $x | break $x",
        "fromjson",
        "tojson | fromjson",
        "input_filename",
        "test(\"a\")",
        "sub(\"a\"; \"b\")",
        "splits(\"a\")",
        "split(\"a\"; \"g\")",
        "getpath([1])",
        "paths",
        "path(.a)",
        "del(.a)",
        "delpaths([])",
        "walk(.)",
        "ltrimstr",
        "strftime(\"x\")",
        "mktime",
        "import \"a\" as a; .",
        "include \"a\"; .",
        "contains(1)",
        "inside(1)",
        "indices(1)",
        "index(1)",
        "combinations",
        "gwanmun_step",
        "gwanmun_main",
        "@sh",
        "@html \"x\"",
        "splits",
        "getpath",
        "tojson(1)",
        "$__prog_args",
        "$__loc__",
        "input_line_number",
        "error_empty",
        "implode",
        "pow(2; 1000000)",
        ".a -= 1",
        ".a *= 2",
        "nth(1; .[])",
        "skip(1; .[])",
        "flatten",
        "transpose",
        "min_by_or_empty(.)",
    ] {
        assert!(Program::compile(text).is_err(), "{text}");
    }
}

#[test]
fn has_every_function_that_it_says_it_has() {
    for (name, arguments) in allowed::FUNCTIONS {
        let text = match arguments {
            0 => (*name).to_owned(),
            count => format!("{name}({})", vec!["."; *count].join("; ")),
        };
        assert!(Program::compile(&text).is_ok(), "{text}");
    }
}

#[test]
fn ends_whatever_it_is_told() {
    let body = format!("[{}0]", "1,".repeat(3000));
    let squares = format!(".[1] + 1 | {}", vec![". * ."; 60].join(" | "));
    let texts = format!("\"xxxxxxxx\" | {}", vec![". + ."; 100].join(" | "));
    let lists = format!(". | {} | length", vec![". + ."; 100].join(" | "));
    let nested = format!("{} | tojson | length", vec!["[., .]"; 100].join(" | "));
    let compared = format!("{} | . == .", vec!["[., .]"; 100].join(" | "));
    let doubled = format!("[{}] | length", vec!["(., .)"; 60].join(" | "));
    let updated = format!("({}) |= .", vec!["(., .)"; 60].join(" | "));
    let swallowed = format!("[({})?] | length", vec!["(., .)"; 60].join(" | "));
    let instead = format!("[{}] // 1 | length", vec!["(., .)"; 60].join(" | "));
    let escaped = format!("\"\\\"\" | {} | length", vec!["tojson"; 60].join(" | "));
    for text in [
        "[.[] as $a | .[] as $b | .[] as $c | .[] as $d | 1] | length",
        "[{a: .[], b: .[], c: .[]}] | length",
        "[.[] + .[] + .[]] | length",
        "[.[] | [1, 2, 3][.[]?, .[]?]] | length",
        "[. as $all | .[] | $all | sort] | length",
        "[. as $all | .[] | select($all == $all) | .[]?] | [. , .] | map(map(1)) | [.[][] | [.[]?]] | length",
        "[.[] | try (., .) catch 1 | (., .) | (., .) | (., .) | (., .) | (., .) | (., .) | (., .) | (., .) | (., .) | (., .)] | length",
        "all(.[]; [.[]?] | all(1)) | [(1, 2) | [.]] | 1",
        squares.as_str(),
        &texts,
        &lists,
        &nested,
        &compared,
        &doubled,
        &updated,
        &swallowed,
        &instead,
        &escaped,
    ] {
        let began = Instant::now();
        let outcome = program(text).run_counted(&body, 50_000);
        // Far more than the bound: a machine may be busy, but what does not end would not be over even then.
        assert!(began.elapsed().as_secs() < 60, "{text}");
        if let Ok(text) = outcome {
            assert!(text.len() < 64, "{text}");
        }
    }
    for text in [
        doubled.as_str(),
        &updated,
        &swallowed,
        &instead,
        &nested,
        &compared,
        &texts,
        &lists,
    ] {
        assert!(program(text).run_counted(&body, 50_000).is_err(), "{text}");
    }
}

#[test]
fn is_not_brought_down_by_what_it_gets() {
    let wide = format!("[{}0]", "{\"a\":[1,{}]},".repeat(20_000));
    assert_eq!(made("length", &wide), "20001");
    assert_eq!(made("map(.a?) | length", &wide), "20000");
    let many = format!("[{}]", vec!["."; 40].join(", "));
    assert!(run(&many, &wide).is_err());
    let deep = format!("{}{}", "[".repeat(64), "]".repeat(64));
    assert_eq!(made(".", &deep), deep);
    let deeper = vec!["[.]"; 100].join(" | ");
    assert_eq!(run(&deeper, &deep), Err(ReshapeFailure::TooLarge));
    assert_eq!(run(".[0] |= .", "{}"), Err(ReshapeFailure::Program));
}

#[test]
fn makes_no_more_text_than_it_may() {
    // A title of 1 MB and a thousand items: each program would hold a gigabyte, some at once.
    let items: Vec<String> = (0..1000).map(|id| format!(r#"{{"id":"{id}"}}"#)).collect();
    let body = format!(
        r#"{{"title":"{}","items":[{}]}}"#,
        "t ".repeat(1 << 19),
        items.join(",")
    );
    for text in [
        r#". as $r | [.items[] | {id, label: "\($r.title) \(.id)"}]"#,
        ". as $r | [.items[] | $r.title + .id] | length",
        ". as $r | [.items[] | $r.title | ascii_upcase] | length",
        ". as $r | [.items[] | $r.title | split(\" \")] | length",
        ". as $r | [.items[] | $r.title | split(\"\")] | length",
        ". as $r | [.items[] | [$r.title] | tojson] | length",
        ". as $r | [.items[] | @json \"\\($r.title)\"] | length",
        ". as $r | [.items[] | $r.title | try error({x: .}) catch tojson] | length",
        ". as $r | [.items[] | try $r.title.x catch .] | length",
        ". as $r | .items[].id += $r.title | length",
        ". as $r | .items | map(.id) | join($r.title) | length",
        ". as $r | [.items[] | $r.title] | add | length",
        ". as $r | [.items[] | $r.title] | tojson | length",
        ". as $r | [.items[] | $r.title] | \"\\(.)\" | length",
    ] {
        assert_eq!(run(text, &body), Err(ReshapeFailure::Program), "{text}");
    }
    // Passing it on is no making, and what fits is made.
    assert_eq!(made(". as $r | [.items[0:9][] | $r.title[0:9]] | length", &body), "9");
    assert_eq!(
        made(". as $r | [.items[0:5][] | \"\\($r.title)!\" | length] | add", &body),
        "5242885"
    );
    assert_eq!(
        made(".items | map(.id | tostring) | join(\", \") | length", &body),
        "4888"
    );
}

#[test]
fn counts_lists_that_functions_make() {
    let body = format!("[{}0]", "1,".repeat(20_000));
    for function in [
        "sort",
        "reverse",
        "sort_by(.)",
        "group_by(.)",
        "keys",
        ".[0:]",
        ".[1:20000]",
    ] {
        let text = format!(". as $all | [.[] | $all | {function}] | length");
        let outcome = program(&text).run_counted(&body, 200_000);
        assert_eq!(outcome, Err(ReshapeFailure::Program), "{text}");
        let twice = format!("[., . | {function}] | length");
        assert_eq!(
            program(&twice).run_counted(&body, 200_000).as_deref(),
            Ok("2"),
            "{function}"
        );
    }
}

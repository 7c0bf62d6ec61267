// SPDX-License-Identifier: Apache-2.0
//! What `--json` prints, held against `docs/answers.schema.json`: every value that any test here reads.
//!
//! Of JSON Schema this knows the words that the file uses, and it is stricter: a key that the schema does not name is a fault, so
//! that nothing is printed that is not written down.

use serde_json::{Map, Value, json};

use crate::consoles::{Session, bmc};
use crate::fake::first;
use crate::images::with_parts;
use crate::trays::{ok, ordinary};
use crate::world::World;

const FILE: &str = include_str!("../../../docs/answers.schema.json");

#[test]
fn every_command_prints_what_the_schema_says_of_it() {
    let world = World::with_rack();
    let image = with_parts(&world);
    let json = |args: &[&str]| world.json(args);
    // Who may do what.
    json(&["key", "list"]);
    json(&["key", "generate", "../new", "--no-passphrase"]);
    json(&["key", "fingerprint", "../new"]);
    json(&["key", "add", "../new.pub", "--role", "config"]);
    json(&["key", "remove", "../new.pub", "--role", "config"]);
    let add = ["trust", "rotate", "--add", "root=../new.pub"];
    json(&[&add[..], &["--threshold", "root=2"]].concat());
    assert_eq!(json(&["trust", "show"])["pending"]["version"], 4);
    json(&["trust", "sign", "--key", "../new"]);
    json(&["trust", "show"]);
    // What is signed and published.
    world.build("payload", "payload", 1);
    world.web(&world.artifact("artifact", b"page"));
    for kind in ["payload", "artifact", "bootstrap"] {
        let folder = format!("../{kind}");
        json(&[kind, "sign", &folder]);
        json(&[kind, "show", &folder]);
        json(&[kind, "verify", &folder]);
        json(&[kind, "publish", &folder]);
        json(&[kind, "pin", &folder]);
    }
    json(&["artifact", "prune", "--dry-run"]);
    json(&image);
    json(&["plan"]);
    world.commit("release");
    json(&["approve"]);
    json(&["check"]);
    // What trays say.
    first(&world, |request| match request {
        logs if logs.contains("/logs?") => ok(&match logs.contains("from=1") {
            true => json!({"v": 1, "lines": [], "next": "1", "lost": false}),
            false => json!({"v": 1, "next": "1", "lost": false, "lines": [
                {"timeMs": 1_790_000_000_000_u64, "stream": "stdout", "line": "one"},
                {"stream": "console", "line": "two"},
            ]}),
        }),
        other => ordinary(other),
    });
    for command in [&["status"][..], &["sync"], &["logs", "web"]] {
        json(command);
    }
    // The management plane.
    json(&["key", "issue", "ada", "--role", "operator"]);
    json(&["key", "enrol", "tray-1", "-o", "../vault"]);
    let says = |mut session: Session| {
        session.welcome(0);
        session.print(0, b"login: ");
        session.stay();
    };
    let (address, serving) = bmc(&world, "vault", vec![Box::new(says)]);
    let console = ["console", "tray-1", "--no-input", "--log", "../log"];
    let ends = ["--idle", "1", "--address", &address];
    assert_eq!(json(&[&console[..], &ends].concat())["offset"], 7);
    assert_eq!(world.read("log"), "login: ");
    serving.join().unwrap();
    // The rest.
    let board = ["--board", "qemu-x86_64"];
    json(&[&["rack", "add-tray", "tray-2"][..], &board].concat());
    let init = ["rack", "init", "../other", "--tray", "t"];
    let url = ["--repository", "https://git.example/other.git"];
    json(&[&init[..], &board, &url].concat());
    json(&["rack", "setup"]);
    json(&["schema"]);
    json(&["completion", "bash"]);
    json(&["man", "../man"]);
    json(&["--help"]);
    json(&["--version"]);
    world.json_code(&["status", "tray-9"]);

    let schema: Value = serde_json::from_str(FILE).unwrap();
    let described = schema["properties"].as_object().unwrap().keys();
    assert_eq!(world.all_checked(), described.cloned().collect());
}

/// Holds `answer` against what the schema says of the command in `args`, or of a failure, and says under which name.
pub(crate) fn check(args: &[&str], answer: &Value) -> String {
    let schema: Value = serde_json::from_str(FILE).unwrap();
    let failed = answer.get("error").is_some() && answer.get("causes").is_some();
    let name = match (failed, args) {
        (true, _) => "error".to_owned(),
        (false, [one, two, ..]) if schema["properties"].get(format!("{one} {two}")).is_some() => {
            format!("{one} {two}")
        }
        (false, [one, ..]) => (*one).to_owned(),
        (false, []) => panic!("no command"),
    };
    let rules = &schema["properties"][&name];
    assert!(!rules.is_null(), "no schema of {args:?}");
    if let Err(why) = valid(&schema, rules, answer) {
        panic!("racklet {args:?} --json: {why}\n{answer:#}");
    }
    name
}

fn valid(schema: &Value, rules: &Value, value: &Value) -> Result<(), String> {
    let Some(rules) = rules.as_object() else {
        return Ok(()); // `true`: anything
    };
    for (word, rule) in rules {
        match &**word {
            "title" | "description" | "format" | "default" | "examples" | "minimum" | "maximum" => {
            }
            "$ref" => {
                let place = rule.as_str().unwrap().trim_start_matches('#');
                valid(schema, schema.pointer(place).unwrap(), value)?;
            }
            "type" => {
                let mut types = rule
                    .as_array()
                    .map_or(std::slice::from_ref(rule), Vec::as_slice)
                    .iter();
                if !types.any(|one| is(one.as_str().unwrap(), value)) {
                    return Err(format!("{value} is not {rule}"));
                }
            }
            "const" if rule != value => return Err(format!("{value} is not {rule}")),
            "const" | "pattern" => {}
            "enum" => {
                if !rule.as_array().unwrap().contains(value) {
                    return Err(format!("{value} is none of {rule}"));
                }
            }
            "oneOf" | "anyOf" => {
                let tried: Vec<_> = rule
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|one| valid(schema, one, value))
                    .collect();
                if tried.iter().all(Result::is_err) {
                    return Err(format!("{value}: {tried:?}"));
                }
            }
            "items" => {
                for item in value.as_array().into_iter().flatten() {
                    valid(schema, rule, item)?;
                }
            }
            "required" => {
                for key in rule.as_array().unwrap() {
                    if value.is_object() && value.get(key.as_str().unwrap()).is_none() {
                        return Err(format!("{key} is missing"));
                    }
                }
            }
            "properties" | "additionalProperties" => {}
            other => return Err(format!("this test does not know the word {other:?}")),
        }
    }
    let nothing = Map::new();
    let properties = rules
        .get("properties")
        .map_or(&nothing, |all| all.as_object().unwrap());
    let rest = rules.get("additionalProperties");
    if properties.is_empty() && rest.is_none() {
        return Ok(());
    }
    for (key, value) in value.as_object().into_iter().flatten() {
        match (properties.get(key), rest) {
            (Some(rule), _) | (None, Some(rule)) if *rule != Value::Bool(false) => {
                valid(schema, rule, value).map_err(|why| format!("{key}: {why}"))?;
            }
            _ => return Err(format!("the schema does not know {key:?}")),
        }
    }
    Ok(())
}

fn is(name: &str, value: &Value) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    }
}

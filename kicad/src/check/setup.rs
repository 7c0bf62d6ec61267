// SPDX-License-Identifier: Apache-2.0
//! The project's own files as KiCad reads its rules from them: what they lack or allow, KiCad does not miss. Nothing is excluded, no
//! severity lowered, each class as wide as its nets' current asks, everything else as the design gives it.

use std::{fs, path::Path};

use serde_json::Value;

use super::Fault;
use crate::{
    circuits::classes::width_for,
    cli::Project,
    design::{Design, SIGNAL},
    pcb::rules::rules,
    project,
};

/// What is wrong with the project's file, its rules and its tables of libraries.
#[must_use]
pub fn faults(project: &Project, design: &Design) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (name, meant) in project::files(design) {
        let path = project.folder.join(&name);
        if name.ends_with(".kicad_pro") {
            faults.extend(settings(&name, &path, &meant, design));
        } else {
            faults.extend(same_lines(&name, &path, &meant));
        }
    }
    if project.file("kicad_pcb").is_file() {
        let name = format!("{}.kicad_dru", project.name);
        faults.extend(same_lines(
            &name,
            &project.file("kicad_dru"),
            &rules(design),
        ));
    }
    faults
}

fn missing(name: &str) -> Fault {
    Fault::at(name, "is missing: KiCad would take rules of its own")
}

fn same_lines(name: &str, path: &Path, meant: &str) -> Option<Fault> {
    let Ok(found) = fs::read_to_string(path) else {
        return Some(missing(name));
    };
    let (mut is, mut should) = (found.lines(), meant.lines());
    for number in 1.. {
        match (is.next(), should.next()) {
            (None, None) => break,
            (is, should) if is == should => {}
            (is, should) => {
                let [is, should] = [is, should].map(|it| it.unwrap_or("nothing").trim());
                let what = format!("line {number} is `{is}`, not `{should}`");
                return Some(Fault::at(name, what));
            }
        }
    }
    None
}

fn settings(name: &str, path: &Path, meant: &str, design: &Design) -> Vec<Fault> {
    let Ok(found) = fs::read_to_string(path) else {
        return vec![missing(name)];
    };
    let found: Value = match serde_json::from_str(&found) {
        Ok(value) => value,
        Err(error) => return vec![Fault::at(name, format!("is not JSON: {error}"))],
    };
    let meant: Value = serde_json::from_str(meant).expect("the project's file is made as JSON");
    let mut faults = Vec::new();
    allowances(name, "", &found, &mut faults);
    faults.extend(classes(&found, design));
    differences(name, "", &found, &meant, &mut faults);
    faults
}

/// Exclusions and lowered severities, wherever they stand.
fn allowances(name: &str, at: &str, found: &Value, faults: &mut Vec<Fault>) {
    for (key, value) in found.as_object().into_iter().flatten() {
        let here = format!("{at}{key}");
        if key.ends_with("exclusions") && value.as_array().is_none_or(|it| !it.is_empty()) {
            faults.push(Fault::at(name, format!("{here}: a finding is excluded")));
        } else if key.ends_with("severities") {
            for (rule, severity) in value.as_object().into_iter().flatten() {
                if severity != "error" {
                    let what = format!("{here}: the severity of {rule} is lowered to {severity}");
                    faults.push(Fault::at(name, what));
                }
            }
        } else {
            allowances(name, &format!("{here}."), value, faults);
        }
    }
}

/// Each net is in a class whose tracks carry its current.
fn classes(found: &Value, design: &Design) -> Vec<Fault> {
    let settings = &found["net_settings"];
    let list = |key: &str| settings[key].as_array().cloned().unwrap_or_default();
    let (classes, patterns) = (list("classes"), list("netclass_patterns"));
    let mut faults = Vec::new();
    for net in design.connections().keys() {
        let current = design.net(net).current;
        // Ground is a plane.
        if *net == "GND" {
            continue;
        }
        let class = patterns.iter().find(|it| it["pattern"] == **net);
        let class = class.map_or(SIGNAL.name, |it| {
            it["netclass"].as_str().unwrap_or_default()
        });
        let width = classes.iter().find(|it| it["name"] == *class);
        let width = width
            .and_then(|it| it["track_width"].as_f64())
            .unwrap_or_default();
        let needed = width_for(current);
        if width + 1e-9 < needed {
            let what = format!(
                "is in the class {class} of {width} mm, its {current} A need {needed:.2} mm"
            );
            faults.push(Fault::at(*net, what));
        }
    }
    faults
}

/// What differs, by its path.
fn differences(name: &str, at: &str, found: &Value, meant: &Value, faults: &mut Vec<Fault>) {
    if let (Value::Object(is), Value::Object(should)) = (found, meant) {
        for (key, should) in should {
            let is = is.get(key).unwrap_or(&Value::Null);
            differences(name, &format!("{at}.{key}"), is, should, faults);
        }
        for key in is.keys().filter(|key| !should.contains_key(*key)) {
            let what = format!("{}.{key} is not of the design", at.trim_start_matches('.'));
            faults.push(Fault::at(name, what));
        }
        return;
    }
    if let (Value::Array(is), Value::Array(should)) = (found, meant)
        && is.len() == should.len()
    {
        for (index, (is, should)) in is.iter().zip(should).enumerate() {
            let called = should["name"]
                .as_str()
                .map_or(index.to_string(), str::to_owned);
            differences(name, &format!("{at}.{called}"), is, should, faults);
        }
        return;
    }
    if found != meant {
        let at = at.trim_start_matches('.');
        faults.push(Fault::at(name, format!("{at} is {found}, not {meant}")));
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Mistakes in the project's own files, which KiCad takes its rules from: it would find all well.

use racklet_kicad::check::project::Link;

use crate::spoilt::Spoilt;

#[test]
fn without_its_project_file_nothing_is_judged() {
    for copy in Spoilt::all() {
        copy.remove("kicad_pro");
        copy.refused(Link::Setup, &["kicad_pro: is missing"]);
        copy.refused(Link::Erc, &["the project file ", "is missing"]);
        if copy.has_board() {
            copy.refused(Link::Drc, &["the project file ", "is missing"]);
        }
    }
}

#[test]
fn a_missing_or_loosened_rule_is_refused() {
    for copy in Spoilt::boards() {
        copy.replace(
            "kicad_dru",
            "(constraint track_width (min 0.15mm))",
            "(constraint track_width (min 0.1mm))",
        );
        copy.refused(Link::Setup, &["kicad_dru: line ", "0.1mm", "0.15mm"]);
        copy.remove("kicad_dru");
        copy.refused(Link::Setup, &["kicad_dru: is missing"]);
    }
}

#[test]
fn a_class_too_narrow_for_its_current_is_refused() {
    for copy in Spoilt::all() {
        let path = copy.project.file("kicad_pro");
        let text = std::fs::read_to_string(&path).unwrap();
        let start = text.find("\"name\": \"Input_").unwrap();
        let (before, rest) = text.split_at(start);
        let key = "\"track_width\": ";
        let (one, other) = rest.split_once(key).unwrap();
        std::fs::write(
            &path,
            format!(
                "{before}{one}{key}0.1{}",
                &other[other.find(',').unwrap()..]
            ),
        )
        .unwrap();
        copy.refused(Link::Setup, &[": is in the class Input_", "of 0.1 mm"]);
        copy.refused(Link::Setup, &["kicad_pro: net_settings.classes.Input_"]);
    }
}

#[test]
fn a_net_that_left_its_class_is_refused() {
    for copy in Spoilt::all() {
        copy.replace(
            "kicad_pro",
            "\"pattern\": \"BUSBAR\"",
            "\"pattern\": \"BUS\"",
        );
        copy.refused(Link::Setup, &["BUSBAR: is in the class Default"]);
    }
}

#[test]
fn an_exclusion_is_refused() {
    for copy in Spoilt::all() {
        for key in ["drc_exclusions", "erc_exclusions"] {
            copy.replace(
                "kicad_pro",
                &format!("\"{key}\": []"),
                &format!("\"{key}\": [\"clearance|1|2|3|4\"]"),
            );
            copy.refused(Link::Setup, &[key, "a finding is excluded"]);
        }
    }
}

#[test]
fn a_lowered_severity_is_refused() {
    for copy in Spoilt::all() {
        copy.replace(
            "kicad_pro",
            "\"rule_severities\": {}",
            "\"rule_severities\": { \"pin_not_driven\": \"warning\" }",
        );
        copy.replace(
            "kicad_pro",
            "\"drc_exclusions\": []",
            "\"drc_exclusions\": [], \"rule_severities\": { \"clearance\": \"ignore\" }",
        );
        copy.refused(Link::Setup, &["severity of pin_not_driven is lowered"]);
        copy.refused(Link::Setup, &["severity of clearance is lowered"]);
    }
}

#[test]
fn a_lowered_minimum_and_another_library_are_refused() {
    for copy in Spoilt::all() {
        copy.replace(
            "kicad_pro",
            "\"min_clearance\": 0.13",
            "\"min_clearance\": 0",
        );
        copy.refused(Link::Setup, &["rules.min_clearance is 0, not 0.13"]);
        let table = copy.project.folder.join("fp-lib-table");
        let text = std::fs::read_to_string(&table).unwrap();
        std::fs::write(table, text.replace("racklet.pretty", "mine.pretty")).unwrap();
        copy.refused(Link::Setup, &["fp-lib-table: line ", "mine.pretty"]);
    }
}

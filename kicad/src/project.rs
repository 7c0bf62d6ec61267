// SPDX-License-Identifier: Apache-2.0
//! A KiCad project's own files: `.kicad_pro` with net classes and rules (without one KiCad checks against defaults and
//! passes), and the tables of the project's own symbols and footprints.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::design::{Design, SIGNAL};

/// The table of the project's own libraries of one kind.
fn table(kind: &str, uri: &str, what: &str) -> String {
    format!(
        "({kind}_lib_table\n\t(version 7)\n\t(lib (name \"racklet\") (type \"KiCad\") (uri \"${{KIPRJMOD}}/../{uri}\") (options \"\") (descr \"Racklet's own {what}\"))\n)\n"
    )
}

/// All of the project's files that are neither schematic nor board: name and content.
#[must_use]
pub fn files(design: &Design) -> Vec<(String, String)> {
    vec![
        (format!("{}.kicad_pro", design.name), project(design)),
        (
            "fp-lib-table".to_owned(),
            table("fp", "racklet.pretty", "footprints"),
        ),
    ]
}

/// The project's file: rules of the board's setup, net classes, and which nets are in them. Every rule keeps KiCad's severity or a
/// stricter one; nothing is excluded.
#[must_use]
pub fn project(design: &Design) -> String {
    let mut classes = BTreeMap::from([(SIGNAL.name, SIGNAL)]);
    let mut patterns = String::new();
    for net in design.connections().keys() {
        let class = design.net(net).class;
        classes.insert(class.name, class);
        if class.name != SIGNAL.name {
            let comma = if patterns.is_empty() { "" } else { "," };
            let _ = write!(
                patterns,
                "{comma}\n      {{ \"netclass\": \"{0}\", \"pattern\": \"{net}\" }},\n      {{ \"netclass\": \"{0}\", \"pattern\": \"*/{net}\" }}",
                class.name
            );
        }
    }
    let mut written = String::new();
    // KiCad wants the default first; its priority is the last.
    let others = classes.values().filter(|class| class.name != SIGNAL.name);
    for (index, class) in std::iter::once(&SIGNAL).chain(others).enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let priority = if index == 0 { 2_147_483_647 } else { index };
        let _ = write!(
            written,
            "{comma}\n      {{ \"name\": \"{}\", \"priority\": {priority}, \"clearance\": {}, \"track_width\": {}, \
             \"via_diameter\": 0.6, \"via_drill\": 0.3, \"microvia_diameter\": 0.3, \"microvia_drill\": 0.1, \
             \"diff_pair_width\": 0.25, \"diff_pair_gap\": 0.15, \"diff_pair_via_gap\": 0.25, \"bus_width\": 12, \
             \"wire_width\": 6, \"line_style\": 0, \"pcb_color\": \"rgba(0, 0, 0, 0.000)\", \"schematic_color\": \"rgba(0, 0, 0, 0.000)\" }}",
            class.name, class.clearance, class.width
        );
    }
    format!(
        r#"{{
  "board": {{
    "design_settings": {{
      "defaults": {{ "silk_text_size_h": 0.8, "silk_text_size_v": 0.8, "silk_text_thickness": 0.12 }},
      "drc_exclusions": [],
      "rules": {{
        "max_error": 0.005, "min_clearance": 0.13, "min_connection": 0.15, "min_copper_edge_clearance": 0.3,
        "min_hole_clearance": 0.2, "min_hole_to_hole": 0.25, "min_resolved_spokes": 2, "min_silk_clearance": 0.0,
        "min_text_height": 0.8, "min_text_thickness": 0.1, "min_through_hole_diameter": 0.2, "min_track_width": 0.15,
        "min_via_annular_width": 0.13, "min_via_diameter": 0.5, "use_height_for_length_calcs": true
      }}
    }}
  }},
  "erc": {{ "erc_exclusions": [], "meta": {{ "version": 0 }}, "rule_severities": {{}} }},
  "meta": {{ "filename": "{}.kicad_pro", "version": 3 }},
  "net_settings": {{
    "classes": [{written}
    ],
    "meta": {{ "version": 4 }},
    "netclass_patterns": [{patterns}
    ]
  }}
}}
"#,
        design.name
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_net_that_carries_current_is_in_its_class() {
        let design = crate::circuits::bmc::design();
        let file = project(&design);
        let busbar = design.net("BUSBAR").class;
        assert!(file.contains(&format!(
            "{{ \"netclass\": \"{}\", \"pattern\": \"BUSBAR\" }}",
            busbar.name
        )));
        assert!(file.contains(&format!("\"name\": \"{}\"", busbar.name)));
        assert!(file.contains("\"drc_exclusions\": []"));
        assert_eq!(file.matches('{').count(), file.matches('}').count());
    }
}

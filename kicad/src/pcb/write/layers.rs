// SPDX-License-Identifier: Apache-2.0
//! The board's layers and what they are made of.

use super::{texts, words};
use crate::sexpr::{Sexpr, list, number, text};

/// KiCad's numbers and names of all layers.
pub(super) const LAYERS: [(&str, &str, &str, Option<&str>); 22] = [
    ("0", "F.Cu", "signal", None),
    ("4", "In1.Cu", "power", None),
    ("6", "In2.Cu", "power", None),
    ("2", "B.Cu", "signal", None),
    ("9", "F.Adhes", "user", Some("F.Adhesive")),
    ("11", "B.Adhes", "user", Some("B.Adhesive")),
    ("13", "F.Paste", "user", None),
    ("15", "B.Paste", "user", None),
    ("5", "F.SilkS", "user", Some("F.Silkscreen")),
    ("7", "B.SilkS", "user", Some("B.Silkscreen")),
    ("1", "F.Mask", "user", None),
    ("3", "B.Mask", "user", None),
    ("17", "Dwgs.User", "user", Some("User.Drawings")),
    ("19", "Cmts.User", "user", Some("User.Comments")),
    ("21", "Eco1.User", "user", Some("User.Eco1")),
    ("23", "Eco2.User", "user", Some("User.Eco2")),
    ("25", "Edge.Cuts", "user", None),
    ("27", "Margin", "user", None),
    ("31", "F.CrtYd", "user", Some("F.Courtyard")),
    ("29", "B.CrtYd", "user", Some("B.Courtyard")),
    ("35", "F.Fab", "user", None),
    ("33", "B.Fab", "user", None),
];

/// The stack-up, from the top: name, kind, thickness in millimetres, material and its permittivity. 1.6 mm in all, as two common
/// houses make four layers by default (their 7628 prepreg of 0.2 mm).
pub const STACK: [(&str, &str, f64, Option<f64>); 9] = [
    ("F.SilkS", "Top Silk Screen", 0.0, None),
    ("F.Mask", "Top Solder Mask", 0.01, None),
    ("F.Cu", "copper", 0.035, None),
    ("dielectric 1", "prepreg", 0.2104, Some(4.4)),
    ("In1.Cu", "copper", 0.0152, None),
    ("dielectric 2", "core", 1.065, Some(4.6)),
    ("In2.Cu", "copper", 0.0152, None),
    ("dielectric 3", "prepreg", 0.2104, Some(4.4)),
    ("B.Cu", "copper", 0.035, None),
];

pub(super) fn setup() -> Sexpr {
    let mut layers: Vec<Sexpr> = STACK
        .iter()
        .map(|(name, kind, thickness, permittivity)| {
            let mut items = vec![text(*name), texts("type", &[kind])];
            if *thickness > 0.0 {
                items.push(list("thickness", [number(*thickness)]));
            }
            if let Some(permittivity) = permittivity {
                items.extend([
                    texts("material", &["FR4"]),
                    list("epsilon_r", [number(*permittivity)]),
                    list("loss_tangent", [number(0.02)]),
                ]);
            }
            list("layer", items)
        })
        .collect();
    for (name, kind) in [
        ("B.Mask", "Bottom Solder Mask"),
        ("B.SilkS", "Bottom Silk Screen"),
    ] {
        let mut items = vec![text(name), texts("type", &[kind])];
        if name == "B.Mask" {
            items.push(list("thickness", [number(0.01)]));
        }
        layers.push(list("layer", items));
    }
    layers.extend([
        texts("copper_finish", &["ENIG"]),
        words("dielectric_constraints", &["no"]),
        words("edge_connector", &["bevelled"]),
    ]);
    list(
        "setup",
        [
            list("stackup", layers),
            words("pad_to_mask_clearance", &["0.05"]),
            words("allow_soldermask_bridges_in_footprints", &["no"]),
            words("tenting", &["front", "back"]),
        ],
    )
}

// SPDX-License-Identifier: Apache-2.0
//! The netlist that KiCad reads from the drawn schematic, compared with the intent: every part with value and footprint,
//! every net with all of its pads, every open pad alone. Two swapped labels pass KiCad's own check; not this one.

use std::collections::{BTreeMap, BTreeSet};

use super::Fault;
use crate::{
    design::{Design, OPEN},
    sexpr::{Sexpr, SexprError},
};

/// A pad: reference and number.
type Pad = (String, String);

/// Compares an exported netlist (`kicadsexpr`) with the design.
///
/// # Errors
/// [`SexprError`] if it is no netlist at all.
pub fn netlist(design: &Design, exported: &str) -> Result<Vec<Fault>, SexprError> {
    let file = Sexpr::parse(exported)?;
    let mut faults = parts(design, &file);
    faults.extend(nets(design, &file));
    Ok(faults)
}

fn parts(design: &Design, file: &Sexpr) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut drawn: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
    for component in file.get("components").iter().flat_map(|it| it.all("comp")) {
        let field = |name| component.field(name).unwrap_or_default();
        drawn.insert(field("ref"), (field("value"), field("footprint")));
        let marked = |mark: &&str| {
            let mut properties = component.all("property");
            properties.any(|it| it.field("name") == Some(*mark))
        };
        for mark in ["dnp", "exclude_from_board"].iter().filter(|it| marked(it)) {
            let what = format!("is marked {mark}: every part of the design is populated");
            faults.push(Fault::at(field("ref"), what));
        }
    }
    for part in &design.parts {
        match drawn.remove(part.reference) {
            None => faults.push(Fault::at(part.reference, "is not in the schematic")),
            Some((value, footprint)) => {
                if value != part.value {
                    faults.push(Fault::at(
                        part.reference,
                        format!("is drawn as {value}, not as {}", part.value),
                    ));
                }
                if footprint != part.footprint {
                    faults.push(Fault::at(
                        part.reference,
                        format!("has footprint {footprint}, not {}", part.footprint),
                    ));
                }
            }
        }
    }
    faults.extend(
        drawn
            .into_keys()
            .map(|reference| Fault::at(reference, "is drawn, and not in the design")),
    );
    faults
}

fn nets(design: &Design, file: &Sexpr) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut meant: BTreeMap<&str, BTreeSet<Pad>> = design
        .connections()
        .into_iter()
        .map(|(net, pads)| {
            let pads = pads
                .into_iter()
                .map(|(part, pad)| (part.into(), pad.into()));
            (net, pads.collect())
        })
        .collect();
    let mut open: BTreeSet<Pad> = design
        .parts
        .iter()
        .flat_map(|part| {
            let open = part.pins.iter().filter(|pin| pin.net == OPEN);
            open.map(|pin| (part.reference.into(), pin.number.into()))
        })
        .collect();
    for net in file.get("nets").iter().flat_map(|it| it.all("net")) {
        let name = net.field("name").unwrap_or_default();
        let pads: BTreeSet<Pad> = net
            .all("node")
            .map(|node| {
                let field = |name| node.field(name).unwrap_or_default().to_owned();
                (field("ref"), field("pin"))
            })
            .collect();
        if name.starts_with("unconnected-") {
            for pad in pads {
                if !open.remove(&pad) {
                    faults.push(Fault::at(
                        format!("{} pad {}", pad.0, pad.1),
                        "is drawn open, and is not meant to be",
                    ));
                }
            }
            continue;
        }
        // What is on one sheet only has the sheet's name in front.
        let own = name.rsplit('/').next().unwrap_or_default();
        match meant.remove(own) {
            Some(wanted) if wanted == pads => {}
            Some(wanted) => {
                for (part, pad) in wanted.difference(&pads) {
                    faults.push(Fault::at(own, format!("does not reach {part} pad {pad}")));
                }
                for (part, pad) in pads.difference(&wanted) {
                    faults.push(Fault::at(own, format!("reaches {part} pad {pad}")));
                }
            }
            None => faults.push(Fault::at(name, "is drawn, and is no net of the design")),
        }
    }
    faults.extend(
        meant
            .into_keys()
            .map(|net| Fault::at(net, "is not in the schematic")),
    );
    faults.extend(
        open.into_iter()
            .map(|(part, pad)| Fault::at(format!("{part} pad {pad}"), "is not drawn open")),
    );
    faults
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{check::tests::part, circuits::bmc};
    use std::fmt::Write as _;

    /// The netlist KiCad would export from a right drawing.
    fn exported(design: &Design) -> String {
        let mut out = String::from("(export (components");
        for part in &design.parts {
            let _ = write!(
                out,
                " (comp (ref \"{}\") (value \"{}\") (footprint \"{}\"))",
                part.reference, part.value, part.footprint
            );
        }
        out.push_str(") (nets");
        for (net, pads) in design.connections() {
            let _ = write!(out, " (net (name \"/sheet/{net}\")");
            for (part, pad) in pads {
                let _ = write!(out, " (node (ref \"{part}\") (pin \"{pad}\"))");
            }
            out.push(')');
        }
        for part in &design.parts {
            for pin in part.pins.iter().filter(|pin| pin.net == OPEN) {
                let _ = write!(
                    out,
                    " (net (name \"unconnected-({0})\") (node (ref \"{0}\") (pin \"{1}\")))",
                    part.reference, pin.number
                );
            }
        }
        out.push_str("))");
        out
    }

    fn said(design: &Design, exported: &str) -> Vec<String> {
        let faults = netlist(design, exported).unwrap();
        faults.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_right_drawing_has_no_faults() {
        let design = bmc::design();
        assert_eq!(said(&design, &exported(&design)), [""; 0]);
    }

    #[test]
    fn swapped_labels_are_noticed() {
        let design = bmc::design();
        let swapped = exported(&design)
            .replace("/sheet/CONSOLE_RX\"", "/sheet/SWAP\"")
            .replace("/sheet/CONSOLE_TX\"", "/sheet/CONSOLE_RX\"")
            .replace("/sheet/SWAP\"", "/sheet/CONSOLE_TX\"");
        assert!(
            said(&design, &swapped)
                .iter()
                .any(|it| it.contains("CONSOLE_RX"))
        );
    }

    #[test]
    fn another_value_or_footprint_is_noticed_and_so_is_a_part_too_few_or_too_many() {
        let right = exported(&bmc::design());
        let mut design = bmc::design();
        part(&mut design, "R10").value = "47k".into();
        part(&mut design, "R11").footprint = "Resistor_SMD:R_0402_1005Metric";
        let faults = said(&design, &right);
        assert!(faults.iter().any(|it| it.starts_with("R10: is drawn as")));
        assert!(faults.iter().any(|it| it.starts_with("R11: has footprint")));
        let mut fewer = bmc::design();
        fewer.parts.retain(|part| part.reference != "TP1");
        assert!(said(&fewer, &right).contains(&"TP1: is drawn, and not in the design".to_owned()));
        assert!(
            said(&bmc::design(), &exported(&fewer))
                .contains(&"TP1: is not in the schematic".to_owned())
        );
    }

    #[test]
    fn a_pad_left_open_by_mistake_is_noticed() {
        let right = exported(&bmc::design());
        let node = "(node (ref \"R13\") (pin \"1\"))";
        let open = right.replacen(node, "", 1).replacen(
            "(nets",
            &format!("(nets (net (name \"unconnected-(R13)\") {node})"),
            1,
        );
        let faults = said(&bmc::design(), &open);
        assert!(
            faults
                .iter()
                .any(|it| it.starts_with("R13 pad 1: is drawn open"))
        );
        assert!(
            faults
                .iter()
                .any(|it| it.contains("does not reach R13 pad 1"))
        );
    }
}

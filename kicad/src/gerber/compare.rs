// SPDX-License-Identifier: Apache-2.0
//! Copper joined by plated holes, and what it does otherwise than the list of nets and the intent say.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::{
    copper::{self, Island},
    excellon::{Drill, Hole},
    format::Layer,
    ipc356::{Access, NOT_CONNECTED, Record},
    shapes::Point,
};
use crate::design::{Design, OPEN};

/// Connected copper, through all layers.
#[derive(Debug)]
pub struct Joined {
    islands: Vec<Island>,
    /// For each island, the name of what it is part of: the number of one of its islands.
    part: Vec<usize>,
    last_layer: usize,
}

/// Something that is otherwise.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Finding {
    /// One net in several pieces: an example of a pad of each.
    Open {
        /// The net.
        net: String,
        /// Its pieces.
        pieces: Vec<String>,
    },
    /// Several nets in one piece.
    Short {
        /// The nets, each with one of its pads.
        nets: Vec<String>,
    },
    /// No copper where a pad or via should be.
    Bare {
        /// Which and where.
        pad: String,
    },
    /// Copper that no pad or via is on.
    Nameless {
        /// Layer and place.
        place: String,
    },
    /// A plated hole that meets no copper, or copper of only one layer.
    Lonely {
        /// Where.
        place: String,
    },
    /// A pad of the intent that the list of nets does not have.
    Missing {
        /// Which.
        pad: String,
    },
    /// A pad with a net that the intent does not have.
    Unknown {
        /// Which.
        pad: String,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open { net, pieces } => {
                write!(
                    f,
                    "open: {net} is in {} pieces: {}",
                    pieces.len(),
                    pieces.join(" | ")
                )
            }
            Self::Short { nets } => {
                write!(f, "short: {} are one piece of copper", nets.join(" and "))
            }
            Self::Bare { pad } => write!(f, "no copper at {pad}"),
            Self::Nameless { place } => write!(f, "copper that belongs to no pad at {place}"),
            Self::Lonely { place } => write!(f, "a plated hole that joins nothing at {place}"),
            Self::Missing { pad } => write!(f, "{pad} is in the intent and not on the board"),
            Self::Unknown { pad } => write!(f, "{pad} is on the board and not in the intent"),
        }
    }
}

fn place([x, y]: Point) -> String {
    format!("({x:.2}, {y:.2})")
}

fn named(record: &Record) -> String {
    match &record.pad {
        Some((part, pin)) => format!("{part}.{pin}"),
        None => format!("via {}", place(record.at)),
    }
}

impl Joined {
    /// Finds the islands of each layer, and joins those that a plated hole meets.
    #[must_use]
    pub fn new(layers: &[Layer], drills: &[Drill]) -> Self {
        let islands: Vec<Island> = layers.iter().flat_map(copper::islands).collect();
        let mut joined = Self {
            part: (0..islands.len()).collect(),
            last_layer: layers.len(),
            islands,
        };
        for (drill, hole) in plated(drills) {
            let met = joined.met_by(drill, hole);
            for pair in met.windows(2) {
                joined.join(pair[0], pair[1]);
            }
        }
        for index in 0..joined.part.len() {
            joined.part[index] = joined.root(index);
        }
        joined
    }

    fn met_by(&self, drill: &Drill, hole: &Hole) -> Vec<usize> {
        let (first, last) = drill.layers;
        (0..self.islands.len())
            .filter(|index| (first..=last).contains(&self.islands[*index].layer))
            .filter(|index| self.islands[*index].meets(hole))
            .collect()
    }

    fn root(&self, mut index: usize) -> usize {
        while self.part[index] != index {
            index = self.part[index];
        }
        index
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        self.part[a.max(b)] = a.min(b);
    }

    /// The islands on a layer at a place; what lies on an edge may miss by the resolution of the list (2.5 µm).
    fn at(&self, layer: usize, point: Point) -> Option<usize> {
        (0..self.islands.len())
            .filter(|index| self.islands[*index].layer == layer)
            .find(|index| self.islands[*index].holds(point))
    }

    /// The pieces of copper that a record is on; none on a side where there is no copper.
    fn of(&self, record: &Record) -> Vec<Option<usize>> {
        let layers = match record.access {
            Access::Through => vec![1, self.last_layer],
            Access::Layer(layer) => vec![layer],
        };
        layers
            .into_iter()
            .map(|layer| self.at(layer, record.at).map(|index| self.part[index]))
            .collect()
    }

    /// Plated holes that join no copper of two layers.
    #[must_use]
    pub fn lonely(&self, drills: &[Drill]) -> Vec<Finding> {
        plated(drills)
            .filter(|(drill, hole)| self.met_by(drill, hole).len() < 2)
            .map(|(_, hole)| Finding::Lonely {
                place: place(hole.from),
            })
            .collect()
    }
}

fn plated(drills: &[Drill]) -> impl Iterator<Item = (&Drill, &Hole)> {
    drills
        .iter()
        .filter(|drill| drill.plated)
        .flat_map(|drill| drill.holes.iter().map(move |hole| (drill, hole)))
}

/// What the copper does otherwise than the list of nets says.
#[must_use]
pub fn with_records(joined: &Joined, records: &[Record]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut labelled = Vec::new();
    for record in records {
        let net = match (&*record.net, &record.pad) {
            // Pads that are not connected are each a net of their own; several of one number are one.
            (NOT_CONNECTED, Some(_)) => format!("nothing ({})", named(record)),
            (net, _) => net.to_owned(),
        };
        for part in joined.of(record) {
            match part {
                Some(part) => labelled.push((net.clone(), part, named(record))),
                None => findings.push(Finding::Bare {
                    pad: format!("{} {} of {net}", named(record), place(record.at)),
                }),
            }
        }
    }
    // Pads are better examples than vias.
    labelled.sort_by_key(|(_, _, pad)| pad.starts_with("via "));
    findings.extend(opens_and_shorts(&labelled));
    let reached: BTreeSet<usize> = labelled.iter().map(|(_, part, _)| *part).collect();
    for (island, part) in joined.islands.iter().zip(&joined.part) {
        if !reached.contains(part) {
            findings.push(Finding::Nameless {
                place: format!("{} on layer {}", place(island.place()), island.layer),
            });
        }
    }
    findings.sort();
    findings.dedup();
    findings
}

/// What the copper does otherwise than the intent says, whatever the nets of the list are called.
#[must_use]
pub fn with_intent(joined: &Joined, records: &[Record], design: &Design) -> Vec<Finding> {
    let mut wanted = BTreeMap::new();
    for part in &design.parts {
        for pin in &part.pins {
            let net = match pin.net {
                OPEN => format!("nothing ({}.{})", part.reference, pin.number),
                net => net.to_owned(),
            };
            wanted.insert((part.reference, pin.number), net);
        }
    }
    let mut findings = Vec::new();
    let mut labelled = Vec::new();
    let mut seen = BTreeSet::new();
    for record in records {
        let Some((part, pin)) = &record.pad else {
            continue;
        };
        let Some(net) = wanted.get(&(&**part, &**pin)) else {
            // Mechanical pads without a net are nothing of the circuit's.
            if record.net != NOT_CONNECTED {
                findings.push(Finding::Unknown { pad: named(record) });
            }
            continue;
        };
        seen.insert((part.as_str(), pin.as_str()));
        let parts = joined.of(record).into_iter().flatten();
        labelled.extend(parts.map(|part| (net.clone(), part, named(record))));
    }
    let missing = wanted.keys().filter(|pad| !seen.contains(*pad));
    findings.extend(missing.map(|(part, pin)| Finding::Missing {
        pad: format!("{part}.{pin}"),
    }));
    findings.extend(opens_and_shorts(&labelled));
    findings.sort();
    findings.dedup();
    findings
}

/// From (net, piece of copper, example): nets in several pieces, pieces of several nets.
fn opens_and_shorts(labelled: &[(String, usize, String)]) -> Vec<Finding> {
    let mut nets: BTreeMap<&str, BTreeMap<usize, &str>> = BTreeMap::new();
    let mut parts: BTreeMap<usize, BTreeMap<&str, &str>> = BTreeMap::new();
    for (net, part, pad) in labelled {
        nets.entry(net).or_default().entry(*part).or_insert(pad);
        parts.entry(*part).or_default().entry(net).or_insert(pad);
    }
    let opens = nets
        .into_iter()
        .filter(|(_, pieces)| pieces.len() > 1)
        .map(|(net, pieces)| Finding::Open {
            net: net.to_owned(),
            pieces: pieces.into_values().map(str::to_owned).collect(),
        });
    let shorts = parts
        .into_values()
        .filter(|nets| nets.len() > 1)
        .map(|nets| Finding::Short {
            nets: nets
                .into_iter()
                .map(|(net, pad)| format!("{net} at {pad}"))
                .collect(),
        });
    opens.chain(shorts).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        design::{Part, Pin},
        gerber::{Fabrication, excellon, format, format::tests::layer, ipc356},
    };

    /// Two parts of two pads: pads 1 joined on top, pads 2 over two vias and the bottom.
    const TOP: &str = "D11*\nX0Y0D03*\nX9000000Y0D03*\nX0Y5000000D03*\nX9000000Y5000000D03*\nD10*\n\
                       X0Y0D02*\nX9000000Y0D01*\n\
                       X0Y5000000D02*\nX2000000Y5000000D01*\nX9000000Y5000000D02*\nX7000000Y5000000D01*\n";
    const BOTTOM: &str = "D10*\nX2000000Y5000000D02*\nX7000000Y5000000D01*\n";
    const HOLES: &str = "M48\n; #@! TF.FileFunction,Plated,1,2,PTH\nMETRIC\nT1C0.300\n%\nT1\nX2.0Y5.0\nX7.0Y5.0\nM30\n";
    const NETS: &str = "P  UNITS CUST 1\n\
                        327A                R1    -1          A01X+000000Y+000000X0000Y0000R000S1\n\
                        327A                R2    -1          A01X+009000Y+000000X0000Y0000R000S1\n\
                        327B                R1    -2          A01X+000000Y+005000X0000Y0000R000S1\n\
                        327B                R2    -2          A01X+009000Y+005000X0000Y0000R000S1\n\
                        317B                VIA        MD0118PA00X+002000Y+005000X0236Y0000R000S3\n999\n";

    fn board(top: &str, bottom: &str, holes: &str) -> Fabrication {
        Fabrication {
            layers: vec![
                format::read(&layer(1, top)).unwrap(),
                format::read(&layer(2, bottom)).unwrap(),
            ],
            drills: vec![excellon::read(holes).unwrap()],
            records: ipc356::read(NETS).unwrap(),
        }
    }

    fn intent(nets: [[&'static str; 2]; 2]) -> Design {
        let mut design = Design::new("two", "Two resistors", "A");
        for (reference, [one, two]) in ["R1", "R2"].into_iter().zip(nets) {
            let pin = |number, net| Pin {
                number,
                name: "~",
                net,
            };
            design.parts.push(Part {
                reference,
                symbol: "Device:R",
                footprint: "Resistor_SMD:R_0603_1608Metric",
                value: "1k".into(),
                bom: None,
                sheet: "one",
                note: "",
                pins: vec![pin("1", one), pin("2", two)],
            });
        }
        design
    }

    fn said(board: &Fabrication) -> Vec<String> {
        let findings = board.findings(None);
        findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_board_that_is_as_meant_has_no_findings() {
        let board = board(TOP, BOTTOM, HOLES);
        let design = intent([["A", "B"], ["A", "B"]]);
        assert_eq!(board.findings(Some(&design)), []);
        assert_eq!(board.joined().lonely(&board.drills), []);
    }

    #[test]
    fn copper_that_is_removed_is_an_open() {
        let cut = TOP.replace("X9000000Y0D01", "X7000000Y0D01");
        let open = ["open: A is in 2 pieces: R1.1 | R2.1"];
        assert_eq!(said(&board(&cut, BOTTOM, HOLES)), open);
    }

    #[test]
    fn a_hole_that_is_removed_is_an_open() {
        let fewer = HOLES.replace("X7.0Y5.0\n", "");
        let open = ["open: B is in 2 pieces: R1.2 | R2.2"];
        assert_eq!(said(&board(TOP, BOTTOM, &fewer)), open);
        let unplated = HOLES.replace("Plated,", "NonPlated,");
        assert_eq!(said(&board(TOP, BOTTOM, &unplated)).len(), 1);
    }

    #[test]
    fn copper_that_is_added_is_a_short() {
        let more = format!("{TOP}X4000000Y0D02*\nX4000000Y5000000D01*\nX2000000Y5000000D01*\n");
        let short = ["short: A at R1.1 and B at R1.2 are one piece of copper"];
        assert_eq!(said(&board(&more, BOTTOM, HOLES)), short);
        let through = format!("{BOTTOM}X7000000Y5000000D02*\nX7000000Y0D01*\n");
        let hole = HOLES.replace("X7.0Y5.0\n", "X7.0Y5.0\nX7.0Y0.0\n");
        assert_eq!(said(&board(TOP, &through, &hole)), short);
    }

    #[test]
    fn copper_of_nobody_and_pads_without_copper_are_named() {
        let loose = format!("{BOTTOM}X0Y0D03*\n");
        let found = said(&board(TOP, &loose, HOLES));
        assert!(
            found[0].starts_with("copper that belongs to no pad at"),
            "{found:?}"
        );
        let bare = TOP
            .replace("X9000000Y0D03*\n", "")
            .replace("X9000000Y0D01", "X7000000Y0D01");
        let found = said(&board(&bare, BOTTOM, HOLES));
        assert_eq!(found, ["no copper at R2.1 (9.00, 0.00) of A"]);
    }

    #[test]
    fn the_intent_is_compared_by_pads_not_by_names() {
        let board = board(TOP, BOTTOM, HOLES);
        let renamed = intent([["X", "Y"], ["X", "Y"]]);
        assert_eq!(board.findings(Some(&renamed)), []);
        let swapped = board.findings(Some(&intent([["A", "B"], ["B", "A"]])));
        assert_eq!(swapped.len(), 4, "two opens and two shorts: {swapped:?}");
        let mut other = intent([["A", "B"], ["A", "B"]]);
        other.parts[1].reference = "R3";
        let findings = board.findings(Some(&other));
        assert_eq!(
            findings.len(),
            4,
            "two missing and two unknown: {findings:?}"
        );
        let open = board.findings(Some(&intent([["A", "B"], ["A", ""]])));
        assert!(matches!(&*open, [Finding::Short { .. }]), "{open:?}");
    }

    #[test]
    fn a_hole_that_joins_nothing_is_lonely() {
        let stray = HOLES.replace("X7.0Y5.0\n", "X7.0Y5.0\nX4.0Y2.5\n");
        let board = board(TOP, BOTTOM, &stray);
        assert_eq!(board.joined().lonely(&board.drills).len(), 1);
    }
}

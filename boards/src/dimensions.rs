// SPDX-License-Identifier: Apache-2.0
//! Mechanical dimensions: of the boards of ours (`controllers/<name>/dimensions.toml`), of those that others make
//! (`shapes/<name>.toml`), and of the rack (`rack.toml`). The boards' layouts and the enclosure take theirs from here, so that
//! they fit each other.
//!
//! All in millimetres.

use serde::Deserialize;

const FOUND: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/dimensions.rs"));
const RACK: &str = include_str!("../rack.toml");

/// A board as a solid: a plate with bodies on it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dimensions {
    /// What its folder or file is called.
    pub name: String,
    /// Along x and y.
    pub size: [f64; 2],
    /// The radius of its corners.
    #[serde(default)]
    pub corner: f64,
    /// Of the bare board.
    pub thickness: f64,
    /// What stands out of its lower face.
    pub below: f64,
    /// The diameter of its mounting holes.
    pub hole: f64,
    /// The middles of its mounting holes.
    pub holes: Vec<[f64; 2]>,
    /// The middles of the sockets for trays, slot 1 (the uppermost) first, on a backplane.
    #[serde(default)]
    pub sockets: Vec<[f64; 2]>,
    /// The tab with the card edge, where it has one.
    pub edge: Option<Edge>,
    /// What stands on it.
    #[serde(default, rename = "body")]
    pub bodies: Vec<Body>,
}

/// A tab of a board.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edge {
    /// The lower left corner.
    pub low: [f64; 2],
    /// The upper right corner.
    pub high: [f64; 2],
}

/// A box around a part.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Body {
    /// What it is.
    pub name: String,
    /// The lower left corner.
    pub low: [f64; 2],
    /// The upper right corner.
    pub high: [f64; 2],
    /// How far it stands out of the upper face; negative for what is below only.
    pub height: f64,
    /// How far it stands out of the lower face.
    #[serde(default)]
    pub below: f64,
    /// Whether the tray's front panel has an opening for it.
    #[serde(default)]
    pub front: bool,
    /// The wall of the case that has an opening for it.
    pub opening: Option<Wall>,
}

/// A wall of the case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wall {
    /// The outer wall at the right, seen from the front.
    Right,
}

/// The rack.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rack {
    /// How many trays.
    pub slots: u32,
    /// From tray to tray.
    pub pitch: f64,
    /// A tray.
    pub tray: Tray,
    /// What holds a tray in its slot.
    pub latch: Latch,
    /// The case.
    pub case: Case,
    /// A tray's socket on the backplane.
    pub socket: Socket,
    /// The fans.
    pub fan: Fan,
    /// What their air has to do.
    pub air: Air,
    /// Patch cables.
    pub patch: Patch,
    /// Where the network switch lies.
    pub bay: Bay,
    /// The network switches that must fit, first choice first.
    #[serde(rename = "switch")]
    pub switches: Vec<Switch>,
    /// How parts are printed.
    pub print: Print,
}

/// How parts are printed.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Print {
    /// The thickness of base, deck and top.
    pub plate: f64,
    /// The depth of the grooves that walls stand in.
    pub groove: f64,
    /// Around a wall in its groove.
    pub fit: f64,
    /// The thinnest wall.
    pub least_wall: f64,
    /// The side of the printer's bed.
    pub bed: f64,
    /// Of the plastic, in g/cm3.
    pub density: f64,
    /// What is solid from every face inwards.
    pub shell: f64,
    /// How much of the rest is filled, from 0 to 1.
    pub infill: f64,
    /// What all parts of a rack weigh.
    pub grams: f64,
}

/// A tray.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tray {
    /// Its plate's width.
    pub width: f64,
    /// Its plate's thickness.
    pub plate: f64,
    /// From the plate to the board.
    pub standoff: f64,
    /// The front panel's thickness.
    pub panel: f64,
    /// From the front panel's face to the front edge of a board of 85 mm.
    pub inset: f64,
    /// From the board to the HAT.
    pub spacer: f64,
}

/// A tray's latch: an arm of its plate that bends sideways, with a catch.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Latch {
    /// From the tray's front to the catch's face.
    pub face: f64,
    /// From the catch's face to where the arm is clamped.
    pub length: f64,
    /// Of the arm, the way that it bends.
    pub thickness: f64,
    /// How far the catch stands out of the tray's edge.
    pub catch: f64,
    /// How much of the catch must hold, however the tray lies.
    pub overlap: f64,
    /// How far the tray may move before the catch holds it.
    pub play: f64,
    /// How far the arm may be pressed at the front panel.
    pub stop: f64,
    /// How far the finger's tab stands out of the front.
    pub tab: f64,
    /// The pull that it must bear, in newtons.
    pub hold: f64,
    /// The plastic's modulus, in MPa.
    pub modulus: f64,
    /// What the plastic bears, in MPa.
    pub strength: f64,
    /// What it may be bent to, again and again.
    pub strain: f64,
    /// What a finger presses with at the most, in newtons.
    pub finger: f64,
}

/// The case.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// Of all walls.
    pub wall: f64,
    /// Between what moves against each other, on each side.
    pub clearance: f64,
    /// How far rails stand out of the walls.
    pub rail: f64,
    /// How thick they are.
    pub ledge: f64,
    /// Below the lowest and above the highest tray.
    pub strip: f64,
    /// Between fans and trays.
    pub plenum: f64,
    /// Behind the backplane.
    pub rear: f64,
}

/// A tray's socket on the backplane.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Socket {
    /// Along the card's edge.
    pub length: f64,
    /// Across.
    pub width: f64,
    /// Above the backplane.
    pub height: f64,
    /// From the backplane to the card's edge when it is in.
    pub seat: f64,
    /// How far the card may be off.
    pub tolerance: f64,
}

/// The fans.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fan {
    /// How many.
    pub count: u32,
    /// Edge to edge.
    pub size: f64,
    /// Along the air.
    pub thickness: f64,
    /// Between mounting holes.
    pub hole_pitch: f64,
    /// Maker and number, as in the bill of materials.
    pub name: String,
    /// Of one, in free air, in m3/h.
    pub flow: f64,
    /// Of one, without flow, in pascals.
    pub pressure: f64,
    /// The diameter of the frame's opening.
    pub opening: f64,
    /// The diameter of the hub.
    pub hub: f64,
}

/// What the air has to do.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Air {
    /// The power that becomes heat, in watts.
    pub heat: Load,
    /// How much warmer the air may become, in kelvins.
    pub rise: Load,
    /// The narrowest free area of the path, as a part of the fans' opening.
    pub share: f64,
    /// The discharge coefficient of a hole.
    pub discharge: f64,
    /// In kg/m3.
    pub density: f64,
    /// In J/(kg K).
    pub capacity: f64,
}

/// In ordinary use, and at worst.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// In ordinary use.
    pub typical: f64,
    /// With all trays computing on all cores.
    pub worst: f64,
}

/// Patch cables.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Patch {
    /// A cable's diameter.
    pub thickness: f64,
    /// The least radius.
    pub bend: f64,
    /// How far a plug stands out of its jack.
    pub plug: f64,
    /// How far it goes in.
    pub inside: f64,
    /// A plug's width and height.
    pub body: [f64; 2],
    /// The length of a tray's cable, from end to end.
    pub tray: f64,
    /// The length of the backplane's cable.
    pub backplane: f64,
}

/// Where the network switch lies.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bay {
    /// How many ports a switch has.
    pub ports: u32,
    /// From a switch's sides to the middle of its outer ports.
    pub margin: f64,
    /// What the plug of its power needs behind it.
    pub jack: f64,
}

impl Rack {
    /// What takes every switch: width, depth, height.
    #[must_use]
    pub fn largest_switch(&self) -> [f64; 3] {
        let sizes = self.switches.iter().map(|switch| switch.size);
        sizes.fold([0.0; 3], |most, size| {
            [0, 1, 2].map(|axis| f64::max(most[axis], size[axis]))
        })
    }
}

/// A network switch.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Switch {
    /// Maker and number, as in the bill of materials.
    pub name: String,
    /// Width, depth, height.
    pub size: [f64; 3],
}

/// The boards with known dimensions, by name.
#[must_use]
pub fn all() -> Vec<Dimensions> {
    FOUND
        .iter()
        .map(|(name, text)| {
            let found: Dimensions = toml::from_str(text).unwrap_or_else(|error| {
                panic!("the dimensions of {name} in boards/ (part of this program): {error}")
            });
            assert_eq!(
                found.name, *name,
                "a board is called like its folder or file"
            );
            found
        })
        .collect()
}

/// The dimensions of the board called `name`, if they are known.
#[must_use]
pub fn find(name: &str) -> Option<Dimensions> {
    all().into_iter().find(|board| board.name == name)
}

/// The rack.
#[must_use]
pub fn rack() -> Rack {
    toml::from_str(RACK)
        .unwrap_or_else(|error| panic!("boards/rack.toml (part of this program): {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_board_is_a_plate_with_its_holes_in_it() {
        let all = all();
        assert!(all.len() >= 5, "{}", all.len());
        for board in all {
            for hole in &board.holes {
                for axis in [0, 1] {
                    let edge = board.hole / 2.0;
                    assert!(
                        hole[axis] > edge && hole[axis] < board.size[axis] - edge,
                        "{}: {hole:?}",
                        board.name
                    );
                }
            }
            for body in &board.bodies {
                assert!(
                    body.low[0] < body.high[0] && body.low[1] < body.high[1],
                    "{body:?}"
                );
            }
        }
    }

    #[test]
    fn the_racks_dimensions_are_read() {
        let rack = rack();
        assert_eq!(rack.slots, 5);
        assert!(find("raspberry-pi-4b").is_some() && find("qemu-x86_64").is_none());
    }
}

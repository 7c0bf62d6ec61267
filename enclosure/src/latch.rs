// SPDX-License-Identifier: Apache-2.0
//! The tray's latch: an arm of the tray's plate, clamped at its rear end, whose catch stands into a hole of the right wall. A finger
//! presses the tab in front of the panel to the left and draws the catch in.
//!
//! ```text
//!   rear   ┌──── plate ────┬─────┐ root: here it is clamped
//!          │               │ arm │
//!          │          gap ▕│     │
//!          │               │     └╲   ramp: pushed in by the wall's edge on the way in
//!          │               │      ╱   catch; its face holds the tray
//!   front  └─ panel ──────┘└ tab ┘    pressed to the left, until the panel stops it
//! ```
//!
//! Where it holds and passes is measured on the solids; what it bears is that of a beam clamped at one end. Nothing was tried on plastic.

use racklet_boards::dimensions::{Dimensions, Latch};

use crate::layout::Layout;
use crate::mesh::Mesh;
use crate::solids::Part;
use crate::sweep;

/// How much closer than it must hold a measurement is made, in millimetres.
const FINE: f64 = 0.01;

/// What the solids of a tray show of its latch.
#[derive(Debug, Clone)]
pub struct Solids {
    /// The tray with its catch drawn in to the tray's edge.
    pub pressed: Mesh,
    /// The arm alone, as in `pressed`, without its root.
    pub arm: Mesh,
    /// The tray without the arm.
    pub body: Mesh,
}

/// The arm as a beam. Lengths in millimetres, forces in newtons, stresses in megapascals.
#[derive(Debug, Clone, Copy)]
pub struct Beam {
    latch: Latch,
    /// Across the bending: the plate's thickness.
    width: f64,
    /// Between tray and wall, at the most.
    aside: f64,
}

impl Beam {
    /// The latch of a rack's trays.
    #[must_use]
    pub fn of(layout: &Layout) -> Self {
        Self {
            latch: layout.rack.latch,
            width: layout.rack.tray.plate,
            aside: 2.0 * layout.rack.case.clearance,
        }
    }

    /// Of the arm's section.
    fn moment_of_area(self) -> f64 {
        self.width * self.latch.thickness.powi(3) / 12.0
    }

    /// From the root to where a finger presses.
    fn tab(self) -> f64 {
        self.latch.face + self.latch.length + self.latch.tab * 0.6
    }

    /// How far the arm is bent at `from_root` for one newton at the tab.
    fn bent(self, from_root: f64) -> f64 {
        let stiff = 6.0 * self.latch.modulus * self.moment_of_area();
        from_root.powi(2) * (3.0 * self.tab() - from_root) / stiff
    }

    /// The finger's force that draws the catch in to the tray's edge.
    #[must_use]
    pub fn finger(self) -> f64 {
        self.latch.catch / self.bent(self.latch.length)
    }

    /// How far the catch is drawn in when the front panel stops the arm.
    #[must_use]
    pub fn drawn_in(self) -> f64 {
        let panel = self.latch.face + self.latch.length;
        self.latch.stop * self.bent(self.latch.length) / self.bent(panel)
    }

    /// The greatest strain, at the root, with the arm at its stop.
    #[must_use]
    pub fn strain_at_stop(self) -> f64 {
        let force = self.latch.stop / self.bent(self.latch.face + self.latch.length);
        let stress = force * self.tab() * self.latch.thickness / 2.0 / self.moment_of_area();
        stress / self.latch.modulus
    }

    /// The greatest strain on the way in, when the wall's edge pushes at the catch itself.
    #[must_use]
    pub fn strain_on_the_way(self) -> f64 {
        1.5 * self.latch.thickness * self.latch.catch / self.latch.length.powi(2)
    }

    /// The greatest stress while a cable pulls with `hold`: the wall's edge presses the catch, beside the arm's middle, towards the
    /// root. That bends the arm outwards, deeper into the hole, until it lies against the wall.
    #[must_use]
    pub fn stress_held(self) -> f64 {
        let (latch, area) = (self.latch, self.latch.thickness * self.width);
        let beside = latch.thickness / 2.0 + self.aside + latch.overlap / 2.0;
        let section = self.width * latch.thickness.powi(2) / 6.0;
        latch.hold / area + latch.hold * beside / section
    }

    /// The pressure on the catch's face.
    #[must_use]
    pub fn pressure(self) -> f64 {
        self.latch.hold / (self.latch.overlap * self.width)
    }

    /// What makes the arm give way sideways: clamped at the root, guided by the hole.
    #[must_use]
    pub fn buckles_at(self) -> f64 {
        20.19 * self.latch.modulus * self.moment_of_area() / self.latch.length.powi(2)
    }
}

/// The arm bends, bears and comes back.
#[must_use]
pub fn bears(layout: &Layout) -> Vec<String> {
    let (beam, latch) = (Beam::of(layout), layout.rack.latch);
    let mut found = Vec::new();
    let mut no = |what: String| found.push(format!("latch: {what}"));
    let strain = beam.strain_at_stop().max(beam.strain_on_the_way());
    if strain > latch.strain {
        no(format!(
            "bent by {:.2} %, more than {:.2} %",
            strain * 100.0,
            latch.strain * 100.0
        ));
    }
    if beam.finger() > latch.finger {
        no(format!("a finger must press with {:.1} N", beam.finger()));
    }
    if beam.drawn_in() < latch.catch {
        no(format!(
            "at its stop the catch still stands out by {:.2} mm",
            latch.catch - beam.drawn_in()
        ));
    }
    let stress = beam.stress_held().max(beam.pressure());
    if stress > latch.strength {
        no(format!("{} N give {stress:.0} MPa", latch.hold));
    }
    // Printed arms are not straight.
    if beam.buckles_at() < 3.0 * latch.hold {
        no(format!("buckles at {:.0} N", beam.buckles_at()));
    }
    found
}

/// A tray that is in is held however it lies in its slot, and one with its catch drawn in comes out past everything.
#[must_use]
pub fn holds(layout: &Layout, parts: &[Part], host: &Dimensions) -> Vec<String> {
    let name = format!("tray-{}", host.name);
    let of = |name: &str| parts.iter().find(|part| part.name == name);
    let (Some(tray), Some(wall)) = (of(&name), of("right-wall")) else {
        return vec![format!("{name} or its wall is missing")];
    };
    let Some(solids) = &tray.latch else {
        return vec![format!("{name} has no latch")];
    };
    let (latch, clearance) = (layout.rack.latch, layout.rack.case.clearance);
    let mut found = Vec::new();
    if !as_computed(layout, &tray.placed) {
        found.push(format!(
            "{name}: its arm is not {} mm thick and {} mm long",
            latch.thickness, latch.length
        ));
    }
    for slot in 1..=layout.rack.slots {
        let down = layout.tray_z(slot) - layout.tray_z(1);
        let mut no = |what: String| found.push(format!("slot {slot} with {}: {what}", host.name));
        let moved = |by: [f64; 3]| tray.placed.moved([by[0], by[1], down + by[2]]);
        // Pushed aside, lifted or sagging: pulled out, the catch meets the wall with all that it must.
        for up in [-clearance, clearance] {
            let up = up * 0.9;
            let aside = -(clearance + latch.overlap - FINE);
            if !wall.placed.meets(&moved([aside, -latch.play - 0.1, up])) {
                no(format!(
                    "the catch holds by less than {} mm, {up:+.1} mm high",
                    latch.overlap
                ));
            }
        }
        for aside in [-clearance, clearance] {
            let by = [aside * 0.9, -latch.play * 0.9, 0.0];
            if wall.placed.meets(&moved(by)) {
                no("the catch does not find its hole".to_owned());
            }
        }
        let pressed = solids.pressed.moved([0.0, 0.0, down]);
        for part in parts.iter().filter(|part| part.count == 1) {
            if let Some([x, z]) = sweep::obstructed(&pressed, &part.placed) {
                no(format!(
                    "with its catch drawn in the tray runs into {} at x {x:.1}, z {z:.1}",
                    part.name
                ));
            }
        }
    }
    if solids.arm.meets(&solids.body) {
        found.push(format!(
            "{name}: the arm runs into the tray when it is pressed"
        ));
    }
    found
}

/// Whether the arm of a tray in slot 1 is the one that was computed: solid just inside its sides and not outside of them, clamped where
/// it should be.
fn as_computed(layout: &Layout, tray: &Mesh) -> bool {
    let (rack, latch) = (&layout.rack, layout.rack.latch);
    let right = layout.zone_x + rack.case.clearance + rack.tray.width;
    let left = right - latch.thickness;
    let z = layout.tray_z(1) + rack.tray.plate / 2.0;
    let root = latch.face + latch.length;
    let solid = |x: f64, y: f64| tray.contains([x, y, z]);
    [0.25, 0.5, 0.9].iter().all(|part| {
        let y = root - part * latch.length + 0.5;
        let inside = solid(left + 0.05, y) && solid(right - 0.05, y);
        inside && !solid(left - 0.05, y) && (*part > 0.8 || !solid(right + 0.05, y))
    }) && solid(left - 0.5, root + 1.5)
        && !solid(left - 0.3, root - 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout;

    fn spoilt(spoil: impl Fn(&mut Latch), says: &str) {
        let mut layout = layout();
        assert_eq!(bears(&layout), Vec::<String>::new());
        spoil(&mut layout.rack.latch);
        let found = bears(&layout);
        assert!(
            found.iter().any(|line| line.contains(says)),
            "{says:?} is not in {found:?}"
        );
    }

    #[test]
    fn a_beam_bends_as_the_handbook_says() {
        let mut layout = layout();
        let latch = &mut layout.rack.latch;
        // Loaded at the catch: 4 x 2 mm, 40 mm long, 2000 MPa: 3 E I d / L^3, strain 3 t d / (2 L^2).
        *latch = Latch {
            face: 0.0,
            tab: 0.0,
            length: 40.0,
            thickness: 2.0,
            catch: 1.0,
            stop: 1.0,
            modulus: 2000.0,
            ..*latch
        };
        layout.rack.tray.plate = 4.0;
        let beam = Beam::of(&layout);
        assert!((beam.finger() - 0.25).abs() < 1e-9, "{}", beam.finger());
        assert!((beam.strain_at_stop() - 0.001_875).abs() < 1e-9);
        assert!((beam.strain_on_the_way() - 0.001_875).abs() < 1e-9);
        assert!((beam.drawn_in() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn an_arm_that_would_not_last_or_not_hold_is_refused() {
        spoilt(|latch| latch.length = 20.0, "bent by");
        spoilt(|latch| latch.stop = 4.5, "bent by");
        spoilt(|latch| latch.thickness = 8.0, "a finger must press");
        spoilt(|latch| latch.stop = 2.0, "still stands out");
        spoilt(|latch| latch.thickness = 2.4, "MPa");
        spoilt(|latch| latch.hold = 120.0, "buckles at");
    }
}

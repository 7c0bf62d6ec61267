// SPDX-License-Identifier: Apache-2.0
//! Rules of distance: capacitors at their pads, the converter's loop, and what must keep away from what.

use super::copper::{Copper, gap, loop_area};
use crate::check::Fault;
use crate::check::supplies::assigned;
use crate::design::Design;
use crate::pcb::geometry::Point;

/// From a supply pad to its capacitor's, in millimetres: the inductance of 4 mm over a plane 0.2 mm below is about 1 nH, that of
/// the capacitor itself.
pub const DECOUPLING: f64 = 4.0;

/// Each capacitor that the circuit assigns to a pad is beside it.
#[must_use]
pub fn decoupling(copper: &Copper, design: &Design) -> Vec<Fault> {
    let mut faults = Vec::new();
    for it in assigned(design) {
        let found = copper.pad(it.part, it.pad).and_then(|served| {
            copper
                .pads
                .iter()
                .filter(|pad| pad.part == it.capacitor && pad.net == served.net)
                .map(|pad| gap(pad, served))
                .reduce(f64::min)
        });
        let what = match found {
            Some(distance) if distance <= DECOUPLING => continue,
            Some(distance) => format!("{distance:.1} mm from {}, pad {}", it.part, it.pad),
            None => format!("not on the net of {}, pad {}", it.part, it.pad),
        };
        faults.push(Fault::at(it.capacitor, what));
    }
    faults
}

/// The loop of a converter's switching edge (input pad, capacitor, ground pad) encloses at most `area` square millimetres, and is
/// no longer than about a circle's of thrice that area.
#[must_use]
pub fn hot_loop(
    copper: &Copper,
    part: &str,
    (input, ground): (&str, &str),
    capacitor: &str,
    area: f64,
) -> Vec<Fault> {
    let places = [
        (part, input),
        (capacitor, "1"),
        (capacitor, "2"),
        (part, ground),
    ]
    .map(|(part, pad)| copper.pad(part, pad).map(|pad| pad.centre));
    let Some(places) = places.into_iter().collect::<Option<Vec<Point>>>() else {
        return vec![Fault::at(part, format!("no loop through {capacitor}"))];
    };
    let found = loop_area(&places);
    let length: f64 = (0..4)
        .map(|i| places[i].distance(places[(i + 1) % 4]) / 1e6)
        .sum();
    let longest = 2.0 * (3.0 * std::f64::consts::PI * area).sqrt();
    if found <= area && length <= longest {
        return Vec::new();
    }
    vec![Fault::at(
        part,
        format!(
            "the loop through {capacitor} encloses {found:.1} mm2 and is {length:.1} mm long, {area} and {longest:.1} are allowed"
        ),
    )]
}

/// A net's tracks keep `least` millimetres to the copper of another on the same layer.
#[must_use]
pub fn apart(copper: &Copper, net: &str, other: &str, least: f64) -> Vec<Fault> {
    let mut faults = Vec::new();
    for track in copper.tracks_of(net) {
        let gaps = copper.shapes(other, track.layer);
        let gaps = gaps.iter().map(|it| it.gap(&track.shape()) / 1e6);
        let nearest = gaps.fold(f64::INFINITY, f64::min);
        if nearest < least {
            let what = format!("{nearest:.2} mm from {other}, {least} are needed");
            faults.push(Fault::at(net, what));
        }
    }
    faults
}

/// Two pads are at most `most` millimetres apart.
#[must_use]
pub fn close(copper: &Copper, one: (&str, &str), two: (&str, &str), most: f64) -> Vec<Fault> {
    let pads = copper.pad(one.0, one.1).zip(copper.pad(two.0, two.1));
    let Some((a, b)) = pads else {
        return vec![Fault::at(
            one.0,
            format!("or {} is not on the board", two.0),
        )];
    };
    let found = gap(a, b);
    if found <= most {
        return Vec::new();
    }
    vec![Fault::at(
        one.0,
        format!("{found:.1} mm from {}, at most {most} is good", two.0),
    )]
}

/// A net has tracks, of at most `longest` millimetres together.
#[must_use]
pub fn no_longer(copper: &Copper, net: &str, longest: f64) -> Vec<Fault> {
    let length = copper.length(net);
    if length > 0.0 && length <= longest {
        return Vec::new();
    }
    let what = format!("{length:.1} mm long, {longest} are allowed");
    vec![Fault::at(net, what)]
}

/// The plated holes and vias of a thermal pad.
#[must_use]
pub fn thermal_vias(copper: &Copper, part: &str, pad: &str, least: usize) -> Vec<Fault> {
    let of_part = || {
        copper
            .pads
            .iter()
            .filter(|it| it.part == part && it.number == pad)
    };
    let within = |at: Point| of_part().any(|it| it.copper.iter().any(|s| s.covers(at)));
    let own = of_part().filter(|it| it.hole).count();
    let found = own + copper.vias.iter().filter(|(_, at)| within(*at)).count();
    if found >= least {
        return Vec::new();
    }
    vec![Fault::at(
        part,
        format!("{found} vias in its thermal pad, {least} are needed"),
    )]
}

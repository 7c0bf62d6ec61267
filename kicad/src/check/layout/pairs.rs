// SPDX-License-Identifier: Apache-2.0
//! Rules of pairs: equal length, width and gap for their impedance, ground below without a break.

use super::copper::{Copper, TrackCopper};
use crate::check::Fault;
use crate::pcb::geometry::{Point, mm};
use crate::pcb::write::STACK;

/// The differential impedance of a pair of outer tracks over the first inner plane, in ohms.
///
/// IPC-2141A's microstrip, Z0 = 87 / sqrt(er + 1.41) * ln(5.98 h / (0.8 w + t)), and its pair,
/// Zd = 2 Z0 (1 - 0.48 exp(-0.96 s / h)), with width `w`, gap `s`, height `h` over the plane and thickness `t`, all in
/// millimetres. Within about 10 % for these sizes.
#[must_use]
pub fn differential_impedance(width: f64, gap: f64) -> f64 {
    let thickness = STACK[2].2;
    let (height, permittivity) = (STACK[3].2, STACK[3].3.unwrap_or(4.4));
    let single =
        87.0 / (permittivity + 1.41).sqrt() * (5.98 * height / (0.8 * width + thickness)).ln();
    2.0 * single * (1.0 - 0.48 * (-0.96 * gap / height).exp())
}

/// Both nets' tracks are equally long, to within `tolerance` millimetres.
#[must_use]
pub fn matched(copper: &Copper, one: &str, two: &str, tolerance: f64) -> Vec<Fault> {
    let (a, b) = (copper.length(one), copper.length(two));
    if a == 0.0 || b == 0.0 {
        return vec![Fault::at(one, format!("or {two} has no tracks"))];
    }
    if (a - b).abs() <= tolerance {
        return Vec::new();
    }
    vec![Fault::at(
        one,
        format!("{a:.2} mm, but {two} {b:.2} mm: more than {tolerance} apart"),
    )]
}

/// Where both nets run side by side for longest, width and gap give `ohms`, to within 10 %.
#[must_use]
pub fn impedance(copper: &Copper, one: &str, two: &str, ohms: f64) -> Vec<Fault> {
    let longest = |net: &str| {
        let length = |it: &TrackCopper| it.start.distance(it.end);
        let tracks = copper.tracks.iter().filter(|track| track.net == net);
        tracks.max_by(|a, b| length(a).total_cmp(&length(b)))
    };
    let Some((a, b)) = longest(one).zip(longest(two)) else {
        return vec![Fault::at(one, format!("or {two} has no tracks"))];
    };
    let gap = a.shape().gap(&b.shape()) / 1e6;
    let found = differential_impedance(mm(a.width), gap);
    if a.width == b.width && a.layer == b.layer && (found / ohms - 1.0).abs() <= 0.1 {
        return Vec::new();
    }
    vec![Fault::at(
        one,
        format!(
            "{found:.0} ohm with {two}: {} mm wide, {gap:.2} mm apart; {ohms} are asked for",
            mm(a.width)
        ),
    )]
}

/// Ground is filled beside each point of these nets' tracks, on the inner layer next to them.
#[must_use]
pub fn over_ground(copper: &Copper, nets: &[&str]) -> Vec<Fault> {
    let covered = |track: &TrackCopper, at: Point| {
        let plane = if track.layer == 0 { 1 } else { 2 };
        // The hole that a via or a lead makes in the plane is no break of it.
        let hole = copper.vias.iter().any(|(_, via)| via.distance(at) < 0.8e6)
            || copper
                .pads
                .iter()
                .any(|pad| pad.hole && pad.copper.iter().any(|it| it.distance_to(at) < 0.3e6));
        hole || copper
            .filled
            .iter()
            .any(|area| area.layer == plane && area.net == "GND" && area.shape.covers(at))
    };
    nets.iter()
        .filter(|net| {
            copper.tracks_of(net).any(|track| {
                let part = |a: i64, b: i64, step: i64| a + (b - a) * step / 8;
                (0..=8).any(|step| {
                    let at = Point {
                        x: part(track.start.x, track.end.x, step),
                        y: part(track.start.y, track.end.y, step),
                    };
                    !covered(track, at)
                })
            })
        })
        .map(|net| Fault::at(*net, "the ground below it is broken"))
        .collect()
}

/// No track but ground's crosses below these nets' tracks on the lower side.
#[must_use]
pub fn quiet_below(copper: &Copper, nets: &[&str]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for track in nets.iter().flat_map(|net| copper.tracks_of(net)) {
        let below = copper
            .tracks
            .iter()
            .find(|it| it.layer == 3 && it.net != "GND" && it.shape().gap(&track.shape()) < 0.0);
        if let Some(other) = below {
            let what = format!("{} runs below it", other.net);
            faults.push(Fault::at(track.net.clone(), what));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_formula_gives_what_houses_publish() {
        // Published for 7628 prepreg of 0.21 mm, outside: about 0.26 mm wide and 0.15 mm apart for 90 ohm.
        let found = differential_impedance(0.26, 0.15);
        assert!((82.0..98.0).contains(&found), "{found}");
        assert!(differential_impedance(0.15, 0.5) > found);
    }
}

// SPDX-License-Identifier: Apache-2.0
//! How wide the copper between two places is at its narrowest, whatever it is made of: tracks, areas and pads on both outer
//! layers together.
//!
//! It is the largest flow through a grid of cells that each pass one unit: as many cells as fit side by side through the
//! narrowest cut. Inner layers are left out (thinner, and cooled less), so the copper is wider than said, never narrower.

use std::collections::{BTreeMap, VecDeque};

use super::copper::{Copper, PadCopper};
use crate::check::Fault;
use crate::design::Design;
use crate::pcb::geometry::{Bounds, Point, Shape, mm, nm};

/// Distance of cells.
const PITCH: i64 = 100_000;

/// The barrel of a via carries as much as a track of 0.67 mm: its copper is 3.14 * 0.3 mm * 25 um, a track's 35 um thick.
const VIA_CELLS: i32 = 6;

/// A power path: from pads to pads.
#[derive(Debug, Clone, Copy)]
pub struct Way<'a> {
    /// The net.
    pub net: &'a str,
    /// Where current enters, as part and pads.
    pub from: (&'a str, &'a [&'a str]),
    /// Where it leaves.
    pub to: (&'a str, &'a [&'a str]),
}

impl<'a> Way<'a> {
    /// A path of a net, from one part's pads to another's.
    #[must_use]
    pub const fn new(
        net: &'a str,
        from: (&'a str, &'a [&'a str]),
        to: (&'a str, &'a [&'a str]),
    ) -> Self {
        Self { net, from, to }
    }
}

/// The narrowest copper of a way, in millimetres; at most `enough`.
#[must_use]
pub fn narrowest(copper: &Copper, way: &Way<'_>, enough: f64) -> f64 {
    narrowest_beyond(copper, way, 0.0, enough)
}

/// The same, but for necks that are nearer than `neck` millimetres to the way's ends: pads are as narrow as their parts have them.
#[must_use]
pub fn narrowest_beyond(copper: &Copper, way: &Way<'_>, neck: f64, enough: f64) -> f64 {
    narrowest_to_all(copper, way.net, way.from, &[way.to], neck, enough)
}

/// The same for a current that divides among several parts: what they share must carry all of it.
#[must_use]
pub fn narrowest_to_all(
    copper: &Copper,
    net: &str,
    from: (&str, &[&str]),
    to: &[(&str, &[&str])],
    neck: f64,
    enough: f64,
) -> f64 {
    let layers = [copper.shapes(net, 0), copper.shapes(net, 3)];
    let all = layers.iter().flatten().map(Shape::bounds);
    let Some(bounds) = all.reduce(Bounds::and) else {
        return 0.0;
    };
    let mut flow = Flow::new(&bounds);
    for (layer, shape) in [0, 1]
        .into_iter()
        .flat_map(|it| layers[it].iter().map(move |s| (it, s)))
    {
        flow.cover(layer, shape);
    }
    for (_, at) in copper.vias.iter().filter(|(on, _)| on == net) {
        flow.join(*at, VIA_CELLS);
    }
    for pad in copper.pads.iter().filter(|it| it.net == net && it.hole) {
        flow.join(pad.centre, 4 * VIA_CELLS);
    }
    let cells_of = |ends: &[(&str, &[&str])]| {
        let pads = copper.pads.iter().filter(|it| {
            let mut ends = ends.iter();
            ends.any(|(part, numbers)| it.part == *part && numbers.contains(&it.number.as_str()))
        });
        flow.cells_of(pads, nm(neck))
    };
    let (sources, sinks) = (cells_of(&[from]), cells_of(to));
    let mut wanted = 0;
    while mm(i64::try_from(wanted).unwrap_or(0) * PITCH) < enough {
        wanted += 1;
    }
    let found = flow.largest(&sources, &sinks, wanted);
    mm(i64::try_from(found).unwrap_or(0) * PITCH)
}

/// Each way is as wide as the class of its net asks.
#[must_use]
pub fn wide_enough(copper: &Copper, design: &Design, ways: &[Way<'_>]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for way in ways {
        let needed = design.net(way.net).class.width;
        let found = narrowest(copper, way, needed + 0.2);
        if found + 1e-9 < needed {
            let (from, to) = (way.from.0, way.to.0);
            let what = format!("{found:.1} mm of copper from {from} to {to}, {needed} are needed");
            faults.push(Fault::at(way.net, what));
        }
    }
    faults
}

/// Cells of two layers. Each has an entrance and an exit with room for one unit between; a via adds room, and a way to the
/// other layer.
struct Flow {
    origin: Point,
    width: usize,
    height: usize,
    copper: Vec<bool>,
    joins: BTreeMap<usize, i32>,
}

/// How a node was reached.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reached {
    Not,
    Source,
    By(usize),
}

impl Flow {
    fn new(bounds: &Bounds) -> Self {
        let cells = |length: i64| usize::try_from(length / PITCH + 2).unwrap_or(1);
        let width = cells(bounds.high.x - bounds.low.x);
        let height = cells(bounds.high.y - bounds.low.y);
        Self {
            origin: bounds.low,
            width,
            height,
            copper: vec![false; 2 * width * height],
            joins: BTreeMap::new(),
        }
    }

    /// The cells of a layer whose middle is in the shape.
    fn each(&self, shape: &Shape) -> Vec<usize> {
        let bounds = shape.bounds();
        let index = |at: i64, origin: i64| usize::try_from((at - origin) / PITCH).unwrap_or(0);
        let rows = index(bounds.low.y, self.origin.y)..=index(bounds.high.y, self.origin.y) + 1;
        let columns = index(bounds.low.x, self.origin.x)..=index(bounds.high.x, self.origin.x) + 1;
        let signed = |n: usize| i64::try_from(n).unwrap_or(0) * PITCH;
        let mut cells = Vec::new();
        for row in rows.filter(|row| *row < self.height) {
            for column in columns.clone().filter(|column| *column < self.width) {
                let middle = Point {
                    x: self.origin.x + signed(column),
                    y: self.origin.y + signed(row),
                };
                if shape.covers(middle) {
                    cells.push(row * self.width + column);
                }
            }
        }
        cells
    }

    fn plane(&self) -> usize {
        self.width * self.height
    }

    fn cover(&mut self, layer: usize, shape: &Shape) {
        for cell in self.each(shape) {
            let plane = self.plane();
            self.copper[layer * plane + cell] = true;
        }
    }

    fn join(&mut self, at: Point, cells: i32) {
        if let Some(cell) = self.each(&Shape::disc(at, PITCH)).first() {
            *self.joins.entry(*cell).or_default() += cells;
        }
    }

    fn cells_of<'a>(&self, pads: impl Iterator<Item = &'a PadCopper>, neck: i64) -> Vec<usize> {
        let mut found = Vec::new();
        for pad in pads {
            for (layer, bit) in [(0, 1), (1, 8)] {
                for shape in pad.copper.iter().filter(|_| pad.layers & bit != 0) {
                    let reach = Shape {
                        corners: shape.corners.clone(),
                        radius: shape.radius + neck,
                    };
                    let cells = self.each(&reach).into_iter();
                    let cells = cells.map(|cell| layer * self.plane() + cell);
                    found.extend(cells.filter(|cell| self.copper[*cell]));
                }
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    fn join_at(&self, cell: usize) -> i32 {
        let cell = cell % self.plane();
        self.joins.get(&cell).copied().unwrap_or(0)
    }

    /// Ways that share no room, at most `enough`: each is found breadth first in what earlier ones left.
    fn largest(&self, sources: &[usize], sinks: &[usize], enough: usize) -> usize {
        let cells = self.copper.len();
        // Units out of each cell to its right, down, left, up, and to the other layer; and through it.
        let mut out_of = vec![[0_i32; 5]; cells];
        let mut through = vec![0_i32; cells];
        let (mut sink, mut endless) = (vec![false; cells], vec![false; cells]);
        for &cell in sinks {
            sink[cell] = true;
            endless[cell] = true;
        }
        for &cell in sources {
            endless[cell] = true;
        }
        for found in 0..enough {
            let mut reached = vec![Reached::Not; 2 * cells];
            let mut queue = VecDeque::new();
            for &cell in sources.iter().filter(|cell| self.copper[**cell]) {
                reached[2 * cell + 1] = Reached::Source;
                queue.push_back(2 * cell + 1);
            }
            let mut end = None;
            while let Some(node) = queue.pop_front() {
                let (cell, exit) = (node / 2, node % 2 == 1);
                if sink[cell] {
                    end = Some(node);
                    break;
                }
                let mut visit = |next: usize| {
                    if reached[next] == Reached::Not {
                        reached[next] = Reached::By(node);
                        queue.push_back(next);
                    }
                };
                let room = 1 + self.join_at(cell);
                if !exit && (endless[cell] || through[cell] < room) || exit && through[cell] > 0 {
                    visit(node ^ 1);
                }
                for direction in 0..5 {
                    let Some(next) = self.neighbour(cell, direction) else {
                        continue;
                    };
                    let full = direction == 4 && out_of[cell][4] >= self.join_at(cell);
                    if exit && !full {
                        visit(2 * next);
                    }
                    if !exit && out_of[next][opposite(direction)] > 0 {
                        visit(2 * next + 1);
                    }
                }
            }
            let Some(mut node) = end else {
                return found;
            };
            while let Reached::By(before) = reached[node] {
                let (a, b) = (before / 2, node / 2);
                if a == b {
                    through[a] += if node % 2 == 1 { 1 } else { -1 };
                } else {
                    let direction = (0..5)
                        .find(|it| self.neighbour(a, *it) == Some(b))
                        .expect("each step was to a neighbour");
                    if before % 2 == 1 {
                        out_of[a][direction] += 1;
                    } else {
                        out_of[b][opposite(direction)] -= 1;
                    }
                }
                node = before;
            }
        }
        enough
    }

    fn neighbour(&self, cell: usize, direction: usize) -> Option<usize> {
        let (layer, at) = (cell / self.plane(), cell % self.plane());
        let (x, y) = (at % self.width, at / self.width);
        let next = match direction {
            0 if x + 1 < self.width => cell + 1,
            1 if y + 1 < self.height => cell + self.width,
            2 if x > 0 => cell - 1,
            3 if y > 0 => cell - self.width,
            4 if self.joins.contains_key(&at) => at + (1 - layer) * self.plane(),
            _ => return None,
        };
        self.copper[next].then_some(next)
    }
}

fn opposite(direction: usize) -> usize {
    [2, 3, 0, 1, 4][direction]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::layout::copper::TrackCopper;
    use crate::pcb::geometry::at;

    /// A strip between two pads.
    fn strip(width: f64) -> Copper {
        let pad = |number: &str, x: f64| PadCopper {
            part: "R1".into(),
            number: number.into(),
            net: "P".into(),
            copper: vec![Shape::rectangle(nm(1.0), nm(4.0), 0).map(|p| p.plus(at(x, 0.0)))],
            layers: 1,
            hole: false,
            centre: at(x, 0.0),
        };
        Copper {
            pads: vec![pad("1", 0.0), pad("2", 10.0)],
            tracks: vec![TrackCopper {
                net: "P".into(),
                layer: 0,
                start: at(0.0, 0.0),
                end: at(10.0, 0.0),
                width: nm(width),
            }],
            ..Copper::default()
        }
    }

    const WAY: Way<'_> = Way {
        net: "P",
        from: ("R1", &["1"]),
        to: ("R1", &["2"]),
    };

    #[test]
    fn the_narrowest_cut_is_found() {
        for width in [0.5, 1.0, 2.0] {
            let found = narrowest(&strip(width), &WAY, 3.0);
            assert!((found - width).abs() <= 0.11, "{width}: {found}");
        }
        let mut broken = strip(2.0);
        broken.tracks[0].end = at(4.0, 0.0);
        assert_eq!(narrowest(&broken, &WAY, 3.0), 0.0);
    }

    #[test]
    fn a_neck_at_a_pad_is_left_out_where_it_is_asked_for_and_one_further_on_is_not() {
        let mut copper = strip(2.0);
        let end = copper.tracks[0].end;
        copper.tracks[0].end = at(8.0, 0.0);
        copper.tracks.push(TrackCopper {
            start: at(8.0, 0.0),
            end,
            width: nm(0.5),
            ..copper.tracks[0].clone()
        });
        copper.pads[1].copper = vec![Shape::rectangle(nm(0.4), nm(0.4), 0).map(|p| p.plus(end))];
        assert!(narrowest(&copper, &WAY, 3.0) < 0.9);
        assert!(narrowest_beyond(&copper, &WAY, 1.5, 3.0) > 1.4);
        copper.tracks[0].width = nm(0.5);
        assert!(narrowest_beyond(&copper, &WAY, 1.5, 3.0) < 0.9);
    }

    #[test]
    fn two_tracks_carry_together_and_one_below_what_its_vias_carry() {
        let mut copper = strip(0.5);
        copper.tracks.push(TrackCopper {
            start: at(0.0, 1.5),
            end: at(10.0, 1.5),
            ..copper.tracks[0].clone()
        });
        let both = narrowest(&copper, &WAY, 3.0);
        assert!((both - 1.0).abs() <= 0.21, "{both}");
        copper.tracks[1].layer = 3;
        let apart = narrowest(&copper, &WAY, 3.0);
        assert!((apart - 0.5).abs() <= 0.11, "{apart}");
        copper.vias = vec![("P".into(), at(0.0, 1.5)), ("P".into(), at(10.0, 1.5))];
        let joined = narrowest(&copper, &WAY, 3.0);
        assert!(joined > apart + 0.2, "{joined}");
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The grid that tracks run on, and where a given net's tracks and vias may not be.

use super::{Item, Kind, Problem, Rule};
use crate::pcb::geometry::{Bounds, Point, Shape};

/// How far from a corner the middles of cells must be, so that a diagonal step between two of them still keeps `reach`.
fn beyond(reach: i64, pitch: i64) -> i64 {
    // Half a diagonal and `reach` are the sides of a right angle.
    (reach * reach + pitch * pitch / 2).isqrt() + 1_000
}

/// A grid over the board, the same on each layer.
#[derive(Debug, Clone)]
pub(super) struct Grid {
    pub(super) origin: Point,
    pub(super) pitch: i64,
    pub(super) width: usize,
    pub(super) height: usize,
}

/// What a cell is to one net.
pub(super) const FREE: u8 = 0;
/// Another net's track, which could be moved.
pub(super) const TAKEN: u8 = 1;
/// Never.
pub(super) const CLOSED: u8 = 2;

impl Grid {
    pub(super) fn new(bounds: &Bounds, pitch: i64) -> Self {
        let cells = |length: i64| usize::try_from(length / pitch + 1).unwrap_or(1);
        Self {
            origin: bounds.low,
            pitch,
            width: cells(bounds.high.x - bounds.low.x),
            height: cells(bounds.high.y - bounds.low.y),
        }
    }

    pub(super) fn cells(&self) -> usize {
        self.width * self.height
    }

    pub(super) fn place(&self, cell: usize) -> Point {
        let signed = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        Point {
            x: self.origin.x + signed(cell % self.width) * self.pitch,
            y: self.origin.y + signed(cell / self.width) * self.pitch,
        }
    }

    fn span(&self, low: i64, high: i64, origin: i64, count: usize) -> std::ops::Range<usize> {
        let first = (low - origin).max(0) + self.pitch - 1;
        let first = usize::try_from(first / self.pitch).unwrap_or(0);
        let last = (high - origin).div_euclid(self.pitch) + 1;
        first..usize::try_from(last).unwrap_or(0).min(count)
    }

    /// Calls `f` with each cell whose middle is nearer to `shape` than `reach`.
    pub(super) fn near(&self, shape: &Shape, reach: i64, mut f: impl FnMut(usize)) {
        let bounds = shape.bounds().grown(reach);
        #[expect(clippy::cast_precision_loss, reason = "below 2^53")]
        let reach = reach as f64;
        let columns = self.span(bounds.low.x, bounds.high.x, self.origin.x, self.width);
        let rows = self.span(bounds.low.y, bounds.high.y, self.origin.y, self.height);
        if columns.is_empty() {
            return;
        }
        if !convex(shape) {
            for row in rows {
                for column in columns.clone() {
                    let cell = row * self.width + column;
                    if shape.distance_to(self.place(cell)) < reach {
                        f(cell);
                    }
                }
            }
            return;
        }
        // What is near a convex shape is one stretch of each row, and its ends move little from row to row.
        let mut stretch: Option<(usize, usize)> = None;
        for row in rows {
            let near =
                |column: usize| shape.distance_to(self.place(row * self.width + column)) < reach;
            let (low, high) = (columns.start, columns.end - 1);
            let guess = stretch.filter(|(first, last)| near(*first) || near(*last));
            let (mut first, mut last) = match guess {
                Some(found) => found,
                None => match columns.clone().find(|column| near(*column)) {
                    Some(found) => (found, found),
                    None => {
                        stretch = None;
                        continue;
                    }
                },
            };
            while !near(first) {
                first += 1;
            }
            while first > low && near(first - 1) {
                first -= 1;
            }
            last = last.max(first);
            while !near(last) {
                last -= 1;
            }
            while last < high && near(last + 1) {
                last += 1;
            }
            stretch = Some((first, last));
            for column in first..=last {
                f(row * self.width + column);
            }
        }
    }
}

/// Whether all corners turn the same way.
fn convex(shape: &Shape) -> bool {
    let count = shape.corners.len();
    if count < 3 {
        return true;
    }
    let turns = (0..count).map(|i| {
        let [a, b, c] = [0, 1, 2].map(|step| shape.corners[(i + step) % count]);
        let cross = i128::from(b.x - a.x) * i128::from(c.y - b.y)
            - i128::from(b.y - a.y) * i128::from(c.x - b.x);
        cross.signum()
    });
    let (mut left, mut right) = (false, false);
    for turn in turns {
        left |= turn < 0;
        right |= turn > 0;
    }
    !(left && right)
}

/// What no item is near to.
const NOBODY: u16 = u16::MAX;
/// What items of more than one net are near to, or of none.
const ANYBODY: u16 = u16::MAX - 1;

/// Cells that an item takes from nets of one rule.
#[derive(Debug, Default)]
pub(super) struct Cells {
    /// Tracks of other nets may not be here, by layer.
    tracks: Vec<(u8, u32)>,
    /// Vias of other nets may not be here.
    vias: Vec<u32>,
    /// Vias of any net may not be here.
    holes: Vec<u32>,
}

impl Cells {
    /// Adds what `item` takes.
    pub(super) fn add(&mut self, grid: &Grid, problem: &Problem, rule: &Rule, item: &Item) {
        let via = &problem.via;
        let number = |cell: usize| u32::try_from(cell).unwrap_or(u32::MAX);
        if let Some(hole) = &item.hole {
            let reach = via.drill / 2 + problem.hole_distance + 1_000;
            grid.near(hole, reach, |cell| self.holes.push(number(cell)));
        }
        if item.layers == 0 || item.kind == Kind::Plane {
            return;
        }
        let clearance = match item.kind {
            Kind::Keepout => 0,
            _ => rule.clearance.max(problem.nets[item.net].clearance),
        };
        let reach = via.diameter / 2 + clearance + 1_000;
        grid.near(&item.shape, reach, |cell| self.vias.push(number(cell)));
        let layers = item.layers & rule.layers;
        if layers != 0 {
            let reach = beyond(rule.width / 2 + clearance, grid.pitch);
            grid.near(&item.shape, reach, |cell| {
                for layer in (0..4_u8).filter(|layer| layers & (1 << layer) != 0) {
                    self.tracks.push((layer, number(cell)));
                }
            });
        }
    }
}

/// What does not move, as nets of one rule see it: whose items each cell is near to.
pub(super) struct Obstacles {
    tracks: [Vec<u16>; 4],
    vias: Vec<u16>,
}

impl Obstacles {
    pub(super) fn new(grid: &Grid, problem: &Problem, rule: &Rule) -> Self {
        let layer = |layer: usize| match rule.layers & (1 << layer) {
            0 => vec![ANYBODY; grid.cells()],
            _ => vec![NOBODY; grid.cells()],
        };
        let mut tracks = std::array::from_fn(layer);
        let mut vias = vec![NOBODY; grid.cells()];
        let near = |cell: &mut u16, owner: u16| {
            if *cell != owner {
                *cell = if *cell == NOBODY { owner } else { ANYBODY };
            }
        };
        for item in &problem.items {
            let owner = match item.net {
                0 => ANYBODY,
                net => u16::try_from(net).unwrap_or(ANYBODY),
            };
            let mut cells = Cells::default();
            cells.add(grid, problem, rule, item);
            for cell in cells.holes {
                vias[cell as usize] = ANYBODY;
            }
            for cell in cells.vias {
                near(&mut vias[cell as usize], owner);
            }
            for (layer, cell) in cells.tracks {
                near(&mut tracks[usize::from(layer)][cell as usize], owner);
            }
        }
        let outside = |reach: i64| beyond(problem.edge_clearance + reach, grid.pitch);
        for edge in &problem.edges {
            grid.near(edge, outside(rule.width / 2), |cell| {
                for layer in &mut tracks {
                    layer[cell] = ANYBODY;
                }
            });
            grid.near(edge, outside(problem.via.diameter / 2), |cell| {
                vias[cell] = ANYBODY;
            });
        }
        Self { tracks, vias }
    }
}

/// For one net: each cell of each layer, and each place of a via.
pub(super) struct Map {
    pub(super) tracks: [Vec<u8>; 4],
    pub(super) vias: Vec<u8>,
}

impl Map {
    /// As `net` sees what does not move.
    pub(super) fn new(grid: &Grid, problem: &Problem, obstacles: &Obstacles, net: usize) -> Self {
        let own = u16::try_from(net).unwrap_or(ANYBODY);
        let seen = |owners: &Vec<u16>| -> Vec<u8> {
            let seen = owners.iter().map(|&owner| match owner {
                NOBODY => FREE,
                owner if owner == own => FREE,
                _ => CLOSED,
            });
            seen.collect()
        };
        let mut map = Self {
            tracks: std::array::from_fn(|layer| seen(&obstacles.tracks[layer])),
            vias: seen(&obstacles.vias),
        };
        // A via in a small pad draws its solder away.
        let pads = problem.items.iter();
        for pad in pads.filter(|it| it.net == net && it.kind == Kind::Pad && it.hole.is_none()) {
            if pad.layers != 0 {
                grid.near(&pad.shape, problem.via.diameter / 2, |cell| {
                    map.vias[cell] = CLOSED;
                });
            }
        }
        map
    }

    /// Adds what tracks and vias that were laid take, of this net or of another.
    pub(super) fn add(&mut self, cells: &Cells, own: bool) {
        if own {
            for &cell in &cells.holes {
                self.vias[cell as usize] = CLOSED;
            }
            return;
        }
        for &cell in cells.holes.iter().chain(&cells.vias) {
            let cell = &mut self.vias[cell as usize];
            *cell = TAKEN.max(*cell);
        }
        for &(layer, cell) in &cells.tracks {
            let cell = &mut self.tracks[usize::from(layer)][cell as usize];
            *cell = TAKEN.max(*cell);
        }
    }

    /// Closes the places nearer than `apart` to a via, but not its own.
    pub(super) fn close_around(&mut self, grid: &Grid, via: Point, apart: f64) {
        #[expect(clippy::cast_possible_truncation, reason = "a length on the board")]
        let reach = apart as i64;
        grid.near(&Shape::disc(via, 0), reach, |cell| {
            if grid.place(cell) != via {
                self.vias[cell] = CLOSED;
            }
        });
    }
}

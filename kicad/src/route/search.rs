// SPDX-License-Identifier: Apache-2.0
//! The cheapest way from some cells to others: A* over cells of two outer layers, with vias between them and to the planes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::grid::{CLOSED, Grid, Map, TAKEN};

/// Cost of a straight step; a diagonal one is 14.
const STEP: u32 = 10;
/// A via is as dear as 2.5 mm of track.
const VIA: u32 = 250;
/// A step through a plane costs so many.
const INNER: u32 = 3;
/// Bends of 45 and 90 degrees; sharper ones do not exist.
const BENDS: [u32; 3] = [0, 4, 30];
/// Eight directions, clockwise.
const DIRECTIONS: [(isize, isize); 8] = [
    (1, 0),
    (1, 1),
    (0, 1),
    (-1, 1),
    (-1, 0),
    (-1, -1),
    (0, -1),
    (1, -1),
];
const START: u8 = 255;
/// `VIA_FROM + layer`: reached by a via from that layer.
const VIA_FROM: u8 = 16;

/// A cell of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Node {
    pub(super) layer: u8,
    pub(super) cell: u32,
}

/// Room for searches, kept from one to the next.
pub(super) struct Search {
    cost: Vec<u32>,
    from: Vec<u8>,
    stamp: Vec<u32>,
    goal: Vec<u32>,
    now: u32,
    /// How often a cell was fought for.
    pub(super) history: Vec<u16>,
    cells: usize,
}

impl Search {
    pub(super) fn new(grid: &Grid) -> Self {
        let nodes = grid.cells() * 4;
        Self {
            cost: vec![0; nodes],
            from: vec![START; nodes],
            stamp: vec![0; nodes],
            goal: vec![0; nodes],
            now: 0,
            history: vec![0; nodes],
            cells: grid.cells(),
        }
    }

    fn index(&self, node: Node) -> usize {
        usize::from(node.layer) * self.cells + node.cell as usize
    }

    /// Remembers that `node` is wanted by more than one net.
    pub(super) fn contested(&mut self, node: Node) {
        let index = self.index(node);
        self.history[index] = self.history[index].saturating_add(1);
    }

    /// The nodes from one of `from` to one of `to`. Cells of other nets' tracks cost `insist` each and more where they were fought
    /// for; with `None` they are closed.
    pub(super) fn path(
        &mut self,
        grid: &Grid,
        map: &Map,
        from: &[Node],
        to: &[Node],
        insist: Option<u32>,
    ) -> Option<Vec<Node>> {
        self.now += 1;
        let now = self.now;
        let (mut low, mut high) = ((usize::MAX, usize::MAX), (0, 0));
        for &node in to {
            let index = self.index(node);
            self.goal[index] = now;
            let (x, y) = (
                node.cell as usize % grid.width,
                node.cell as usize / grid.width,
            );
            low = (low.0.min(x), low.1.min(y));
            high = (high.0.max(x), high.1.max(y));
        }
        if to.is_empty() {
            return None;
        }
        let width = grid.width;
        let left = move |cell: usize| -> u32 {
            let (x, y) = (cell % width, cell / width);
            let away = |v: usize, low: usize, high: usize| {
                low.saturating_sub(v).max(v.saturating_sub(high))
            };
            let (dx, dy) = (away(x, low.0, high.0), away(y, low.1, high.1));
            let (near, far) = (dx.min(dy), dx.max(dy));
            u32::try_from(14 * near + 10 * (far - near)).unwrap_or(u32::MAX / 2)
        };
        let mut open = BinaryHeap::new();
        for &node in from {
            let index = self.index(node);
            if map.tracks[usize::from(node.layer)][node.cell as usize] == CLOSED
                || self.stamp[index] == now
            {
                continue;
            }
            self.stamp[index] = now;
            self.cost[index] = 0;
            self.from[index] = START;
            open.push(Reverse((left(node.cell as usize), 0_u32, node)));
        }
        while let Some(Reverse((_, cost, node))) = open.pop() {
            let index = self.index(node);
            if cost > self.cost[index] {
                continue;
            }
            if self.goal[index] == now {
                return Some(self.trace(grid, node));
            }
            let cell = node.cell as usize;
            let came = self.from[index];
            let layer = usize::from(node.layer);
            let mut reach = |search: &mut Self, to: Node, step: u32, how: u8, closed: u8| {
                let toll = match (closed, insist) {
                    (CLOSED, _) | (TAKEN, None) => return,
                    (TAKEN, Some(insist)) => {
                        insist + 3 * insist * u32::from(search.history[search.index(to)]).min(40)
                    }
                    _ => u32::from(search.history[search.index(to)]).min(20),
                };
                let index = search.index(to);
                let total = cost + step + toll;
                if search.stamp[index] != now || total < search.cost[index] {
                    search.stamp[index] = now;
                    search.cost[index] = total;
                    search.from[index] = how;
                    open.push(Reverse((total + left(to.cell as usize), total, to)));
                }
            };
            if map.tracks[layer][cell] != CLOSED {
                for (direction, &(dx, dy)) in (0_u8..).zip(&DIRECTIONS) {
                    let bend = match came {
                        0..8 => {
                            let turn = came.abs_diff(direction);
                            usize::from(turn.min(8 - turn))
                        }
                        _ => 0,
                    };
                    let Some(&bend) = BENDS.get(bend) else {
                        continue;
                    };
                    let (Some(x), Some(y)) = (
                        (cell % grid.width).checked_add_signed(dx),
                        (cell / grid.width).checked_add_signed(dy),
                    ) else {
                        continue;
                    };
                    if x >= grid.width || y >= grid.height {
                        continue;
                    }
                    let next = y * grid.width + x;
                    let step = if dx != 0 && dy != 0 { 14 } else { STEP };
                    let step = if node.layer == 2 { INNER * step } else { step };
                    let to = Node {
                        layer: node.layer,
                        cell: u32::try_from(next).unwrap_or(u32::MAX),
                    };
                    reach(self, to, step + bend, direction, map.tracks[layer][next]);
                }
            }
            if map.vias[cell] != CLOSED && (came < VIA_FROM || came == START) {
                for other in (0..4_u8).filter(|other| *other != node.layer) {
                    let to = Node {
                        layer: other,
                        cell: node.cell,
                    };
                    let goal = self.goal[self.index(to)] == now;
                    let closed = if goal {
                        map.vias[cell]
                    } else {
                        map.tracks[usize::from(other)][cell].max(map.vias[cell])
                    };
                    reach(self, to, VIA, VIA_FROM + node.layer, closed);
                }
            }
        }
        None
    }

    fn trace(&self, grid: &Grid, end: Node) -> Vec<Node> {
        let mut nodes = vec![end];
        let mut node = end;
        loop {
            let how = self.from[self.index(node)];
            node = match how {
                START => break,
                0..8 => {
                    let (dx, dy) = DIRECTIONS[usize::from(how)];
                    let step = dx + dy * isize::try_from(grid.width).unwrap_or(isize::MAX);
                    let cell = (node.cell as usize).wrapping_add_signed(-step);
                    Node {
                        layer: node.layer,
                        cell: u32::try_from(cell).unwrap_or(u32::MAX),
                    }
                }
                _ => Node {
                    layer: how - VIA_FROM,
                    cell: node.cell,
                },
            };
            nodes.push(node);
        }
        nodes.reverse();
        nodes
    }
}

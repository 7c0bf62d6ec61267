// SPDX-License-Identifier: Apache-2.0
//! The router: lays the tracks that the layout does not give by hand, on the outer layers, with vias to the planes.
//!
//! ```text
//! queue of nets -> cheapest way, other nets' tracks passable at a price -> lay it -> take up what it crosses -> queue
//! ```
//! Places that are fought for get dearer each time, so that nets with another way take it. The order of everything is that of
//! the input: the same input gives the same tracks.

mod grid;
mod problem;
mod search;

use std::collections::{BTreeMap, VecDeque};

use crate::pcb::geometry::{Bounds, Point};
use grid::{Cells, Grid, Map, Obstacles};
pub use problem::{Item, Kind, Path, Problem, Rule, TRACKS, Unrouted, ViaRule};
use search::{Node, Search};

/// How often a way is sought again whose own holes are too close to each other.
const WAYS: usize = 50;

struct Router<'p> {
    problem: &'p Problem,
    grid: Grid,
    search: Search,
    laid: BTreeMap<u32, Path>,
    next: u32,
    /// The cells of each zone, by its place among the items: they are many and never change.
    zones: BTreeMap<usize, Vec<Node>>,
    /// Each net's rule, by its place among those that differ; 0 is that of no net.
    rules: Vec<usize>,
    /// What does not move, as each rule sees it.
    obstacles: BTreeMap<usize, Obstacles>,
    /// What was laid, by its number and the rule that sees it.
    taken: BTreeMap<(u32, usize), Cells>,
}

/// Lays every connection.
///
/// # Errors
/// [`Unrouted`] if some remain after `rounds` attempts per net.
pub fn route(problem: &Problem, rounds: usize) -> Result<Vec<Path>, Unrouted> {
    let grid = Grid::new(&problem.bounds, problem.pitch);
    let mut router = Router {
        problem,
        search: Search::new(&grid),
        grid,
        laid: BTreeMap::new(),
        next: 0,
        zones: BTreeMap::new(),
        rules: Vec::new(),
        obstacles: BTreeMap::new(),
        taken: BTreeMap::new(),
    };
    for rule in &problem.nets {
        // The order says when, not where.
        let alike = |other: &Rule| {
            (other.width, other.clearance, other.layers)
                == (rule.width, rule.clearance, rule.layers)
        };
        let first = problem.nets.iter().position(alike).unwrap_or_default();
        router.rules.push(first);
    }
    for (index, item) in problem.items.iter().enumerate() {
        if matches!(item.kind, Kind::Zone | Kind::Plane) {
            let mut nodes = Vec::new();
            router.nodes_of(item, &mut nodes);
            router.zones.insert(index, nodes);
        }
    }
    let mut nets: Vec<usize> = (1..problem.nets.len()).collect();
    nets.sort_by_key(|net| (problem.nets[*net].order, *net));
    let mut queue: VecDeque<usize> = nets.into();
    let mut tries = vec![0_usize; problem.nets.len()];
    let mut open = Vec::new();
    while let Some(net) = queue.pop_front() {
        tries[net] += 1;
        let last = tries[net] > rounds;
        let insist = if last {
            None
        } else {
            Some(30 + 10 * u32::try_from(tries[net]).unwrap_or(0))
        };
        let (disturbed, left_over) = router.connect(net, insist);
        for other in disturbed {
            if !queue.contains(&other) {
                queue.push_back(other);
            }
        }
        open.retain(|(other, _)| *other != net);
        open.extend(left_over.into_iter().map(|place| (net, place)));
    }
    let laid: Vec<Path> = router.laid.into_values().collect();
    if open.is_empty() {
        Ok(laid)
    } else {
        Err(Unrouted { open, laid })
    }
}

impl Router<'_> {
    /// Joins all pieces of a net; gives the nets whose tracks had to go, and pieces that found no way.
    fn connect(&mut self, net: usize, insist: Option<u32>) -> (Vec<usize>, Vec<Point>) {
        let mut disturbed = Vec::new();
        let mut stuck: Vec<Point> = Vec::new();
        let mut map = self.map(net);
        let mut left = usize::MAX;
        loop {
            let mut pieces = self.pieces(net);
            pieces.retain(|piece| !stuck.contains(&piece.place));
            if pieces.len() < 2 {
                return (disturbed, stuck);
            }
            let zone = pieces.iter().position(|piece| piece.zone);
            // From the smallest thing that is no plane; with planes, any way out will do.
            let start = (0..pieces.len())
                .filter(|piece| Some(*piece) != zone)
                .min_by_key(|piece| (pieces[*piece].nodes.len(), *piece))
                .expect("there are two pieces and one at most is left out");
            // Each way joins two pieces; one that did not would be sought for ever.
            if pieces.len() >= left {
                stuck.push(pieces[start].place);
                continue;
            }
            let from = &pieces[start].nodes;
            let to: Vec<Node> = pieces
                .iter()
                .enumerate()
                .filter(|(piece, _)| *piece != start)
                .flat_map(|(_, piece)| piece.nodes.iter().copied())
                .collect();
            let Some(path) = self.way(net, &mut map, from, &to, insist) else {
                stuck.push(pieces[start].place);
                continue;
            };
            left = pieces.len();
            disturbed.extend(self.take_up(&path));
            map.add(&self.cells(&path, net), true);
            self.laid.insert(self.next, path);
            self.next += 1;
        }
    }

    /// The board as `net` sees it.
    fn map(&mut self, net: usize) -> Map {
        let (grid, problem, rule) = (&self.grid, self.problem, self.rules[net]);
        let obstacles = self
            .obstacles
            .entry(rule)
            .or_insert_with(|| Obstacles::new(grid, problem, &problem.nets[rule]));
        let mut map = Map::new(grid, problem, obstacles, net);
        for (&id, path) in &self.laid {
            if !self.taken.contains_key(&(id, rule)) {
                let cells = self.cells(path, rule);
                self.taken.insert((id, rule), cells);
            }
            map.add(&self.taken[&(id, rule)], path.net == net);
        }
        map
    }

    /// What `path` takes from nets with the rule of `net`.
    fn cells(&self, path: &Path, net: usize) -> Cells {
        let mut cells = Cells::default();
        for item in &path.items {
            cells.add(&self.grid, self.problem, &self.problem.nets[net], item);
        }
        cells
    }

    /// A way whose own holes keep their distance, which the search, cell by cell, cannot see: where two are too close, the places
    /// around the first are closed and the way is sought again.
    fn way(
        &mut self,
        net: usize,
        map: &mut Map,
        from: &[Node],
        to: &[Node],
        insist: Option<u32>,
    ) -> Option<Path> {
        let apart = self.problem.via.drill + self.problem.hole_distance;
        #[expect(clippy::cast_precision_loss, reason = "below 2^53")]
        let apart = apart as f64;
        for _ in 0..WAYS {
            let nodes = self.search.path(&self.grid, map, from, to, insist)?;
            let path = self.lay(net, nodes);
            let crowded = path.vias.iter().enumerate().find(|(index, via)| {
                let mut later = path.vias[index + 1..].iter();
                later.any(|other| via.distance(*other) < apart)
            });
            let Some((_, via)) = crowded else {
                return Some(path);
            };
            map.close_around(&self.grid, *via, apart);
        }
        None
    }

    fn lay(&self, net: usize, nodes: Vec<Node>) -> Path {
        let rule = &self.problem.nets[net];
        let place = |node: Node| self.grid.place(node.cell as usize);
        let (mut tracks, mut vias) = (Vec::new(), Vec::new());
        let mut start = nodes[0];
        for (index, &node) in nodes.iter().enumerate().skip(1) {
            if node.layer != start.layer {
                vias.push(place(node));
                start = node;
                continue;
            }
            let straight = nodes.get(index + 1).is_some_and(|next| {
                next.layer == node.layer && {
                    let (a, b, c) = (place(nodes[index - 1]), place(node), place(*next));
                    (b.x - a.x, b.y - a.y) == (c.x - b.x, c.y - b.y)
                }
            });
            if !straight {
                tracks.push((node.layer, place(start), place(node)));
                start = node;
            }
        }
        let items = tracks
            .iter()
            .map(|&(layer, a, b)| Item::track(net, layer, (a, b), rule.width))
            .chain(vias.iter().map(|&at| Item::via(net, at, self.problem.via)))
            .collect();
        Path {
            net,
            tracks,
            vias,
            nodes,
            items,
        }
    }

    /// Takes up what `path` is too close to; gives the nets.
    fn take_up(&mut self, path: &Path) -> Vec<usize> {
        let mut nets = Vec::new();
        let mut gone: Vec<u32> = Vec::new();
        for (&id, other) in &self.laid {
            if other.net != path.net && self.conflict(path, other) {
                gone.push(id);
                nets.push(other.net);
            }
        }
        if gone.is_empty() {
            return nets;
        }
        for &node in &path.nodes {
            self.search.contested(node);
        }
        for id in gone {
            let Some(path) = self.laid.remove(&id) else {
                continue;
            };
            // What hung on it would dangle.
            let dangling: Vec<u32> = self
                .laid
                .iter()
                .filter(|(_, other)| {
                    other.net == path.net
                        && other.items.iter().any(|a| {
                            path.items
                                .iter()
                                .any(|b| a.layers & b.layers != 0 && a.shape.gap(&b.shape) <= 0.0)
                        })
                })
                .map(|(id, _)| *id)
                .collect();
            for id in dangling {
                self.laid.remove(&id);
            }
        }
        let laid = &self.laid;
        self.taken.retain(|(id, _), _| laid.contains_key(id));
        nets.sort_unstable();
        nets.dedup();
        nets
    }

    fn conflict(&self, one: &Path, two: &Path) -> bool {
        let clearance = self.problem.nets[one.net]
            .clearance
            .max(self.problem.nets[two.net].clearance);
        #[expect(clippy::cast_precision_loss, reason = "below 2^53")]
        let (clearance, holes) = (clearance as f64, self.problem.hole_distance as f64);
        one.items.iter().any(|a| {
            let bounds = a.shape.bounds().grown(400_000);
            two.items.iter().any(|b| {
                bounds.meets(&b.shape.bounds())
                    && (a.layers & b.layers != 0 && a.shape.gap(&b.shape) < clearance
                        || match (&a.hole, &b.hole) {
                            (Some(a), Some(b)) => a.gap(b) < holes,
                            _ => false,
                        })
            })
        })
    }

    /// The pieces of a net that are not joined yet.
    fn pieces(&self, net: usize) -> Vec<Piece> {
        let fixed = self.problem.items.iter().enumerate();
        let laid = self.laid.values().filter(|path| path.net == net);
        let mut items: Vec<(&Item, Option<usize>)> = fixed
            .filter(|(_, item)| item.net == net && item.kind != Kind::Keepout)
            .map(|(index, item)| (item, Some(index)))
            .collect();
        for path in laid {
            items.extend(path.items.iter().map(|item| (item, None)));
        }
        let mut group: Vec<usize> = (0..items.len()).collect();
        fn find(group: &mut [usize], mut i: usize) -> usize {
            while group[i] != i {
                group[i] = group[group[i]];
                i = group[i];
            }
            i
        }
        let bounds: Vec<Bounds> = items.iter().map(|(item, _)| item.shape.bounds()).collect();
        for a in 0..items.len() {
            for b in 0..a {
                if items[a].0.layers & items[b].0.layers != 0
                    && bounds[a].meets(&bounds[b])
                    && touch(items[a].0, items[b].0)
                {
                    let (a, b) = (find(&mut group, a), find(&mut group, b));
                    group[a.max(b)] = a.min(b);
                }
            }
        }
        let mut pieces: BTreeMap<usize, Piece> = BTreeMap::new();
        for (index, (item, fixed)) in items.iter().enumerate() {
            let piece = pieces
                .entry(find(&mut group, index))
                .or_insert_with(|| Piece {
                    nodes: Vec::new(),
                    zone: false,
                    place: item.shape.bounds().centre(),
                });
            piece.zone |= matches!(item.kind, Kind::Zone | Kind::Plane);
            match fixed.and_then(|index| self.zones.get(&index)) {
                Some(nodes) => piece.nodes.extend(nodes),
                None => self.nodes_of(item, &mut piece.nodes),
            }
        }
        pieces.into_values().collect()
    }

    /// Cells where a track that ends is joined to the item.
    fn nodes_of(&self, item: &Item, nodes: &mut Vec<Node>) {
        let rule = &self.problem.nets[item.net];
        let inset = match item.kind {
            // At a via's middle: beside it the joint would be narrower than the track.
            Kind::Track if item.hole.is_some() => self.problem.pitch - item.shape.radius,
            // As wide as the track itself, and half a cell off at most.
            Kind::Track => -self.problem.pitch / 2 + 1,
            // The filler rounds corners and withdraws from others: well inside.
            Kind::Zone | Kind::Plane => -(self.problem.via.diameter / 2 + rule.width / 2),
            _ => -item.shape.radius.clamp(20_000, 40_000),
        };
        let before = nodes.len();
        for inset in [inset, 0] {
            self.grid.near(&item.shape, inset, |cell| {
                for layer in (0..4_u8).filter(|layer| item.layers & (1 << layer) != 0) {
                    nodes.push(Node {
                        layer,
                        cell: u32::try_from(cell).unwrap_or(u32::MAX),
                    });
                }
            });
            if nodes.len() > before {
                break;
            }
        }
    }
}

/// Whether two items of a net are joined: a track by its end, which is what KiCad asks for.
fn touch(a: &Item, b: &Item) -> bool {
    match (a.kind, b.kind) {
        (Kind::Zone | Kind::Plane, _) => {
            let inside = |at: Point| a.shape.covers(at);
            match b.kind {
                // Where it ends, well within: the filler rounds corners.
                Kind::Track => b
                    .shape
                    .corners
                    .iter()
                    .any(|at| a.shape.distance_to(*at) < -1e5),
                _ => inside(b.shape.bounds().centre()),
            }
        }
        (_, Kind::Zone | Kind::Plane) => touch(b, a),
        _ => a.shape.gap(&b.shape) <= 0.0,
    }
}

struct Piece {
    nodes: Vec<Node>,
    zone: bool,
    place: Point,
}

#[cfg(test)]
mod tests;

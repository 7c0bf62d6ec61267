// SPDX-License-Identifier: Apache-2.0
//! The router: lays the tracks that the layout does not give by hand, on the outer layers, with vias to the planes.
//!
//! ```text
//! queue of nets -> cheapest way, other nets' tracks passable at a price -> lay it -> take up what it crosses -> queue
//! ```
//! Places that are fought for get dearer each time, so that nets with another way take it. The order of everything is that of
//! the input: the same input gives the same tracks.

mod grid;
mod search;

use std::collections::{BTreeMap, VecDeque};

use crate::footprints::{B_CU, F_CU, IN2, Layers};
use crate::pcb::geometry::{Bounds, Point, Shape};
use grid::{Cells, Grid, Map, Obstacles};
use search::{Node, Search};

/// What is to be routed.
#[derive(Debug)]
pub struct Problem {
    /// The board.
    pub bounds: Bounds,
    /// The distance of the grid's lines.
    pub pitch: i64,
    /// All that does not move.
    pub items: Vec<Item>,
    /// The nets' rules by number; 0 is what belongs to none.
    pub nets: Vec<Rule>,
    /// The one kind of via.
    pub via: ViaRule,
    /// The board's edge.
    pub edges: Vec<Shape>,
    /// Copper to the edge.
    pub edge_clearance: i64,
    /// Between the walls of two holes.
    pub hole_distance: i64,
}

/// What holds for one net.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// Of its tracks.
    pub width: i64,
    /// To other nets.
    pub clearance: i64,
    /// Where its tracks may be.
    pub layers: Layers,
    /// Lower ones are routed first.
    pub order: i64,
}

/// Size of a via.
#[derive(Debug, Clone, Copy)]
pub struct ViaRule {
    /// Of its copper.
    pub diameter: i64,
    /// Of its hole.
    pub drill: i64,
}

/// What an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A pad.
    Pad,
    /// A large pad, into which vias may go: a thermal pad.
    WidePad,
    /// A track or a via.
    Track,
    /// An area that is filled: tracks and vias of its net end anywhere in it.
    Zone,
    /// An inner plane: as [`Kind::Zone`] for its own net, and it withdraws from others' tracks.
    Plane,
    /// Nothing may be here but what is of its net.
    Keepout,
}

/// A piece of copper.
#[derive(Debug, Clone)]
pub struct Item {
    /// Its outline.
    pub shape: Shape,
    /// Where it is.
    pub layers: Layers,
    /// Its net; 0 for none.
    pub net: usize,
    /// What it is.
    pub kind: Kind,
    /// Its hole.
    pub hole: Option<Shape>,
}

/// A connection that was laid.
#[derive(Debug, Clone)]
pub struct Path {
    /// The net.
    pub net: usize,
    /// Tracks as layer, start and end.
    pub tracks: Vec<(u8, Point, Point)>,
    /// Vias.
    pub vias: Vec<Point>,
    nodes: Vec<Node>,
    items: Vec<Item>,
}

/// Nets that found no way, with two places that should be joined.
#[derive(Debug, thiserror::Error)]
#[error("{} connections found no way", open.len())]
pub struct Unrouted {
    /// Net and a place of the piece that is left over.
    pub open: Vec<(usize, Point)>,
    /// What was laid of the rest.
    pub laid: Vec<Path>,
}

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
    let mut laid: Vec<Path> = router.laid.into_values().collect();
    prune(problem, &mut laid);
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
            .map(|&(layer, a, b)| Item {
                shape: Shape::line(a, b, rule.width),
                layers: 1 << layer,
                net,
                kind: Kind::Track,
                hole: None,
            })
            .chain(vias.iter().map(|&at| via_at(self.problem, net, at)))
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

fn via_at(problem: &Problem, net: usize, at: Point) -> Item {
    Item {
        shape: Shape::disc(at, problem.via.diameter / 2),
        layers: crate::footprints::ALL,
        net,
        kind: Kind::Track,
        hole: Some(Shape::disc(at, problem.via.drill / 2)),
    }
}

/// Takes away what leads nowhere: ends of ways whose other part was taken up, and vias that join nothing.
fn prune(problem: &Problem, laid: &mut [Path]) {
    loop {
        let all: Vec<Item> = laid.iter().flat_map(|path| path.items.clone()).collect();
        let touched = |item: &Item, at: Point| {
            let own = |other: &&Item| {
                other.net == item.net
                    && other.layers & item.layers != 0
                    && !(other.shape == item.shape && other.layers == item.layers)
                    && other.shape.distance_to(at) <= 0.0
            };
            all.iter().any(|it| own(&it)) || problem.items.iter().any(|it| own(&it))
        };
        let mut gone = false;
        for path in laid.iter_mut() {
            let net = path.net;
            let width = problem.nets[net].width;
            path.tracks.retain(|&(layer, a, b)| {
                let item = Item {
                    shape: Shape::line(a, b, width),
                    layers: 1 << layer,
                    net,
                    kind: Kind::Track,
                    hole: None,
                };
                let keep = touched(&item, a) && touched(&item, b);
                gone |= !keep;
                keep
            });
            path.vias.retain(|&at| {
                let via = via_at(problem, net, at);
                let layers = (0..4).filter(|layer| {
                    let on_layer = Item {
                        layers: 1 << layer,
                        ..via.clone()
                    };
                    touched(&on_layer, at)
                });
                let keep = layers.count() > 1;
                gone |= !keep;
                keep
            });
            let (tracks, vias) = (path.tracks.clone(), path.vias.clone());
            path.items.retain(|item| match &item.hole {
                Some(_) => vias
                    .iter()
                    .any(|&at| item.shape == via_at(problem, net, at).shape),
                None => tracks.iter().any(|&(layer, a, b)| {
                    item.layers == 1 << layer && item.shape == Shape::line(a, b, width)
                }),
            });
        }
        if !gone {
            return;
        }
    }
}

/// Whether two items of a net are joined: a track by its end, which is what KiCad asks for.
fn touch(a: &Item, b: &Item) -> bool {
    match (a.kind, b.kind) {
        (Kind::Zone | Kind::Plane, _) => {
            let inside = |at: Point| a.shape.distance_to(at) <= 0.0;
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

/// The layers with tracks: both outer ones, and where those are full the lower inner one, at a price, whose planes then withdraw. The
/// upper inner layer stays whole: it is the ground that pairs and loops refer to.
pub const TRACKS: Layers = F_CU | IN2 | B_CU;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pcb::geometry::{at, nm};

    fn pad(x: f64, y: f64, net: usize) -> Item {
        Item {
            shape: Shape::rectangle(nm(0.6), nm(0.6), 0).map(|p| p.plus(at(x, y))),
            layers: F_CU,
            net,
            kind: Kind::Pad,
            hole: None,
        }
    }

    fn problem(items: Vec<Item>, nets: usize) -> Problem {
        Problem {
            bounds: Bounds {
                low: at(0.0, 0.0),
                high: at(10.0, 10.0),
            },
            pitch: nm(0.1),
            items,
            nets: vec![
                Rule {
                    width: nm(0.15),
                    clearance: nm(0.15),
                    layers: TRACKS,
                    order: 0,
                };
                nets + 1
            ],
            via: ViaRule {
                diameter: nm(0.6),
                drill: nm(0.3),
            },
            edges: Vec::new(),
            edge_clearance: 0,
            hole_distance: nm(0.25),
        }
    }

    fn crossing() -> Problem {
        let items = vec![
            pad(0.3, 5.0, 1),
            pad(9.7, 5.0, 1),
            pad(5.0, 0.3, 2),
            pad(5.0, 9.7, 2),
        ];
        problem(items, 2)
    }

    #[test]
    fn tracks_that_cross_do_so_on_two_layers() {
        let paths = route(&crossing(), 10).unwrap();
        assert_eq!(paths.len(), 2);
        for one in paths[0].items.iter() {
            for two in paths[1]
                .items
                .iter()
                .filter(|two| one.layers & two.layers != 0)
            {
                assert!(one.shape.gap(&two.shape) >= 0.15e6);
            }
        }
        assert!(paths.iter().any(|path| !path.vias.is_empty()));
    }

    #[test]
    fn the_same_input_gives_the_same_tracks() {
        let laid = |paths: Vec<Path>| -> Vec<_> {
            paths
                .into_iter()
                .map(|path| (path.tracks, path.vias))
                .collect()
        };
        let first = laid(route(&crossing(), 10).unwrap());
        assert_eq!(first, laid(route(&crossing(), 10).unwrap()));
    }

    #[test]
    fn a_net_in_the_way_is_taken_up_and_laid_elsewhere() {
        // Net 1 goes straight through the only gap that net 2 has; it has another way, net 2 has not.
        let wall = |low: f64, high: f64| Item {
            shape: Shape::line(at(5.0, low), at(5.0, high), nm(0.5)),
            layers: crate::footprints::ALL,
            net: 0,
            kind: Kind::Keepout,
            hole: None,
        };
        let mut items = crossing().items;
        items[2] = pad(3.0, 5.4, 2);
        items[3] = pad(7.0, 5.4, 2);
        items.extend([wall(0.5, 4.5), wall(5.3, 7.0), wall(8.0, 9.5)]);
        let paths = route(&problem(items, 2), 20).unwrap();
        assert_eq!(paths.len(), 2);
    }

    #[test]
    fn the_holes_of_one_way_keep_their_distance() {
        // So wide a track that it ends on the front 0.3 mm before it may begin on the back: the inner layer is between, and the
        // shortest way there has its holes in each other.
        let wall = |low: f64, high: f64, layers: Layers| Item {
            shape: Shape {
                corners: vec![at(low, -1.0), at(high, -1.0), at(high, 11.0), at(low, 11.0)],
                radius: 0,
            },
            layers,
            net: 0,
            kind: Kind::Keepout,
            hole: None,
        };
        let mut target = pad(9.0, 5.0, 1);
        target.layers = B_CU;
        let items = vec![
            pad(1.0, 5.0, 1),
            target,
            wall(6.7, 11.0, F_CU),
            wall(-1.0, 5.0, B_CU),
        ];
        let mut problem = problem(items, 1);
        problem.nets[1].width = nm(2.0);
        let paths = route(&problem, 10).unwrap();
        let vias: Vec<Point> = paths.iter().flat_map(|path| path.vias.clone()).collect();
        assert_eq!(vias.len(), 2);
        assert!(vias[0].distance(vias[1]) >= 0.55e6, "{vias:?}");
    }

    #[test]
    fn a_pad_without_a_way_out_is_named() {
        let mut items = vec![pad(1.0, 5.0, 1), pad(9.0, 5.0, 1)];
        for layers in [F_CU, IN2, B_CU] {
            items.push(Item {
                shape: Shape::line(at(5.0, -1.0), at(5.0, 11.0), nm(0.5)),
                layers,
                net: 0,
                kind: Kind::Keepout,
                hole: None,
            });
        }
        let left = route(&problem(items, 1), 3).unwrap_err();
        assert_eq!(left.open.len(), 1);
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Small boards that need one thing each.

use super::*;
use crate::footprints::{B_CU, F_CU, IN2, Layers};
use crate::pcb::geometry::{Shape, at, nm};

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

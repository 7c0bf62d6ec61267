// SPDX-License-Identifier: Apache-2.0
//! A `.kicad_pcb` as its dimensions see it: places in their coordinates, whichever face KiCad shows.

use racklet_boards::dimensions::Dimensions;

use super::SOCKET;
use crate::sexpr::Sexpr;

pub(super) type Spot = [f64; 2];

/// A box as its lower left and upper right corner.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Box2 {
    pub(super) low: Spot,
    pub(super) high: Spot,
}

impl Box2 {
    pub(super) fn around(spots: impl IntoIterator<Item = Spot>) -> Option<Self> {
        spots
            .into_iter()
            .map(|it| Self { low: it, high: it })
            .reduce(|a, b| Self {
                low: [a.low[0].min(b.low[0]), a.low[1].min(b.low[1])],
                high: [a.high[0].max(b.high[0]), a.high[1].max(b.high[1])],
            })
    }

    pub(super) fn middle(&self) -> Spot {
        [0, 1].map(|axis| f64::midpoint(self.low[axis], self.high[axis]))
    }

    pub(super) fn holds(&self, spot: Spot, over: f64) -> bool {
        [0, 1].iter().all(|&axis| {
            spot[axis] >= self.low[axis] - over && spot[axis] <= self.high[axis] + over
        })
    }
}

/// The board as the dimensions see it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    /// The file's place of the dimensions' origin.
    pub(super) origin: Spot,
    /// KiCad's upper side looks away: x counts the other way. A backplane is seen from the side that its sockets are on.
    pub(super) from_below: bool,
}

impl Seen {
    /// The outline's corners, tab and all, are those of the dimensions.
    pub(super) fn of(board: &Sexpr, dimensions: &Dimensions) -> Option<Self> {
        let found = Box2::around(edge_cuts(board).flat_map(points))?;
        let whole = whole(dimensions);
        let socket = |it: &&Sexpr| it.argument(0).is_some_and(|it| it.contains(SOCKET));
        let from_below = board
            .all("footprint")
            .find(socket)
            .is_some_and(|it| it.field("layer") == Some("B.Cu"));
        Some(Self {
            origin: [
                if from_below {
                    found.high[0] + whole.low[0]
                } else {
                    found.low[0] - whole.low[0]
                },
                found.low[1] + whole.high[1],
            ],
            from_below,
        })
    }

    pub(super) fn spot(&self, file: Spot) -> Spot {
        let x = file[0] - self.origin[0];
        [
            if self.from_below { -x } else { x },
            self.origin[1] - file[1],
        ]
    }
}

/// Plate and tab.
pub(super) fn whole(dimensions: &Dimensions) -> Box2 {
    let tab = dimensions.edge.map(|edge| [edge.low, edge.high]);
    let corners = tab
        .into_iter()
        .flatten()
        .chain([[0.0, 0.0], dimensions.size]);
    Box2::around(corners).expect("a plate has corners")
}

pub(super) fn edge_cuts(board: &Sexpr) -> impl Iterator<Item = &Sexpr> {
    board.items().iter().filter(|item| {
        item.field("layer") == Some("Edge.Cuts")
            && matches!(
                item.name(),
                Some("gr_line" | "gr_arc" | "gr_rect" | "gr_circle")
            )
    })
}

/// The points of a line or an arc, its middle included.
pub(super) fn points(item: &Sexpr) -> Vec<Spot> {
    let spot = |name| item.get(name).and_then(pair);
    let mut found: Vec<Spot> = ["start", "mid", "end"]
        .into_iter()
        .filter_map(spot)
        .collect();
    if let ([start, end], Some("gr_line")) = (&found[..], item.name()) {
        found.push([0, 1].map(|axis| f64::midpoint(start[axis], end[axis])));
    }
    found
}

pub(super) fn pair(item: &Sexpr) -> Option<Spot> {
    Some([
        item.items().get(1)?.number()?,
        item.items().get(2)?.number()?,
    ])
}

/// A part of the board.
#[derive(Debug)]
pub(super) struct Part<'b> {
    pub(super) reference: &'b str,
    pub(super) footprint: &'b str,
    /// Its origin.
    pub(super) at: Spot,
    /// It is on the face away from who looks.
    pub(super) back: bool,
    pub(super) pads: Vec<Pad<'b>>,
    /// Around its body as drawn for the fab.
    pub(super) body: Option<Box2>,
}

#[derive(Debug)]
pub(super) struct Pad<'b> {
    pub(super) number: &'b str,
    pub(super) at: Spot,
    pub(super) drill: Option<f64>,
    pub(super) layers: Vec<&'b str>,
}

impl<'b> Part<'b> {
    pub(super) fn read(item: &'b Sexpr, seen: &Seen) -> Self {
        let at = item.get("at").and_then(pair).unwrap_or_default();
        let angle = item
            .get("at")
            .and_then(|it| it.items().get(3)?.number())
            .unwrap_or_default();
        let (sine, cosine) = angle.to_radians().sin_cos();
        // KiCad turns against the clock with y downwards.
        let on_board = |it: Spot| {
            seen.spot([
                at[0] + it[0] * cosine + it[1] * sine,
                at[1] - it[0] * sine + it[1] * cosine,
            ])
        };
        let pads = item.all("pad").map(|pad| Pad {
            number: pad.argument(0).unwrap_or_default(),
            at: on_board(pad.get("at").and_then(pair).unwrap_or_default()),
            drill: pad.field("drill").and_then(|it| it.parse().ok()),
            layers: pad
                .get("layers")
                .map(|it| it.items()[1..].iter().filter_map(Sexpr::value).collect())
                .unwrap_or_default(),
        });
        let drawn = item
            .items()
            .iter()
            .filter(|it| matches!(it.field("layer"), Some("F.Fab" | "B.Fab")));
        let corners = drawn.flat_map(|it| {
            let named = ["start", "mid", "end"].map(|name| it.get(name).and_then(pair));
            let listed = it.get("pts").into_iter().flat_map(|pts| pts.all("xy"));
            named
                .into_iter()
                .flatten()
                .chain(listed.filter_map(pair))
                .collect::<Vec<_>>()
        });
        Self {
            reference: item
                .all("property")
                .find(|it| it.argument(0) == Some("Reference"))
                .and_then(|it| it.argument(1))
                .unwrap_or_default(),
            footprint: item.argument(0).unwrap_or_default(),
            at: seen.spot(at),
            back: (item.field("layer") == Some("B.Cu")) != seen.from_below,
            body: Box2::around(corners.map(on_board)),
            pads: pads.collect(),
        }
    }

    pub(super) fn pad(&self, number: &str) -> Option<&Pad<'b>> {
        self.pads.iter().find(|pad| pad.number == number)
    }

    /// The middle between two of its pads.
    pub(super) fn between(&self, one: &str, other: &str) -> Option<Spot> {
        let ends = [self.pad(one)?.at, self.pad(other)?.at];
        Some(Box2::around(ends)?.middle())
    }
}

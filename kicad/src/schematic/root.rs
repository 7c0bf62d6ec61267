// SPDX-License-Identifier: Apache-2.0
//! The root sheet: the sheets one below the other, and a wire for each net that goes between them.

use std::collections::BTreeMap;

use super::{Drawing, Label, Note, Plan, SheetBox, text_steps};
use crate::symbols::{Point, Side};

/// The left edge of the sheets.
const LEFT: i32 = 24;
/// How wide they are.
const WIDTH: i32 = 52;

pub(super) fn draw(plan: &Plan<'_>) -> Drawing {
    let mut drawing = Drawing::default();
    let mut pins: BTreeMap<&'static str, Vec<Point>> = BTreeMap::new();
    let mut top = 26;
    for sheet in &plan.design.sheets {
        let nets: Vec<_> = plan
            .crossing
            .iter()
            .filter(|net| {
                plan.design.parts.iter().any(|part| {
                    part.sheet == sheet.name && part.pins.iter().any(|pin| pin.net == **net)
                })
            })
            .copied()
            .collect();
        let mut placed = Vec::new();
        let mut y = top + 2;
        for net in nets {
            let at = Point::new(LEFT + WIDTH, y);
            placed.push((net, at));
            pins.entry(net).or_default().push(at);
            y += 2;
        }
        let height = (y - top).max(8);
        drawing.sheets.push(SheetBox {
            name: sheet.name,
            title: sheet.title,
            at: Point::new(LEFT, top),
            size: Point::new(WIDTH, height),
            pins: placed,
        });
        top += height + 8;
    }
    let widest = pins.keys().map(|net| text_steps(net)).max().unwrap_or(0);
    let mut column = LEFT + WIDTH + widest + 4;
    for (net, at) in pins {
        let first = at[0];
        for pin in &at {
            drawing.wire(*pin, Point::new(column, pin.y));
        }
        for pair in at.windows(2) {
            drawing.wire(Point::new(column, pair[0].y), Point::new(column, pair[1].y));
        }
        drawing.labels.push(Label {
            net,
            at: Point::new(LEFT + WIDTH + 1, first.y),
            side: Side::Right,
            crossing: false,
        });
        column += 2;
    }
    drawing.notes.push(Note {
        text: format!(
            "{}, revision {}\nNever fabricated yet: see docs/hardware before you order.\nDrawn by the generator in kicad/: change the design there, not here.",
            plan.design.title, plan.design.revision
        ),
        at: Point::new(LEFT, 14),
        size: 2.0,
        bold: false,
    });
    drawing
}

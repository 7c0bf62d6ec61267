// SPDX-License-Identifier: Apache-2.0
//! Where a drawing has ink: bodies, texts and wires as rectangles in steps of the grid, to find room and to find overlaps.

use super::{Drawing, Label, Placed, What, text_width, turned};
use crate::symbols::{Point, Side};

/// Half the height of a text with its distance to others, in steps.
const HALF_TEXT: f64 = 0.8;

/// What is in a rectangle.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Ink {
    /// A symbol's body with its pins.
    Body(String),
    /// A text of a symbol.
    Field(String),
    /// A net's name.
    Name(String),
    /// A wire.
    Wire,
    /// Text for people.
    Note,
}

/// A rectangle.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Area {
    pub(super) low: (f64, f64),
    pub(super) high: (f64, f64),
    pub(super) ink: Ink,
}

impl Area {
    fn new(one: (f64, f64), other: (f64, f64), ink: Ink) -> Self {
        Self {
            low: (one.0.min(other.0), one.1.min(other.1)),
            high: (one.0.max(other.0), one.1.max(other.1)),
            ink,
        }
    }

    /// Whether the two have a point in common that is on no edge.
    pub(super) fn covers(&self, other: &Self) -> bool {
        self.low.0 < other.high.0
            && other.low.0 < self.high.0
            && self.low.1 < other.high.1
            && other.low.1 < self.high.1
    }

    /// Less by `by` on each side.
    pub(super) fn shrunk(&self, by: f64) -> Self {
        Self {
            low: (self.low.0 + by, self.low.1 + by),
            high: (self.high.0 - by, self.high.1 - by),
            ink: self.ink.clone(),
        }
    }
}

fn float(point: Point) -> (f64, f64) {
    (f64::from(point.x), f64::from(point.y))
}

/// Where a net's name is: just above its wire, or to the left of an upright one.
pub(super) fn label_area(label: &Label) -> Area {
    let (x, y) = float(label.at);
    let ink = Ink::Name(label.net.to_owned());
    let width = text_width(label.net) + if label.crossing { 1.5 } else { 0.3 };
    // A label that crosses is on its wire's level, others stand above it.
    let (near, far) = if label.crossing {
        (0.7, -0.7)
    } else {
        (-0.1, -1.6)
    };
    match label.side {
        Side::Right => Area::new((x, y + near), (x + width, y + far), ink),
        Side::Left => Area::new((x, y + near), (x - width, y + far), ink),
        Side::Up => Area::new((x + near, y), (x + far, y - width), ink),
        Side::Down => Area::new((x + near, y), (x + far, y + width), ink),
    }
}

fn body(placed: &Placed) -> Area {
    let (low, high) = (
        turned(placed.symbol.low, placed.turns),
        turned(placed.symbol.high, placed.turns),
    );
    let name = match placed.what {
        What::Part(reference) => reference,
        What::Rail(net) => net,
        What::Flag => "PWR_FLAG",
    };
    Area::new(
        float(placed.at + low),
        float(placed.at + high),
        Ink::Body(name.to_owned()),
    )
}

pub(super) fn fields(placed: &Placed, value: &str) -> Vec<Area> {
    let text = |words: &str, (x, y): (f64, f64)| {
        let width = text_width(words);
        let left = if placed.from_left { x } else { x - width / 2.0 };
        Area::new(
            (left, y - HALF_TEXT),
            (left + width, y + HALF_TEXT),
            Ink::Field(words.to_owned()),
        )
    };
    match placed.what {
        What::Part(reference) => vec![
            text(reference, placed.reference_at),
            text(value, placed.value_at),
        ],
        What::Rail(net) => vec![text(net, placed.value_at)],
        What::Flag => vec![text("PWR_FLAG", placed.value_at)],
    }
}

/// Texts and bodies that cover one another, and wires that run over a text or through a body.
#[cfg(test)]
pub(super) fn overlaps(drawing: &Drawing) -> Vec<String> {
    let areas: Vec<Area> = areas(drawing)
        .into_iter()
        .map(|area| match area.ink {
            // Wires end at a body's pins, and bodies' corners are rounded up to the grid.
            Ink::Body(_) => area.shrunk(0.6),
            _ => area.shrunk(0.05),
        })
        .collect();
    let mut found = Vec::new();
    for (index, one) in areas.iter().enumerate() {
        for other in &areas[index + 1..] {
            let is_meant = match (&one.ink, &other.ink) {
                (Ink::Wire, Ink::Wire) => true,
                // A turned part's wires begin at its pins, inside its corners.
                (Ink::Body(_), Ink::Wire) | (Ink::Wire, Ink::Body(_)) => true,
                _ => false,
            };
            if !is_meant && one.covers(other) {
                found.push(format!("{:?} and {:?}", one.ink, other.ink));
            }
        }
    }
    found
}

/// Everything of a drawing.
pub(super) fn areas(drawing: &Drawing) -> Vec<Area> {
    let mut areas: Vec<Area> = Vec::new();
    for placed in &drawing.symbols {
        areas.push(body(placed));
        areas.extend(fields(placed, &placed.value));
    }
    areas.extend(drawing.labels.iter().map(label_area));
    for (from, to) in &drawing.wires {
        let (low, high) = (float(*from.min(to)), float(*from.max(to)));
        areas.push(Area::new(
            (low.0 - 0.05, low.1 - 0.05),
            (high.0 + 0.05, high.1 + 0.05),
            Ink::Wire,
        ));
    }
    for note in &drawing.notes {
        let (x, y) = float(note.at);
        let size = note.size / 1.27;
        let mut lines = 0.0;
        let mut width = 0.0_f64;
        for line in note.text.lines() {
            lines += 1.0;
            width = width.max(text_width(line) * size);
        }
        areas.push(Area::new(
            (x, y),
            (x + width, y + lines * 1.62 * size),
            Ink::Note,
        ));
    }
    areas
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schematic::Note;

    fn note(x: i32) -> Drawing {
        Drawing {
            notes: vec![Note {
                text: "words".into(),
                at: Point::new(x, 0),
                size: 1.27,
                bold: false,
            }],
            ..Drawing::default()
        }
    }

    #[test]
    fn a_text_on_another_is_found_and_one_beside_it_is_not() {
        let mut apart = note(0);
        apart.put(note(8), Point::new(0, 0));
        assert_eq!(overlaps(&apart), [""; 0]);
        let mut over = note(0);
        over.put(note(2), Point::new(0, 0));
        assert_eq!(overlaps(&over).len(), 1);
    }

    #[test]
    fn a_wire_through_a_text_is_found() {
        let mut drawing = note(0);
        drawing.wire(Point::new(-3, 1), Point::new(9, 1));
        assert_eq!(overlaps(&drawing).len(), 1);
    }
}

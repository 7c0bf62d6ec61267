// SPDX-License-Identifier: Apache-2.0
//! Blocks side by side on the smallest page that holds them.

use super::{Drawing, block::Block};
use crate::symbols::{GRID, Point};

/// A page: KiCad's name and its size in steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Paper {
    pub(super) name: &'static str,
    width: i32,
    height: i32,
}

#[allow(clippy::cast_possible_truncation, reason = "a page")]
const fn paper(name: &'static str, width: f64, height: f64) -> Paper {
    Paper {
        name,
        width: (width / GRID) as i32,
        height: (height / GRID) as i32,
    }
}

pub(super) const A4: Paper = paper("A4", 297.0, 210.0);
pub(super) const A3: Paper = paper("A3", 420.0, 297.0);
const PAPERS: [Paper; 4] = [A4, A3, paper("A2", 594.0, 420.0), paper("A1", 841.0, 594.0)];

/// The frame, and what stays free within it.
const MARGIN: i32 = 14;
/// Between blocks.
const GAP: i32 = 4;
/// The title block's height, with the frame.
const TITLE: i32 = 34;

/// Puts all blocks on a page; none if they do not go on the largest.
pub(super) fn arrange(blocks: Vec<Block>) -> Option<(Paper, Drawing)> {
    let sizes: Vec<Point> = blocks.iter().map(|block| block.high - block.low).collect();
    let (paper, places) = PAPERS
        .into_iter()
        .find_map(|paper| Some((paper, shelves(&sizes, paper)?)))?;
    let mut drawing = Drawing::default();
    for (block, place) in blocks.into_iter().zip(places) {
        drawing.put(block.drawing, place - block.low);
    }
    Some((paper, drawing))
}

/// Where the upper left corner of each goes: tall ones first, from left to right, row by row.
fn shelves(sizes: &[Point], paper: Paper) -> Option<Vec<Point>> {
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by_key(|index| -sizes[*index].y);
    let mut rows: Vec<Row> = Vec::new();
    let mut places = vec![Point::new(0, 0); sizes.len()];
    let right = paper.width - MARGIN;
    let bottom = paper.height - TITLE;
    for index in order {
        let size = sizes[index];
        let row = match rows.iter_mut().find(|row| row.takes(size, right)) {
            Some(row) => row,
            None => {
                let top = rows.last().map_or(MARGIN, |row| row.top + row.height + GAP);
                if top + size.y > bottom || MARGIN + size.x > right {
                    return None;
                }
                rows.push(Row {
                    top,
                    height: size.y,
                    end: MARGIN,
                    column: None,
                });
                rows.last_mut()?
            }
        };
        places[index] = row.put(size, right);
    }
    Some(places)
}

/// A row of blocks; low ones may stand on each other in a column.
struct Row {
    top: i32,
    height: i32,
    end: i32,
    /// The last column: left edge, width, and where it is free.
    column: Option<(i32, i32, i32)>,
}

impl Row {
    fn takes(&self, size: Point, right: i32) -> bool {
        self.in_column(size).is_some() || self.end + size.x <= right && size.y <= self.height
    }

    fn in_column(&self, size: Point) -> Option<Point> {
        let (left, width, free) = self.column?;
        (size.x <= width && free + size.y <= self.top + self.height)
            .then_some(Point::new(left, free))
    }

    fn put(&mut self, size: Point, _: i32) -> Point {
        if let Some(place) = self.in_column(size) {
            if let Some((_, _, free)) = &mut self.column {
                *free += size.y + GAP;
            }
            return place;
        }
        let place = Point::new(self.end, self.top);
        self.column = Some((self.end, size.x, self.top + size.y + GAP));
        self.end += size.x + GAP;
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn blocks_do_not_overlap_and_stay_on_the_page(
            sizes in proptest::collection::vec((4..80i32, 4..60i32), 1..30)
        ) {
            let sizes: Vec<Point> = sizes.into_iter().map(|(x, y)| Point::new(x, y)).collect();
            if let Some(places) = shelves(&sizes, PAPERS[2]) {
                let boxes: Vec<_> = places.iter().zip(&sizes).map(|(at, size)| (*at, *at + *size)).collect();
                for (index, (low, high)) in boxes.iter().enumerate() {
                    proptest::prop_assert!(low.x >= MARGIN && low.y >= MARGIN);
                    proptest::prop_assert!(high.x <= PAPERS[2].width - MARGIN && high.y <= PAPERS[2].height - TITLE);
                    for (other_low, other_high) in &boxes[..index] {
                        let apart = high.x <= other_low.x || other_high.x <= low.x
                            || high.y <= other_low.y || other_high.y <= low.y;
                        proptest::prop_assert!(apart);
                    }
                }
            }
        }
    }

    #[test]
    fn what_no_page_holds_is_refused() {
        assert_eq!(shelves(&[Point::new(900, 10)], PAPERS[3]), None);
    }
}

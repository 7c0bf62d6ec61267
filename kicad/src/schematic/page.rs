// SPDX-License-Identifier: Apache-2.0
//! Blocks side by side on the smallest page that holds them.

use std::collections::BTreeSet;

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
const MARGIN: i32 = 10;
/// Between blocks.
const GAP: i32 = 3;
/// The title block's height, with the frame.
const TITLE: i32 = 34;
/// And its width.
const TITLE_WIDTH: i32 = 96;

/// Puts all blocks on a page; none if they do not go on the largest.
pub(super) fn arrange(blocks: Vec<Block>) -> Option<(Paper, Drawing)> {
    let sizes: Vec<Point> = blocks.iter().map(|block| block.high - block.low).collect();
    let (paper, places) = PAPERS
        .into_iter()
        .find_map(|paper| Some((paper, packed(&sizes, paper)?)))?;
    let mut drawing = Drawing::default();
    for (block, place) in blocks.into_iter().zip(places) {
        drawing.put(block.drawing, place - block.low);
    }
    Some((paper, drawing))
}

/// Places in an order as near to reading order as fits: the first blocks keep their turn, the last ones change it. Where none of
/// the orders that were tried fits, the tall, the wide or the large ones go first.
fn packed(sizes: &[Point], paper: Paper) -> Option<Vec<Point>> {
    let area = |size: &Point| (size.x + GAP) * (size.y + GAP);
    if sizes.iter().map(area).sum::<i32>() > paper.width * paper.height {
        return None;
    }
    let mut tries = TRIES;
    let mut page = Page::new(paper, sizes.len());
    if page.fill(sizes, &mut tries) {
        return Some(page.places);
    }
    let keys: [fn(Point) -> i32; 3] = [|size| -size.y, |size| -size.x, |size| -size.x * size.y];
    keys.into_iter().find_map(|key| {
        let mut order: Vec<usize> = (0..sizes.len()).collect();
        order.sort_by_key(|index| key(sizes[*index]));
        let mut page = Page::new(paper, sizes.len());
        order
            .into_iter()
            .all(|index| page.put(index, sizes[index]))
            .then_some(page.places)
    })
}

/// How many blocks may be put and taken away again while an order is looked for.
const TRIES: u32 = 20_000;

/// A page with some of the blocks on it.
struct Page {
    paper: Paper,
    /// The blocks' places, by their number.
    places: Vec<Point>,
    done: Vec<bool>,
    /// What is taken: the title block, then the blocks as they came.
    taken: Vec<(Point, Point)>,
}

impl Page {
    fn new(paper: Paper, blocks: usize) -> Self {
        Self {
            paper,
            places: vec![Point::new(0, 0); blocks],
            done: vec![false; blocks],
            taken: vec![(
                Point::new(paper.width - TITLE_WIDTH, paper.height - TITLE),
                Point::new(paper.width, paper.height),
            )],
        }
    }

    /// Puts what is left, in the first order that fits.
    fn fill(&mut self, sizes: &[Point], tries: &mut u32) -> bool {
        let mut complete = true;
        for index in 0..sizes.len() {
            if self.done[index] {
                continue;
            }
            complete = false;
            if *tries == 0 {
                return false;
            }
            *tries -= 1;
            if self.put(index, sizes[index]) {
                if self.fill(sizes, tries) {
                    return true;
                }
                self.taken.pop();
                self.done[index] = false;
            }
        }
        complete
    }

    /// Puts one block as far up and then as far to the left as there is room; not, if there is none.
    fn put(&mut self, index: usize, size: Point) -> bool {
        let (right, bottom) = (self.paper.width - MARGIN, self.paper.height - MARGIN);
        let lines = |of: fn(Point) -> i32| -> BTreeSet<i32> {
            let behind = self.taken[1..].iter().map(|(_, high)| of(*high) + GAP);
            behind.chain([MARGIN]).collect()
        };
        let (columns, rows) = (lines(|point| point.x), lines(|point| point.y));
        let place = rows.iter().find_map(|y| {
            columns.iter().map(|x| Point::new(*x, *y)).find(|at| {
                let far = *at + size;
                far.x <= right
                    && far.y <= bottom
                    && self.taken.iter().all(|(low, high)| {
                        far.x + GAP <= low.x
                            || high.x + GAP <= at.x
                            || far.y + GAP <= low.y
                            || high.y + GAP <= at.y
                    })
            })
        });
        if let Some(place) = place {
            self.taken.push((place, place + size));
            self.places[index] = place;
            self.done[index] = true;
        }
        place.is_some()
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
            if let Some(places) = packed(&sizes, PAPERS[2]) {
                let boxes: Vec<_> = places.iter().zip(&sizes).map(|(at, size)| (*at, *at + *size)).collect();
                for (index, (low, high)) in boxes.iter().enumerate() {
                    proptest::prop_assert!(low.x >= MARGIN && low.y >= MARGIN);
                    proptest::prop_assert!(high.x <= PAPERS[2].width - MARGIN && high.y <= PAPERS[2].height - MARGIN);
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
    fn the_last_blocks_change_their_turn_before_a_larger_page_is_taken() {
        let sizes = [(150, 100), (150, 100), (310, 20), (200, 80)].map(|(x, y)| Point::new(x, y));
        let places = packed(&sizes, A3).unwrap();
        assert_eq!(places[0], Point::new(MARGIN, MARGIN));
        assert!(places[1].x > places[0].x && places[3].y > places[1].y);
    }

    #[test]
    fn what_no_page_holds_is_refused() {
        assert_eq!(packed(&[Point::new(900, 10)], PAPERS[3]), None);
    }
}

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

/// Places in reading order or, before a larger page is taken, with the tall, the wide or the large ones first.
fn packed(sizes: &[Point], paper: Paper) -> Option<Vec<Point>> {
    let keys: [fn(Point) -> i32; 4] = [
        |_| 0,
        |size| -size.y,
        |size| -size.x,
        |size| -size.x * size.y,
    ];
    keys.into_iter().find_map(|key| {
        let mut order: Vec<usize> = (0..sizes.len()).collect();
        order.sort_by_key(|index| key(sizes[*index]));
        let sorted: Vec<Point> = order.iter().map(|index| sizes[*index]).collect();
        let found = shelves(&sorted, paper)?;
        let mut places = vec![Point::new(0, 0); sizes.len()];
        for (index, place) in order.into_iter().zip(found) {
            places[index] = place;
        }
        Some(places)
    })
}

/// Where the upper left corner of each goes: in their order, each as far up and then as far to the left as there is room.
fn shelves(sizes: &[Point], paper: Paper) -> Option<Vec<Point>> {
    let (right, bottom) = (paper.width - MARGIN, paper.height - MARGIN);
    // The title block is there already.
    let mut taken = vec![(
        Point::new(paper.width - TITLE_WIDTH, paper.height - TITLE),
        Point::new(paper.width, paper.height),
    )];
    let mut places = Vec::new();
    for size in sizes {
        let lines = |of: fn(Point) -> i32| -> BTreeSet<i32> {
            let behind = taken[1..].iter().map(|(_, high)| of(*high) + GAP);
            behind.chain([MARGIN]).collect()
        };
        let (columns, rows) = (lines(|point| point.x), lines(|point| point.y));
        let place = rows.iter().find_map(|y| {
            columns.iter().map(|x| Point::new(*x, *y)).find(|at| {
                let far = *at + *size;
                far.x <= right
                    && far.y <= bottom
                    && taken.iter().all(|(low, high)| {
                        far.x + GAP <= low.x
                            || high.x + GAP <= at.x
                            || far.y + GAP <= low.y
                            || high.y + GAP <= at.y
                    })
            })
        })?;
        taken.push((place, place + *size));
        places.push(place);
    }
    Some(places)
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
    fn what_no_page_holds_is_refused() {
        assert_eq!(shelves(&[Point::new(900, 10)], PAPERS[3]), None);
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Where pages of files lie in a guest's memory: areas that do not touch what is between them.

use std::collections::BTreeMap;
use std::ops::Range;

/// Most areas that are kept apart. Each may be a mapping of the process, of which Linux allows 65,530 (`vm.max_map_count`), and the
/// guest says where they are cut: what is beyond must not be a mapping that our own allocator lacks.
pub(super) const MOST: usize = 1024;

/// The areas by their first address, each with the one behind its last. They are whole pages, and do not overlap.
#[derive(Debug, Default)]
pub(super) struct Files(BTreeMap<u64, u64>);

impl Files {
    /// From here to there a file lies now, whatever was there before.
    pub(super) fn add(&mut self, from: u64, to: u64) {
        let mut at = from;
        while at < to {
            let (end, file) = self.piece(at..to);
            if file {
                self.cut(at..end);
            }
            at = end;
        }
        self.0.insert(from, to);
    }

    /// Where the first piece of this range ends, and whether it is a file's.
    pub(super) fn piece(&self, range: Range<u64>) -> (u64, bool) {
        if let Some((_, end)) = self.0.range(..=range.start).next_back()
            && *end > range.start
        {
            return (range.end.min(*end), true);
        }
        let next = self.0.range(range.clone()).next();
        (next.map_or(range.end, |(from, _)| *from), false)
    }

    /// Whether this piece can be cut out.
    pub(super) fn has_room(&self, piece: &Range<u64>) -> bool {
        let Some((from, to)) = self.0.range(..=piece.start).next_back() else {
            return true;
        };
        self.0.len() < MOST || *from == piece.start || *to == piece.end
    }

    /// This piece is no file's any more.
    pub(super) fn cut(&mut self, piece: Range<u64>) {
        let Some((from, to)) = self.0.range(..=piece.start).next_back() else {
            return;
        };
        let (from, to) = (*from, *to);
        self.0.remove(&from);
        for (from, to) in [(from, piece.start), (piece.end, to)] {
            if from < to {
                self.0.insert(from, to);
            }
        }
    }
}

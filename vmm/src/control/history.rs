// SPDX-License-Identifier: Apache-2.0
//! The end of the console's output, for who attaches later: the last [`KEPT`] bytes, by their offset from the guest's first.

use std::collections::VecDeque;

use racklet_api::vmm::console::{Bytes, ConsolePiece, KEPT, MAX_PIECE};

/// What is kept. Memory is taken when there is output.
#[derive(Debug, Default)]
pub(crate) struct History {
    bytes: VecDeque<u8>,
    /// Offset behind the last byte.
    end: u64,
}

impl History {
    /// More output.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        let kept = &bytes[bytes.len().saturating_sub(KEPT)..];
        let over = (self.bytes.len() + kept.len()).saturating_sub(KEPT);
        self.bytes.drain(..over);
        self.bytes.extend(kept);
        self.end += bytes.len() as u64;
    }

    /// Offset behind the last byte so far.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// The piece for a reader who has everything before `wanted`; empty when there is nothing more. An offset that was not reached yet
    /// is the end.
    pub(crate) fn piece(&self, wanted: u64) -> ConsolePiece {
        let first = self.end - self.bytes.len() as u64;
        let from = wanted.clamp(first, self.end);
        let skip = usize::try_from(from - first).expect("within what is kept");
        let data: Vec<u8> = self.bytes.range(skip..).take(MAX_PIECE).copied().collect();
        ConsolePiece {
            from,
            next: from + data.len() as u64,
            data: Bytes(data),
            lost: from.saturating_sub(wanted),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_reader_gets_every_byte_that_is_kept_and_is_told_of_the_others(
            appends in prop::collection::vec(0..100_000_usize, 0..12),
            wanted in 0..800_000_u64,
        ) {
            let mut history = History::default();
            let mut all = Vec::new();
            for (n, length) in appends.into_iter().enumerate() {
                let numbered = |at| u8::try_from((at ^ n) % 251).unwrap();
                let bytes: Vec<u8> = (0..length).map(numbered).collect();
                history.append(&bytes);
                all.extend(bytes);
            }
            prop_assert!(history.bytes.len() <= KEPT);
            let first = all.len().saturating_sub(KEPT) as u64;
            let (mut at, mut read, mut lost) = (wanted, Vec::new(), 0);
            loop {
                let piece = history.piece(at);
                prop_assert_eq!(piece.next - piece.from, piece.data.0.len() as u64);
                prop_assert!(piece.data.0.len() <= MAX_PIECE);
                lost += piece.lost;
                at = piece.next;
                if piece.data.0.is_empty() {
                    break;
                }
                read.extend(piece.data.0);
            }
            let start = wanted.clamp(first, all.len() as u64);
            prop_assert_eq!(lost, start.saturating_sub(wanted));
            prop_assert_eq!(&read[..], &all[usize::try_from(start).unwrap()..]);
            prop_assert_eq!(at, history.end());
        }
    }
}

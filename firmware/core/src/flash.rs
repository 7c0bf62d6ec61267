// SPDX-License-Identifier: Apache-2.0
//! What lies where in the 16 MiB of a controller's flash.

/// Bytes that are erased at a time (W25Q128JV: a sector).
pub const BLOCK: usize = 4096;

/// A piece of the flash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Area {
    /// Bytes from the beginning of the flash.
    pub start: usize,
    /// Bytes.
    pub length: usize,
}

impl Area {
    /// Behind its last byte.
    #[must_use]
    pub const fn end(self) -> usize {
        self.start + self.length
    }
}

/// The whole.
pub const SIZE: usize = 16 << 20;
/// What the boot ROM starts.
pub const FIRST_STAGE: Area = Area {
    start: 0,
    length: 128 << 10,
};
/// The two images.
pub const SLOTS: [Area; 2] = [
    after(FIRST_STAGE, 512 << 10),
    after(after(FIRST_STAGE, 512 << 10), 512 << 10),
];
/// The two copies of the vault.
pub const VAULT: [Area; 2] = [
    after(SLOTS[1], 2 * BLOCK),
    after(after(SLOTS[1], 2 * BLOCK), 2 * BLOCK),
];
/// What the tray printed, before what is in memory.
pub const CONSOLE: Area = Area {
    start: 4 << 20,
    length: 12 << 20,
};

const fn after(area: Area, length: usize) -> Area {
    Area {
        start: area.end(),
        length,
    }
}

const _: () = {
    assert!(VAULT[1].end() <= CONSOLE.start && CONSOLE.end() == SIZE);
    let mut index = 0;
    let all = [FIRST_STAGE, SLOTS[0], SLOTS[1], VAULT[0], VAULT[1], CONSOLE];
    while index < all.len() {
        assert!(all[index].start.is_multiple_of(BLOCK) && all[index].length.is_multiple_of(BLOCK));
        index += 1;
    }
};

// SPDX-License-Identifier: Apache-2.0
//! The board that a run of tests, a demo or a bench is about. A test says nothing of it: it is a function of a board, and `cargo xtask`
//! runs it once for each that it chooses.

use std::env;

use racklet_boards::{Board, Emulator};

/// The one that everybody has.
pub const USUAL: &str = "qemu-x86_64";

/// The board that `RACKLET_BOARD` names, or the usual one.
///
/// # Panics
/// When there is no such board.
#[must_use]
pub fn board() -> Board {
    let name = env::var("RACKLET_BOARD").unwrap_or_else(|_| USUAL.into());
    racklet_boards::find(&name).unwrap_or_else(|error| panic!("RACKLET_BOARD: {error}"))
}

/// How an emulator has it.
///
/// # Panics
/// When none has it.
#[must_use]
pub fn emulator(board: &Board) -> &Emulator {
    let emulator = board.emulator.as_ref();
    emulator.unwrap_or_else(|| panic!("no emulator has {}", board.name))
}

// SPDX-License-Identifier: Apache-2.0
//! The recorder of a tray's console.
//!
//! ```text
//! UART -> Line (bytes, or what happened to the line) -> Recorder (a ring that survives resets) -> a Reader per session
//!                                                       session -> Input (who may type) -> UART
//! ```
//! The UART's side never waits for a reader: what is overwritten before a reader came to it, that reader is told of.

mod input;
mod line;
mod recorder;

pub use input::{Input, Session};
pub use line::{Line, Received};
pub use recorder::{Kept, Next, Reader, Recorder, SMALLEST};

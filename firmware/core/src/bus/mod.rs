// SPDX-License-Identifier: Apache-2.0
//! The backplane's bus: the rack's controller asks ([`Master`]), trays' controllers answer ([`Node`]); both carry packets in pieces
//! ([`Channel`]). Frames and times are `racklet_wire::bus`.
//!
//! A turn is a question and its answer. What each costs of the bus, at 3 Mbit/s, 10 bits a byte:
//!
//! | turn | bytes | time |
//! | --- | --- | --- |
//! | nothing to say | 16 there, 16 back | 0.11 ms and the answerer's time |
//! | a full piece each way | 256 there, 256 back | 1.7 ms and the answerer's time |
//! | nobody answers | 16 there | 0.05 ms and 0.5 ms of waiting |
//!
//! So the slowest round of five trays takes 11.1 ms, and one silent tray makes a round of the others 0.55 ms longer. Nobody sends
//! more than one frame per turn: that bounds transmission by [`racklet_wire::bus::FRAME_WITHIN`], for which the wiring's own timer takes the
//! driver off the bus whatever the software does.

mod channel;
mod master;
mod node;

pub use channel::{Busy, Channel};
pub use master::{Babbler, Counts, Master, News, Step};
pub use node::Node;

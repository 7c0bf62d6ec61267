// SPDX-License-Identifier: Apache-2.0
//! The machine: what it consists of is decided first and purely (`plan`), then everything is opened, while the process still may
//! (`open`).

mod open;
mod plan;

pub(crate) use open::{Machine, OpenError, open};
pub(crate) use plan::Plan;

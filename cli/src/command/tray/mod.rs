// SPDX-License-Identifier: Apache-2.0
//! `racklet status`, `sync` and `logs`: what is asked of trays that run.

pub(crate) mod logs;
mod report;
mod session;
pub(crate) mod status;
pub(crate) mod sync;

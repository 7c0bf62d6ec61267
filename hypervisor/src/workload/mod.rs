// SPDX-License-Identifier: Apache-2.0
//! Workloads: what is wanted against what runs, and the steps between.

pub(crate) mod decide;
pub(crate) mod folder;
pub(crate) mod monitor;
pub(crate) mod record;
pub(crate) mod report;
pub(crate) mod runner;

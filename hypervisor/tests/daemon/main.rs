// SPDX-License-Identifier: Apache-2.0
//! The daemon as an ordinary process against a real Git server over TLS; its monitors are real processes without machines.

mod api;
mod bootstrap;
mod card;
mod floors;
mod memory;
mod plain;
mod support;
mod updates;
mod workloads;

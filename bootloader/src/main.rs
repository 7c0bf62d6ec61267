// SPDX-License-Identifier: Apache-2.0
//! Stage 1 of a tray's boot.

fn main() {}

// SPDX-License-Identifier: Apache-2.0
//! The board that the image is for, by the target that it is compiled for: what the rest asks of one stands in its `mod.rs`.

mod mps2_an505;

pub(crate) use mps2_an505::*;

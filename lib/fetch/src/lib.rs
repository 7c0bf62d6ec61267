// SPDX-License-Identifier: Apache-2.0
//! Bytes from a Git server, and what it takes to believe them.
#![forbid(unsafe_code)]

pub mod chunk;
pub mod publish;

// SPDX-License-Identifier: Apache-2.0
//! Bytes from a Git server, and what it takes to believe them.
#![forbid(unsafe_code)]

pub mod chunk;
mod delta;
pub mod http;
pub mod limits;
pub mod pack;
mod pkt;
pub mod progress;
pub mod publish;
pub mod remote;
pub mod stream;
pub mod tls;
pub mod url;

// SPDX-License-Identifier: Apache-2.0
//! The words that Racklet's parts use with each other and with people: rack objects, tray configuration, handoff and
//! daemon messages. Data and its checks only: no files, no sockets, no clocks.
#![forbid(unsafe_code)]

pub mod boot;
pub mod error;
pub mod http;
pub mod init;
pub mod line;
pub mod name;
pub mod net;
pub mod rack;
pub mod subnet;
pub mod text;
pub mod tray;
pub mod url;
pub mod vm;

// SPDX-License-Identifier: Apache-2.0
//! DHCPv4 (RFC 2131, 2132, 3396, 3442), the client's side.
//!
//! [`message`] is the wire format, [`lease`] decides whether a server's answer is sane, [`client`] is the state machine.

pub mod client;
pub mod lease;
pub mod message;

pub use client::{Client, Config, Lost, Output, Refused};
pub use lease::{Lease, StaticRoute, Unusable};
pub use message::{Malformed, Message};

/// The port servers listen on.
pub const SERVER_PORT: u16 = 67;
/// The port clients listen on.
pub const CLIENT_PORT: u16 = 68;

// SPDX-License-Identifier: Apache-2.0
//! The network protocols a tray speaks before it has any other: a DHCPv4 client, DNS servers out of IPv6 router
//! advertisements, SNTP, and answers to who looks for it by name (mDNS). Bytes in, bytes out.
//!
//! Deliberately absent: sockets, clocks and sources of randomness. The caller brings packets, a monotonic time (a
//! [`core::time::Duration`] since any fixed moment) and a seed, so that a test can be the network and the clock.
//! Everything received is a claim by a stranger on the wire: it is bounded before it is kept and refused with a reason.
#![forbid(unsafe_code)]

pub mod backoff;
pub mod dhcp4;
pub mod mdns;
pub mod ra;
pub mod sntp;
pub mod udp4;

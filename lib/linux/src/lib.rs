// SPDX-License-Identifier: Apache-2.0
//! Safe faces of the system calls that Racklet's programs need and that neither `std` nor `rustix` offers as they stand.
//! One module per matter; no policy, nothing about racks.

pub mod acpi;
pub mod block;
pub mod child;
pub mod clock;
pub mod gpt;
pub mod kexec;
pub mod mbr;
pub mod module;
pub mod netlink;
pub mod netns;
pub mod nft;
pub mod packet;
pub mod power;
pub mod pty;
pub mod random;
pub mod rtnl;
pub mod sealed;
pub mod session;
pub mod signal;
pub mod socket;
pub mod table;
pub mod tap;
pub mod verity;
pub mod vsock;
pub mod watchdog;

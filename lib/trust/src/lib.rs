// SPDX-License-Identifier: Apache-2.0
//! What a tray believes, and why.
//!
//! Every trust decision in Racklet is an SSH signature (OpenSSH's `SSHSIG`, the format of `ssh-keygen -Y sign` and of Git's
//! `gpg.format=ssh`) by enough keys of the right [`Role`]. This crate holds the whole of it and nothing else: no I/O, no clock, no
//! operating system, no unsafe code, so that the same code runs in the bootloader, in PID 1, on a controller and in the CLI.
//!
//! - [`key`], [`sshsig`]: public keys and signatures.
//! - [`root`]: the trust root, its roles and thresholds, and the step from one version to the next.
//! - [`manifest`]: what a payload, an artifact or a bootstrap slot consists of.
//! - [`architecture`]: the processors that what is signed is made for.
//! - [`arguments`]: which kernel command lines a board and a manifest may ask for.
//! - [`commit`], [`history`]: which heads of the rack repository may be followed.
//! - [`expiry`]: by which time something signed has expired.
//! - [`date`]: Unix time as people read it.
//! - [`slot`]: which boot slot is used, and how that is recorded so that power may go at any time.
//!
//! [`Verified`] is the proof that one of these checks succeeded. It can be made only here.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod architecture;
pub mod arguments;
pub mod commit;
pub mod date;
pub mod digest;
pub mod expiry;
pub mod floors;
pub mod history;
pub mod key;
pub mod manifest;
pub mod root;
pub mod slot;
pub mod sshsig;
mod wire;

#[cfg(test)]
mod testing;

pub use architecture::Architecture;
pub use digest::Digest;
pub use key::PublicKey;
pub use manifest::Manifest;
pub use root::{Role, TrustRoot};

/// SSHSIG namespaces: a signature made for one purpose never counts for another.
pub mod namespace {
    /// Git commits (fixed by Git itself).
    pub const GIT: &str = "git";
    /// Further signatures over a commit, where the role's threshold is above one.
    pub const APPROVAL: &str = "approval@racklet.dev";
    /// Trust roots.
    pub const TRUST_ROOT: &str = "trust-root@racklet.dev";
    /// Manifests of payloads, artifacts and bootstrap slots.
    pub const MANIFEST: &str = "manifest@racklet.dev";
    /// Requests to a tray's API.
    pub const API: &str = "api@racklet.dev";
}

/// A value whose signatures and digests were checked. Only this crate makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified<T>(T);

impl<T> Verified<T> {
    fn new(value: T) -> Self {
        Self(value)
    }

    /// The value, giving up the proof.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> core::ops::Deref for Verified<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Bytes from a Git server, and what it takes to believe them.
//!
//! - [`remote`]: a server, spoken to in Git's protocol version 2 over HTTPS ([`http`], [`tls`]), blocking, bounded by
//!   [`limits`] and by the clock of a [`pulse`]. Packs are read by [`pack`].
//! - [`rack`]: the rack repository, from a server to files that may be parsed, and the store it is kept in.
//! - [`cache`]: payloads and artifacts, fetched against what is here already, verified, kept.
//! - [`beside`]: plain files beside a repository, for what its server need not run Git for.
//! - [`chunk`], [`publish`]: pieces of payloads and artifacts, and how they are laid out.
//! - [`verity`]: the digest by which Linux verifies a file whenever it reads it.
//! - [`disk`]: the file operations underneath, so that tests can cut the power.
//!
//! The crate decides nothing about trust: that is `racklet-trust`, whose verdicts it asks for before it parses or keeps anything. It
//! runs no event loop, starts no program, and has no global state. Its only thread is one for each name that is looked up: the
//! C library's resolver keeps no deadline.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let (ca, trust_root, now) = (String::new(), Vec::new(), 0u64);
//! use racklet_fetch::{disk::Files, limits::Limits, progress::Silent, rack::{self, Kept, Outcome, RackStore}};
//! use racklet_fetch::{remote::{Remote, RemoteConfig}, tls::Authorities};
//! use racklet_trust::{TrustRoot, Verified, floors::Floors, history::Accepted};
//!
//! let root = Verified::<TrustRoot>::baked(&trust_root)?;
//! let limits = Limits::RACK;
//! let store = RackStore::new(Files, "/state/git/rack");
//! let floors = Floors::default(); // as they are kept beside it
//! let kept = store.reopen(Kept::Accepted, &root, &floors, &limits)?; // an error is reported, and the boot goes on without
//!
//! let mut config = RemoteConfig::new("https://git.example.org/rack.git".parse()?, std::sync::Arc::new(now));
//! config.authorities = Authorities::Pem(ca.into_bytes());
//! let mut remote = Remote::new(&config)?;
//! let snapshot = kept.as_ref().map(|tree| tree.snapshot());
//! let tree = match rack::fetch(&mut remote, "refs/heads/main", snapshot, &limits, &mut Silent)? {
//!     Outcome::Unchanged => kept.expect("only a kept head is unchanged"),
//!     Outcome::New(fetched) => {
//!         let accepted = kept.map_or_else(|| Accepted::nothing(root, floors), |tree| tree.accepted());
//!         let tree = fetched.verify(&accepted)?;
//!         store.keep(Kept::Accepted, &tree)?; // and look again, where `fetched.on_the_way()`
//!         tree
//!     }
//! };
//! println!("{} at generation {}", tree.head().id, tree.head().generation);
//!
//! // A payload that the tree pins: from the cache, or else from the server.
//! use racklet_fetch::cache::{Cache, Pin};
//! use racklet_trust::manifest::Kind;
//! # let digest = racklet_trust::Digest::of(b"");
//! let cache = Cache::open(Files, "/state/cache")?;
//! let root = &tree.head().root;
//! let files = match cache.manifest(Kind::Payload, digest, root) {
//!     Ok(Some(manifest)) => cache.files(&manifest, Limits::PAYLOAD.inflated, &mut Silent)?, // an error: fetch
//!     _ => {
//!         let pin = Pin { kind: Kind::Payload, name: "stable".into(), manifest: digest };
//!         let arrived = cache.fetch(&mut remote, &pin, root, &[digest], &Limits::PAYLOAD, &mut Silent)?;
//!         println!("{} bytes for {} new chunks", arrived.report.received, arrived.report.new_chunks);
//!         arrived.files
//!     }
//! };
//! assert_eq!(files[0].0, "kernel");
//! # Ok(()) }
//! ```
#![forbid(unsafe_code)]

pub mod beside;
pub mod cache;
pub mod chunk;
mod delta;
pub mod disk;
#[doc(hidden)]
pub mod fuzz;
pub mod http;
pub mod limits;
pub mod pack;
mod pkt;
pub mod progress;
pub mod publish;
pub mod pulse;
pub mod rack;
pub mod remote;
mod snapshot;
pub mod tls;
mod tree;
pub mod url;
pub mod verity;

// SPDX-License-Identifier: Apache-2.0
//! How much a server may make us read, hold and wait. Every bound is checked before memory or disk is spent.

use std::time::Duration;

use racklet_trust::history::MAX_COMMITS;

/// Sizes, in bytes unless they say otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Refs in one listing, counted.
    pub refs: usize,
    /// Body of one answer, as it comes out of TLS.
    pub response: u64,
    /// Objects in one pack, counted.
    pub objects: u32,
    /// One object, inflated.
    pub object: u64,
    /// All objects of one pack, inflated and with deltas applied.
    pub inflated: u64,
    /// Objects of one pack that stay in memory.
    pub held: u64,
    /// Deltas on deltas.
    pub delta_depth: u32,
    /// Commits of one step from the accepted head to a new one, counted.
    pub commits: usize,
    /// Files in the rack repository's tree, counted.
    pub files: usize,
    /// All files in the rack repository's tree together.
    pub tree: u64,
    /// Folders inside folders.
    pub tree_depth: usize,
}

impl Limits {
    /// For rack repositories: text that people write.
    pub const RACK: Self = Self {
        refs: 1000,
        response: 32 << 20,
        objects: 200_000,
        object: 4 << 20,
        inflated: 64 << 20,
        held: 64 << 20,
        delta_depth: 50,
        commits: MAX_COMMITS,
        files: 10_000,
        tree: 16 << 20,
        tree_depth: 16,
    };

    /// For payloads: a kernel and an initramfs, held in memory until they are started.
    pub const PAYLOAD: Self = Self {
        refs: 1000,
        response: 160 << 20,
        objects: 20_000,
        object: 2 << 20,
        inflated: 192 << 20,
        held: 64 << 20,
        delta_depth: 50,
        commits: 1,
        files: 20_000,
        tree: 192 << 20,
        tree_depth: 4,
    };

    /// For artifacts: root file systems, streamed to disk.
    pub const ARTIFACT: Self = Self {
        response: 8 << 30,
        objects: 200_000,
        inflated: 8 << 30,
        files: 200_000,
        tree: 8 << 30,
        ..Self::PAYLOAD
    };
}

/// Patience by phase. What is too slow is dropped with a reason. An end for everything together is set with
/// [`crate::remote::Remote::finish_by`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// For one address to take the connection.
    pub connect: Duration,
    /// Between beginning to connect to one address and to the next (RFC 8305, 5, "Connection Attempt Delay").
    pub stagger: Duration,
    /// For the TLS handshake with one address, at most; less when many addresses share little time.
    pub handshake: Duration,
    /// For a first byte on a connection that was used before: it may be dead, and then nobody says so. Asked is once more on a new one.
    pub reused: Duration,
    /// A connection that lay idle for longer is not used again: routers forget one after a few minutes, load balancers after one.
    pub idle: Duration,
    /// For the small questions: what the server can do and where its refs point, both together, with name, connection and handshake.
    pub questions: Duration,
    /// For name, connection, handshake and the first of the plain files beside a repository: Git is there, too.
    pub beside: Duration,
    /// For a server to prepare a pack: from the request until the pack's first byte.
    pub thinking: Duration,
    /// For nothing at all to come meanwhile. Any byte is a sign of life: Git sends an empty line every 5 s while it has nothing to say
    /// (`uploadpack.keepAlive`), and tells of its progress.
    pub silence: Duration,
    /// For one pack, from its first byte to its last.
    pub pack: Duration,
    /// Within each such span ...
    pub window: Duration,
    /// ... at least so many bytes must arrive while an answer is not complete, apart from the time that a server thinks.
    pub minimum: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            stagger: Duration::from_millis(250),
            handshake: Duration::from_secs(10),
            reused: Duration::from_secs(5),
            idle: Duration::from_secs(60),
            // A few hundred bytes each way: an honest server on a slow line takes a second or two.
            questions: Duration::from_secs(25),
            // A start that gives servers half a minute in all has the most of it left.
            beside: Duration::from_secs(10),
            // Git looks for deltas among chunks that have none before the first byte of a pack leaves: 20 s of processor time were measured for
            // 300 MiB on a fast machine, so several minutes on a small one that serves five trays at once. Giving up earlier is no use: the
            // server goes on with what nobody waits for, and the next attempt begins the same again beside it.
            thinking: Duration::from_secs(900),
            // A proxy that keeps the answer back until it is complete sends nothing meanwhile; 60 s is also what most proxies have themselves.
            silence: Duration::from_secs(60),
            pack: Duration::from_secs(1800),
            window: Duration::from_secs(30),
            minimum: 4096,
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Payloads: what the cache holds that could start here, and fetching the pinned one.

use std::io;

use racklet_api::rack;
use racklet_fetch::cache::{ArriveError, AssembleError, Cache, EntryError, Pin};
use racklet_fetch::disk::Files;
use racklet_fetch::limits::Limits;
use racklet_fetch::progress::Progress;
use racklet_fetch::remote::Remote;
use racklet_trust::floors::Floors;
use racklet_trust::manifest::{Kind, Machine, NotForUs};
use racklet_trust::{Digest, Manifest, TrustRoot, Verified};

use super::decide::Candidate;
use super::repository::digest_of;
use crate::console::{Topic, size};
use crate::state::State;
use crate::state::boots::Boots;
use racklet_api::error::Chain;

pub(crate) const PAYLOAD: Topic = Topic("payload");
/// The largest kernel or initramfs, in bytes.
const MAX_FILE: u64 = 128 << 20;

/// Why the pinned payload cannot start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PayloadError {
    #[error("{0}")]
    Arrive(#[source] Box<ArriveError>),
    #[error("{name}-{version} is not for this tray: {reason}")]
    NotForUs {
        name: String,
        version: u64,
        reason: NotForUs,
    },
    #[error("{0}")]
    Entry(
        #[source]
        #[from]
        EntryError,
    ),
    #[error("{0}")]
    Assemble(
        #[source]
        #[from]
        AssembleError,
    ),
    #[error("it is not in the cache")]
    Gone,
}

impl From<ArriveError> for PayloadError {
    fn from(error: ArriveError) -> Self {
        Self::Arrive(Box::new(error))
    }
}

impl PayloadError {
    /// Whether trying again soon makes no sense.
    pub(crate) fn is_lasting(&self) -> bool {
        !matches!(self, Self::Arrive(error) if matches!(**error, ArriveError::Remote(_)))
    }
}

/// A payload whose files are in memory, each with its proof.
#[derive(Debug)]
pub(crate) struct Ready {
    /// SHA-256 of its manifest.
    pub(crate) digest: Digest,
    /// Its manifest.
    pub(crate) manifest: Verified<Manifest>,
    /// Its files by name.
    pub(crate) files: Vec<(String, Verified<Vec<u8>>)>,
}

/// The cache, and a payload that just came.
pub(crate) struct Payloads {
    cache: Cache<Files>,
    board: String,
    ready: Option<Ready>,
}

/// By whose word and when a payload is judged.
#[derive(Clone, Copy)]
pub(crate) struct Judge<'a> {
    /// The trust root in force.
    pub(crate) root: &'a Verified<TrustRoot>,
    /// The floors.
    pub(crate) floors: &'a Floors,
    /// A time that somebody vouches for.
    pub(crate) now: u64,
}

impl Payloads {
    /// Opens the cache on the state partition.
    pub(crate) fn open(state: &State, board: &str) -> io::Result<Self> {
        let cache = Cache::open(Files, state.folder("cache"))?;
        Ok(Self {
            cache,
            board: board.to_owned(),
            ready: None,
        })
    }

    fn accept(&self, manifest: &Verified<Manifest>, judge: Judge<'_>) -> Result<(), PayloadError> {
        let machine = Machine {
            architecture: std::env::consts::ARCH,
            board: &self.board,
            now: Some(judge.now),
            floor: judge.floors.payload(&manifest.name),
        };
        manifest
            .accept(&machine)
            .map_err(|reason| PayloadError::NotForUs {
                name: manifest.name.clone(),
                version: manifest.version,
                reason,
            })
    }

    /// What could start now.
    pub(crate) fn candidates(
        &self,
        judge: Judge<'_>,
        boots: &Boots,
        spoiled: &[Digest],
    ) -> Vec<Candidate> {
        let cached = self.cache.claims(Kind::Payload).unwrap_or_default();
        let cached = cached.iter().filter_map(|claim| {
            let manifest = self
                .cache
                .manifest(Kind::Payload, claim.digest, judge.root)
                .ok()??;
            Some((claim.digest, manifest))
        });
        let ready = self
            .ready
            .iter()
            .map(|ready| (ready.digest, ready.manifest.clone()));
        let mut all: Vec<(Digest, Verified<Manifest>)> = ready.chain(cached).collect();
        let mut seen = Vec::new();
        all.retain(|(digest, manifest)| {
            let fresh = !seen.contains(digest) && !spoiled.contains(digest);
            seen.push(*digest);
            fresh && self.accept(manifest, judge).is_ok()
        });
        let candidate = |(digest, manifest): &(Digest, Verified<Manifest>)| Candidate {
            digest: *digest,
            version: manifest.version,
            tries: boots.tries(*digest),
            good: boots.good() == Some(*digest),
        };
        all.iter().map(candidate).collect()
    }

    /// Whether the pinned payload is complete in the cache and may start here.
    pub(crate) fn has(&self, pin: &rack::Pin, judge: Judge<'_>) -> Result<bool, PayloadError> {
        match self
            .cache
            .manifest(Kind::Payload, digest_of(pin), judge.root)
        {
            Ok(Some(manifest)) => {
                self.accept(&manifest, judge)?;
                PAYLOAD.say(format_args!(
                    "{}-{} is pinned and cached",
                    manifest.name, manifest.version
                ));
                Ok(true)
            }
            Ok(None) => Ok(false),
            Err(error) => {
                PAYLOAD.failed(Chain(&error), "fetch it anew");
                Ok(false)
            }
        }
    }

    /// Fetches the pinned payload.
    pub(crate) fn fetch(
        &mut self,
        remote: &mut Remote,
        pin: &rack::Pin,
        judge: Judge<'_>,
        keep: &[Digest],
        progress: &mut dyn Progress,
    ) -> Result<(), PayloadError> {
        let digest = digest_of(pin);
        let wanted = Pin {
            kind: Kind::Payload,
            name: pin.name.to_string(),
            manifest: digest,
        };
        let arrived = self.cache.fetch(
            remote,
            &wanted,
            judge.root,
            keep,
            &Limits::PAYLOAD,
            progress,
        )?;
        if let Some(error) = &arrived.not_cached {
            PAYLOAD.failed(Chain(error), "start it from memory");
        }
        let manifest = arrived.manifest;
        PAYLOAD.say(format_args!(
            "{}-{} verified; received {}, {} new chunks, {} from the cache",
            manifest.name,
            manifest.version,
            size(arrived.report.received),
            arrived.report.new_chunks,
            arrived.report.reused_chunks
        ));
        self.accept(&manifest, judge)?;
        self.ready = Some(Ready {
            digest,
            manifest,
            files: arrived.files,
        });
        Ok(())
    }

    /// The files of a payload, verified, for starting it.
    pub(crate) fn take(
        &mut self,
        digest: Digest,
        root: &Verified<TrustRoot>,
        progress: &mut dyn Progress,
    ) -> Result<Ready, PayloadError> {
        // Whatever else came is not needed any more, and memory is.
        if let Some(ready) = self.ready.take().filter(|ready| ready.digest == digest) {
            return Ok(ready);
        }
        let manifest = self
            .cache
            .manifest(Kind::Payload, digest, root)?
            .ok_or(PayloadError::Gone)?;
        let files = self.cache.files(&manifest, MAX_FILE, progress)?;
        Ok(Ready {
            digest,
            manifest,
            files,
        })
    }
}

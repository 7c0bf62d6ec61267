// SPDX-License-Identifier: Apache-2.0
//! What heads pin: payloads, images and bootstraps, from the cache or from a server, each with its proof.
//!
//! Nothing is used because it lies in the cache. A manifest is verified by its signatures under today's trust root and held against
//! this machine, its files by the manifest, whenever they are taken from here.

use std::io;
use std::path::PathBuf;

use racklet_fetch::cache::{
    ArriveError, Arrived, AssembleError, Cache, EntryError, NotCached, PayloadFiles, Report, Rootfs,
};
use racklet_fetch::disk::Disk;
use racklet_fetch::limits::Limits;
use racklet_fetch::progress::{Progress, Silent};
use racklet_fetch::remote::Remote;
use racklet_rack::Pin;
use racklet_trust::floors::Floors;
use racklet_trust::manifest::{Kind, Machine, NotForUs};
use racklet_trust::{Architecture, Digest, Manifest, TrustRoot, Verified};

use crate::{Hold, may_pass};

/// Why something pinned is not here.
#[derive(Debug, thiserror::Error)]
pub enum BringError {
    /// It did not come.
    #[error(transparent)]
    Arrive(Box<ArriveError>),
    /// Its entry in the cache.
    #[error("the cached entry")]
    Entry(#[from] EntryError),
    /// A file of it in the cache.
    #[error("the cached file")]
    File(#[from] AssembleError),
    /// It is here and good, and for another machine or another time.
    #[error("{name}-{version} is not for this tray")]
    NotForUs {
        /// Its name.
        name: String,
        /// Its version.
        version: u64,
        /// In which way.
        #[source]
        reason: NotForUs,
    },
}

impl BringError {
    /// Whether trying again within seconds makes sense.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Arrive(error) => {
                matches!(&**error, ArriveError::Remote(error) if may_pass(error))
            }
            _ => false,
        }
    }

    /// How long the server is to be left alone.
    #[must_use]
    pub fn hold(&self) -> Hold {
        match self {
            Self::Arrive(error) => match &**error {
                ArriveError::Remote(error) => Hold::of(error),
                _ => Hold::default(),
            },
            _ => Hold::default(),
        }
    }
}

/// By whose word and when something is judged.
#[derive(Debug, Clone, Copy)]
pub struct Judge<'a> {
    /// The trust root in force.
    pub root: &'a Verified<TrustRoot>,
    /// What no payload may be below.
    pub floors: &'a Floors,
    /// A time that somebody vouches for, Unix seconds.
    pub now: u64,
}

/// A payload whose files are in memory, each with its proof.
#[derive(Debug)]
pub struct Payload {
    /// SHA-256 of its manifest.
    pub digest: Digest,
    /// Its manifest.
    pub manifest: Verified<Manifest>,
    /// Its files by name.
    pub files: PayloadFiles,
}

/// Whether something is in the cache.
#[derive(Debug)]
pub enum Here<T> {
    /// It is, read to the last byte.
    Yes(T),
    /// It is not.
    No,
    /// It was, and is damaged or no longer vouched for: fetch it again.
    Damaged(BringError),
}

/// What a fetch cost, and whether it is in the cache now.
#[derive(Debug)]
pub struct Fetched {
    /// What it cost.
    pub report: Report,
    /// Why it is not in the cache, where it is not: a full or failing disk.
    pub not_cached: Option<NotCached>,
}

/// The cache of one machine.
#[derive(Debug)]
pub struct Shelf<D> {
    cache: Cache<D>,
    board: String,
}

impl<D: Disk> Shelf<D> {
    /// Opens the cache in `folder`, or makes it.
    ///
    /// # Errors
    /// The file system's.
    pub fn open(disk: D, folder: impl Into<PathBuf>, board: &str) -> io::Result<Self> {
        Ok(Self {
            cache: Cache::open(disk, folder)?,
            board: board.to_owned(),
        })
    }

    /// Whether this machine may use it now.
    ///
    /// # Errors
    /// [`BringError::NotForUs`].
    pub fn accept(
        &self,
        manifest: &Verified<Manifest>,
        judge: Judge<'_>,
    ) -> Result<(), BringError> {
        self.accept_from(
            manifest,
            judge.now,
            match manifest.kind {
                Kind::Payload => judge.floors.payload(&manifest.name),
                // An older image of a workload is the owner's to choose; of bootstraps the slots have a floor of their own.
                Kind::Artifact | Kind::Bootstrap => 0,
            },
        )
    }

    fn accept_from(
        &self,
        manifest: &Verified<Manifest>,
        now: u64,
        floor: u64,
    ) -> Result<(), BringError> {
        let machine = Machine {
            architecture: Architecture::HERE,
            board: &self.board,
            now: Some(now),
            floor,
        };
        manifest
            .accept(&machine)
            .map_err(|reason| BringError::NotForUs {
                name: manifest.name.clone(),
                version: manifest.version,
                reason,
            })
    }

    /// The cached payloads whose chunks are all here by name and size: what could be tried.
    pub fn payloads(&self, root: &Verified<TrustRoot>) -> Vec<(Digest, Verified<Manifest>)> {
        let claims = self.cache.claims(Kind::Payload).unwrap_or_default();
        let whole = claims.iter().filter_map(|claim| {
            let manifest = self.cache.manifest(Kind::Payload, claim.digest, root);
            let manifest = manifest.ok()??;
            self.cache
                .is_whole(&manifest)
                .then_some((claim.digest, manifest))
        });
        whole.collect()
    }

    /// A payload from the cache, in memory.
    ///
    /// # Errors
    /// [`BringError::NotForUs`]: then fetching it makes no sense either.
    pub fn payload(
        &self,
        digest: Digest,
        judge: Judge<'_>,
        progress: &mut dyn Progress,
    ) -> Result<Here<Payload>, BringError> {
        self.cached(Kind::Payload, digest, judge, |manifest| {
            // The bound that it was fetched within.
            let files = self
                .cache
                .files(&manifest, Limits::PAYLOAD.inflated, progress)?;
            Ok(Payload {
                digest,
                manifest,
                files,
            })
        })
    }

    /// The manifest of a bootstrap in the cache, all of whose files were assembled. `floor` is the lowest version that the slots take.
    ///
    /// # Errors
    /// [`BringError::NotForUs`]: then fetching it makes no sense either.
    pub fn bootstrap(
        &self,
        digest: Digest,
        judge: Judge<'_>,
        floor: u64,
    ) -> Result<Here<Verified<Manifest>>, BringError> {
        let here = self.cached(Kind::Bootstrap, digest, judge, |manifest| {
            let limit = Limits::PAYLOAD.inflated;
            self.cache.files(&manifest, limit, &mut Silent)?;
            Ok(manifest)
        })?;
        if let Here::Yes(manifest) = &here {
            self.accept_from(manifest, judge.now, floor)?;
        }
        Ok(here)
    }

    /// Fetches a pinned bootstrap into the cache, from which it is installed.
    ///
    /// # Errors
    /// [`BringError`]; what is cached stays.
    pub fn fetch_bootstrap(
        &self,
        remote: &mut Remote,
        pin: &Pin,
        judge: Judge<'_>,
        floor: u64,
        keep: &[Digest],
        progress: &mut dyn Progress,
    ) -> Result<(Verified<Manifest>, Fetched), BringError> {
        let (arrived, fetched) = self.fetch(Kind::Bootstrap, remote, pin, judge, keep, progress)?;
        self.accept_from(&arrived.manifest, judge.now, floor)?;
        Ok((arrived.manifest, fetched))
    }

    /// The root file system of an image from the cache.
    ///
    /// # Errors
    /// [`BringError::NotForUs`]: then fetching it makes no sense either.
    pub fn image(
        &self,
        digest: Digest,
        judge: Judge<'_>,
    ) -> Result<Here<Verified<Rootfs>>, BringError> {
        self.cached(Kind::Artifact, digest, judge, |manifest| {
            self.cache.check_rootfs(digest, &manifest)
        })
    }

    /// Reads an image through that is only verified when it is read. What cannot be read of it does not count from now on, and
    /// [`Self::image`] says that it is damaged.
    pub fn probe_image(&self, digest: Digest) {
        let _ = self.cache.probe_rootfs(digest);
    }

    fn cached<T>(
        &self,
        kind: Kind,
        digest: Digest,
        judge: Judge<'_>,
        read: impl FnOnce(Verified<Manifest>) -> Result<T, AssembleError>,
    ) -> Result<Here<T>, BringError> {
        let manifest = match self.cache.manifest(kind, digest, judge.root) {
            Ok(Some(manifest)) => manifest,
            Ok(None) => return Ok(Here::No),
            Err(error) => return Ok(Here::Damaged(error.into())),
        };
        self.accept(&manifest, judge)?;
        Ok(match read(manifest) {
            Ok(whole) => Here::Yes(whole),
            Err(error) => Here::Damaged(error.into()),
        })
    }

    /// Fetches a pinned payload. It is good to start even where the disk did not take it.
    ///
    /// # Errors
    /// [`BringError`]; what is cached stays.
    pub fn fetch_payload(
        &self,
        remote: &mut Remote,
        pin: &Pin,
        judge: Judge<'_>,
        keep: &[Digest],
        progress: &mut dyn Progress,
    ) -> Result<(Payload, Fetched), BringError> {
        let (arrived, fetched) = self.fetch(Kind::Payload, remote, pin, judge, keep, progress)?;
        let payload = Payload {
            digest: pin.manifest.into(),
            manifest: arrived.manifest,
            files: arrived.files,
        };
        Ok((payload, fetched))
    }

    /// Fetches a pinned image into the cache.
    ///
    /// # Errors
    /// [`BringError`]; what is cached stays.
    pub fn fetch_image(
        &self,
        remote: &mut Remote,
        pin: &Pin,
        judge: Judge<'_>,
        keep: &[Digest],
        progress: &mut dyn Progress,
    ) -> Result<(Verified<Rootfs>, Fetched), BringError> {
        let (arrived, fetched) = self.fetch(Kind::Artifact, remote, pin, judge, keep, progress)?;
        let rootfs = match arrived.rootfs {
            Some(rootfs) => rootfs,
            None => (self.cache).check_rootfs(pin.manifest.into(), &arrived.manifest)?,
        };
        Ok((rootfs, fetched))
    }

    fn fetch(
        &self,
        kind: Kind,
        remote: &mut Remote,
        pin: &Pin,
        judge: Judge<'_>,
        keep: &[Digest],
        progress: &mut dyn Progress,
    ) -> Result<(Arrived, Fetched), BringError> {
        let limits = match kind {
            Kind::Payload | Kind::Bootstrap => &Limits::PAYLOAD,
            Kind::Artifact => &Limits::ARTIFACT,
        };
        let wanted = racklet_fetch::cache::Pin {
            kind,
            name: pin.name.to_string(),
            manifest: pin.manifest.into(),
        };
        let mut arrived = self
            .cache
            .fetch(remote, &wanted, judge.root, keep, limits, progress)
            .map_err(|error| BringError::Arrive(Box::new(error)))?;
        self.accept(&arrived.manifest, judge)?;
        let fetched = Fetched {
            report: arrived.report,
            not_cached: arrived.not_cached.take(),
        };
        Ok((arrived, fetched))
    }

    /// Removes everything but `keep` and the newest payload.
    ///
    /// # Errors
    /// The file system's. What was not removed is still good.
    pub fn retain(&self, keep: &[Digest]) -> io::Result<()> {
        self.cache.retain(keep)
    }
}

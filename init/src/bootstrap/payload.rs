// SPDX-License-Identifier: Apache-2.0
//! Payloads: what the cache holds that could start here, and fetching the pinned one.

use std::io;

use racklet_fetch::cache::{ArriveError, AssembleError, Cache, EntryError, Pin};
use racklet_fetch::disk::Files;
use racklet_fetch::limits::Limits;
use racklet_fetch::progress::Progress;
use racklet_fetch::remote::Remote;
use racklet_rack as rack;
use racklet_trust::floors::Floors;
use racklet_trust::manifest::{Kind, Machine, NotForUs};
use racklet_trust::{Architecture, Digest, Manifest, TrustRoot, Verified};

use super::decide::Candidate;
use super::repository::digest_of;
use crate::console::{Topic, size};
use crate::state::State;
use crate::state::boots::Boots;
use racklet_tell::error::Chain;

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
            architecture: Architecture::HERE,
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
            let whole = self.cache.is_whole(&manifest);
            whole.then_some((claim.digest, manifest))
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

    /// Whether the pinned payload is complete in the cache and may start here. Complete is what was read to the last byte: it is in
    /// memory then, as it would be had it just come.
    pub(crate) fn has(
        &mut self,
        pin: &rack::Pin,
        judge: Judge<'_>,
        progress: &mut dyn Progress,
    ) -> Result<bool, PayloadError> {
        let digest = digest_of(pin);
        // Memory holds one payload.
        self.ready = None;
        let read = match self.cache.manifest(Kind::Payload, digest, judge.root) {
            Ok(None) => return Ok(false),
            Ok(Some(manifest)) => {
                self.accept(&manifest, judge)?;
                self.read(digest, manifest, progress)
            }
            Err(error) => Err(error.into()),
        };
        match read {
            Ok(ready) => {
                PAYLOAD.say(format_args!(
                    "{}-{} is pinned and cached",
                    ready.manifest.name, ready.manifest.version
                ));
                self.ready = Some(ready);
                Ok(true)
            }
            Err(error) => {
                PAYLOAD.failed(Chain(&error), "fetch what is missing");
                Ok(false)
            }
        }
    }

    /// A payload from the cache, every byte of it verified.
    fn read(
        &self,
        digest: Digest,
        manifest: Verified<Manifest>,
        progress: &mut dyn Progress,
    ) -> Result<Ready, PayloadError> {
        let files = self.cache.files(&manifest, MAX_FILE, progress)?;
        Ok(Ready {
            digest,
            manifest,
            files,
        })
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
        self.read(digest, manifest, progress)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::process::Command;

    use racklet_fetch::progress::Silent;
    use racklet_fetch::publish;
    use racklet_trust::root::{RoleKeys, Roles};

    use super::*;

    /// A cache with payloads signed by a key of its own, as `ssh-keygen` makes it.
    struct Card {
        folder: tempfile::TempDir,
        root: Verified<TrustRoot>,
    }

    fn ssh_keygen(folder: &Path, arguments: &[&str]) {
        let done = Command::new("ssh-keygen")
            .current_dir(folder)
            .args(arguments)
            .output()
            .expect("ssh-keygen runs");
        assert!(done.status.success(), "{done:?}");
    }

    impl Card {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("scratch");
            let path = folder.path();
            ssh_keygen(path, &["-q", "-t", "ed25519", "-N", "", "-f", "key"]);
            let key = fs::read_to_string(path.join("key.pub")).expect("read");
            let words: Vec<&str> = key.split_whitespace().take(2).collect();
            let keys = RoleKeys {
                threshold: 1,
                keys: vec![words.join(" ").parse().expect("a key")],
            };
            let roles = Roles {
                root: keys.clone(),
                config: keys.clone(),
                payload: keys.clone(),
                firmware: keys,
            };
            let root = TrustRoot::new(racklet_trust::digest::Hex([7; 16]), 1, roles);
            let root = root.expect("a root").to_canonical();
            let root = Verified::<TrustRoot>::baked(&root).expect("baked");
            Self { folder, root }
        }

        /// Puts a payload into the cache; its digest.
        fn put(&self, version: u64) -> Digest {
            let cache = self.folder.path().join("cache");
            let mut manifest = Manifest::new(Kind::Payload, "stable", version, Architecture::HERE);
            manifest.boards = vec!["qemu-x86_64".into()];
            manifest.created = 1_780_000_000;
            for name in ["kernel", "initramfs"] {
                let bytes = format!("{name} {version}").repeat(1000);
                let file = publish::split(name, bytes.as_bytes(), |chunk, packed| {
                    let path = cache.join(publish::chunk_path(chunk.sha256));
                    fs::create_dir_all(path.parent().expect("a folder"))?;
                    fs::write(path, packed)
                });
                manifest.files.push(file.expect("split"));
            }
            let bytes = manifest.to_canonical();
            let digest = racklet_fetch::chunk::sha256(&bytes);
            let entry = cache.join(format!("payloads/{digest}"));
            fs::create_dir_all(entry.join("signatures")).expect("made");
            fs::write(entry.join("manifest.json"), &bytes).expect("written");
            let sign = [
                "-q",
                "-Y",
                "sign",
                "-n",
                "manifest@racklet.dev",
                "-f",
                "key",
            ];
            let file = entry.join("manifest.json").display().to_string();
            ssh_keygen(self.folder.path(), &[&sign[..], &[&file]].concat());
            fs::rename(
                entry.join("manifest.json.sig"),
                entry.join("signatures/0.sig"),
            )
            .expect("renamed");
            fs::write(entry.join("complete"), "").expect("written");
            digest
        }

        fn payloads(&self) -> Payloads {
            Payloads {
                cache: Cache::open(Files, self.folder.path().join("cache")).expect("opens"),
                board: "qemu-x86_64".into(),
                ready: None,
            }
        }

        fn judge<'a>(&'a self, floors: &'a Floors) -> Judge<'a> {
            Judge {
                root: &self.root,
                floors,
                now: 1_790_000_000,
            }
        }

        /// The file of a payload's first chunk.
        fn chunk(&self, payload: Digest) -> std::path::PathBuf {
            let cache = self.folder.path().join("cache");
            let manifest = fs::read(cache.join(format!("payloads/{payload}/manifest.json")));
            let manifest = Manifest::parse_unverified(&manifest.expect("read")).expect("parses");
            cache.join(publish::chunk_path(manifest.files[0].chunks[0].sha256))
        }
    }

    fn pin(digest: Digest) -> rack::Pin {
        rack::Pin {
            name: "stable".parse().expect("a name"),
            manifest: format!("sha256:{digest}").parse().expect("a digest"),
            repository: None,
        }
    }

    fn digests(candidates: &[Candidate]) -> Vec<Digest> {
        let mut digests: Vec<Digest> = candidates.iter().map(|one| one.digest).collect();
        digests.sort();
        digests
    }

    #[test]
    fn a_payload_with_a_rotten_chunk_is_not_here_and_another_one_starts() {
        type Damage = fn(&Path);
        let damages: [(&str, Damage); 3] = [
            ("rotten", |path| {
                let mut bytes = fs::read(path).expect("read");
                let end = bytes.len() - 5;
                bytes[end] ^= 4;
                fs::write(path, bytes).expect("written");
            }),
            ("gone", |path| fs::remove_file(path).expect("removed")),
            ("cut", |path| fs::write(path, "").expect("written")),
        ];
        let (floors, boots) = (Floors::default(), Boots::default());
        for (what, damage) in damages {
            let card = Card::new();
            let (other, pinned) = (card.put(1), card.put(2));
            let judge = card.judge(&floors);
            let mut both = vec![other, pinned];
            both.sort();
            let mut payloads = card.payloads();
            assert_eq!(digests(&payloads.candidates(judge, &boots, &[])), both);
            assert!(
                payloads
                    .has(&pin(pinned), judge, &mut Silent)
                    .expect("for this tray"),
            );
            // What was read is what starts: nothing that happens to the card afterwards matters.
            damage(&card.chunk(pinned));
            payloads
                .take(pinned, &card.root, &mut Silent)
                .expect("in memory");

            let mut payloads = card.payloads();
            let has = payloads.has(&pin(pinned), judge, &mut Silent);
            assert!(!has.expect("for this tray"), "{what}");
            let candidates = payloads.candidates(judge, &boots, &[]);
            assert_eq!(digests(&candidates), [other], "{what}");
            payloads
                .take(other, &card.root, &mut Silent)
                .unwrap_or_else(|error| panic!("{what}: {error}"));
        }
    }
}

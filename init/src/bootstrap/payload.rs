// SPDX-License-Identifier: Apache-2.0
//! Payloads: what the cache holds that could start here, and the one that memory holds.

use std::io;

use racklet_fetch::disk::Files;
use racklet_fetch::progress::Progress;
use racklet_fetch::remote::Remote;
use racklet_follow::{BringError, Here, Judge, Payload, Shelf};
use racklet_rack::Pin;
use racklet_tell::error::Chain;
use racklet_trust::{Digest, Manifest, Verified};

use super::decide::Candidate;
use crate::console::Topic;
use crate::state::State;
use crate::state::boots::Boots;
use racklet_tell::text::size;

pub(crate) const PAYLOAD: Topic = Topic("payload");

/// Why a payload of the cache cannot start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TakeError {
    #[error(transparent)]
    Bring(#[from] BringError),
    #[error("it is not in the cache")]
    Gone,
}

/// The cache, and a payload that just came.
pub(crate) struct Payloads {
    shelf: Shelf<Files>,
    /// Memory holds one payload.
    memory: Option<Payload>,
}

impl Payloads {
    /// Opens the cache on the state partition.
    pub(crate) fn open(state: &State, board: &str) -> io::Result<Self> {
        Ok(Self {
            shelf: Shelf::open(Files, state.folder("cache"), board)?,
            memory: None,
        })
    }

    /// What could start now.
    pub(crate) fn candidates(
        &self,
        judge: Judge<'_>,
        boots: &Boots,
        spoiled: &[Digest],
    ) -> Vec<Candidate> {
        let memory = self.memory.iter();
        let memory = memory.map(|payload| (payload.digest, payload.manifest.clone()));
        let mut all: Vec<(Digest, Verified<Manifest>)> =
            memory.chain(self.shelf.payloads(judge.root)).collect();
        let mut seen = Vec::new();
        all.retain(|(digest, manifest)| {
            let fresh = !seen.contains(digest) && !spoiled.contains(digest);
            seen.push(*digest);
            fresh && self.shelf.accept(manifest, judge).is_ok()
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
        pin: &Pin,
        judge: Judge<'_>,
        progress: &mut dyn Progress,
    ) -> Result<bool, BringError> {
        // First: there is no room for two.
        self.memory = None;
        match self.shelf.payload(pin.manifest.into(), judge, progress)? {
            Here::Yes(payload) => {
                PAYLOAD.say(format_args!(
                    "{}-{} is pinned and cached",
                    payload.manifest.name, payload.manifest.version
                ));
                self.memory = Some(payload);
            }
            Here::No => {}
            Here::Damaged(error) => PAYLOAD.failed(Chain(&error), "fetch what is missing"),
        }
        Ok(self.memory.is_some())
    }

    /// Fetches the pinned payload.
    pub(crate) fn fetch(
        &mut self,
        remote: &mut Remote,
        pin: &Pin,
        judge: Judge<'_>,
        keep: &[Digest],
        progress: &mut dyn Progress,
    ) -> Result<(), BringError> {
        let (payload, fetched) = self
            .shelf
            .fetch_payload(remote, pin, judge, keep, progress)?;
        if let Some(error) = &fetched.not_cached {
            PAYLOAD.failed(Chain(error), "start it from memory");
        }
        PAYLOAD.say(format_args!(
            "{}-{} verified; received {}, {} new chunks, {} from the cache",
            payload.manifest.name,
            payload.manifest.version,
            size(fetched.report.received),
            fetched.report.new_chunks,
            fetched.report.reused_chunks
        ));
        self.memory = Some(payload);
        Ok(())
    }

    /// The files of a payload, verified, for starting it.
    pub(crate) fn take(
        &mut self,
        digest: Digest,
        judge: Judge<'_>,
        progress: &mut dyn Progress,
    ) -> Result<Payload, TakeError> {
        // Whatever else came is not needed any more, and memory is.
        let here = self.memory.take().filter(|it| it.digest == digest);
        if let Some(payload) = here {
            return Ok(payload);
        }
        match self.shelf.payload(digest, judge, progress)? {
            Here::Yes(payload) => Ok(payload),
            Here::No => Err(TakeError::Gone),
            Here::Damaged(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::process::Command;

    use racklet_fetch::progress::Silent;
    use racklet_fetch::publish;
    use racklet_trust::floors::Floors;
    use racklet_trust::manifest::Kind;
    use racklet_trust::root::{RoleKeys, Roles};
    use racklet_trust::{Architecture, TrustRoot};

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
            let folder = self.folder.path().join("cache");
            Payloads {
                shelf: Shelf::open(Files, folder, "qemu-x86_64").expect("opens"),
                memory: None,
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

    fn pin(digest: Digest) -> Pin {
        Pin {
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
                .take(pinned, judge, &mut Silent)
                .expect("in memory");

            let mut payloads = card.payloads();
            let has = payloads.has(&pin(pinned), judge, &mut Silent);
            assert!(!has.expect("for this tray"), "{what}");
            let candidates = payloads.candidates(judge, &boots, &[]);
            assert_eq!(digests(&candidates), [other], "{what}");
            payloads
                .take(other, judge, &mut Silent)
                .unwrap_or_else(|error| panic!("{what}: {error}"));
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The payloads, bootstraps and images that a rack pins, judged as a tray would, from the refs of this clone that trays look at.
//!
//! A rack of thousands of workloads has a few images: Git is asked for its refs once, and each image is read and hashed once, however
//! many workloads run it.

use std::collections::{BTreeMap, HashMap};

use racklet_fetch::publish::CHUNK_LIST;
use racklet_rack::{Pin, RackState};
use racklet_trust::commit::ObjectId;
use racklet_trust::manifest::{Kind, Machine};
use racklet_trust::{Architecture, Digest, Manifest, TrustRoot, Verified};

use crate::answer::Checked;
use crate::command::rack::refs;
use crate::git::{self, BRANCHES};
use crate::objects::{ObjectError, Objects};
use crate::rack::Rack;
use racklet_tell::error::chain;

/// Everything the rack pins, as far as it is here.
pub(super) fn check(
    rack: &Rack,
    objects: &Objects,
    root: &Verified<TrustRoot>,
    state: &RackState,
    report: &mut Checked,
) -> anyhow::Result<()> {
    let mut pins: Vec<(Kind, String, &Pin, Vec<&str>)> = Vec::new();
    for (name, release) in &state.releases {
        let mut boards: Vec<&str> = release
            .trays
            .iter()
            .filter_map(|tray| state.trays.get(tray))
            .map(|tray| tray.board.as_str())
            .collect();
        boards.sort_unstable();
        boards.dedup();
        let file = format!("releases/{name}.yaml");
        if let Some(bootstrap) = &release.bootstrap {
            pins.push((Kind::Bootstrap, file.clone(), bootstrap, boards.clone()));
        }
        pins.push((Kind::Payload, file, &release.payload, boards));
    }
    for (name, workload) in &state.workloads {
        let board = state
            .trays
            .get(&workload.tray)
            .map(|tray| tray.board.as_str());
        pins.push((
            Kind::Artifact,
            format!("workloads/{name}.yaml"),
            &workload.rootfs,
            board.into_iter().collect(),
        ));
    }
    let mut packages = Packages::open(rack, objects, root)?;
    for (kind, file, pin, boards) in pins {
        let what = format!("{file}: {kind} {}", pin.name);
        if let Some(url) = &pin.repository {
            report
                .warnings
                .push(format!("{what}: not checked, it is in {}", url.as_str()));
            continue;
        }
        match packages.found(kind, pin)? {
            Found::Here(commit) => match packages.judge(kind, pin, &boards, &commit) {
                Ok(version) => {
                    let good = format!("{what} version {version}: signed and complete");
                    report.good.push(good);
                    // Of payloads and images an older one may be meant; a slot never takes one.
                    let newest = packages.newest(kind, pin)?.filter(|_| kind == Kind::Bootstrap);
                    if let Some(newest) = newest.filter(|newest| *newest > version) {
                        report.warnings.push(format!(
                            "{what} version {version}: trays that have run version {newest}, which is published, refuse it"
                        ));
                    }
                }
                Err(why) => report.refusals.push(format!("{what}: {why}")),
            },
            Found::Unpushed(commit) => match packages.judge(kind, pin, &boards, &commit) {
                Ok(_) => report.refusals.push(format!(
                    "{what}: it is in this clone only, trays cannot fetch it: git push origin {kind}/{} {commit}:{}",
                    pin.name,
                    refs::name(pin)
                )),
                Err(why) => report.refusals.push(format!("{what}: {why}")),
            },
            Found::Nowhere => report.warnings.push(format!(
                "{what}: not checked, sha256:{} is not here (git fetch origin {1}:{1})",
                pin.manifest.hex(),
                refs::name(pin)
            )),
        }
    }
    Ok(())
}

/// Where a pinned package is, as far as this clone knows.
enum Found {
    /// In a commit that the server has.
    Here(String),
    /// In a commit of this clone's own branch, which was not pushed.
    Unpushed(String),
    Nowhere,
}

/// The packages of this clone, each looked at once.
struct Packages<'a> {
    objects: &'a Objects,
    root: &'a Verified<TrustRoot>,
    /// The commit that each ref which may hold a package leads to.
    refs: HashMap<String, String>,
    /// The digest of the manifest in a commit; `None` where there is none.
    held: HashMap<String, Option<Digest>>,
    /// What was found of the package in a commit that a pin leads to.
    judged: BTreeMap<(Kind, Digest, String), Result<Whole, String>>,
    /// What boards are, each read once: their description is TOML, which took a quarter of the time of a check of 4,000 workloads.
    boards: BTreeMap<String, Architecture>,
}

/// A signed manifest, and whether its contents are all there, which is only looked at when its tray would take it.
struct Whole {
    tree: String,
    manifest: Verified<Manifest>,
    contents: Option<Result<(), String>>,
}

impl<'a> Packages<'a> {
    fn open(
        rack: &Rack,
        objects: &'a Objects,
        root: &'a Verified<TrustRoot>,
    ) -> anyhow::Result<Self> {
        let listed = rack.repository.text([
            "for-each-ref",
            // The second name is there only where a tag stands before the commit.
            "--format=%(refname) %(objectname) %(*objectname)",
            racklet_fetch::publish::MANIFEST_REFS,
            &git::tracked(BRANCHES),
            BRANCHES,
        ])?;
        let refs = listed.lines().filter_map(|line| {
            let mut words = line.split(' ').filter(|word| !word.is_empty());
            let (name, commit) = (words.next()?, words.next()?);
            let commit = words.next().unwrap_or(commit);
            Some((name.to_owned(), commit.to_owned()))
        });
        Ok(Self {
            objects,
            root,
            refs: refs.collect(),
            held: HashMap::new(),
            judged: BTreeMap::new(),
            boards: BTreeMap::new(),
        })
    }

    /// Looks where trays look: the ref that stays with one manifest for ever, then the branch. The branch's earlier commits are no
    /// place: what was published there has such a ref.
    fn found(&mut self, kind: Kind, pin: &Pin) -> anyhow::Result<Found> {
        let branch = format!("refs/heads/{kind}/{}", pin.name);
        for name in [refs::name(pin), git::tracked(&branch)] {
            if let Some(commit) = self.at(&name, pin)? {
                return Ok(Found::Here(commit));
            }
        }
        let own = self.at(&branch, pin)?;
        Ok(own.map_or(Found::Nowhere, Found::Unpushed))
    }

    /// The commit that the ref `name` leads to, when it holds what is pinned.
    fn at(&mut self, name: &str, pin: &Pin) -> anyhow::Result<Option<String>> {
        let Some(commit) = self.refs.get(name) else {
            return Ok(None);
        };
        let held = match self.held.get(commit) {
            Some(held) => *held,
            None => {
                let tree = self.objects.commit_tree(commit)?.unwrap_or_default();
                let manifest = self.objects.file(&tree, "manifest.json")?;
                let held = manifest.map(|bytes| Digest::of(&bytes));
                self.held.insert(commit.clone(), held);
                held
            }
        };
        let same = held.is_some_and(|held| held.0 == pin.manifest.bytes());
        Ok(same.then(|| commit.clone()))
    }

    /// The version at the tip of the package's branch, as it says itself.
    fn newest(&self, kind: Kind, pin: &Pin) -> anyhow::Result<Option<u64>> {
        let branch = git::tracked(&format!("refs/heads/{kind}/{}", pin.name));
        let Some(commit) = self.refs.get(&branch) else {
            return Ok(None);
        };
        let tree = self.objects.commit_tree(commit)?.unwrap_or_default();
        let manifest = self.objects.file(&tree, "manifest.json")?;
        let manifest = manifest.and_then(|bytes| Manifest::parse_unverified(&bytes).ok());
        Ok(manifest.map(|manifest| manifest.version))
    }

    /// The version of a pinned package in the tree of `commit`, as a tray with one of `boards` judges it.
    fn judge(
        &mut self,
        kind: Kind,
        pin: &Pin,
        boards: &[&str],
        commit: &str,
    ) -> Result<u64, String> {
        let (objects, root) = (self.objects, self.root);
        let key = (kind, pin.manifest.into(), commit.to_owned());
        let signed = self
            .judged
            .entry(key)
            .or_insert_with(|| signed(objects, root, kind, pin, commit));
        let whole = signed.as_mut().map_err(|why| why.clone())?;
        for name in boards {
            let machine = Machine {
                architecture: architecture_of(&mut self.boards, name)?,
                board: name,
                now: Some(crate::time::now()),
                floor: 0,
            };
            whole
                .manifest
                .accept(&machine)
                .map_err(|error| error.to_string())?;
        }
        let Whole {
            tree,
            manifest,
            contents,
        } = whole;
        contents
            .get_or_insert_with(|| complete(objects, tree, manifest))
            .clone()
            .map(|()| manifest.version)
    }
}

fn architecture_of(
    known: &mut BTreeMap<String, Architecture>,
    board: &str,
) -> Result<Architecture, String> {
    if let Some(architecture) = known.get(board) {
        return Ok(*architecture);
    }
    let found = racklet_boards::find(board).map_err(|error| error.to_string())?;
    known.insert(board.to_owned(), found.architecture);
    Ok(found.architecture)
}

/// One pinned package in the tree of `commit`: its manifest, signed by enough keys.
fn signed(
    objects: &Objects,
    root: &Verified<TrustRoot>,
    kind: Kind,
    pin: &Pin,
    commit: &str,
) -> Result<Whole, String> {
    let failed = |error: ObjectError| chain(&error);
    let tree = objects
        .commit_tree(commit)
        .map_err(failed)?
        .ok_or("the branch's commit is missing")?;
    let bytes = objects
        .file(&tree, "manifest.json")
        .map_err(failed)?
        .ok_or("the branch has no manifest.json")?;
    if Digest::of(&bytes).0 != pin.manifest.bytes() {
        return Err(format!(
            "the commit does not hold manifest sha256:{}",
            pin.manifest.hex()
        ));
    }
    let signatures: Vec<Vec<u8>> = match objects.at(&tree, "signatures").map_err(failed)? {
        Some(folder) => objects
            .files(&folder.id, &|path| path.ends_with(".sig"))
            .map_err(failed)?
            .into_iter()
            .map(|(_, contents)| contents)
            .collect(),
        None => Vec::new(),
    };
    let manifest =
        Manifest::verify(root, kind, &bytes, &signatures).map_err(|error| chain(&error))?;
    Ok(Whole {
        tree,
        manifest,
        contents: None,
    })
}

/// Whether all of a manifest's contents are in `tree`, byte by byte.
fn complete(objects: &Objects, tree: &str, manifest: &Manifest) -> Result<(), String> {
    let failed = |error: ObjectError| chain(&error);
    let names = chunk_names(objects, tree, manifest).map_err(failed)?;
    let mut chunks = Chunks::of(objects, tree);
    for file in &manifest.files {
        let mut whole = ring::digest::Context::new(&ring::digest::SHA256);
        let mut verity = file.verity.map(|_| racklet_fetch::verity::Tree::default());
        for chunk in &file.chunks {
            let path = racklet_fetch::publish::chunk_path(chunk.sha256);
            let read = match &names {
                Some(names) => match names.get(&chunk.sha256) {
                    Some(object) => objects.blob(object),
                    None => Ok(None),
                },
                None => chunks.read(&path),
            };
            let bytes = read
                .map_err(failed)?
                .ok_or_else(|| format!("{path} is missing"))?;
            let mut out = vec![0; chunk.length as usize];
            racklet_fetch::chunk::open(chunk.sha256, chunk.size, &bytes, &mut out)
                .map_err(|error| error.to_string())?;
            whole.update(&out);
            if let Some(verity) = &mut verity {
                verity.update(&out);
            }
        }
        if whole.finish().as_ref() != file.sha256.0 {
            return Err(format!(
                "file {} does not have the SHA-256 that the manifest says",
                file.name
            ));
        }
        if verity.map(racklet_fetch::verity::Tree::finish) != file.verity {
            return Err(format!(
                "file {} does not have the fs-verity digest that the manifest says",
                file.name
            ));
        }
    }
    Ok(())
}

/// The folders that the chunks of a package lie in, each read once: there are up to 256 of them, and thousands of chunks.
struct Chunks<'a> {
    objects: &'a Objects,
    tree: &'a str,
    /// The files of a folder, and the names of their contents.
    folders: HashMap<String, HashMap<String, String>>,
}

impl<'a> Chunks<'a> {
    fn of(objects: &'a Objects, tree: &'a str) -> Self {
        Self {
            objects,
            tree,
            folders: HashMap::new(),
        }
    }

    /// The chunk at this path, which a manifest led to.
    fn read(&mut self, path: &str) -> Result<Option<Vec<u8>>, ObjectError> {
        let Some((folder, name)) = path.rsplit_once('/') else {
            return Ok(None);
        };
        if !self.folders.contains_key(folder) {
            let entry = self.objects.at(self.tree, folder)?;
            let id = entry.filter(|entry| entry.is_tree).map(|entry| entry.id);
            let entries = id.map(|id| self.objects.tree(&id)).transpose()?;
            let files = entries.flatten().unwrap_or_default().into_iter();
            let files = files.filter(|entry| entry.is_file);
            let files = files.map(|entry| (entry.name, entry.id)).collect();
            self.folders.insert(folder.to_owned(), files);
        }
        match self.folders[folder].get(name) {
            Some(id) => self.objects.blob(id),
            None => Ok(None),
        }
    }
}

/// Which object is which chunk, where the commit has a list of them in place of the chunks.
fn chunk_names(
    objects: &Objects,
    tree: &str,
    manifest: &Manifest,
) -> Result<Option<HashMap<Digest, String>>, crate::objects::ObjectError> {
    let Some(list) = objects.file(tree, CHUNK_LIST)? else {
        return Ok(None);
    };
    let list = String::from_utf8_lossy(&list);
    let chunks = manifest.files.iter().flat_map(|file| &file.chunks);
    // Whoever may push wrote the list: what is no object's name is none.
    let named = chunks
        .zip(list.lines())
        .filter_map(|(chunk, line)| Some((chunk.sha256, ObjectId::from_hex(line)?.to_string())));
    Ok(Some(named.collect()))
}

// SPDX-License-Identifier: Apache-2.0
//! The payloads and images that a rack pins, judged as a tray would, from the refs of this clone that trays look at.

use std::collections::HashMap;

use racklet_fetch::publish::CHUNK_LIST;
use racklet_rack::{Pin, RackState};
use racklet_trust::commit::ObjectId;
use racklet_trust::manifest::{Kind, Machine};
use racklet_trust::{Digest, Manifest, TrustRoot, Verified};

use crate::answer::Checked;
use crate::command::rack::refs;
use crate::objects::Objects;
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
        pins.push((
            Kind::Payload,
            format!("releases/{name}.yaml"),
            &release.payload,
            boards,
        ));
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
    for (kind, file, pin, boards) in pins {
        let what = format!("{file}: {kind} {}", pin.name);
        if let Some(url) = &pin.repository {
            report
                .warnings
                .push(format!("{what}: not checked, it is in {}", url.as_str()));
            continue;
        }
        match found(rack, objects, kind, pin)? {
            Found::Here(commit) => match package(objects, root, kind, pin, &boards, &commit) {
                Ok(manifest) => report.good.push(format!(
                    "{what} version {}: signed and complete",
                    manifest.version
                )),
                Err(why) => report.refusals.push(format!("{what}: {why}")),
            },
            Found::Unpushed(commit) => {
                match package(objects, root, kind, pin, &boards, &commit) {
                    Ok(_) => report.refusals.push(format!(
                        "{what}: it is in this clone only, trays cannot fetch it: git push origin {kind}/{} {commit}:{}",
                        pin.name,
                        refs::name(pin)
                    )),
                    Err(why) => report.refusals.push(format!("{what}: {why}")),
                }
            }
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

/// Looks where trays look: the ref that stays with one manifest for ever, then the branch. The branch's earlier commits are no
/// place: what was published there has such a ref.
fn found(rack: &Rack, objects: &Objects, kind: Kind, pin: &Pin) -> anyhow::Result<Found> {
    let at = |name: &str| -> anyhow::Result<Option<String>> {
        let Some(commit) = rack.repository.commit(name) else {
            return Ok(None);
        };
        let tree = objects.commit_tree(&commit)?.unwrap_or_default();
        let manifest = objects.file(&tree, "manifest.json")?;
        let same = manifest.is_some_and(|bytes| Digest::of(&bytes).0 == pin.manifest.bytes());
        Ok(same.then_some(commit))
    };
    let branch = format!("{kind}/{}", pin.name);
    for name in [refs::name(pin), format!("refs/remotes/origin/{branch}")] {
        if let Some(commit) = at(&name)? {
            return Ok(Found::Here(commit));
        }
    }
    Ok(at(&format!("refs/heads/{branch}"))?.map_or(Found::Nowhere, Found::Unpushed))
}

/// One pinned package in the tree of `commit`, as a tray judges it.
fn package(
    objects: &Objects,
    root: &Verified<TrustRoot>,
    kind: Kind,
    pin: &Pin,
    boards: &[&str],
    commit: &str,
) -> Result<Verified<Manifest>, String> {
    let failed = |error: crate::objects::ObjectError| chain(&error);
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
    for name in boards {
        let board = racklet_boards::find(name).map_err(|error| error.to_string())?;
        let machine = Machine {
            architecture: board.architecture,
            board: name,
            now: Some(crate::time::now()),
            floor: 0,
        };
        manifest
            .accept(&machine)
            .map_err(|error| error.to_string())?;
    }
    let names = chunk_names(objects, &tree, &manifest).map_err(failed)?;
    for file in &manifest.files {
        let mut whole = ring::digest::Context::new(&ring::digest::SHA256);
        for chunk in &file.chunks {
            let path = racklet_fetch::publish::chunk_path(chunk.sha256);
            let bytes = match &names {
                Some(names) => match names.get(&chunk.sha256) {
                    Some(object) => objects.blob(object),
                    None => Ok(None),
                },
                None => objects.file(&tree, &path),
            };
            let bytes = bytes
                .map_err(failed)?
                .ok_or_else(|| format!("{path} is missing"))?;
            let mut out = vec![0; chunk.length as usize];
            racklet_fetch::chunk::open(chunk.sha256, chunk.size, &bytes, &mut out)
                .map_err(|error| error.to_string())?;
            whole.update(&out);
        }
        if whole.finish().as_ref() != file.sha256.0 {
            return Err(format!(
                "file {} does not have the SHA-256 that the manifest says",
                file.name
            ));
        }
    }
    Ok(manifest)
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

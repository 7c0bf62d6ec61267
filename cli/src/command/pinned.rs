// SPDX-License-Identifier: Apache-2.0
//! The payloads and images that a rack pins, judged as a tray would, from the branches of this clone.

use racklet_api::rack::{Pin, RackState};
use racklet_trust::manifest::{Kind, Machine};
use racklet_trust::{Digest, Manifest, TrustRoot, Verified};

use super::check::Report;
use crate::objects::Objects;
use crate::rack::Rack;
use racklet_api::error::chain;

/// Everything the rack pins, as far as it is here.
pub(super) fn check(
    rack: &Rack,
    objects: &Objects,
    root: &Verified<TrustRoot>,
    state: &RackState,
    report: &mut Report,
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
        let branch = format!("{kind}/{}", pin.name);
        // As it was pushed or fetched last is what trays get; a branch of this clone may be newer.
        let tips = [
            format!("refs/remotes/origin/{branch}"),
            format!("refs/heads/{branch}"),
        ];
        let mut outcomes = tips
            .iter()
            .filter_map(|tip| rack.repository.commit(tip))
            .map(|commit| package(objects, root, kind, pin, &boards, &commit));
        let Some(first) = outcomes.next() else {
            report.warnings.push(format!(
                "{what}: not checked, branch {branch} is not here (git fetch origin {branch}:{branch})"
            ));
            continue;
        };
        match first {
            Ok(manifest) => report.good.push(format!(
                "{what} version {}: signed and complete",
                manifest.version
            )),
            Err(why) if outcomes.next().is_some_and(|local| local.is_ok()) => {
                report.refusals.push(format!(
                    "{what}: {why}\n         the branch in this clone is good: git push origin {branch}"
                ));
            }
            Err(why) => report.refusals.push(format!("{what}: {why}")),
        }
    }
    Ok(())
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
    let digest = Digest::of(&bytes);
    if digest.0 != pin.manifest.bytes() {
        return Err(format!(
            "the branch holds manifest sha256:{digest}, the rack pins sha256:{}; publish the pinned one, or pin this one with `racklet {kind} pin`",
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
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |time| time.as_secs());
        let machine = Machine {
            architecture: &board.architecture,
            board: name,
            now: Some(now),
            floor: 0,
        };
        manifest
            .accept(&machine)
            .map_err(|error| error.to_string())?;
    }
    for file in &manifest.files {
        let mut whole = ring::digest::Context::new(&ring::digest::SHA256);
        for chunk in &file.chunks {
            let path = racklet_fetch::publish::chunk_path(chunk.sha256);
            let bytes = objects
                .file(&tree, &path)
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

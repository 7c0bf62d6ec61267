// SPDX-License-Identifier: Apache-2.0
//! Which refs of the rack's server a clone has: the branch with the rack, approvals, and the packages that the rack pins. Not
//! the branches of payloads and images: they carry every version ever published.

use racklet_fetch::publish::manifest_ref;
use racklet_fetch::rack::APPROVALS;
use racklet_rack::Pin;

use crate::git::{GitError, Repository};
use crate::output::Output;
use crate::rack::{Rack, parse};
use racklet_tell::error::chain;

/// Kinds of packages, which are also the folders of their branches.
const KINDS: [&str; 3] = ["payload", "artifact", "bootstrap"];

/// Tells `git fetch` what to bring: approvals as well, and packages only when they are asked for.
pub(crate) fn configure(repository: &Repository) -> Result<(), GitError> {
    if repository.config("remote.origin.url").is_none() {
        return Ok(());
    }
    let present = repository
        .text(["config", "--local", "--get-all", "remote.origin.fetch"])
        .unwrap_or_default();
    // Where only some branches are fetched (`git clone --single-branch`) there is nothing to leave out.
    let all = present.lines().any(|line| line.contains("refs/heads/*"));
    let mut wanted = vec![format!("+{APPROVALS}*:{APPROVALS}*")];
    if all {
        wanted.extend(KINDS.map(|kind| format!("^refs/heads/{kind}/*")));
    }
    for line in wanted {
        if !present.lines().any(|known| known == line) {
            repository.run(["config", "--local", "--add", "remote.origin.fetch", &line])?;
        }
    }
    // What a plain clone brought already: Git may throw it away once nothing names it.
    for kind in KINDS {
        let folder = format!("refs/remotes/origin/{kind}/");
        let known = repository.text(["for-each-ref", "--format=%(refname)", &folder])?;
        for name in known.lines() {
            repository.run(["update-ref", "-d", name])?;
        }
    }
    Ok(())
}

/// Brings approvals and what the rack pins. That the server cannot be reached is said and no more: `git fetch` does it later.
pub(crate) fn fetch(rack: &Rack, output: Output) {
    let repository = &rack.repository;
    if repository.config("remote.origin.url").is_none() {
        return;
    }
    let mut wanted = vec![format!("+{APPROVALS}*:{APPROVALS}*")];
    // Pins are only names of what is fetched: nothing is believed because of them.
    let state = rack.work_tree().ok().and_then(|files| parse(&files).ok());
    wanted.extend(
        state
            .iter()
            .flat_map(pinned)
            .map(|name| format!("+{name}:{name}")),
    );
    for refspec in wanted {
        let fetched = repository.run(["fetch", "--quiet", "--no-tags", "origin", &refspec]);
        if let Err(error) = fetched {
            output.note(&format!("not fetched: {}", chain(&error)));
        }
    }
}

/// The refs of all packages that the rack pins and that are in its own repository.
fn pinned(state: &racklet_rack::RackState) -> Vec<String> {
    let payloads = state.releases.values().map(|release| &release.payload);
    let images = state.workloads.values().map(|workload| &workload.rootfs);
    let mut names: Vec<String> = payloads
        .chain(images)
        .filter(|pin| pin.repository.is_none())
        .map(name)
        .collect();
    names.sort();
    names.dedup();
    names
}

/// Where a pinned package stays to be found when its branch has moved on; trays look there first.
pub(crate) fn name(pin: &Pin) -> String {
    manifest_ref(pin.manifest.into())
}

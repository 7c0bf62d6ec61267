// SPDX-License-Identifier: Apache-2.0
//! Which refs of the rack's server a clone has: the branch with the rack, approvals, and the packages that the rack pins. Not
//! the branches of payloads and images: they carry every version ever published.

use racklet_fetch::publish::{manifest_branch, manifest_ref};
use racklet_fetch::rack::{APPROVAL_BRANCHES, APPROVALS};
use racklet_rack::Pin;
use racklet_trust::Digest;

use crate::git::{GitError, Repository, tracked};
use crate::output::Output;
use crate::rack::{Rack, parse};
use racklet_tell::error::chain;

/// Folders of branches with packages: those that move on, by kind, and those that stay, where a server takes no other refs.
const PACKAGES: [&str; 4] = ["payload", "artifact", "bootstrap", "racklet/manifests"];
/// What else lies in branches and is no rack, where a server takes no other refs.
const BESIDE: &str = "racklet/";

/// Whether a branch (without `refs/heads/`) may be a rack's: it holds neither packages nor approvals.
pub(crate) fn may_be_a_rack(branch: &str) -> bool {
    let packages = PACKAGES.iter().any(|folder| {
        let below = branch.strip_prefix(folder);
        below.is_some_and(|rest| rest.starts_with('/'))
    });
    !packages && !branch.starts_with(BESIDE)
}

/// What brings the approvals that are branches.
fn approval_branches() -> String {
    let tracked = tracked(APPROVAL_BRANCHES);
    format!("+{APPROVAL_BRANCHES}*:{tracked}*")
}

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
    match all {
        true => wanted.extend(PACKAGES.map(|folder| format!("^refs/heads/{folder}/*"))),
        false => wanted.push(approval_branches()),
    }
    for line in wanted {
        if !present.lines().any(|known| known == line) {
            repository.run(["config", "--local", "--add", "remote.origin.fetch", &line])?;
        }
    }
    // What a plain clone brought already: Git may throw it away once nothing names it.
    for folder in PACKAGES {
        let folder = tracked(&format!("refs/heads/{folder}/"));
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
    let bring = |refspec: &str| {
        // Without the empty map, Git makes tracking branches of what is named here as well.
        let how = ["fetch", "--quiet", "--no-tags", "--refmap="];
        repository.run([&how[..], &["origin", refspec]].concat())
    };
    let say = |fetched: Result<Vec<u8>, GitError>| {
        if let Err(error) = fetched {
            output.note(&format!("not fetched: {}", chain(&error)));
        }
    };
    for refspec in [format!("+{APPROVALS}*:{APPROVALS}*"), approval_branches()] {
        say(bring(&refspec));
    }
    // Pins are only names of what is fetched: nothing is believed because of them.
    let state = rack.work_tree().ok().and_then(|files| parse(&files).ok());
    for digest in state.iter().flat_map(pinned) {
        let name = manifest_ref(digest);
        let branch = manifest_branch(digest);
        let fetched = bring(&format!("+{name}:{name}"));
        // Where the server takes nothing but branches, it is one. What is said is about the first.
        say(fetched.or_else(|error| bring(&format!("+{branch}:{name}")).map_err(|_| error)));
    }
}

/// The manifests of all packages that the rack pins and that are in its own repository.
fn pinned(state: &racklet_rack::RackState) -> Vec<Digest> {
    let releases = state.releases.values();
    let payloads =
        releases.flat_map(|release| [Some(&release.payload), release.bootstrap.as_ref()]);
    let images = state.workloads.values().map(|workload| &workload.rootfs);
    let mut digests: Vec<Digest> = payloads
        .flatten()
        .chain(images)
        .filter(|pin| pin.repository.is_none())
        .map(|pin| pin.manifest.into())
        .collect();
    digests.sort();
    digests.dedup();
    digests
}

/// Where a pinned package stays to be found when its branch has moved on; trays look there first.
pub(crate) fn name(pin: &Pin) -> String {
    manifest_ref(pin.manifest.into())
}

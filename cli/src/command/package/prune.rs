// SPDX-License-Identifier: Apache-2.0
//! Removing images that nothing pins any more from the rack's server: every version ever published stays there until then.
//!
//! ```text
//!   artifact/web:  v1 <── v2 <── v3        pinned lately: v2        refs of v1 go; v2 and v3 become commits without a
//!                  ↑      ↑      ↑                                  past, since theirs would hold v1's bytes for ever;
//!           refs:  list   list   list                               so their lists, each a commit behind its package, follow
//! ```
//!
//! Kept is what the branches of the rack name in the commits of the last days, in the commit that was in force before these, and
//! in the work tree, and the newest version on each branch, which may be published and not pinned yet. Whatever looks like a digest
//! counts as a pin. What is to be known of an image is read from this clone: an image that is not here is left alone.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt::Write as _;

use anyhow::{Context, bail};
use clap::Args;
use racklet_fetch::publish::{CHUNK_LIST, MANIFEST_BRANCHES, MANIFEST_PATH, MANIFEST_REFS};
use racklet_rack::is_object_file;
use racklet_tell::text::count;
use racklet_trust::manifest::Kind;
use racklet_trust::{Digest, Manifest};

use crate::answer::{Pruned, PrunedImage};
use crate::command::rack::refs;
use crate::git::Repository;
use crate::interrupt;
use crate::objects::Objects;
use crate::output::Output;
use crate::rack::{Rack, RackArgument};

/// Where a manifest's commit is found for good.
const PLACES: [&str; 2] = [MANIFEST_REFS, MANIFEST_BRANCHES];
const BRANCHES: &str = "refs/heads/artifact/";
/// Refs in one push: each takes up to 400 bytes of the command line, which Linux bounds at 2 MiB.
const AT_ONCE: usize = 1000;

#[derive(Args)]
pub(crate) struct Prune {
    /// Keep what commits of the last so many days pin
    #[arg(long, value_name = "DAYS", default_value_t = 30)]
    days: u64,
    /// Say what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    rack: RackArgument,
}

/// An image as this clone knows it.
struct Image {
    digest: Digest,
    manifest: Manifest,
    /// The commit with its chunks, where this one lists them.
    package: Option<String>,
}

/// What is to be done on the server.
#[derive(Default)]
struct Plan {
    /// Refs to remove, with what they point to.
    remove: Vec<(String, String)>,
    /// Refs to move, from one commit to another with the same tree.
    replant: Vec<(String, String, String)>,
    removed: BTreeMap<Digest, PrunedImage>,
    kept: BTreeSet<Digest>,
    unknown: BTreeSet<Digest>,
}

impl Prune {
    pub(crate) fn run(self, output: Output) -> anyhow::Result<()> {
        let _guard = interrupt::guard();
        let rack = self.rack.open()?;
        // Whoever prunes by a state that the rack's keys did not sign prunes what the rack's trays need.
        let head = rack.newest()?;
        let objects = Objects::open(&rack.repository)?;
        let listed = listed(&rack.repository)?;
        let mut heads = vec![head.id.to_string(), rack.checked_out()?];
        heads.extend(rack_branches(&rack.repository, &listed)?);
        let pins = self.pins(&rack, &objects, &heads)?;
        let plan = plan(&rack.repository, &objects, &listed, &pins)?;
        let nothing = plan.remove.is_empty() && plan.replant.is_empty();
        let changed = !(self.dry_run || nothing);
        if changed {
            push(&rack.repository, &plan, output)?;
            forget(&rack.repository, &plan)?;
        }
        output.answer(&self.text(&plan), &answer(plan, changed));
        Ok(())
    }

    /// Everything that is named as a digest in the work tree and in the commits that count.
    fn pins(
        &self,
        rack: &Rack,
        objects: &Objects,
        heads: &[String],
    ) -> anyhow::Result<HashSet<Digest>> {
        let since = crate::time::now().saturating_sub(self.days.saturating_mul(86_400));
        let mut commits: BTreeSet<String> = heads.iter().cloned().collect();
        let max_age = format!("--max-age={since}");
        let mut arguments = vec!["rev-list", &max_age];
        arguments.extend(heads.iter().map(String::as_str));
        let lately = rack.repository.text(arguments)?;
        commits.extend(lately.lines().map(str::to_owned));
        for head in heads {
            // What trays ran when the days began.
            let min_age = format!("--min-age={since}");
            let before = ["rev-list", "--max-count=1", &min_age, head];
            commits.extend(rack.repository.text(before)?.lines().map(str::to_owned));
        }
        let mut pins = HashSet::new();
        for (_, contents) in rack.work_tree()? {
            digests(&contents, &mut pins);
        }
        let mut seen = HashSet::new();
        for commit in commits {
            let tree = objects.commit_tree(&commit)?;
            let tree = tree.with_context(|| {
                format!("commit {commit} is not here, and it may pin images: git fetch --unshallow")
            })?;
            look(objects, String::new(), &tree, &mut seen, &mut pins)?;
        }
        Ok(pins)
    }

    fn text(&self, plan: &Plan) -> String {
        let mut text = String::new();
        for (digest, image) in &plan.removed {
            let _ = writeln!(
                text,
                "{}  {} version {}  sha256:{digest}",
                if self.dry_run { "unpinned" } else { "removed " },
                image.name,
                image.version
            );
        }
        let images = |number: usize| count(number as u64, "image");
        let _ = writeln!(
            text,
            "{} {}, {} kept",
            images(plan.removed.len()),
            if self.dry_run {
                "would be removed"
            } else {
                "removed from the server"
            },
            images(plan.kept.len())
        );
        if !plan.unknown.is_empty() {
            let _ = writeln!(
                text,
                "{} left alone: not in this clone, so nobody knows here what they are; prune where they were published, or bring them (git fetch origin {MANIFEST_REFS}DIGEST:{MANIFEST_REFS}DIGEST)",
                images(plan.unknown.len())
            );
        }
        if !self.dry_run && !plan.removed.is_empty() {
            text.push_str(
                "\nThe server frees the room when it collects garbage; this clone does with: git gc --prune=now\n",
            );
        }
        text.trim_end().to_owned()
    }
}

fn answer(plan: Plan, changed: bool) -> Pruned {
    Pruned {
        changed,
        removed: plan.removed.into_values().collect(),
        kept: plan.kept.len() as u64,
        unknown: plan.unknown.iter().map(ToString::to_string).collect(),
    }
}

/// The server's branches and manifests, and the commits that they point to.
fn listed(repository: &Repository) -> anyhow::Result<BTreeMap<String, String>> {
    let asked = [
        "ls-remote",
        "origin",
        "refs/heads/*",
        &format!("{MANIFEST_REFS}*"),
    ];
    let text = repository
        .text(asked)
        .context("ask origin which images it has")?;
    Ok(text
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .map(|(id, name)| (name.to_owned(), id.to_owned()))
        .collect())
}

/// The heads of the server's branches that may hold a rack: what is pinned there by others counts.
fn rack_branches(
    repository: &Repository,
    listed: &BTreeMap<String, String>,
) -> anyhow::Result<Vec<String>> {
    let mut heads = Vec::new();
    for (name, id) in listed {
        let Some(branch) = name.strip_prefix("refs/heads/") else {
            continue;
        };
        if !refs::may_be_a_rack(branch) {
            continue;
        }
        if repository.commit(id).is_none() {
            bail!(
                "origin has commits on branch {branch} that are not here, and they may pin images: git pull first (or git fetch origin {branch})"
            );
        }
        heads.push(id.clone());
    }
    Ok(heads)
}

/// Adds the digests in the object files of a tree, each tree and file looked at once.
fn look(
    objects: &Objects,
    path: String,
    tree: &str,
    seen: &mut HashSet<String>,
    pins: &mut HashSet<Digest>,
) -> anyhow::Result<()> {
    if !seen.insert(format!("{path}{tree}")) {
        return Ok(());
    }
    for entry in objects.tree(tree)?.unwrap_or_default() {
        let inside = format!("{path}{}", entry.name);
        // Objects lie at the top or in a folder there.
        if entry.is_tree && path.is_empty() {
            look(objects, format!("{inside}/"), &entry.id, seen, pins)?;
        } else if entry.is_file && is_object_file(&inside) && seen.insert(entry.id.clone()) {
            digests(&objects.blob(&entry.id)?.unwrap_or_default(), pins);
        }
    }
    Ok(())
}

/// Whatever reads like `sha256:…`: a file that a tray would refuse may be mended tomorrow.
fn digests(contents: &[u8], pins: &mut HashSet<Digest>) {
    let text = String::from_utf8_lossy(contents);
    for (at, word) in text.match_indices("sha256:") {
        let hex = text.get(at + word.len()..at + word.len() + 64);
        pins.extend(hex.and_then(|hex| hex.parse::<Digest>().ok()));
    }
}

fn plan(
    repository: &Repository,
    objects: &Objects,
    listed: &BTreeMap<String, String>,
    pins: &HashSet<Digest>,
) -> anyhow::Result<Plan> {
    let mut plan = Plan::default();
    // With the package that each one lists, where it is a list.
    let mut stay: Vec<(&String, &String, Option<String>)> = Vec::new();
    let mut newest: HashSet<&String> = HashSet::new();
    for (name, commit) in listed.iter().filter(|(name, _)| name.starts_with(BRANCHES)) {
        newest.insert(commit);
        stay.push((name, commit, None));
    }
    for (name, commit) in listed {
        let Some(hex) = PLACES.iter().find_map(|place| name.strip_prefix(place)) else {
            continue;
        };
        let Ok(digest) = hex.parse::<Digest>() else {
            continue;
        };
        let Some(image) = image(repository, objects, commit)? else {
            plan.unknown.insert(digest);
            continue;
        };
        if image.manifest.kind != Kind::Artifact || image.digest != digest {
            continue;
        }
        if pins.contains(&digest) || newest.contains(image.package.as_ref().unwrap_or(commit)) {
            plan.kept.insert(digest);
            stay.push((name, commit, image.package));
            continue;
        }
        plan.remove.push((name.clone(), commit.clone()));
        plan.removed.insert(
            digest,
            PrunedImage {
                name: image.manifest.name.clone(),
                version: image.manifest.version,
                manifest: digest.to_string(),
            },
        );
    }
    let heads: HashSet<String> = stay
        .iter()
        .flat_map(|(_, commit, package)| std::iter::once(*commit).chain(package))
        .cloned()
        .collect();
    for (name, commit, package) in stay {
        if repository.commit(commit).is_none() {
            continue;
        }
        let past = repository.text(["rev-list", commit]);
        // In a shallow clone its past is not known; it is cut all the same.
        let held = past.map_or(true, |past| past.lines().any(|id| !heads.contains(id)));
        if !held {
            continue;
        }
        let new = match package {
            // The list holds its package, and that must go on being held.
            Some(package) => match without_past(repository, &package)? {
                Some(cut) => with_parents(repository, commit, &[&cut])?,
                None => None,
            },
            None => without_past(repository, commit)?,
        };
        if let Some(new) = new {
            plan.replant.push((name.clone(), commit.clone(), new));
        }
    }
    Ok(plan)
}

/// The package in a commit, if this clone has it.
fn image(
    repository: &Repository,
    objects: &Objects,
    commit: &str,
) -> anyhow::Result<Option<Image>> {
    if repository.commit(commit).is_none() {
        return Ok(None);
    }
    let tree = objects.commit_tree(commit)?.unwrap_or_default();
    let Some(bytes) = objects.file(&tree, MANIFEST_PATH)? else {
        return Ok(None);
    };
    let Ok(manifest) = Manifest::parse_unverified(&bytes) else {
        return Ok(None);
    };
    // A list stands behind its package.
    let lists = objects.file(&tree, CHUNK_LIST)?.is_some();
    let package = lists.then(|| repository.commit(&format!("{commit}^")));
    Ok(Some(Image {
        digest: Digest::of(&bytes),
        manifest,
        package: package.flatten(),
    }))
}

/// The same commit without parents; `None` where it has none.
fn without_past(repository: &Repository, commit: &str) -> anyhow::Result<Option<String>> {
    with_parents(repository, commit, &[])
}

/// The same commit with these parents; `None` where it has them already. A function of both: whoever prunes makes the same.
fn with_parents(
    repository: &Repository,
    commit: &str,
    parents: &[&str],
) -> anyhow::Result<Option<String>> {
    let raw = repository.run(["cat-file", "commit", commit])?;
    let raw = String::from_utf8(raw).context("a package's commit is not text")?;
    let Some((header, message)) = raw.split_once("\n\n") else {
        return Ok(None);
    };
    // gitformat: the tree, then the parents, then the rest.
    let (tree, rest) = header.split_once('\n').unwrap_or((header, ""));
    let mut lines = vec![tree.to_owned()];
    lines.extend(parents.iter().map(|parent| format!("parent {parent}")));
    let rest = rest.lines().filter(|line| !line.starts_with("parent "));
    lines.extend(rest.map(str::to_owned));
    let new = format!("{}\n\n{message}", lines.join("\n"));
    if new == raw {
        return Ok(None);
    }
    let made = repository.feed(["hash-object", "-t", "commit", "-w", "--stdin"], |input| {
        input.write_all(new.as_bytes())
    })?;
    Ok(Some(String::from_utf8_lossy(&made).trim().to_owned()))
}

/// First what stays gets its new commit, then what goes goes: cut in between, the next run goes on.
fn push(repository: &Repository, plan: &Plan, output: Output) -> anyhow::Result<()> {
    let moved = plan
        .replant
        .iter()
        .map(|(name, old, new)| (name, old, new.as_str()));
    let gone = plan.remove.iter().map(|(name, old)| (name, old, ""));
    let all: Vec<_> = moved.chain(gone).collect();
    for part in all.chunks(AT_ONCE) {
        let mut arguments = vec!["push".to_owned(), output.git_progress().to_owned()];
        // Nobody's newer version is overwritten or removed.
        let leases = part.iter();
        arguments.extend(leases.map(|(name, old, _)| format!("--force-with-lease={name}:{old}")));
        arguments.push("origin".to_owned());
        arguments.extend(part.iter().map(|(name, _, new)| format!("{new}:{name}")));
        repository.interactive(&arguments).context(
            "remove images from origin; what was removed is removed, run it again for the rest",
        )?;
    }
    Ok(())
}

/// The refs of this clone follow, so that it need not hold what the server does not.
fn forget(repository: &Repository, plan: &Plan) -> anyhow::Result<()> {
    let mut lines = String::new();
    for (name, old) in &plan.remove {
        if repository.commit(name).as_ref() == Some(old) {
            let _ = writeln!(lines, "delete {name} {old}");
        }
    }
    for (name, old, new) in &plan.replant {
        if repository.commit(name).as_ref() == Some(old) {
            let _ = writeln!(lines, "update {name} {new} {old}");
        }
    }
    repository.feed(["update-ref", "--stdin"], |input| {
        input.write_all(lines.as_bytes())
    })?;
    for (name, ..) in &plan.replant {
        // What the branch pointed to before would be kept for months.
        let expire = ["reflog", "expire", "--expire=now", name.as_str()];
        let _ = repository.run(expire);
    }
    Ok(())
}

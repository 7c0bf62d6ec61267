// SPDX-License-Identifier: Apache-2.0
//! `racklet check` and `racklet plan`: what trays would say and do, from the same code, without asking one.

use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use racklet_api::rack::{Pin, Problem, RackState, is_object_file, plan};
use racklet_trust::commit::{Commit, ObjectId};
use racklet_trust::history::{Accepted, Head, Repository, follow};
use racklet_trust::manifest::{Kind, Machine};
use racklet_trust::{Digest, Manifest, TrustRoot, Verified};
use serde::Serialize;
use serde_json::json;

use crate::objects::Objects;
use crate::output::{Output, count};
use crate::rack::{Rack, RackArgument, chain, parse};

/// Say, offline, exactly what a tray would say about the rack repository
///
/// Checks the signatures of the whole history, the trust root, every file, and the payloads and images that the rack pins
/// as far as their branches are here. Files are taken from the work tree, so that mistakes show before they are
/// committed; name a revision to check what is committed there. Exit status 1 means that trays would refuse it.
#[derive(Args)]
pub(crate) struct Check {
    /// A revision to check instead of the work tree
    #[arg(value_name = "REVISION")]
    revision: Option<String>,
    /// The commit that trays accepted last; the branch as it was pushed when left out
    #[arg(long, value_name = "REVISION")]
    accepted: Option<String>,
    #[command(flatten)]
    rack: RackArgument,
}

/// Show what would change on which tray
///
/// Compares what was pushed with the work tree; without changes there, with the commit before.
#[derive(Args)]
pub(crate) struct Plan {
    /// Before: a revision; what was pushed, or the commit before, when left out
    #[arg(long, value_name = "REVISION")]
    from: Option<String>,
    /// After: a revision; the work tree when left out
    #[arg(long, value_name = "REVISION")]
    to: Option<String>,
    #[command(flatten)]
    rack: RackArgument,
}

/// The outcome of a check.
#[derive(Serialize, Default)]
struct Report {
    ok: bool,
    head: Option<String>,
    commits: Option<u64>,
    trust_root: Option<u64>,
    /// What trays would refuse.
    problems: Vec<Problem>,
    refusals: Vec<String>,
    /// What is allowed but probably not meant, and what could not be checked.
    warnings: Vec<String>,
    /// What was checked and is good.
    good: Vec<String>,
}

impl Check {
    pub(crate) fn run(self, output: Output) -> anyhow::Result<ExitCode> {
        let rack = self.rack.open()?;
        let mut report = Report::default();
        let objects = Objects::open(&rack.repository)?;
        let revision = self.revision.as_deref().unwrap_or("HEAD");
        let head = rack.repository.commit(revision);
        let head = head.with_context(|| format!("{revision} is not a commit here"))?;
        report.head = Some(head.clone());

        let root = match self.history(&rack, &objects, &head, &mut report) {
            Ok(verified) => {
                report.commits = Some(verified.generation);
                report.good.push(format!(
                    "history: {} signed by enough config keys",
                    count(verified.generation, "commit")
                ));
                verified.root.clone()
            }
            Err(reason) => {
                report.refusals.push(reason);
                rack.trust()?.0
            }
        };
        report.trust_root = Some(root.version());

        let (files, place) = if self.revision.is_some() {
            let tree = objects
                .commit_tree(&head)?
                .context("the commit has no tree")?;
            (
                objects.files(&tree, &is_object_file)?,
                format!("files in {revision}"),
            )
        } else {
            let dirty = rack.repository.text(["status", "--porcelain"])?;
            if !dirty.is_empty() {
                report.warnings.push(format!(
                    "not committed: {}; trays see changes once they are pushed",
                    count(dirty.lines().count() as u64, "changed file")
                ));
            }
            (rack.work_tree()?, "files in the work tree".to_owned())
        };
        match parse(&files) {
            Err(problems) => report.problems = problems.list().to_vec(),
            Ok(state) => {
                report.good.push(format!(
                    "{place}: {}, {}, {}",
                    count(files.len() as u64, "object"),
                    count(state.trays.len() as u64, "tray"),
                    count(state.workloads.len() as u64, "workload")
                ));
                report
                    .warnings
                    .extend(state.warnings.iter().map(ToString::to_string));
                if state.id.bytes() != root.rack().0 {
                    report.refusals.push(format!(
                        "rack.yaml: spec.id is not {}, the rack in trust/",
                        root.rack()
                    ));
                }
                packages(&rack, &objects, &root, &state, &mut report)?;
            }
        }
        report.ok = report.problems.is_empty() && report.refusals.is_empty();
        output.answer(&report.text(), &report);
        Ok(if report.ok {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    /// The history rule, from the first commit on, and then again from what trays accepted last.
    fn history(
        &self,
        rack: &Rack,
        objects: &Objects,
        head: &str,
        report: &mut Report,
    ) -> Result<Verified<Head>, String> {
        let name =
            |id: &str| ObjectId::from_hex(id).ok_or_else(|| format!("{id} is not an object name"));
        let first = rack
            .repository
            .text(["rev-list", "--max-parents=0", head])
            .map_err(|error| error.to_string())?;
        if first.lines().count() != 1 {
            return Err(
                "the history has several beginnings: a merge brought in another repository"
                    .to_owned(),
            );
        }
        // In a shallow clone Git shows a beginning where the commit itself names parents.
        let raw = Repository::commit(objects, &name(&first)?).map_err(|error| chain(&error))?;
        let shallow = raw
            .and_then(|raw| Commit::parse(&raw).ok())
            .is_some_and(|commit| !commit.parents().is_empty());
        let begin = if shallow { head } else { first.as_str() };
        let baked = baked(rack, objects, begin)?;
        if shallow {
            report.warnings.push(
                "this clone is shallow: only the newest commit was checked (git fetch --unshallow)"
                    .to_owned(),
            );
        }
        let start = Accepted {
            head: None,
            generation: 0,
            root: baked,
        };
        let first = follow(objects, &start, name(begin)?).map_err(|error| chain(&error))?;
        let accepted = Accepted {
            head: Some(first.id),
            generation: first.generation,
            root: first.root.clone(),
        };
        let verified = follow(objects, &accepted, name(head)?).map_err(|error| chain(&error))?;

        let upstream = rack
            .repository
            .text([
                "rev-parse",
                "--abbrev-ref",
                "--symbolic-full-name",
                "@{upstream}",
            ])
            .ok();
        let last = self.accepted.clone().or(if self.revision.is_none() {
            upstream
        } else {
            None
        });
        if let Some(last) = last {
            let id = rack
                .repository
                .commit(&last)
                .ok_or_else(|| format!("{last} is not a commit here"))?;
            let before = follow(objects, &accepted, name(&id)?)
                .map_err(|error| format!("{last}: {}", chain(&error)))?;
            let accepted = Accepted {
                head: Some(before.id),
                generation: before.generation,
                root: before.root.clone(),
            };
            let after = follow(objects, &accepted, name(head)?).map_err(|error| chain(&error))?;
            report.good.push(format!(
                "follows {last} by {}",
                count(after.generation - before.generation, "new commit")
            ));
        }
        Ok(verified)
    }
}

/// The trust root that an image made at `commit` would carry.
fn baked(rack: &Rack, objects: &Objects, commit: &str) -> Result<Verified<TrustRoot>, String> {
    let tree = objects
        .commit_tree(commit)
        .map_err(|error| chain(&error))?
        .ok_or("the first commit is missing")?;
    let tree = ObjectId::from_hex(&tree).ok_or("a tree without a name")?;
    let none = || {
        format!(
            "commit {commit} has no trust/1/root.json: {} is not a rack repository",
            rack.repository.path().display()
        )
    };
    let trust = objects
        .trust_tree(&tree)
        .map_err(|error| chain(&error))?
        .ok_or_else(none)?;
    let document = |version| {
        objects
            .root_document(&trust, version)
            .map_err(|error| chain(&error))
    };
    let first = document(1)?.ok_or_else(none)?;
    let mut root = Verified::<TrustRoot>::baked(&first.bytes)
        .map_err(|error| format!("trust/1/root.json: {}", chain(&error)))?;
    while let Some(next) = document(root.version() + 1)? {
        root = root
            .advance(&next.bytes, &next.signatures)
            .map_err(|error| {
                format!("trust/{}/root.json: {}", root.version() + 1, chain(&error))
            })?;
    }
    Ok(root)
}

/// Everything the rack pins, as far as it is here.
fn packages(
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

impl Report {
    fn text(&self) -> String {
        let mut lines = Vec::new();
        lines.extend(self.good.iter().map(|line| format!("ok       {line}")));
        lines.extend(self.warnings.iter().map(|line| format!("note     {line}")));
        lines.extend(
            self.problems
                .iter()
                .map(|problem| format!("refused  {problem}")),
        );
        lines.extend(self.refusals.iter().map(|line| format!("refused  {line}")));
        lines.push(match self.ok {
            true => "\ntrays would accept this".to_owned(),
            false => "\ntrays would refuse this and keep what they have".to_owned(),
        });
        lines.join("\n")
    }
}

impl Plan {
    pub(crate) fn run(self, output: Output) -> anyhow::Result<()> {
        let rack = self.rack.open()?;
        let objects = Objects::open(&rack.repository)?;
        let dirty = !rack.repository.text(["status", "--porcelain"])?.is_empty();
        let head = rack
            .repository
            .commit("HEAD")
            .context("the repository has no commit yet")?;
        let upstream = rack.repository.commit("@{upstream}");
        let (after_name, after) = match &self.to {
            Some(revision) => (
                revision.clone(),
                at(&rack, &objects, revision)?.context("--to names an empty state")?,
            ),
            None => ("the work tree".to_owned(), rack.state()?),
        };
        let from = match (&self.from, upstream) {
            (Some(revision), _) => revision.clone(),
            (None, Some(upstream)) if dirty || upstream != head => "@{upstream}".to_owned(),
            (None, _) if dirty => "HEAD".to_owned(),
            (None, _) => "HEAD~1".to_owned(),
        };
        // The first commit has none before it: everything is new.
        let before =
            if self.from.is_none() && from == "HEAD~1" && rack.repository.commit(&from).is_none() {
                None
            } else {
                at(&rack, &objects, &from)?
            };
        let trays = plan(before.as_ref(), &after);
        let mut text = format!("from {from} to {after_name}\n");
        if trays.is_empty() {
            text.push_str("\nnothing changes on any tray\n");
        }
        for tray in &trays {
            text.push_str(&format!("\n{}\n", tray.tray));
            for change in &tray.changes {
                text.push_str(&format!("  {change}\n"));
            }
        }
        output.answer(
            &text,
            &json!({ "from": from, "to": after_name, "trays": trays }),
        );
        Ok(())
    }
}

/// The state that a revision asks for; `None` for a revision that trays refuse, because nothing of it ever ran.
fn at(rack: &Rack, objects: &Objects, revision: &str) -> anyhow::Result<Option<RackState>> {
    let Some(commit) = rack.repository.commit(revision) else {
        bail!("{revision} is not a commit here")
    };
    let tree = objects
        .commit_tree(&commit)?
        .with_context(|| format!("{revision} has no tree"))?;
    let files = objects.files(&tree, &is_object_file)?;
    match parse(&files) {
        Ok(state) => Ok(Some(state)),
        Err(problems) => bail!(
            "{revision} is not valid, so no tray runs it; compare with another using --from:\n{problems}"
        ),
    }
}

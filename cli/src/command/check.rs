// SPDX-License-Identifier: Apache-2.0
//! `racklet check`: what trays would say, from the same code, without asking one.

use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use racklet_api::rack::{Problem, is_object_file};
use racklet_fetch::limits::Limits;
use racklet_fetch::rack::Fetched;
use racklet_trust::commit::{Commit, ObjectId};
use racklet_trust::floors::Floors;
use racklet_trust::history::{Accepted, Head, Rejected, Repository, follow};
use racklet_trust::{TrustRoot, Verified};
use serde::Serialize;

use super::pinned;
use crate::objects::{ObjectError, Objects};
use crate::output::{Output, count};
use crate::rack::{Rack, RackArgument, parse};
use racklet_api::error::chain;

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

/// The outcome of a check.
#[derive(Serialize, Default)]
pub(super) struct Report {
    ok: bool,
    head: Option<String>,
    commits: Option<u64>,
    trust_root: Option<u64>,
    /// What trays would refuse.
    pub(super) problems: Vec<Problem>,
    pub(super) refusals: Vec<String>,
    /// What is allowed but probably not meant, and what could not be checked.
    pub(super) warnings: Vec<String>,
    /// What was checked and is good.
    pub(super) good: Vec<String>,
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
                if let Err(reason) = strict(&rack, &verified) {
                    report.refusals.push(reason);
                }
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
                pinned::check(&rack, &objects, &root, &state, &mut report)?;
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
        let start = Accepted::nothing(baked, Floors::default());
        let first = follow(objects, &start, name(begin)?).map_err(refusal)?;
        let accepted = Accepted {
            head: Some(first.id),
            generation: first.generation,
            root: first.root.clone(),
            floors: first.floors(),
        };
        let verified = follow(objects, &accepted, name(head)?).map_err(refusal)?;

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
                floors: before.floors(),
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

/// What the history rule says, and what to do where something is only missing.
fn refusal(error: Rejected<ObjectError>) -> String {
    let mut text = chain(&error);
    if let Rejected::Unauthorised { id, error } = &error
        && error.valid > 0
    {
        text.push_str(&format!(
            "\n         another config key approves it with: racklet approve {id}"
        ));
    }
    text
}

/// Reads the head's tree with the code that trays read it with: sizes, names, and nothing but plain files and folders.
fn strict(rack: &Rack, head: &Verified<Head>) -> Result<(), String> {
    let listed = rack.repository.run([
        "rev-list",
        "--objects",
        "--no-walk",
        "--no-object-names",
        &head.id.to_string(),
    ]);
    let listed = listed.map_err(|error| chain(&error))?;
    let pack = rack
        .repository
        .feed(["pack-objects", "--quiet", "--stdout"], |input| {
            input.write_all(&listed)
        })
        .map_err(|error| chain(&error))?;
    let accepted = Accepted {
        head: Some(head.id),
        generation: head.generation,
        root: head.root.clone(),
        floors: head.floors(),
    };
    Fetched::from_pack(pack.as_slice(), head.id, &Limits::RACK)
        .map_err(|error| chain(&error))?
        .verify(&accepted)
        .map_err(|error| chain(&error))?;
    Ok(())
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

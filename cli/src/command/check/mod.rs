// SPDX-License-Identifier: Apache-2.0
//! `racklet check`: what trays would say, from the same code, without asking one.

use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use racklet_fetch::limits::Limits;
use racklet_fetch::rack::Fetched;
use racklet_rack::is_object_file;
use racklet_trust::Verified;
use racklet_trust::history::Head;

mod boards;
mod pinned;

use crate::answer::Checked;
use crate::history::{Judge, Refusal, accepted};
use crate::objects::Objects;
use crate::output::Output;
use crate::rack::{Rack, RackArgument, parse};
use racklet_tell::error::chain;
use racklet_tell::text::count;

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

impl Check {
    pub(crate) fn run(self, output: Output) -> anyhow::Result<ExitCode> {
        let rack = self.rack.open()?;
        let mut report = Checked::default();
        let objects = Objects::open(&rack.repository)?;
        let revision = self.revision.as_deref().unwrap_or("HEAD");
        let head = rack.repository.commit(revision);
        let head = head.with_context(|| format!("{revision} is not a commit here"))?;
        report.head = Some(head.clone());

        let root = match self.history(&rack, &objects, &head, &mut report)? {
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
            Err(refusal) => {
                report.refusals.push(refusal.to_string());
                match rack.vouched(&objects, &head) {
                    Ok(root) => root,
                    // Of another rack: nothing else in it is worth a word.
                    Err(_) => return Ok(finish(report, output)),
                }
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
            report.warnings.extend(
                rack.untracked()?
                    .iter()
                    .map(|file| format!("{file} is not in Git yet: git add {file}")),
            );
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
                boards::check(&state, &mut report);
                pinned::check(&rack, &objects, &root, &state, &mut report)?;
            }
        }
        Ok(finish(report, output))
    }

    /// The history rule from the pinned trust root on, and then again from what trays accepted last.
    fn history(
        &self,
        rack: &Rack,
        objects: &Objects,
        head: &str,
        report: &mut Checked,
    ) -> anyhow::Result<Result<Verified<Head>, Refusal>> {
        let judged = match rack.judge(objects, head)? {
            Ok(judged) => judged,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if judged.shallow {
            report.warnings.push(
                "this clone is shallow: only the newest commit was checked (git fetch --unshallow)"
                    .to_owned(),
            );
        }
        let Some(last) = self.last(rack) else {
            return Ok(Ok(judged.head));
        };
        let id = rack
            .repository
            .commit(&last)
            .with_context(|| format!("{last} is not a commit here"))?;
        let judge = Judge {
            repository: &rack.repository,
            objects,
            pin: rack.pin()?,
        };
        Ok(judge.since(&id, head).map(|new| {
            report
                .good
                .push(format!("follows {last} by {}", count(new, "new commit")));
            judged.head
        }))
    }

    /// What trays accepted last, as far as it can be known here.
    fn last(&self, rack: &Rack) -> Option<String> {
        let upstream = || {
            rack.repository
                .text([
                    "rev-parse",
                    "--abbrev-ref",
                    "--symbolic-full-name",
                    "@{upstream}",
                ])
                .ok()
        };
        match &self.accepted {
            Some(named) => Some(named.clone()),
            None if self.revision.is_none() => upstream(),
            None => None,
        }
    }
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
        // Whatever is packed already stays as it is; to look for likenesses among the rest takes longer than to read it without.
        .feed(
            ["pack-objects", "--quiet", "--stdout", "--window=0"],
            |input| input.write_all(&listed),
        )
        .map_err(|error| chain(&error))?;
    let tree = Fetched::from_pack(pack.as_slice(), head.id, &Limits::RACK)
        .map_err(|error| chain(&error))?
        .verify(&accepted(head))
        .map_err(|error| chain(&error))?;
    tree.files().map(drop).map_err(|error| chain(&error))
}

/// Says what was found; the exit status is whether trays would take it.
fn finish(mut found: Checked, output: Output) -> ExitCode {
    found.ok = found.problems.is_empty() && found.refusals.is_empty();
    output.answer(&text(&found), &found);
    match found.ok {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn text(found: &Checked) -> String {
    let mut lines = Vec::new();
    lines.extend(found.good.iter().map(|line| format!("ok       {line}")));
    lines.extend(found.warnings.iter().map(|line| format!("note     {line}")));
    lines.extend(
        found
            .problems
            .iter()
            .map(|problem| format!("refused  {problem}")),
    );
    lines.extend(found.refusals.iter().map(|line| format!("refused  {line}")));
    lines.push(match found.ok {
        true => "\ntrays would accept this".to_owned(),
        false => "\ntrays would refuse this and keep what they have".to_owned(),
    });
    lines.join("\n")
}

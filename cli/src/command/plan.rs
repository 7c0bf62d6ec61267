// SPDX-License-Identifier: Apache-2.0
//! `racklet plan`: what trays would do, from the same code, without asking one.

use anyhow::{Context, bail};
use clap::Args;
use racklet_rack::{RackState, is_object_file, plan};

use crate::answer::Planned;
use crate::objects::Objects;
use crate::output::Output;
use crate::rack::{Rack, RackArgument, parse};

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

impl Plan {
    pub(crate) fn run(self, output: Output) -> anyhow::Result<()> {
        let rack = self.rack.open()?;
        // A plan that begins with what somebody else wrote would mislead.
        rack.newest()?;
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
        let untracked = match self.to {
            Some(_) => Vec::new(),
            None => rack.untracked()?,
        };
        for file in &untracked {
            text.push_str(&format!("\n{file} is not in Git yet: git add {file}\n"));
        }
        output.answer(
            &text,
            &Planned {
                from,
                to: after_name,
                trays,
                untracked,
            },
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

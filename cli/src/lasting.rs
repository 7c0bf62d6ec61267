// SPDX-License-Identifier: Apache-2.0
//! Refs that stay: a pinned package and an approval are found under names of their own, for as long as anybody may want them.
//!
//! Most servers take `refs/racklet/…`. Some take nothing but branches and tags: there it is a branch, which trays look for as well. Commits
//! made here follow from what is in them, so that whoever does it again makes the same.

use std::io;

use anyhow::{Context, bail};
use racklet_fetch::publish::{CommitInfo, write_fast_import};

use crate::git::{AS_THEY_ARE, Pushed, Repository};
use crate::output::Output;

/// Where a commit is put together before it has a name.
const SCRATCH: &str = "refs/racklet/publishing";

/// A commit with exactly these files, which nothing names yet.
pub(crate) fn commit(
    repository: &Repository,
    parent: Option<&str>,
    time: u64,
    message: &str,
    files: impl IntoIterator<Item = io::Result<(String, Vec<u8>)>>,
) -> anyhow::Result<String> {
    let info = CommitInfo {
        branch: SCRATCH,
        parent,
        name: "racklet",
        email: "racklet@localhost",
        time,
        message,
    };
    // An older attempt's leftover would be taken for our parent.
    repository.run(["update-ref", "-d", SCRATCH])?;
    // Depth 0: each file would be compared with the one before.
    let import = ["fast-import", "--quiet", "--done", "--depth=0"];
    let import = [&AS_THEY_ARE[..], &import].concat();
    repository
        .feed(import, |mut input| {
            write_fast_import(&mut input, &info, files)
        })
        .context("write the commit")?;
    let commit = repository.text(["rev-parse", SCRATCH])?;
    repository.run(["update-ref", "-d", SCRATCH])?;
    Ok(commit)
}

/// What is pushed under which name.
pub(crate) struct Lasting<'a> {
    /// An object and a ref of our own.
    pub(crate) of_its_own: (&'a str, &'a str),
    /// A commit and a branch, for servers that refuse that.
    pub(crate) as_branch: (&'a str, &'a str),
}

impl<'a> Lasting<'a> {
    /// Pushes it, alone, so that nothing else is refused with it; the name that the server took.
    pub(crate) fn push(
        &self,
        repository: &Repository,
        to: &str,
        output: Output,
    ) -> anyhow::Result<&'a str> {
        let push = |(object, name): (&str, &str)| {
            let refspec = format!("+{object}:{name}");
            repository.push(&[output.git_progress(), to, &refspec])
        };
        let (own, branch) = (self.of_its_own.1, self.as_branch.1);
        let Pushed::Refused(reason) = push(self.of_its_own)? else {
            return Ok(own);
        };
        output.note(&format!(
            "{to} refuses {own} ({reason}); trying the branch {branch}"
        ));
        match push(self.as_branch)? {
            Pushed::Taken => Ok(branch),
            Pushed::Refused(again) => bail!(
                "git push {to}: the server takes neither {own} ({reason}) nor {branch} ({again}); allow one of them there"
            ),
        }
    }
}

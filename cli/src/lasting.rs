// SPDX-License-Identifier: Apache-2.0
//! Refs that stay: a pinned package and an approval are found under names of their own, for as long as anybody may want them.
//!
//! Most servers take `refs/racklet/…`. Some take nothing but branches and tags: there it is a branch, which trays look for as well. Commits
//! made here follow from what is in them, so that whoever does it again makes the same.

use std::collections::HashSet;
use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use racklet_fetch::publish::{Commit, CommitInfo, ObjectFormat, PackIndex};
use racklet_trust::commit::ObjectId;
use tempfile::NamedTempFile;

use crate::git::{GitError, Pushed, Repository};
use crate::output::Output;

/// Fewer objects than these are no pack of their own: what Git does with what it receives (`transfer.unpackLimit`).
const UNPACKED: usize = 100;

/// Makes a commit with exactly these files, which nothing names yet. They are read twice: for their names, and where the repository lacks
/// them.
pub(crate) fn commit(
    repository: &Repository,
    info: &CommitInfo<'_>,
    paths: impl IntoIterator<Item = String>,
    mut read: impl FnMut(&str) -> io::Result<Vec<u8>>,
    written: impl Fn(u64),
) -> anyhow::Result<Commit> {
    let format = match repository
        .text(["rev-parse", "--show-object-format"])?
        .as_str()
    {
        "sha1" => ObjectFormat::Sha1,
        "sha256" => ObjectFormat::Sha256,
        other => bail!("this repository names objects by {other}, which racklet does not know"),
    };
    let commit = Commit::of(format, info, paths, &mut read).context("make the commit")?;
    let wanted = lacking(repository, &commit.objects())?;
    let read = |path: &str| {
        let bytes = read(path)?;
        written(bytes.len() as u64);
        Ok(bytes)
    };
    if wanted.len() < UNPACKED {
        repository
            .feed(["unpack-objects", "-q"], |input| {
                commit.write_pack(&wanted, read, input).map(drop)
            })
            .context("write the commit")?;
        return Ok(commit);
    }
    let place = [
        "rev-parse",
        "--path-format=absolute",
        "--git-path",
        "objects/pack",
    ];
    let folder = PathBuf::from(repository.text(place)?);
    place_pack(&folder, |out| commit.write_pack(&wanted, read, out))
        .with_context(|| format!("write the commit into {}", folder.display()))?;
    Ok(commit)
}

/// Puts a pack where Git looks for packs. Its index comes last, as Git does it: a pack without one is not there.
fn place_pack(
    folder: &Path,
    write: impl FnOnce(&mut dyn io::Write) -> io::Result<PackIndex>,
) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    // `git gc` removes what is called so and was left behind.
    let new = || {
        tempfile::Builder::new()
            .prefix("tmp_pack_")
            .permissions(Permissions::from_mode(0o444))
            .tempfile_in(folder)
    };
    let place = |mut file: NamedTempFile, name: String| {
        file.flush()?;
        file.as_file().sync_all()?;
        file.persist(folder.join(name)).map_err(|error| error.error)
    };
    let (mut pack, mut listed) = (new()?, new()?);
    let index = write(&mut BufWriter::new(&mut pack))?;
    index.write(&mut listed)?;
    place(pack, format!("pack-{}.pack", index.checksum()))?;
    place(listed, format!("pack-{}.idx", index.checksum()))?;
    File::open(folder)?.sync_all()
}

/// Which of these objects the repository does not have.
fn lacking(
    repository: &Repository,
    objects: &HashSet<ObjectId>,
) -> Result<HashSet<ObjectId>, GitError> {
    let names: String = objects.iter().map(|id| format!("{id}\n")).collect();
    let said = repository.feed(["cat-file", "--batch-check"], |input| {
        input.write_all(names.as_bytes())
    })?;
    let said = String::from_utf8_lossy(&said);
    let missing = said
        .lines()
        .filter_map(|line| line.strip_suffix(" missing"));
    Ok(missing.filter_map(ObjectId::from_hex).collect())
}

/// Who makes them.
pub(crate) fn info(parent: Option<ObjectId>, time: u64, message: &str) -> CommitInfo<'_> {
    CommitInfo {
        parent,
        name: "racklet",
        email: "racklet@localhost",
        time,
        message,
    }
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

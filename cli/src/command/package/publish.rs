// SPDX-License-Identifier: Apache-2.0
//! Publishing a package as a Git branch, and pinning it in the rack repository.
//!
//! The commit is a function of the package and of the branch's tip: author, time and message come from the manifest, so
//! that two people who publish the same package make the same commit.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use clap::Args;
use racklet_fetch::publish::{CHUNK_LIST, Commit, chunk_list, manifest_branch, manifest_ref};
use racklet_image::package::Package;
use racklet_trust::commit::ObjectId;
use racklet_trust::manifest::Kind;
use racklet_trust::{Digest, Manifest};

use super::hosts;
use super::judge::{open, usable};
use crate::answer::Published;
use crate::git::{Pushed, Repository};
use crate::interrupt;
use crate::lasting::{self, Lasting};
use crate::output::{Output, size};
use crate::rack::RackArgument;

#[derive(Args)]
pub(crate) struct Publish {
    /// The package's folder
    directory: PathBuf,
    /// URL or path of the repository to push to; the rack's `origin` when left out
    #[arg(long, value_name = "URL|PATH")]
    repository: Option<String>,
    /// Only make the commit in the rack repository; push it yourself
    #[arg(long, conflicts_with = "repository")]
    no_push: bool,
    #[command(flatten)]
    rack: RackArgument,
}

impl Publish {
    pub(crate) fn run(self, kind: Kind, output: Output) -> anyhow::Result<()> {
        let _guard = interrupt::guard();
        let package = open(&self.directory, kind)?;
        let signatures = package.signatures()?.len();
        usable(&package)?;
        let rack = self.rack.find()?;
        match &rack {
            Some(rack) => {
                let (root, _) = rack.trust()?;
                package.verify(&root).with_context(|| {
                    format!(
                        "trays would refuse {}; sign it first: racklet {kind} sign {0}",
                        self.directory.display()
                    )
                })?;
            }
            None if signatures == 0 => {
                bail!(
                    "{} is not signed; sign it first: racklet {kind} sign {0}",
                    self.directory.display()
                )
            }
            None => package.verify_contents(&mut |_| {})?,
        }
        // Without a rack repository here, a scratch one carries the objects.
        let target = self
            .repository
            .clone()
            .or_else(|| rack.is_some().then(|| "origin".to_owned()));
        let target = target.context(
            "no rack repository here; name one with --rack DIR or the target with --repository URL",
        )?;
        let target_is_origin = rack.is_some() && self.repository.is_none();
        let absolute = match fs::canonicalize(&target) {
            Ok(path) if self.repository.is_some() => path.display().to_string(),
            _ => target,
        };
        let scratch;
        let repository = match &rack {
            Some(rack) => rack.repository.clone(),
            None => {
                scratch = tempfile::tempdir().context("make a temporary folder")?;
                let repository = Repository::at(scratch.path());
                let format = hosts::object_format(&repository, &absolute)?;
                repository.run([
                    "init",
                    "--quiet",
                    "--bare",
                    &format!("--object-format={format}"),
                ])?;
                repository
            }
        };
        let branch = format!("refs/heads/{kind}/{}", package.manifest().name);
        let names = [
            branch.clone(),
            manifest_ref(package.digest()),
            manifest_branch(package.digest()),
        ];
        let [parent, own, as_branch] = match self.no_push {
            true => [repository.commit(&branch), None, None],
            false => listed(&repository, &absolute, &names)?,
        };
        if let Some(parent) = &parent {
            bring(
                &repository,
                &absolute,
                &branch,
                parent,
                rack.is_none(),
                output,
            )?;
            not_lower(&repository, &package, parent, &self.directory)?;
        }
        let (commit, files, mut changed) =
            commit(&repository, &package, &branch, parent.as_deref(), output)?;
        if !self.no_push {
            let list = list(&repository, &package, &commit, &files)?;
            let refused = |error| hosts::refused(&repository, &absolute, error);
            // First of all, and whenever it is not there: what a rack pins must be found when the branch has moved on.
            if ![own, as_branch].contains(&Some(list.clone())) {
                let lasting = Lasting {
                    of_its_own: (&list, &names[1]),
                    as_branch: (&list, &names[2]),
                };
                output.note(&format!("pushing it to {absolute}"));
                let taken = lasting
                    .push(&repository, &absolute, output)
                    .map_err(refused)?;
                output.note(&format!("it stays as {taken}"));
                changed = true;
            }
            if parent.as_ref() != Some(&commit) {
                let tip = parent.as_deref().unwrap_or_default();
                let lease = format!("--force-with-lease={branch}:{tip}");
                let refspec = format!("{commit}:{branch}");
                let args = [output.git_progress(), &lease, &absolute, &refspec];
                match repository.push(&args) {
                    Ok(Pushed::Taken) => {}
                    Ok(Pushed::Refused(reason)) => {
                        let error = anyhow!("git push {absolute}: {branch} is refused ({reason})");
                        return Err(refused(error));
                    }
                    Err(error) => return Err(refused(error.into())),
                }
            }
            if target_is_origin {
                // `racklet check` looks where trays look.
                repository.run(["update-ref", &names[1], &list])?;
            }
        }
        let what = format!(
            "{kind} {} version {}",
            package.manifest().name,
            package.manifest().version
        );
        let place = self.directory.display();
        let done = match (changed, self.no_push) {
            (false, _) => "was published already",
            (true, true) => "is committed",
            (true, false) => "is published",
        };
        let text = format!(
            "{what} {done}\n  branch    {branch}\n  commit    {commit}\n  manifest  sha256:{}\n\nnext: racklet {kind} pin {place}",
            package.digest()
        );
        let answer = Published {
            branch,
            commit,
            changed,
            manifest: package.digest().to_string(),
        };
        output.answer(&text, &answer);
        Ok(())
    }
}

/// Refuses a version below the one that is published: what is newest on a branch would be older than what it replaces.
fn not_lower(
    repository: &Repository,
    package: &Package,
    tip: &str,
    directory: &Path,
) -> anyhow::Result<()> {
    let published = repository
        .run(["cat-file", "blob", &format!("{tip}:manifest.json")])
        .ok()
        .and_then(|bytes| Manifest::parse_unverified(&bytes).ok());
    let manifest = package.manifest();
    // Whatever else lies on the branch is replaced by what is good.
    match published {
        Some(there) if there.version > manifest.version => bail!(
            "version {there} of {kind} {name} is published already, and versions on a branch only go up: build this one again with --version {next}; to go back to what was published earlier, pin it (racklet {kind} pin {place})",
            there = there.version,
            kind = manifest.kind,
            name = manifest.name,
            next = there.version.saturating_add(1),
            place = directory.display(),
        ),
        _ => Ok(()),
    }
}

/// What the refs of these names are at `url`.
fn listed<const N: usize>(
    repository: &Repository,
    url: &str,
    names: &[String; N],
) -> anyhow::Result<[Option<String>; N]> {
    let command = ["ls-remote", url].into_iter();
    let listed = repository
        .text(
            command
                .chain(names.iter().map(String::as_str))
                .collect::<Vec<_>>(),
        )
        .with_context(|| format!("ask {url} for {}", names.join(", ")))?;
    let lines: Vec<(&str, &str)> = listed.lines().filter_map(|l| l.split_once('\t')).collect();
    Ok(names.each_ref().map(|name| {
        let line = lines.iter().find(|(_, listed)| listed == name);
        line.map(|(id, _)| (*id).to_owned())
    }))
}

/// The commit that is the tip of `branch` at `url`, unless it is here.
fn bring(
    repository: &Repository,
    url: &str,
    branch: &str,
    tip: &str,
    scratch: bool,
    output: Output,
) -> anyhow::Result<()> {
    if repository.commit(tip).is_some() {
        return Ok(());
    }
    output.note(&format!("fetching the present {branch}"));
    let mut arguments = vec!["fetch", "--quiet", "--no-tags"];
    if scratch {
        // Never in the user's repository: that would make it a shallow one.
        arguments.push("--depth=1");
    }
    arguments.extend([url, branch]);
    repository
        .run(&arguments)
        .with_context(|| format!("fetch {branch} from {url}"))?;
    Ok(())
}

/// The commit that the manifest's own ref points to: manifest, signatures, and which object of `package` is which chunk.
fn list(
    repository: &Repository,
    package: &Package,
    commit: &str,
    files: &Commit,
) -> anyhow::Result<String> {
    // A chunk's path ends in its digest.
    let objects: HashMap<&str, ObjectId> = (files.files().iter())
        .filter_map(|(path, id)| Some((path.strip_prefix("chunks/")?.rsplit('/').next()?, *id)))
        .collect();
    let object = |chunk: Digest| Some(objects.get(chunk.to_string().as_str())?.to_string());
    let list = chunk_list(package.manifest(), object).context("a chunk is not in the commit")?;
    let small = package.tree()?.into_iter();
    let small = small.filter(|path| !path.starts_with("chunks/"));
    let manifest = package.manifest();
    let message = format!(
        "{}: {} version {}, its chunks\n",
        manifest.kind, manifest.name, manifest.version
    );
    let made = lasting::commit(
        repository,
        &lasting::info(ObjectId::from_hex(commit), manifest.created, &message),
        small.chain([CHUNK_LIST.to_owned()]),
        |path| match path {
            CHUNK_LIST => Ok(list.clone()),
            _ => fs::read(package.directory().join(path)),
        },
        |_| {},
    )?;
    Ok(made.id().to_string())
}

/// Commits the package on top of `parent`; which of its files is which object, and whether anything is new.
fn commit(
    repository: &Repository,
    package: &Package,
    branch: &str,
    parent: Option<&str>,
    output: Output,
) -> anyhow::Result<(String, Commit, bool)> {
    let manifest = package.manifest();
    let message = format!(
        "{}: {} version {}\n\nmanifest sha256:{}\n",
        manifest.kind,
        manifest.name,
        manifest.version,
        package.digest()
    );
    let bar = output.bytes("writing chunks", package.transfer_size());
    let commit = lasting::commit(
        repository,
        &lasting::info(
            parent.and_then(ObjectId::from_hex),
            manifest.created,
            &message,
        ),
        package.tree()?,
        |path| fs::read(package.directory().join(path)),
        |bytes| bar.inc(bytes),
    )?;
    bar.finish_and_clear();
    let id = commit.id().to_string();
    let tree = |commit: &str| repository.text(["rev-parse", &format!("{commit}^{{tree}}")]);
    if let Some(parent) = parent
        && tree(parent)? == tree(&id)?
    {
        repository.run(["update-ref", branch, parent])?;
        return Ok((parent.to_owned(), commit, false));
    }
    repository.run(["update-ref", branch, &id])?;
    output.note(&format!("{} in {branch}", size(package.transfer_size())));
    Ok((id, commit, true))
}

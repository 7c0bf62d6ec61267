// SPDX-License-Identifier: Apache-2.0
//! The rack repository on this machine: where it is, what its work tree says, and what it is trusted to say.

use racklet_tell::error::chain;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use racklet_rack::{Problem, Problems, RackState, is_object_file, load};
use racklet_trust::history::Head;
use racklet_trust::{Digest, PublicKey, Role, TrustRoot, Verified};

use crate::git::{GitError, Repository};
use crate::history::{Judge, Judged, Refusal};
use crate::objects::Objects;

/// Where the certificate authority of the rack's Git server is kept, when it has its own.
pub(crate) const CA_FILE: &str = "ca.pem";

/// Git's setting that holds the SHA-256 of `trust/1/root.json`: what everything in this clone is judged from. It stands in
/// `.git/config`, into which nothing comes from a server.
pub(crate) const PIN: &str = "racklet.root";

/// How far back a head is looked for that trays accept, where the newest waits for approval.
const LOOK_BACK: usize = 32;

/// Which rack repository a command is about.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct RackArgument {
    /// The rack repository; the one around the current folder when left out
    #[arg(long, value_name = "DIR", env = "RACKLET_RACK", global = false)]
    rack: Option<PathBuf>,
    /// The SHA-256 of the rack's first trust root, for scripts; the one that `racklet rack setup` kept when left out
    #[arg(long, value_name = "FINGERPRINT", env = "RACKLET_ROOT", value_parser = fingerprint)]
    root: Option<Digest>,
}

/// `sha256:<64 hex digits>`, with or without the first word.
pub(crate) fn fingerprint(text: &str) -> Result<Digest, String> {
    text.strip_prefix("sha256:")
        .unwrap_or(text)
        .parse()
        .map_err(|_| {
            "write sha256: and 64 lower-case hexadecimal digits, as `racklet trust show` prints them"
                .to_owned()
        })
}

impl RackArgument {
    pub(crate) fn open(&self) -> anyhow::Result<Rack> {
        let start = self.rack.as_deref().unwrap_or(Path::new("."));
        let repository = Repository::discover(start)?;
        let rack = Rack {
            repository,
            named: self.root,
        };
        if !rack.path("rack.yaml").exists() {
            bail!(
                "{} is a Git repository but not a rack's: it has no rack.yaml\nname the rack repository with --rack DIR or make one with `racklet rack init`",
                rack.repository.path().display()
            );
        }
        Ok(rack)
    }

    /// The rack, when there is one here. One that was named has to be there, and one that Git refuses to open is no reason to go on
    /// as if there were none.
    pub(crate) fn find(&self) -> anyhow::Result<Option<Rack>> {
        match self.open() {
            Ok(rack) => Ok(Some(rack)),
            Err(error) if self.rack.is_some() => Err(error),
            Err(error) => match error.downcast_ref::<GitError>() {
                None | Some(GitError::NotARepository(_)) => Ok(None),
                Some(_) => Err(error),
            },
        }
    }
}

/// A rack repository with its work tree.
#[derive(Debug, Clone)]
pub(crate) struct Rack {
    pub(crate) repository: Repository,
    /// The trust root named on the command line.
    pub(crate) named: Option<Digest>,
}

/// One version of the trust root as it lies in the work tree.
#[derive(Debug, Clone)]
pub(crate) struct RootFiles {
    pub(crate) version: u64,
    pub(crate) folder: PathBuf,
    pub(crate) bytes: Vec<u8>,
    pub(crate) signatures: Vec<Vec<u8>>,
}

/// A version of the trust root that does not follow yet, and why.
pub(crate) type Pending = (RootFiles, String);

impl Rack {
    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        self.repository.path().join(inside)
    }

    /// The trust root's versions in the work tree, in order, without gaps.
    pub(crate) fn root_files(&self) -> anyhow::Result<Vec<RootFiles>> {
        let mut all = Vec::new();
        for version in 1.. {
            let folder = self.path(&format!("trust/{version}"));
            let file = folder.join("root.json");
            if !file.exists() {
                break;
            }
            let bytes = fs::read(&file).with_context(|| format!("read {}", file.display()))?;
            let signatures = read_signatures(&folder.join("signatures"))?;
            all.push(RootFiles {
                version,
                folder,
                bytes,
                signatures,
            });
        }
        if all.is_empty() {
            bail!(
                "{} is missing; a rack repository made with `racklet rack init` has it",
                self.path("trust/1/root.json").display()
            );
        }
        Ok(all)
    }

    /// What everything here is judged from.
    pub(crate) fn pin(&self) -> anyhow::Result<Digest> {
        if let Some(named) = self.named {
            return Ok(named);
        }
        let Some(kept) = self.repository.config(PIN) else {
            bail!(
                "this clone does not say yet which trust root to believe: run `racklet rack setup` once, or name it with --root FINGERPRINT"
            )
        };
        fingerprint(&kept).map_err(|hint| anyhow::anyhow!("git config {PIN} is {kept}: {hint}"))
    }

    /// The full name of what is checked out.
    pub(crate) fn checked_out(&self) -> anyhow::Result<String> {
        self.repository
            .commit("HEAD")
            .context("the repository has no commit yet")
    }

    /// `revision` (a full name), when the rack's keys signed it and all before it.
    pub(crate) fn judge(
        &self,
        objects: &Objects,
        revision: &str,
    ) -> anyhow::Result<Result<Judged, Refusal>> {
        let judge = Judge {
            repository: &self.repository,
            objects,
            pin: self.pin()?,
        };
        Ok(judge.judge(revision))
    }

    /// What is checked out, when the rack's keys signed it and all before it. Nothing of a tree is believed before.
    pub(crate) fn head(&self) -> anyhow::Result<Verified<Head>> {
        let objects = Objects::open(&self.repository)?;
        let judged = self.judge(&objects, &self.checked_out()?)?;
        Ok(judged.map_err(refused)?.head)
    }

    /// The newest commit on the way back from `HEAD` that the rack's keys signed: `HEAD` itself, or the one below it while it
    /// waits for approval. That something newer is left out is said.
    pub(crate) fn newest(&self) -> anyhow::Result<Verified<Head>> {
        let objects = Objects::open(&self.repository)?;
        let head = self.checked_out()?;
        let refusal = match self.judge(&objects, &head)? {
            Ok(judged) => return Ok(judged.head),
            Err(refusal) => refusal,
        };
        let before = self.repository.text([
            "rev-list",
            "--first-parent",
            "--skip=1",
            &format!("--max-count={LOOK_BACK}"),
            &head,
        ])?;
        for id in before.lines() {
            if let Ok(judged) = self.judge(&objects, id)? {
                eprintln!(
                    "not believed: {refusal}\ngoing by {id}, the newest commit that the rack's keys signed"
                );
                return Ok(judged.head);
            }
        }
        Err(refused(refusal))
    }

    /// The trust root that root keys lead to from the pinned one, whoever signed the commit that brings it. For judging a
    /// commit that is not good yet.
    pub(crate) fn vouched(
        &self,
        objects: &Objects,
        revision: &str,
    ) -> anyhow::Result<Verified<TrustRoot>> {
        let judge = Judge {
            repository: &self.repository,
            objects,
            pin: self.pin()?,
        };
        judge.vouched(revision).map_err(refused)
    }

    /// The trust root in force at the newest commit that the rack's keys signed, and the version that is being prepared in the
    /// work tree.
    pub(crate) fn trust(&self) -> anyhow::Result<(Verified<TrustRoot>, Option<Pending>)> {
        let root = self.newest()?.root.clone();
        let pending = self.pending(&root)?;
        Ok((root, pending))
    }

    /// The version after `root`, when it lies in the work tree, and why it does not count.
    pub(crate) fn pending(&self, root: &Verified<TrustRoot>) -> anyhow::Result<Option<Pending>> {
        let next = self
            .root_files()?
            .into_iter()
            .find(|files| files.version == root.version() + 1);
        let Some(files) = next else { return Ok(None) };
        let reason = match root.advance(&files.bytes, &files.signatures) {
            Ok(_) => "it is signed, and not committed yet".to_owned(),
            Err(error) => chain(&error),
        };
        Ok(Some((files, reason)))
    }

    /// The rack objects of a commit.
    pub(crate) fn files_of(&self, head: &Verified<Head>) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
        let objects = Objects::open(&self.repository)?;
        Ok(objects.files(&head.tree.to_string(), &is_object_file)?)
    }

    /// The files of the work tree that Git would commit and that are rack objects.
    pub(crate) fn work_tree(&self) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
        let listed = self.repository.run([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])?;
        let mut files = Vec::new();
        let mut paths: Vec<&str> = listed
            .split(|byte| *byte == 0)
            .filter_map(|path| std::str::from_utf8(path).ok())
            .collect();
        paths.sort_unstable();
        paths.dedup();
        for path in paths.into_iter().filter(|path| is_object_file(path)) {
            let full = self.path(path);
            match fs::read(&full) {
                Ok(bytes) => files.push((path.to_owned(), bytes)),
                // Deleted and not yet committed.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("read {}", full.display()));
                }
            }
        }
        Ok(files)
    }

    /// Rack objects that a commit would leave out, because Git does not know them yet.
    pub(crate) fn untracked(&self) -> anyhow::Result<Vec<String>> {
        let listed = self
            .repository
            .run(["ls-files", "-z", "--others", "--exclude-standard"])?;
        Ok(listed
            .split(|byte| *byte == 0)
            .filter_map(|path| std::str::from_utf8(path).ok())
            .filter(|path| is_object_file(path))
            .map(str::to_owned)
            .collect())
    }

    /// What the work tree asks for.
    pub(crate) fn state(&self) -> anyhow::Result<RackState> {
        parse(&self.work_tree()?)
            .map_err(|problems| anyhow::anyhow!("the rack repository is not valid:\n{problems}"))
    }

    /// What the valid files of the newest signed commit say, and the problems of those left out: whose mistake is pushed
    /// already wants to ask trays all the same. The work tree is not asked: nobody vouches for a tray's key there.
    pub(crate) fn valid_part(&self) -> anyhow::Result<(RackState, Vec<Problem>)> {
        let mut files = self.files_of(&self.newest()?)?;
        let mut left_out: Vec<Problem> = Vec::new();
        loop {
            let problems = match parse(&files) {
                Ok(state) => return Ok((state, left_out)),
                Err(problems) => problems,
            };
            let before = files.len();
            // Without a file others may refer to nothing: they go in the next round.
            files.retain(|(path, _)| !problems.list().iter().any(|it| it.file == *path));
            left_out.extend(problems.list().iter().cloned());
            if files.len() == before || !files.iter().any(|(path, _)| path == "rack.yaml") {
                bail!("the rack repository is not valid:\n{problems}");
            }
        }
    }

    /// The key to use for `role`: the one named, the one Git signs with, or the only one around that may.
    pub(crate) fn key(
        &self,
        named: Option<&str>,
        root: &TrustRoot,
        role: Role,
    ) -> anyhow::Result<crate::ssh::Key> {
        key_for(
            named,
            self.repository.config("user.signingkey").as_deref(),
            root,
            role,
        )
    }
}

/// As [`Rack::key`], with Git's setting given.
pub(crate) fn key_for(
    named: Option<&str>,
    configured: Option<&str>,
    root: &TrustRoot,
    role: Role,
) -> anyhow::Result<crate::ssh::Key> {
    let may = |key: &PublicKey| root.role(role).keys.contains(key);
    if let Some(name) = named {
        let key = crate::ssh::find(name)?;
        if !may(&key.public) {
            bail!(
                "{} is not a {role} key of this rack (trust root version {})\nits {role} keys are:\n{}",
                key.shown(),
                root.version(),
                list(&root.role(role).keys)
            );
        }
        return Ok(key);
    }
    if let Some(key) = configured.and_then(|name| crate::ssh::find(name).ok())
        && may(&key.public)
    {
        return Ok(key);
    }
    crate::ssh::default(may).with_context(|| {
        format!(
            "find a {role} key of this rack; its {role} keys are:\n{}",
            list(&root.role(role).keys)
        )
    })
}

fn refused(refusal: Refusal) -> anyhow::Error {
    anyhow::Error::new(refusal).context(
        "what is checked out is not what the rack's keys signed, so nothing in it is believed",
    )
}

fn list(keys: &[PublicKey]) -> String {
    keys.iter()
        .map(|key| format!("  {}", key.fingerprint()))
        .collect::<Vec<_>>()
        .join("\n")
}

/// What the rack objects say.
pub(crate) fn parse(files: &[(String, Vec<u8>)]) -> Result<RackState, Problems> {
    load(files.iter().map(|(path, bytes)| (path, bytes.as_slice())))
}

/// `signatures/*.sig`, in order.
pub(crate) fn read_signatures(folder: &Path) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut paths: Vec<PathBuf> = match fs::read_dir(folder) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("read {}", folder.display())),
    };
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "sig"));
    paths.sort();
    paths
        .iter()
        .map(|path| fs::read(path).with_context(|| format!("read {}", path.display())))
        .collect()
}

/// Writes a file of a rack repository, with the folders that it lies in.
pub(crate) fn write(root: &Path, path: &str, contents: &[u8]) -> anyhow::Result<()> {
    let full = root.join(path);
    if let Some(folder) = full.parent() {
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    }
    fs::write(&full, contents).with_context(|| format!("write {}", full.display()))
}

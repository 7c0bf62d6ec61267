// SPDX-License-Identifier: Apache-2.0
//! The rack repository on this machine: where it is, what its work tree says, and what it is trusted to say.

use racklet_api::error::chain;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use racklet_api::rack::{Problem, Problems, RackState, is_object_file, load};
use racklet_trust::{PublicKey, Role, TrustRoot, Verified};

use crate::git::Repository;

/// Where the certificate authority of the rack's Git server is kept, when it has its own.
pub(crate) const CA_FILE: &str = "ca.pem";

/// Which rack repository a command is about.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct RackArgument {
    /// The rack repository; the one around the current folder when left out
    #[arg(long, value_name = "DIR", env = "RACKLET_RACK", global = false)]
    rack: Option<PathBuf>,
}

impl RackArgument {
    pub(crate) fn open(&self) -> anyhow::Result<Rack> {
        let start = self.rack.as_deref().unwrap_or(Path::new("."));
        let repository = Repository::discover(start)?;
        let rack = Rack { repository };
        if !rack.path("rack.yaml").exists() {
            bail!(
                "{} is a Git repository but not a rack's: it has no rack.yaml\nname the rack repository with --rack DIR or make one with `racklet rack init`",
                rack.repository.path().display()
            );
        }
        Ok(rack)
    }

    /// The rack, when there is one here.
    pub(crate) fn find(&self) -> Option<Rack> {
        self.open().ok()
    }
}

/// A rack repository with its work tree.
#[derive(Debug, Clone)]
pub(crate) struct Rack {
    pub(crate) repository: Repository,
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

    /// The trust root in force: version 1 as it lies here, and every later one that follows from it by signatures.
    /// Versions that do not (yet) follow are given back as pending, with the reason.
    pub(crate) fn trust(&self) -> anyhow::Result<(Verified<TrustRoot>, Option<Pending>)> {
        let mut files = self.root_files()?.into_iter();
        let first = files.next().context("no trust root")?;
        let mut root = Verified::<TrustRoot>::baked(&first.bytes)
            .with_context(|| first.folder.join("root.json").display().to_string())?;
        for next in files {
            match root.advance(&next.bytes, &next.signatures) {
                Ok(advanced) => root = advanced,
                Err(error) => {
                    let reason = chain(&error);
                    return Ok((root, Some((next, reason))));
                }
            }
        }
        Ok((root, None))
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

    /// What the work tree asks for.
    pub(crate) fn state(&self) -> anyhow::Result<RackState> {
        parse(&self.work_tree()?)
            .map_err(|problems| anyhow::anyhow!("the rack repository is not valid:\n{problems}"))
    }

    /// What the valid files of the work tree say, and the problems of those left out: somebody in the middle of an edit, or
    /// whose mistake is pushed already, wants to ask trays all the same.
    pub(crate) fn valid_part(&self) -> anyhow::Result<(RackState, Vec<Problem>)> {
        let mut files = self.work_tree()?;
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

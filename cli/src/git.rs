// SPDX-License-Identifier: Apache-2.0
//! Runs the ordinary `git` on the user's repositories. What a tray decides is never taken from it: it moves bytes.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Chunks are zstd frames: Git finds nothing to compress in them, and no likeness between two of them. Looking for it took most of
/// the time of publishing an image, and the server keeps what it is sent.
pub(crate) const AS_THEY_ARE: [&str; 6] = [
    "-c",
    "core.compression=0",
    "-c",
    "pack.compression=0",
    "-c",
    "pack.window=0",
];

/// Why Git did not do it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GitError {
    #[error("cannot run git; install it (Debian and Ubuntu: apt install git)")]
    Missing(#[source] io::Error),
    #[error("git {command}: {message}")]
    Failed { command: String, message: String },
    #[error("{} is not in a Git repository; name the rack repository with --rack DIR or make one with `racklet rack init`", .0.display())]
    NotARepository(PathBuf),
    #[error("talk to git")]
    Pipe(#[source] io::Error),
}

/// What became of a push.
pub(crate) enum Pushed {
    Taken,
    /// By the server, with its reason.
    Refused(String),
}

/// What the names of all branches begin with.
pub(crate) const BRANCHES: &str = "refs/heads/";

/// Where a clone keeps what `origin` has in a branch, or in branches that begin like this.
pub(crate) fn tracked(branch: &str) -> String {
    branch.replacen(BRANCHES, "refs/remotes/origin/", 1)
}

/// A repository's folder (its work tree's top, or a bare one).
#[derive(Debug, Clone)]
pub(crate) struct Repository {
    path: PathBuf,
}

impl Repository {
    /// The repository at `path`, which must exist.
    pub(crate) fn at(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
        }
    }

    /// The repository that `path` lies in.
    pub(crate) fn discover(path: &Path) -> Result<Self, GitError> {
        let here = Self::at(path);
        let top = here
            .text(["rev-parse", "--show-toplevel"])
            .or_else(|_| here.text(["rev-parse", "--absolute-git-dir"]))
            .map_err(|error| match error {
                // Git says itself what to do: a folder of another user may hold settings that start programs.
                GitError::Failed { ref message, .. } if message.contains("safe.directory") => error,
                GitError::Failed { .. } => GitError::NotARepository(path.to_owned()),
                _ => error,
            })?;
        Ok(Self::at(Path::new(&top)))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn command<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, args: I) -> Command {
        let mut command = Command::new("git");
        command
            .arg("-C")
            .arg(&self.path)
            .args(args)
            // Replace refs would show us another repository than trays get.
            .env("GIT_NO_REPLACE_OBJECTS", "1")
            .env("LC_ALL", "C");
        command
    }

    /// Runs Git and gives its output.
    pub(crate) fn run<I: IntoIterator<Item = S> + Clone, S: AsRef<OsStr>>(
        &self,
        args: I,
    ) -> Result<Vec<u8>, GitError> {
        let out = self
            .command(args.clone())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .output()
            .map_err(GitError::Missing)?;
        if out.status.success() {
            Ok(out.stdout)
        } else {
            Err(failed(args, &out.stderr))
        }
    }

    /// Runs Git and gives its output without the line end.
    pub(crate) fn text<I: IntoIterator<Item = S> + Clone, S: AsRef<OsStr>>(
        &self,
        args: I,
    ) -> Result<String, GitError> {
        Ok(String::from_utf8_lossy(&self.run(args)?)
            .trim_end_matches('\n')
            .to_owned())
    }

    /// Runs Git so that it may talk to the user: passphrases, hardware keys, progress.
    pub(crate) fn interactive<I: IntoIterator<Item = S> + Clone, S: AsRef<OsStr>>(
        &self,
        args: I,
    ) -> Result<(), GitError> {
        // Standard output belongs to our own answer.
        let out = self
            .command(args.clone())
            .stdout(io::stderr())
            .stderr(Stdio::inherit())
            .output()
            .map_err(GitError::Missing)?;
        if out.status.success() {
            Ok(())
        } else {
            Err(failed(args, b"see above"))
        }
    }

    /// Pushes, and tells a server that will not have this ref from one that cannot be reached.
    pub(crate) fn push(&self, args: &[&str]) -> Result<Pushed, GitError> {
        let args = [&AS_THEY_ARE[..], &["push", "--porcelain"], args].concat();
        let out = self
            .command(&args)
            .stderr(Stdio::inherit())
            .output()
            .map_err(GitError::Missing)?;
        if out.status.success() {
            return Ok(Pushed::Taken);
        }
        // git-push(1), "OUTPUT": a flag, source and destination, and a summary with the reason, between tabs.
        let said = String::from_utf8_lossy(&out.stdout);
        let refused = said.lines().find_map(|line| {
            let (_, summary) = line.strip_prefix("!\t")?.split_once('\t')?;
            summary.strip_prefix("[remote rejected] ")
        });
        match refused {
            Some(reason) => Ok(Pushed::Refused(racklet_tell::text::lines(reason))),
            None => Err(failed(args, b"see above")),
        }
    }

    /// Starts Git with a pipe to its input.
    pub(crate) fn feed<I: IntoIterator<Item = S> + Clone, S: AsRef<OsStr>>(
        &self,
        args: I,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<Vec<u8>, GitError> {
        let mut child = self
            .command(args.clone())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(GitError::Missing)?;
        let mut input = child.stdin.take().expect("piped");
        // Heard while it is fed: what answers line by line would wait for its answers to be taken.
        let heard = std::thread::spawn(move || child.wait_with_output());
        let written = write(&mut input);
        drop(input);
        let out = heard.join().expect("it only reads");
        let out = out.map_err(GitError::Pipe)?;
        if !out.status.success() {
            return Err(failed(args, &out.stderr));
        }
        written.map_err(GitError::Pipe)?;
        Ok(out.stdout)
    }

    /// A setting, if it is there.
    pub(crate) fn config(&self, name: &str) -> Option<String> {
        self.text(["config", "--get", name])
            .ok()
            .filter(|value| !value.is_empty())
    }

    /// All settings whose names begin with this, by one call of Git however many they are; the last one where a name has several.
    /// Git writes a name's first and last part in lower case.
    pub(crate) fn configs(&self, beginning: &str) -> BTreeMap<String, String> {
        let all = self
            .text(["config", "--null", "--list"])
            .unwrap_or_default();
        let settings = all.split('\0').filter_map(|entry| entry.split_once('\n'));
        settings
            .filter(|(name, value)| name.starts_with(beginning) && !value.is_empty())
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    /// Changes a setting of this repository.
    pub(crate) fn set_config(&self, name: &str, value: &str) -> Result<(), GitError> {
        self.run(["config", "--local", name, value]).map(|_| ())
    }

    /// The commit that `revision` names, if it does.
    pub(crate) fn commit(&self, revision: &str) -> Option<String> {
        self.text([
            "rev-parse",
            "--verify",
            "--quiet",
            "--end-of-options",
            &format!("{revision}^{{commit}}"),
        ])
        .ok()
    }
}

fn failed<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(args: I, stderr: &[u8]) -> GitError {
    let mut args = args
        .into_iter()
        .map(|arg| arg.as_ref().to_string_lossy().into_owned());
    let mut command = Vec::new();
    while let Some(arg) = args.next().filter(|_| command.len() < 3) {
        match arg.as_str() {
            // A setting of ours, which is of no interest.
            "-c" => drop(args.next()),
            _ => command.push(arg),
        }
    }
    // It may pass on a server's words.
    let message = racklet_tell::text::lines(String::from_utf8_lossy(stderr).trim());
    GitError::Failed {
        command: command.join(" "),
        message: if message.is_empty() {
            "failed".into()
        } else {
            message
        },
    }
}

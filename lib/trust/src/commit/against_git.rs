// SPDX-License-Identifier: Apache-2.0
//! What the real Git writes is taken, and what is taken the real Git reads in the same way.

use super::*;
use crate::{
    PublicKey,
    root::{RoleKeys, Roles},
    testing::RACK,
};
use alloc::{
    format,
    string::{String, ToString},
};
use std::{collections::BTreeMap, fs, path::PathBuf, process::Command};

/// A repository with a key to sign with.
struct Git {
    folder: tempfile::TempDir,
}

impl Git {
    fn new(format: &'static str) -> Self {
        let git = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        let key = git.path("key");
        let keygen = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(&key)
            .output()
            .unwrap();
        assert!(keygen.status.success(), "{keygen:?}");
        git.run(&[
            "init",
            "-q",
            "-b",
            "main",
            &format!("--object-format={format}"),
        ]);
        for (name, value) in [
            ("gpg.format", "ssh"),
            ("user.name", "Zoë O'Neil"),
            ("user.email", "zoe@example.org"),
            ("user.signingKey", key.to_str().unwrap()),
            ("commit.gpgSign", "true"),
            ("tag.gpgSign", "true"),
            (
                "gpg.ssh.allowedSignersFile",
                git.path("signers").to_str().unwrap(),
            ),
        ] {
            git.run(&["config", name, value]);
        }
        fs::write(git.path("signers"), format!("zoe {}\n", git.key())).unwrap();
        git
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn key(&self) -> PublicKey {
        let line = fs::read_to_string(self.path("key.pub")).unwrap();
        line.parse().unwrap()
    }

    /// A trust root under which the key may sign commits.
    fn root(&self) -> Verified<TrustRoot> {
        let keys = RoleKeys {
            threshold: 1,
            keys: [self.key()].into(),
        };
        let roles = Roles {
            root: keys.clone(),
            config: keys.clone(),
            payload: keys.clone(),
            firmware: keys,
        };
        let root = TrustRoot::new(RACK, 1, roles).unwrap();
        Verified::baked(&root.to_canonical()).unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("git");
        command
            .arg("-C")
            .arg(self.folder.path())
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.folder.path())
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_EDITOR", "true");
        command
    }

    fn run(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).trim_end().into()
    }

    fn write(&self, name: &str, contents: &[u8]) {
        fs::write(self.path(name), contents).unwrap();
    }

    /// Commits a change of `name`, with more arguments for Git before and behind `commit`.
    fn commit(&self, name: &str, before: &[&str], behind: &[&str]) {
        self.write(name, self.run(&["rev-list", "--all", "--count"]).as_bytes());
        self.run(&["add", name]);
        self.run(&[before, &["commit", "-q"], behind].concat());
    }

    /// The contents of a commit object.
    fn raw(&self, id: &str) -> Vec<u8> {
        let output = self.command(&["cat-file", "commit", id]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        output.stdout
    }

    /// How Git reads these commits: by name, its tree, parents, committer's date, and whether it finds a good signature.
    fn read(&self, ids: &str) -> BTreeMap<String, (String, String, String, bool)> {
        self.write("ids", ids.as_bytes());
        let output = self
            .command(&[
                "log",
                "--no-walk=unsorted",
                "--stdin",
                "--format=%H,%T,%P,%ct,%G?",
            ])
            .stdin(fs::File::open(self.path("ids")).unwrap())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let line = |line: &str| {
            let words: Vec<String> = line.split(',').map(ToString::to_string).collect();
            let [id, tree, parents, time, signature] = <[String; 5]>::try_from(words).unwrap();
            (id, (tree, parents, time, signature == "G"))
        };
        text.lines().map(line).collect()
    }
}

/// A commit as [`Git::read`] has it.
fn reading(commit: &Commit, root: &Verified<TrustRoot>) -> (String, String, String, bool) {
    let none: &[&[u8]] = &[];
    let parents: Vec<String> = commit.parents().iter().map(ToString::to_string).collect();
    (
        commit.tree().to_string(),
        parents.join(" "),
        commit.time().to_string(),
        commit.verify(root, none).is_ok(),
    )
}

#[test]
fn every_kind_of_commit_that_git_makes_and_signs_is_taken() {
    for format in ["sha1", "sha256"] {
        let git = Git::new(format);
        let tag = |name: &str| git.run(&["tag", "-m", "words\n\ngpgsig x\n y", name]);
        git.commit("a", &[], &["-m", "first"]);
        git.commit("a", &[], &["-m", "several\n\n  lines\n\ntree x\n"]);
        git.commit("a", &[], &["--allow-empty-message", "-m", ""]);
        git.commit(
            "a",
            &[],
            &["-m", "far", "--date", "2031-02-03T04:05:06 -1130"],
        );
        git.commit(
            "a",
            &[],
            &["-m", "by", "--author", "=?x?= (y) <\"z@z\"@example.org>"],
        );
        let latin = "i18n.commitEncoding=ISO-8859-1";
        git.commit("a", &["-c", latin], &["-m", "f\u{fc}r"]);
        git.write("latin", b"f\xfcr\n");
        let latin_file = git.path("latin");
        git.commit("a", &["-c", latin], &["-F", latin_file.to_str().unwrap()]);
        git.run(&["commit", "-q", "--amend", "--reset-author", "-m", "amended"]);
        for side in ["side", "other", "third"] {
            git.run(&["checkout", "-q", "-b", side, "main~1"]);
            git.commit(side, &[], &["-m", side]);
            tag(&format!("{side}-tag"));
        }
        git.run(&["checkout", "-q", "main"]);
        git.run(&["merge", "-q", "--no-ff", "-m", "a branch", "side"]);
        git.run(&["merge", "-q", "-m", "a signed tag", "other-tag"]);
        let merged = git.raw("HEAD");
        assert!(merged.windows(9).any(|w| w == b"\nmergetag"));
        git.run(&["commit", "-q", "--amend", "-m", "a signed tag, amended"]);
        git.run(&["-c", latin, "commit", "-q", "--amend", "-m", "f\u{fc}r"]);
        let merged = git.raw("HEAD");
        assert!(merged.windows(9).any(|w| w == b"\nmergetag"));
        assert!(merged.windows(9).any(|w| w == b"\nencoding"));
        git.run(&["checkout", "-q", "-b", "octopus", "main~1"]);
        git.commit("b", &[], &["-m", "b"]);
        git.run(&["merge", "-q", "-m", "octopus", "third-tag", "main"]);
        git.run(&["revert", "--no-edit", "octopus~1"]);
        git.run(&["checkout", "-q", "-b", "picks", "main"]);
        git.run(&["cherry-pick", "third"]);
        git.run(&["checkout", "-q", "-b", "rebased", "third"]);
        git.run(&["rebase", "-q", "--force-rebase", "main"]);
        let tree = git.run(&["rev-parse", "HEAD^{tree}"]);
        let made = git.run(&["commit-tree", "-S", "-p", "HEAD", "-m", "plumbing", &tree]);
        git.run(&["update-ref", "refs/heads/plumbing", &made]);

        // The reflog keeps what was amended too.
        let ids = git.run(&["rev-list", "--all", "--reflog"]);
        let root = git.root();
        let theirs = git.read(&ids);
        assert!(theirs.len() >= 20, "{}", theirs.len());
        for (id, theirs) in theirs {
            let raw = git.raw(&id);
            let commit = Commit::parse(&raw)
                .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&raw)));
            let none: &[&[u8]] = &[];
            assert_eq!(
                commit.verify(&root, none),
                Ok(()),
                "{}",
                String::from_utf8_lossy(&raw)
            );
            assert_eq!(reading(&commit, &root), theirs);
        }
    }
}

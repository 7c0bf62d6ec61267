// SPDX-License-Identifier: Apache-2.0
//! What the real Git writes is taken, and what is taken the real Git reads in the same way.

use super::*;
use crate::{
    PublicKey,
    root::{RoleKeys, Roles},
    testing::{Keypair, RACK, roles, trust_root, with_signature},
};
use alloc::{
    format,
    string::{String, ToString},
};
use proptest::{prelude::*, sample::Index, strategy::ValueTree as _, test_runner::TestRunner};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    process::Command,
};

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
        let ours = Keypair::new(1).public();
        git.write(
            "signers",
            format!("zoe {}\nx {ours}\n", git.key()).as_bytes(),
        );
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

    /// Puts these objects into the repository as commits, whatever they are, and says their names.
    fn put(&self, objects: &[Vec<u8>]) -> Vec<String> {
        fs::create_dir(self.path("objects")).unwrap();
        let mut paths = String::new();
        for (index, raw) in objects.iter().enumerate() {
            let path = format!("objects/{index}");
            self.write(&path, raw);
            paths.push_str(&path);
            paths.push('\n');
        }
        self.write("paths", paths.as_bytes());
        let output = self
            .command(&[
                "hash-object",
                "-w",
                "-t",
                "commit",
                "--literally",
                "--stdin-paths",
            ])
            .stdin(fs::File::open(self.path("paths")).unwrap())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(ToString::to_string).collect()
    }

    /// What `git fsck --strict` says against commits, by name.
    fn faults(&self) -> BTreeMap<String, String> {
        let output = self.command(&["fsck", "--strict"]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        text.lines()
            .filter_map(|line| line.strip_prefix("error in commit ")?.split_once(": "))
            .map(|(id, fault)| (id.to_string(), fault.to_string()))
            .collect()
    }

    /// What `git log` says of these commits in `form`, by name.
    fn log(&self, ids: &[&str], form: &str) -> BTreeMap<String, String> {
        self.write("ids", (ids.join("\n") + "\n").as_bytes());
        let output = self
            .command(&["log", "--no-walk=unsorted", "--stdin"])
            .arg(format!("--format=%H,{form}"))
            .stdin(fs::File::open(self.path("ids")).unwrap())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines()
            .filter_map(|line| line.split_once(','))
            .map(|(id, rest)| (id.to_string(), rest.to_string()))
            .collect()
    }
}

/// What decides about a commit, as Git says it.
const READING: &str = "%T,%P,%ct";

/// What decides about a commit, in the form of [`READING`].
fn reading(commit: &Commit) -> String {
    let parents: Vec<String> = commit.parents().iter().map(ToString::to_string).collect();
    format!("{},{},{}", commit.tree(), parents.join(" "), commit.time())
}

fn is_signed(commit: &Commit, root: &Verified<TrustRoot>) -> bool {
    let none: &[&[u8]] = &[];
    commit.verify(root, none).is_ok()
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
        let ids: Vec<&str> = ids.lines().collect();
        let root = git.root();
        let (signatures, readings) = (git.log(&ids, "%G?"), git.log(&ids, READING));
        assert!(readings.len() >= 20, "{}", readings.len());
        for (id, theirs) in readings {
            let raw = git.raw(&id);
            let text = String::from_utf8_lossy(&raw);
            let commit = Commit::parse(&raw).unwrap_or_else(|error| panic!("{error}: {text}"));
            assert_eq!(reading(&commit), theirs, "{text}");
            assert!(
                is_signed(&commit, &root) && signatures[&id] == "G",
                "{text}"
            );
        }
        assert_eq!(git.faults(), BTreeMap::new());
    }
}

/// One thing that may be wrong with a commit. Places are picked among the lines or bytes that there are.
#[derive(Debug, Clone)]
enum Change {
    Remove(Index),
    Repeat(Index, Index),
    Swap(Index, Index),
    Insert(Index, &'static str),
    Identity(Index, &'static str),
    Byte(Index, u8),
    Add(Index, u8),
    Cut(Index),
}

const LINES: &[&str] = &[
    "",
    " ",
    " x",
    "x",
    "x y",
    "tree",
    "parent",
    "author",
    "committer",
    "encoding UTF-8",
    "gpgsig",
    "gpgsig x",
    "gpgsig-sha256 x",
    "gpgsigx y",
    "tree TREE",
    "parent 1111111111111111111111111111111111111111",
    "parent 1111111111111111111111111111111111111111 ",
    "parent  1111111111111111111111111111111111111111",
    "author A <a@b> 1 +0000",
    "committer A <a@b> 2 +0000",
    "TREE TREE",
    "PARENT 1111111111111111111111111111111111111111",
];

const IDENTITIES: &[&str] = &[
    "A <a@b> 1 +0000",
    "A B. <> 0 -1130",
    " <a> 5 +9999",
    "\u{e4} <x y@z> 1099511627775 -0000",
    "A <a@b> 1099511627776 +0000",
    "A <a@b> 9223372036854775808 +0000",
    "A <a@b> 18446744073709551615 +0000",
    "A <a@b> 99999999999999999999 +0000",
    "A <a@b> <c@d> 5 +0000",
    "A <a@b>> 5 +0000",
    "A <<a@b> 5 +0000",
    "A> <a@b> 5 +0000",
    "A <a@b> 5 +0000 <c@d> 6 +0000",
    "A<a@b> 5 +0000",
    "<a@b> 5 +0000",
    "A <a@b>5 +0000",
    "A <a@b>  5 +0000",
    "A <a@b> 05 +0000",
    "A <a@b> 00 +0000",
    "A <a@b> -5 +0000",
    "A <a@b> +5 +0000",
    "A <a@b> 5 0000",
    "A <a@b> 5 +000",
    "A <a@b> 5 +00000",
    "A <a@b> 5 UTC",
    "A <a@b> 5 +0000 ",
    "A <a@b> 5  +0000",
    "A <a@b> 5",
    "A <a@b>",
    "A a@b 5 +0000",
    "",
    "A <a@b> 5\t+0000",
    "A <a@b> 0x5 +0000",
];

fn change() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    prop_oneof![
        at().prop_map(Change::Remove),
        (at(), at()).prop_map(|(from, to)| Change::Repeat(from, to)),
        (at(), at()).prop_map(|(one, other)| Change::Swap(one, other)),
        (at(), proptest::sample::select(LINES)).prop_map(|(at, line)| Change::Insert(at, line)),
        (at(), proptest::sample::select(IDENTITIES))
            .prop_map(|(at, who)| Change::Identity(at, who)),
        (at(), proptest::sample::select(&b"\0\n\r\t <>0A+"[..]))
            .prop_map(|(at, byte)| Change::Byte(at, byte)),
        (at(), proptest::sample::select(&b"\0\n\r\t <>0A+"[..]))
            .prop_map(|(at, byte)| Change::Add(at, byte)),
        at().prop_map(Change::Cut),
    ]
}

impl Change {
    fn apply(&self, raw: &mut Vec<u8>, tree: &str) {
        let mut lines: Vec<Vec<u8>> = raw
            .split(|byte| *byte == b'\n')
            .map(<[u8]>::to_vec)
            .collect();
        let (count, length) = (lines.len(), raw.len());
        match self {
            Self::Remove(at) => drop(lines.remove(at.index(count))),
            Self::Repeat(from, to) => {
                lines.insert(to.index(count), lines[from.index(count)].clone())
            }
            Self::Swap(one, other) => lines.swap(one.index(count), other.index(count)),
            Self::Insert(at, line) => {
                lines.insert(at.index(count), line.replace("TREE", tree).into_bytes())
            }
            Self::Identity(at, who) => {
                let label = ["author ", "committer "][at.index(2)];
                for line in lines
                    .iter_mut()
                    .filter(|line| line.starts_with(label.as_bytes()))
                {
                    *line = format!("{label}{who}").into_bytes();
                }
            }
            Self::Byte(at, byte) => {
                if let Some(place) = raw.get_mut(at.index(length + 1)) {
                    *place = *byte;
                }
                return;
            }
            Self::Add(at, byte) => return raw.insert(at.index(length + 1), *byte),
            Self::Cut(at) => return raw.truncate(at.index(length + 1)),
        }
        *raw = lines.join(&b'\n');
    }
}

/// A commit with all that Git writes, changed before it is signed by key 1, if it still can be, and changed again.
fn objects(git: &Git, count: usize) -> Vec<Vec<u8>> {
    let tree = git.run(&["write-tree"]);
    let (parent, other) = ("1".repeat(tree.len()), "2".repeat(tree.len()));
    let full = format!(
        "tree {tree}\nparent {parent}\nparent {other}\nauthor A <a@b> 1 +0000\ncommitter C <c@d> 1790000000 +0200\n\
         encoding ISO-8859-1\nmergetag object {other}\n type commit\n tag v1\n \n words\n\nmessage\n\nmore\n"
    );
    let label = match tree.len() {
        40 => "gpgsig",
        _ => "gpgsig-sha256",
    };
    let before = proptest::collection::vec(change(), 0..=2);
    let after = prop_oneof![Just(Vec::new()), proptest::collection::vec(change(), 1..=2)];
    let strategy = (before, any::<bool>(), after);
    let mut runner = TestRunner::deterministic();
    let mut object = || {
        let (before, signed, after) = strategy.new_tree(&mut runner).unwrap().current();
        let mut raw = full.clone().into_bytes();
        for change in before {
            change.apply(&mut raw, &tree);
        }
        if let Ok(text) = str::from_utf8(&raw)
            && signed
            && text.contains("\n\n")
        {
            let armored = Keypair::new(1).sign("git", &raw);
            raw = with_signature(text, &armored, label);
        }
        for change in after {
            change.apply(&mut raw, &tree);
        }
        raw
    };
    (0..count).map(|_| object()).collect()
}

#[test]
fn what_is_taken_git_finds_no_fault_with_and_reads_in_the_same_way() {
    const COUNT: usize = 2000;
    let root = trust_root(1, roles(1, &[1]));
    for format in ["sha1", "sha256"] {
        let git = Git::new(format);
        let objects = objects(&git, COUNT);
        let names = git.put(&objects);
        let faults = git.faults();
        let mut taken = BTreeMap::new();
        for (name, raw) in names.iter().zip(&objects) {
            if let Ok(commit) = Commit::parse(raw) {
                assert_eq!(faults.get(name), None, "{}", String::from_utf8_lossy(raw));
                taken.insert(name.as_str(), commit);
            }
        }
        let all: Vec<&str> = taken.keys().copied().collect();
        for (name, theirs) in git.log(&all, READING) {
            assert_eq!(reading(&taken[&*name]), theirs, "{name}");
        }
        // Git takes more spellings of a signature; whatever we take, it takes.
        let is_signed = |name: &&str| is_signed(&taken[name], &root);
        let signed: Vec<&str> = all.iter().copied().filter(is_signed).collect();
        for (name, theirs) in git.log(&signed, "%G?") {
            assert_eq!(theirs, "G", "{name}");
        }
        // Enough of either kind, or this test would show nothing.
        let refused = names.iter().collect::<BTreeSet<_>>().len() - all.len();
        assert!(
            signed.len() > 50 && refused > 500,
            "{} and {refused}",
            signed.len()
        );
    }
}

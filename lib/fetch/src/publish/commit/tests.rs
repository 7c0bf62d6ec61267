// SPDX-License-Identifier: Apache-2.0
use std::process::{Command, Output, Stdio};

use super::*;

/// Runs Git in this folder with this input.
fn git(folder: &std::path::Path, words: &[&str], input: &[u8]) -> Output {
    let mut git = Command::new("git");
    let git = git.arg("-C").arg(folder).args(words);
    let git = git.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut git = git.stderr(Stdio::piped()).spawn().unwrap();
    git.stdin.take().unwrap().write_all(input).unwrap();
    git.wait_with_output().unwrap()
}

fn said(folder: &std::path::Path, words: &[&str], input: &[u8]) -> String {
    let out = git(folder, words, input);
    let error = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "git {words:?}: {error}");
    String::from_utf8(out.stdout).unwrap()
}

fn contents(path: &str) -> io::Result<Vec<u8>> {
    // Lengths whose encoding has one, two and three bytes.
    let length = path.bytes().map(usize::from).sum::<usize>() % 7 * 700;
    Ok([path.as_bytes(), &vec![b'x'; length]].concat())
}

const INFO: CommitInfo<'_> = CommitInfo {
    parent: None,
    name: "A",
    email: "a@example.org",
    time: 1_790_000_000,
    message: "payload: stable 1\n",
};

#[test]
fn git_takes_the_commit_and_names_everything_in_it_alike() {
    for (format, word) in [
        (ObjectFormat::Sha1, "sha1"),
        (ObjectFormat::Sha256, "sha256"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let kind = format!("--object-format={word}");
        said(dir.path(), &["init", "-q", "--bare", &kind], b"");
        // Names that Git orders otherwise than their bytes: `b` is a folder here, and stands behind `b.c`.
        let paths = [
            "manifest.json",
            "b/1",
            "b/2/deep",
            "b.c",
            "signatures/0.sig",
        ];
        let paths = || paths.map(str::to_owned);
        let first = Commit::of(format, &INFO, paths(), contents).unwrap();
        let mut pack = Vec::new();
        let index = first.write_pack(&first.objects(), contents, &mut pack);
        let index = index.unwrap();
        said(dir.path(), &["index-pack", "--strict", "--stdin"], &pack);
        let name = format!("objects/pack/pack-{}.idx", index.checksum());
        let mut ours = Vec::new();
        index.write(&mut ours).unwrap();
        assert!(std::fs::read(dir.path().join(name)).unwrap() == ours);
        let name = first.id().to_string();
        said(dir.path(), &["update-ref", "refs/heads/x", &name], b"");
        said(dir.path(), &["fsck", "--strict", "--no-dangling"], b"");
        let listed = said(dir.path(), &["ls-tree", "-r", "x"], b"");
        for (path, id) in first.files() {
            assert!(listed.contains(&format!("100644 blob {id}\t{path}\n")));
            let there = said(dir.path(), &["cat-file", "blob", &id.to_string()], b"");
            assert_eq!(there.as_bytes(), contents(path).unwrap());
        }
        assert_eq!(listed.lines().count(), 5);
        // The next commit, with one file more, of which Git is given only what is new.
        let info = CommitInfo {
            parent: Some(first.id()),
            ..INFO
        };
        let more = paths().into_iter().chain(["b/3".to_owned()]);
        let second = Commit::of(format, &info, more, contents).unwrap();
        let known = first.objects();
        let wanted: HashSet<_> = second.objects().difference(&known).copied().collect();
        // The file, the folder that it is in, the top, the commit.
        assert_eq!(wanted.len(), 4);
        let mut pack = Vec::new();
        second.write_pack(&wanted, contents, &mut pack).unwrap();
        said(dir.path(), &["unpack-objects", "-q"], &pack);
        let name = second.id().to_string();
        said(dir.path(), &["update-ref", "refs/heads/x", &name], b"");
        said(dir.path(), &["fsck", "--strict", "--no-dangling"], b"");
        let count = said(dir.path(), &["rev-list", "--count", "x"], b"");
        assert_eq!(count, "2\n");
    }
}

/// Git's own reader is asked, for a pack of which only the index is there.
#[test]
fn what_lies_beyond_two_gibibytes_is_found() {
    let id = |byte| ObjectId::Sha256(racklet_trust::digest::Hex([byte; 32]));
    let offsets = [12, 5 << 30, (1 << 31) - 1, 1 << 31];
    let objects = (1..).zip(offsets).map(|(byte, offset)| Placed {
        id: id(byte),
        offset,
        crc: u32::from(byte),
    });
    let index = PackIndex {
        format: ObjectFormat::Sha256,
        objects: objects.collect(),
        checksum: id(9),
    };
    let mut bytes = Vec::new();
    index.write(&mut bytes).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let show = ["show-index", "--object-format=sha256"];
    let shown = said(dir.path(), &show, &bytes);
    let expected = (1..)
        .zip(offsets)
        .map(|(byte, offset)| format!("{offset} {} ({byte:08x})\n", id(byte)));
    assert_eq!(shown, expected.collect::<String>());
}

#[test]
fn what_cannot_stand_in_a_commit_is_refused() {
    let of = |paths: &[&str], info: &CommitInfo<'_>| {
        let paths = paths.iter().map(|path| (*path).to_owned());
        Commit::of(ObjectFormat::Sha256, info, paths, contents)
    };
    assert!(of(&["a", "b/c"], &INFO).is_ok());
    for paths in [
        &["a", "a"][..],
        &["a", "a/b"],
        &["../a"],
        &["/a"],
        &["a//b"],
        &[".git/config"],
        &[""],
    ] {
        assert!(of(paths, &INFO).is_err(), "{paths:?}");
    }
    let name = CommitInfo {
        name: "a\ncommitter b",
        ..INFO
    };
    assert!(of(&["a"], &name).is_err());
}

#[test]
fn a_file_that_changes_while_it_is_committed_is_noticed() {
    let paths = ["a".to_owned()];
    let commit = Commit::of(ObjectFormat::Sha256, &INFO, paths, contents).unwrap();
    let other = |_: &str| Ok(b"other".to_vec());
    let error = commit.write_pack(&commit.objects(), other, &mut Vec::new());
    assert!(error.unwrap_err().to_string().contains("changed meanwhile"));
}

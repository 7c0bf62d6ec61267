// SPDX-License-Identifier: Apache-2.0
//! Images are judged by other people's readers: fsck.erofs, and the kernel where it mounts EROFS and we are root.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use super::*;

pub(super) fn image(tree: &Tree, time: u64) -> Vec<u8> {
    let mut out = Vec::new();
    let mut told = 0;
    let size = tree
        .write(time, &mut out, &mut |count| told += count)
        .unwrap();
    assert_eq!(size, out.len() as u64);
    assert_eq!(tree.image_size().unwrap(), size);
    assert!(told >= size);
    out
}

/// A directory with one of everything that makes EROFS interesting.
fn sample(root: &Path) {
    fs::create_dir_all(root.join("bin")).unwrap();
    fs::create_dir_all(root.join("empty")).unwrap();
    fs::create_dir_all(root.join("many")).unwrap();
    for (name, size) in [
        ("zero", 0),
        ("one", 1),
        ("inline", 2048),
        ("plain", 2049),
        ("block", 4096),
        ("tail", 4097),
        ("big", 300_000),
    ] {
        let contents: Vec<u8> = (0..size)
            .map(|i: u32| u8::try_from((i * 7 + i / 251) % 251).unwrap())
            .collect();
        fs::write(root.join("bin").join(name), contents).unwrap();
    }
    fs::set_permissions(root.join("bin/one"), fs::Permissions::from_mode(0o4755)).unwrap();
    fs::hard_link(root.join("bin/big"), root.join("bin/again")).unwrap();
    symlink("bin/big", root.join("link")).unwrap();
    symlink("x".repeat(3000), root.join("long-link")).unwrap();
    // Several directory blocks, with names around the sort order's corners ('.' sorts after ' ').
    for i in 0..700 {
        fs::write(
            root.join("many")
                .join(format!("file with a rather long name, number {i}")),
            i.to_string(),
        )
        .unwrap();
    }
    fs::write(root.join("many/ leading blank"), "x").unwrap();
    fs::write(root.join("many/-dash"), "x").unwrap();
    fs::write(root.join("many/\u{ff}byte"), "x").unwrap();
    fs::write(root.join(format!("many/{}", "n".repeat(255))), "x").unwrap();
    assert!(
        Command::new("mkfifo")
            .arg(root.join("fifo"))
            .status()
            .unwrap()
            .success()
    );
}

/// Path, type and mode, size or target, links, contents: everything that must survive.
fn listing(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut stack = vec![root.to_owned()];
    while let Some(path) = stack.pop() {
        let found = fs::symlink_metadata(&path).unwrap();
        let body = if found.is_dir() {
            stack.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
            String::new()
        } else if found.is_symlink() {
            fs::read_link(&path).unwrap().display().to_string()
        } else if found.is_file() {
            format!("{} {}", found.nlink(), crc(&fs::read(&path).unwrap()))
        } else {
            String::new()
        };
        lines.push(format!(
            "{} {:o} {body}",
            path.strip_prefix(root).unwrap().display(),
            found.mode()
        ));
    }
    lines.sort();
    lines
}

fn crc(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(0u64, |sum, byte| {
            sum.wrapping_mul(1_099_511_628_211)
                .wrapping_add(u64::from(*byte) + 1)
        })
        .to_string()
}

pub(super) fn fsck(image: &Path) {
    let out = Command::new("fsck.erofs")
        .arg(image)
        .output()
        .expect("erofs-utils is installed (cargo xtask doctor)");
    let text =
        String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && !text.contains("<E>"), "{text}");
}

/// The kernel's reader, when this machine lets us use it.
pub(super) fn mounted(image: &Path, judge: impl FnOnce(&Path)) {
    let target = tempfile::tempdir().unwrap();
    let known = fs::read_to_string("/proc/filesystems")
        .unwrap_or_default()
        .contains("erofs");
    let mount = Command::new("mount")
        .args(["-t", "erofs", "-o", "ro,loop"])
        .arg(image)
        .arg(target.path())
        .output();
    if !known || !mount.as_ref().is_ok_and(|out| out.status.success()) {
        eprintln!(
            "SKIPPED: this machine does not let us mount EROFS; only fsck.erofs judged the image"
        );
        return;
    }
    judge(target.path());
    assert!(
        Command::new("umount")
            .arg(target.path())
            .status()
            .unwrap()
            .success()
    );
}

#[test]
fn the_kernel_and_fsck_see_the_directory_that_was_packed() {
    let work = tempfile::tempdir().unwrap();
    let source = work.path().join("source");
    sample(&source);
    let (tree, newest) = from_directory(&source, DirectoryOptions::default()).unwrap();
    assert!(newest > 1_600_000_000);
    let path = work.path().join("image");
    fs::write(&path, image(&tree, 1_790_000_000)).unwrap();
    fsck(&path);
    let extracted = work.path().join("extracted");
    let out = Command::new("fsck.erofs")
        .arg(format!("--extract={}", extracted.display()))
        .arg(&path)
        .output()
        .unwrap();
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    mounted(&path, |root| {
        assert_eq!(listing(&source), listing(root));
        let file = fs::metadata(root.join("bin/big")).unwrap();
        assert_eq!(
            (file.mtime(), file.uid(), file.gid(), file.nlink()),
            (1_790_000_000, 0, 0, 2)
        );
        assert_eq!(fs::metadata(root).unwrap().nlink(), 5);
    });
}

#[test]
fn tar_and_directory_give_the_same_image() {
    let work = tempfile::tempdir().unwrap();
    let source = work.path().join("source");
    sample(&source);
    let (tree, _) = from_directory(&source, DirectoryOptions::default()).unwrap();
    let expected = image(&tree, 7);
    for (format, compress) in [
        ("gnu", "--no-auto-compress"),
        ("posix", "--gzip"),
        ("gnu", "--zstd"),
    ] {
        let tar = work.path().join("archive");
        let status = Command::new("tar")
            .args([
                "--sort=name",
                "--owner=0",
                "--group=0",
                "-H",
                format,
                compress,
                "-cf",
            ])
            .arg(&tar)
            .arg("-C")
            .arg(&source)
            .arg(".")
            .status()
            .unwrap();
        assert!(status.success());
        let (tree, _) = from_archive(File::open(&tar).unwrap(), ArchiveOptions::default()).unwrap();
        assert!(image(&tree, 7) == expected, "{format} {compress}");
    }
}

#[test]
fn what_a_folder_has_and_an_image_does_not_keep_is_counted() {
    let work = tempfile::tempdir().unwrap();
    let (note, theirs) = (work.path().join("note"), work.path().join("theirs"));
    fs::write(&note, "").unwrap();
    fs::write(&theirs, "").unwrap();
    let kept = rustix::fs::lsetxattr(&note, c"user.note", b"x", rustix::fs::XattrFlags::empty());
    let root = fs::metadata(&note).unwrap().uid() == 0;
    if root {
        std::os::unix::fs::chown(&theirs, Some(33), Some(33)).unwrap();
    }
    fs::set_permissions(&theirs, fs::Permissions::from_mode(0o4755)).unwrap();
    let count = |keep_owners| {
        let options = DirectoryOptions {
            keep_owners,
            ..DirectoryOptions::default()
        };
        let (tree, _) = from_directory(work.path(), options).unwrap();
        let left_out = tree.left_out();
        left_out
            .map(|(what, count, first)| (what, count, first.to_owned()))
            .collect::<Vec<_>>()
    };
    // Some file systems of build machines have no such attributes.
    let mut expected = Vec::new();
    if kept.is_ok() {
        expected.push((LeftOut::User, 1, "note".to_owned()));
    }
    assert_eq!(count(true), expected);
    expected.push((LeftOut::SetId, 1, "theirs".to_owned()));
    assert_eq!(count(false), expected);
}

#[test]
fn the_order_of_entries_does_not_matter() {
    let build = |names: &[&str]| {
        let mut tree = Tree::new(false);
        for name in names {
            tree.add(
                name.as_bytes(),
                Metadata::root(0o644),
                Kind::File(Content::Bytes(name.repeat(3000).into_bytes())),
            )
            .unwrap();
        }
        image(&tree, 0)
    };
    assert!(build(&["a/b", "c", "a/d"]) == build(&["c", "a/d", "a/b"]));
}

#[test]
fn wide_owners_and_capabilities_reach_the_guest() {
    let work = tempfile::tempdir().unwrap();
    let capability = vec![
        1, 0, 0, 2, 0, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    let mut tree = Tree::new(true);
    let meta = Metadata {
        mode: 0o755,
        uid: 70_000,
        gid: 80_000,
        capability: Some(capability.clone()),
    };
    for (name, size) in [("small", 10), ("large", 10_000)] {
        tree.add(
            name.as_bytes(),
            meta.clone(),
            Kind::File(Content::Bytes(vec![7; size])),
        )
        .unwrap();
    }
    tree.add(
        b"console",
        Metadata::root(0o600),
        Kind::CharacterDevice { major: 5, minor: 1 },
    )
    .unwrap();
    tree.add(
        b"disk",
        Metadata::root(0o600),
        Kind::BlockDevice {
            major: 259,
            minor: 70_000,
        },
    )
    .unwrap();
    let path = work.path().join("image");
    fs::write(&path, image(&tree, 1)).unwrap();
    fsck(&path);
    mounted(&path, |root| {
        for (name, size) in [("small", 10), ("large", 10_000)] {
            let found = fs::metadata(root.join(name)).unwrap();
            assert_eq!(
                (found.uid(), found.gid(), found.len(), found.mtime()),
                (70_000, 80_000, size, 1)
            );
            let mut value = [0; 64];
            let length =
                rustix::fs::lgetxattr(root.join(name), c"security.capability", &mut value).unwrap();
            assert_eq!(&value[..length], capability);
        }
        let disk = fs::metadata(root.join("disk")).unwrap().rdev();
        assert_eq!(
            (rustix::fs::major(disk), rustix::fs::minor(disk)),
            (259, 70_000)
        );
        assert_eq!(
            fs::metadata(root.join("console")).unwrap().rdev(),
            rustix::fs::makedev(5, 1)
        );
    });
}

#[test]
fn holes_are_zeros_and_are_not_read() {
    use std::os::unix::fs::FileExt;
    let work = tempfile::tempdir().unwrap();
    let (sparse, full) = (work.path().join("sparse"), work.path().join("full"));
    let mut contents = vec![0; 3 << 20];
    contents[1_000_000..1_300_000].fill(7);
    for (folder, whole) in [(&sparse, false), (&full, true)] {
        fs::create_dir(folder).unwrap();
        let file = File::create(folder.join("disk")).unwrap();
        match whole {
            true => file.write_all_at(&contents, 0).unwrap(),
            false => {
                file.write_all_at(&contents[1_000_000..1_300_000], 1_000_000)
                    .unwrap();
                file.set_len(3 << 20).unwrap();
            }
        }
    }
    let read = |folder: &Path| {
        let (tree, _) = from_directory(folder, DirectoryOptions::default()).unwrap();
        image(&tree, 1)
    };
    assert!(read(&sparse) == read(&full));
}

#[test]
fn a_file_that_changed_since_it_was_looked_at_is_named() {
    let work = tempfile::tempdir().unwrap();
    let path = work.path().join("disk");
    for size in [100_000, 99_999, 300_000, 1 << 20] {
        // Of data, and of nothing but a hole.
        for hole in [false, true] {
            let write = |size: u64| {
                let file = File::create(&path).unwrap();
                match hole {
                    true => file.set_len(size).unwrap(),
                    false => fs::write(&path, vec![1; usize::try_from(size).unwrap()]).unwrap(),
                }
            };
            write(100_001);
            let (tree, _) = from_directory(work.path(), DirectoryOptions::default()).unwrap();
            write(size);
            let error = tree.write(1, &mut Vec::new(), &mut |_| {}).unwrap_err();
            assert!(matches!(error, WriteError::Changed(_)), "{size}: {error}");
        }
    }
}

#[test]
fn a_changed_byte_changes_one_block_and_a_grown_file_moves_the_rest_unchanged() {
    let build = |change: &dyn Fn(usize, &mut Vec<u8>)| {
        let mut tree = Tree::new(false);
        for i in 0..200usize {
            let mut contents: Vec<u8> = (0..20_000usize)
                .map(|j| u8::try_from((i * 31 + j * j) % 253).unwrap())
                .collect();
            change(i, &mut contents);
            tree.add(
                format!("f{i:03}").as_bytes(),
                Metadata::root(0o644),
                Kind::File(Content::Bytes(contents)),
            )
            .unwrap();
        }
        image(&tree, 0)
    };
    let base = build(&|_, _| {});
    let edited = build(&|i, contents| {
        if i == 100 {
            contents[9000] ^= 1
        }
    });
    let different = base
        .chunks(4096)
        .zip(edited.chunks(4096))
        .filter(|(a, b)| a != b)
        .count();
    assert_eq!(different, 1);
    let grown = build(&|i, contents| {
        if i == 100 {
            contents.resize(21_000, 9)
        }
    });
    // Metadata of 200 files is two blocks; whatever follows the grown file is the same, one block later.
    let tail = 99 * 20_480;
    assert!(base[base.len() - tail..] == grown[grown.len() - tail..]);
    let head = 4096 * 3 + 100 * 20_480;
    let different = base[..head]
        .chunks(4096)
        .zip(grown[..head].chunks(4096))
        .filter(|(a, b)| a != b)
        .count();
    assert!(different <= 3, "{different}");
}

#[test]
fn hostile_paths_are_refused() {
    type Expected = fn(&TreeError) -> bool;
    let cases: [(&str, Expected); 6] = [
        ("/etc/passwd", |e| matches!(e, TreeError::Absolute(_))),
        ("a/../../b", |e| matches!(e, TreeError::Escapes(_))),
        ("..", |e| matches!(e, TreeError::Escapes(_))),
        ("", |e| matches!(e, TreeError::Name(_))),
        ("a\0b", |e| matches!(e, TreeError::Name(_))),
        ("out/passwd", |e| matches!(e, TreeError::Parent(_))),
    ];
    for (path, expected) in cases {
        let mut tree = Tree::new(false);
        tree.add(
            b"out",
            Metadata::root(0o777),
            Kind::Symlink(b"/etc".to_vec()),
        )
        .unwrap();
        let error = tree
            .add(
                path.as_bytes(),
                Metadata::root(0o644),
                Kind::File(Content::Bytes(vec![])),
            )
            .unwrap_err();
        assert!(expected(&error), "{path}: {error}");
        let error = tree.link(b"fine", path.as_bytes()).unwrap_err();
        assert!(
            expected(&error) || matches!(error, TreeError::HardLink { .. }),
            "{path}: {error}"
        );
    }
    let mut tree = Tree::new(false);
    let error = tree
        .add(
            b"dev/sda",
            Metadata::root(0o600),
            Kind::BlockDevice { major: 8, minor: 0 },
        )
        .unwrap_err();
    assert!(matches!(error, TreeError::Device(_)));
    let deep = "d/".repeat(200);
    let error = tree
        .add(deep.as_bytes(), Metadata::root(0o755), Kind::Directory)
        .unwrap_err();
    assert!(matches!(error, TreeError::Depth(_)));
}

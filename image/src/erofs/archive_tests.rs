// SPDX-License-Identifier: Apache-2.0
//! Archives that nobody's tar would write, and what is accepted of them.

use std::fs::{self, File};

use super::tests::{fsck, image, mounted};
use super::*;

/// An archive written by hand: header with a right checksum, contents, padding.
fn tar_entry(path: &str, kind: u8, link: &str, contents: &[u8]) -> Vec<u8> {
    let mut header = vec![0u8; 512];
    header[..path.len()].copy_from_slice(path.as_bytes());
    header[100..107].copy_from_slice(b"0000644");
    header[124..135].copy_from_slice(format!("{:011o}", contents.len()).as_bytes());
    header[156] = kind;
    header[157..157 + link.len()].copy_from_slice(link.as_bytes());
    header[257..265].copy_from_slice(b"ustar\x0000");
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    header.extend(contents);
    header.resize(header.len().next_multiple_of(512), 0);
    header
}

fn archive(bytes: &[u8]) -> Result<Tree, ArchiveError> {
    let work = tempfile::tempdir().unwrap();
    let path = work.path().join("tar");
    fs::write(&path, bytes).unwrap();
    from_archive(File::open(&path).unwrap(), ArchiveOptions::default()).map(|(tree, _)| tree)
}

#[test]
fn hostile_archives_are_refused() {
    let end = [0u8; 1024];
    let refused = |parts: &[Vec<u8>], expected: &str| {
        let mut bytes = parts.concat();
        bytes.extend(end);
        let error = archive(&bytes).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    refused(&[tar_entry("../x", b'0', "", b"x")], "outside the image");
    refused(&[tar_entry("/x", b'0', "", b"x")], "relative paths");
    refused(
        &[
            tar_entry("a", b'2', "/etc", b""),
            tar_entry("a/passwd", b'0', "", b"x"),
        ],
        "parent of this path",
    );
    refused(
        &[tar_entry("a", b'1', "../../etc/shadow", b"")],
        "outside the image",
    );
    refused(&[tar_entry("a", b'1', "nowhere", b"")], "hard link");
    refused(&[tar_entry("dev/mem", b'3', "", b"")], "device node");
    refused(&[tar_entry("etc/.wh.passwd", b'0', "", b"")], "whiteout");
    refused(&[tar_entry("a", b'S', "", b"")], "--sparse");
    refused(
        &[
            tar_entry("a", b'5', "", b""),
            tar_entry("a", b'0', "", b"x"),
        ],
        "there twice",
    );
    let mut bad = tar_entry("a", b'0', "", b"x");
    bad[0] ^= 1;
    refused(&[bad], "checksum");
    let cut = tar_entry("a", b'0', "", &[7; 5000]);
    let error = archive(&cut[..3000]).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("ends in the middle"), "{error}");
    let error = archive(b"hello").map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("is this a tar archive"), "{error}");
}

#[test]
fn a_size_field_beyond_the_archive_reads_nothing() {
    let mut bytes = tar_entry("a", b'0', "", b"");
    bytes[124..136].copy_from_slice(&[
        0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00,
    ]);
    bytes[148..156].fill(b' ');
    let sum: u32 = bytes[..512].iter().map(|byte| u32::from(*byte)).sum();
    bytes[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    assert!(archive(&bytes).is_err());
}

#[test]
fn a_bomb_is_noticed_while_it_expands() {
    let mut bomb = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
    std::io::copy(
        &mut std::io::Read::take(std::io::repeat(0), 300 << 20),
        &mut bomb,
    )
    .unwrap();
    let error = archive(&bomb.finish().unwrap()).map(|_| ()).unwrap_err();
    assert!(matches!(error, ArchiveError::Ratio), "{error}");
}

#[test]
fn later_entries_replace_earlier_ones_and_hard_links_follow_the_file() {
    let bytes = [
        tar_entry("a", b'0', "", b"old"),
        tar_entry("b", b'1', "a", b""),
        tar_entry("a", b'0', "", b"new"),
        vec![0; 1024],
    ]
    .concat();
    let tree = archive(&bytes).unwrap();
    assert_eq!(tree.len(), 3);
    let work = tempfile::tempdir().unwrap();
    let path = work.path().join("image");
    fs::write(&path, image(&tree, 0)).unwrap();
    fsck(&path);
    mounted(&path, |root| {
        assert_eq!(
            (
                fs::read(root.join("a")).unwrap(),
                fs::read(root.join("b")).unwrap()
            ),
            (b"new".to_vec(), b"old".to_vec())
        );
    });
}

proptest::proptest! {
    #[test]
    fn no_archive_makes_the_reader_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..2048), at in 0usize..1024) {
        let mut archive_bytes = tar_entry("dir/file", b'x', "", b"20 path=dir/another\n");
        archive_bytes.extend(tar_entry("f", b'0', "", b"contents"));
        let end = archive_bytes.len().min(at + bytes.len());
        archive_bytes[at..end].copy_from_slice(&bytes[..end - at]);
        let _ = archive(&archive_bytes);
        let _ = archive(&bytes);
    }

    /// Headers keep a right checksum, so that what is behind it gets its share of nonsense.
    #[test]
    fn whatever_is_accepted_can_be_written(changes in proptest::collection::vec((0usize..512 * 8, proptest::num::u8::ANY), 0..12)) {
        let parts = [
            tar_entry("dir/", b'5', "", b""),
            tar_entry("", b'x', "", b"16 path=dir/one\n11 size=10\n"),
            tar_entry("one", b'0', "", b"0123456789"),
            tar_entry("two", b'1', "dir/one", b""),
            tar_entry("", b'L', "", b"dir/three\0"),
            tar_entry("three", b'2', "one", b""),
        ];
        let mut headers = Vec::new();
        let mut bytes = Vec::new();
        for part in &parts {
            headers.push(bytes.len());
            bytes.extend(part);
        }
        let untouched = changes.is_empty();
        for (at, value) in changes {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        for at in headers {
            let header = &mut bytes[at..at + 512];
            header[148..156].fill(b' ');
            let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
            header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        }
        match archive(&bytes) {
            Ok(tree) => drop(image(&tree, 0)),
            Err(error) => assert!(!untouched, "{error}"),
        }
    }
}

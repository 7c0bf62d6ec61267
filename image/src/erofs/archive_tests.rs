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

fn refused(parts: &[Vec<u8>]) -> String {
    let bytes = [&parts.concat()[..], &[0; 1024]].concat();
    archive(&bytes).map(|_| ()).unwrap_err().to_string()
}

/// A pax header for the entry behind it.
fn pax(records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut data = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let length = (rest..)
            .find(|length| length.to_string().len() + rest == *length)
            .unwrap();
        data.extend(format!("{length} {key}=").bytes());
        data.extend(*value);
        data.push(b'\n');
    }
    tar_entry("PaxHeader", b'x', "", &data)
}

/// CAP_NET_RAW, permitted and effective, as `setcap cap_net_raw+ep` writes it.
const CAPABILITY: [u8; 20] = [
    1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];

#[test]
fn a_file_capability_as_bsdtar_writes_it_reaches_the_guest() {
    let base64 = b"AQAAAgAgAAAAAAAAAAAAAAAAAAA";
    let bytes = [
        pax(&[("LIBARCHIVE.xattr.security.capability", base64)]),
        tar_entry("ping", b'0', "", b"program"),
        tar_entry("late", b'0', "", b"program"),
        // bsdtar says it with every name of a file, so it may come with the second one only.
        pax(&[("LIBARCHIVE.xattr.security.capability", base64)]),
        tar_entry("later", b'1', "late", b""),
        pax(&[("SCHILY.xattr.security.capability", &CAPABILITY)]),
        tar_entry("star", b'0', "", b"program"),
        vec![0; 1024],
    ]
    .concat();
    let tree = archive(&bytes).unwrap();
    assert_eq!(tree.left_out().count(), 0);
    let capabilities = tree.inodes.iter().skip(1);
    let capabilities: Vec<_> = capabilities
        .map(|inode| inode.metadata.capability.as_deref())
        .collect();
    assert_eq!(capabilities, [Some(&CAPABILITY[..]); 3]);
    let work = tempfile::tempdir().unwrap();
    let path = work.path().join("image");
    fs::write(&path, image(&tree, 0)).unwrap();
    fsck(&path);
    mounted(&path, |root| {
        for name in ["ping", "late", "later", "star"] {
            let mut value = [0; 64];
            let length =
                rustix::fs::lgetxattr(root.join(name), c"security.capability", &mut value).unwrap();
            assert_eq!(&value[..length], CAPABILITY, "{name}");
        }
    });
}

#[test]
fn a_malformed_file_capability_is_refused() {
    for (key, value) in [
        ("LIBARCHIVE.xattr.security.capability", &b"AQAAAgAg"[..]),
        ("LIBARCHIVE.xattr.security.capability", b"!"),
        ("SCHILY.xattr.security.capability", &CAPABILITY[..12]),
    ] {
        let error = refused(&[pax(&[(key, value)]), tar_entry("a", b'0', "", b"")]);
        assert!(error.contains("malformed pax record"), "{error}");
    }
}

#[test]
fn what_an_image_does_not_keep_is_counted() {
    let label = ("RHT.security.selinux", &b"etc_t"[..]);
    let bytes = [
        pax(&[
            label,
            ("SCHILY.acl.access", b"user::rw-,user:www-data:r--:33"),
            ("LIBARCHIVE.xattr.user.note", b"aGVsbG8"),
            ("SCHILY.xattr.user.note", b"hello"),
        ]),
        tar_entry("etc/x", b'0', "", b""),
        pax(&[label, ("SCHILY.xattr.security.capability", &CAPABILITY)]),
        tar_entry("etc", b'5', "", b""),
        vec![0; 1024],
    ]
    .concat();
    let tree = archive(&bytes).unwrap();
    assert_eq!(
        tree.left_out().collect::<Vec<_>>(),
        [
            (LeftOut::Acl, 1, "etc/x"),
            (LeftOut::Label, 2, "etc/x"),
            (LeftOut::User, 1, "etc/x"),
            (LeftOut::OddCapability, 1, "etc"),
        ]
    );
}

#[test]
fn what_follows_the_end_of_an_archive_is_never_lost_in_silence() {
    let one = [tar_entry("a", b'0', "", b"1"), vec![0; 1024]].concat();
    let two = [tar_entry("b", b'0', "", b"2"), vec![0; 1024]].concat();
    let behind = |bytes: &[u8]| {
        let error = archive(bytes).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("behind the archive's end"), "{error}");
        assert!(error.contains("byte 2048"), "{error}");
    };
    behind(&[&one[..], &two].concat());
    behind(&[&one[..], b"x"].concat());
    // gzip's members and zstd's frames add up to one stream.
    let packed = |bytes: &[u8]| zstd::encode_all(bytes, 1).unwrap();
    behind(&[packed(&one), packed(&two)].concat());
    // Records are filled up with zeros, up to any size.
    assert_eq!(
        archive(&[&one[..], &vec![0; 100_000]].concat())
            .unwrap()
            .len(),
        2
    );
}

#[test]
fn a_compression_that_is_not_read_is_named() {
    let work = tempfile::tempdir().unwrap();
    for (magic, name) in [(&b"\xfd7zXZ\0"[..], "xz"), (b"BZh91AY&SY", "bzip2")] {
        let path = work.path().join(name);
        fs::write(&path, [magic, &[7; 2000]].concat()).unwrap();
        let error = from_archive(File::open(&path).unwrap(), ArchiveOptions::default());
        let error = error.map(|_| ()).unwrap_err().to_string();
        assert!(
            error.contains(name) && error.contains("use gzip or zstd"),
            "{error}"
        );
    }
}

#[test]
fn a_container_image_is_not_packed_as_a_root_file_system() {
    let file = |name: &str, text: &str| tar_entry(name, b'0', "", text.as_bytes());
    let error = refused(&[
        file("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#),
        file("index.json", "{}"),
        file("blobs/sha256/00", "{}"),
    ]);
    assert!(error.contains("OCI image layout"), "{error}");
    assert!(error.contains("podman export"), "{error}");
    let saved = r#"[{"Config":"0.json","RepoTags":["web:1"],"Layers":["0/layer.tar"]}]"#;
    let error = refused(&[file("0/layer.tar", ""), file("manifest.json", saved)]);
    assert!(error.contains("docker save"), "{error}");
    let error = refused(&[
        file("version", "Directory Transport Version: 1.1\n"),
        file("manifest.json", r#"{"schemaVersion":2,"layers":[]}"#),
    ]);
    assert!(error.contains("skopeo"), "{error}");
    let error = refused(&[
        file("config.json", r#"{"ociVersion":"1.0.2"}"#),
        file("rootfs/bin/sh", ""),
    ]);
    assert!(error.contains("rootfs"), "{error}");
    let error = refused(&[file("Files/Windows/x.dll", ""), file("Hives/System", "")]);
    assert!(error.contains("Windows"), "{error}");
    // A web application's own manifest is nobody's container.
    let web = [
        file(
            "manifest.json",
            r#"{"name":"app","icons":[],"start_url":"/"}"#,
        ),
        file("index.json", "[]"),
        file("config.json", "no JSON"),
        file("rootfs/x", ""),
        vec![0; 1024],
    ];
    assert_eq!(archive(&web.concat()).unwrap().len(), 6);
}

#[test]
fn a_folder_with_a_container_image_is_refused_too() {
    let work = tempfile::tempdir().unwrap();
    for name in ["oci-layout", "index.json"] {
        fs::write(work.path().join(name), "{}").unwrap();
    }
    let error = from_directory(work.path(), DirectoryOptions::default()).map(|_| ());
    let error = error.unwrap_err().to_string();
    assert!(error.contains("OCI image layout"), "{error}");
}

#[test]
fn where_the_guest_mounts_its_own_there_is_a_folder_or_nothing() {
    for name in ["dev", "proc", "run", "sys", "tmp"] {
        for (kind, link) in [(b'0', ""), (b'2', "elsewhere"), (b'6', "")] {
            let error = refused(&[tar_entry(name, kind, link, b"")]);
            assert!(
                error.contains(&format!("/{name} is not a folder")),
                "{error}"
            );
        }
        let folder = [tar_entry(name, b'5', "", b""), vec![0; 1024]].concat();
        archive(&folder).unwrap();
    }
    let error = refused(&[tar_entry("etc", b'0', "", b"")]);
    assert!(error.contains("/etc is not a folder"), "{error}");
    let inner = [tar_entry("usr/proc", b'0', "", b""), vec![0; 1024]].concat();
    archive(&inner).unwrap();
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

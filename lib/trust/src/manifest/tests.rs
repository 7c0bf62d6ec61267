// SPDX-License-Identifier: Apache-2.0
//! Manifests that are refused, and why.

use super::*;
use crate::Digest;
use crate::testing::{Keypair, roles, trust_root};
use proptest::prelude::*;
use std::string::ToString as _;

fn payload() -> Manifest {
    let file = |name: &str, contents: &[u8]| File {
        name: name.into(),
        size: contents.len() as u64,
        sha256: Digest::of(contents),
        verity: None,
        chunks: [Chunk {
            sha256: Digest::of(b"compressed"),
            size: 10,
            length: u32::try_from(contents.len()).unwrap(),
        }]
        .into(),
    };
    Manifest {
        boards: ["qemu-x86_64".into()].into(),
        created: 1_790_000_000,
        expires: Some(1_800_000_000),
        files: [file("kernel", b"kernel"), file("initramfs", b"init")].into(),
        ..Manifest::new(Kind::Payload, "stable", 14, Architecture::X86_64)
    }
}

fn verify(bytes: &[u8], kind: Kind) -> Result<Verified<Manifest>, ManifestError> {
    let signature = Keypair::new(1).sign(namespace::MANIFEST, bytes);
    Manifest::verify(&trust_root(1, roles(1, &[1])), kind, bytes, &[signature])
}

#[test]
fn a_signed_manifest_is_accepted_on_its_board() {
    let manifest = verify(&payload().to_canonical(), Kind::Payload).unwrap();
    let here = Machine {
        architecture: Architecture::X86_64,
        board: "qemu-x86_64",
        now: Some(1_790_000_001),
        floor: 14,
    };
    assert_eq!(manifest.accept(&here), Ok(()));
    for wrong in [
        Machine {
            architecture: Architecture::Aarch64,
            ..here
        },
        Machine {
            board: "rpi4",
            ..here
        },
        Machine {
            now: Some(1_800_000_000),
            ..here
        },
        Machine { floor: 15, ..here },
    ] {
        assert!(manifest.accept(&wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn what_has_expired_is_refused_with_dates_that_people_read() {
    let here = Machine {
        architecture: Architecture::X86_64,
        board: "qemu-x86_64",
        now: Some(1_800_000_060),
        floor: 14,
    };
    let manifest = verify(&payload().to_canonical(), Kind::Payload).unwrap();
    assert_eq!(
        manifest.accept(&here).unwrap_err().to_string(),
        "it expired at 2027-01-15 08:00:00 UTC, and it is 2027-01-15 08:01:00 UTC now"
    );
}

#[test]
fn a_tampered_manifest_is_refused_before_it_is_parsed() {
    let bytes = payload().to_canonical();
    let signature = Keypair::new(1).sign(namespace::MANIFEST, &bytes);
    let mut tampered = bytes;
    tampered[0] = b'?';
    let root = trust_root(1, roles(1, &[1]));
    assert!(matches!(
        Manifest::verify(&root, Kind::Payload, &tampered, &[signature]),
        Err(ManifestError::Unauthorised(_))
    ));
}

#[test]
fn a_bootstrap_has_chunks_as_a_payload_has_and_none_of_them_is_left_out() {
    let mut manifest = payload();
    manifest.kind = Kind::Bootstrap;
    assert!(verify(&manifest.to_canonical(), Kind::Bootstrap).is_ok());
    manifest.files[0].chunks.clear();
    let refused = verify(&manifest.to_canonical(), Kind::Bootstrap).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the manifest's kernel: chunks of 0 bytes for a file of 6"
    );
}

#[test]
fn an_artifact_is_not_a_payload() {
    assert!(matches!(
        verify(&payload().to_canonical(), Kind::Artifact),
        Err(ManifestError::Kind { .. })
    ));
}

#[test]
fn only_the_chunks_it_names_make_up_a_file() {
    let manifest = verify(&payload().to_canonical(), Kind::Payload).unwrap();
    let assemble = |name: &str, bytes: &[u8]| {
        let open = |_: &Chunk, _: &[u8], out: &mut [u8]| {
            out.copy_from_slice(b"kernel");
            Ok(())
        };
        manifest.assemble::<FileError>(name, |_| Ok(bytes.to_vec()), open)
    };
    assert_eq!(*assemble("kernel", b"compressed").unwrap(), b"kernel");
    for other in [&b"compresseD"[..], b"compresse", b""] {
        let refused = assemble("kernel", other);
        assert!(
            matches!(refused, Err(FileError::Chunk { .. })),
            "{refused:?}"
        );
    }
    assert!(matches!(assemble("other", b""), Err(FileError::Unknown(_))));
}

/// A workload image, as far as a manifest goes.
fn artifact() -> Manifest {
    let mut manifest = payload();
    manifest.files.truncate(1);
    manifest.files[0].name = "rootfs".into();
    manifest.files[0].verity = Some(Digest::of(b"tree"));
    Manifest {
        kind: Kind::Artifact,
        boards: Vec::new(),
        ..manifest
    }
}

#[test]
fn an_image_counts_by_the_digest_that_the_kernel_reads_it_by() {
    let manifest = verify(&artifact().to_canonical(), Kind::Artifact).unwrap();
    let sealed = |size, measured: &[u8]| {
        manifest.verify_sealed("rootfs", size, Digest::of(measured), "where it lies")
    };
    assert_eq!(*sealed(6, b"tree").unwrap(), "where it lies");
    assert!(matches!(sealed(7, b"tree"), Err(FileError::Size { .. })));
    assert!(matches!(sealed(6, b"trEe"), Err(FileError::Verity { .. })));
    // One that names none, so that nothing could be compared, is no manifest of an image; and nothing else is read that way.
    let mut without = artifact();
    without.files[0].verity = None;
    let refused = verify(&without.to_canonical(), Kind::Artifact);
    assert!(matches!(refused, Err(ManifestError::Field(_))));
    let kernel = verify(&payload().to_canonical(), Kind::Payload).unwrap();
    let refused = kernel.verify_sealed("kernel", 6, Digest::of(b"tree"), ());
    assert!(matches!(refused, Err(FileError::Unknown(_))));
}

#[test]
fn signed_nonsense_is_still_refused() {
    let mut cases = Vec::new();
    let mut case = |change: &dyn Fn(&mut Manifest)| {
        let mut manifest = payload();
        change(&mut manifest);
        cases.push(manifest);
    };
    case(&|m| m.name = "../up".into());
    case(&|m| m.arguments = "quiet\ninit=/bin/sh".into());
    for arguments in [
        "a -- b",
        "\"--\"",
        "x=\"",
        "init=/bin/sh",
        "panic=5 rdinit=/x",
    ] {
        case(&|m| m.arguments = arguments.into());
    }
    case(&|m| m.boards.clear());
    case(&|m| _ = m.files.pop());
    case(&|m| m.files[1].name = "kernel".into());
    case(&|m| m.files[0].size += 1);
    case(&|m| m.files[0].chunks[0].length = 0);
    case(&|m| m.files[0].chunks[0].length = MAX_CHUNK_LENGTH + 1);
    case(&|m| m.files[0].chunks[0].size = MAX_CHUNK_SIZE + 1);
    case(&|m| m.files[0].verity = Some(Digest::of(b"")));
    for manifest in cases {
        let outcome = verify(&manifest.to_canonical(), Kind::Payload);
        assert!(
            matches!(outcome, Err(ManifestError::Field(_))),
            "{manifest:?}"
        );
    }
}

#[test]
fn a_bootstrap_names_whatever_else_its_firmware_loads_and_within_bounds() {
    let with = |names: &[&str]| {
        let mut manifest = payload();
        manifest.kind = Kind::Bootstrap;
        let model = manifest.files[0].clone();
        manifest.files = names
            .iter()
            .map(|name| File {
                name: (*name).into(),
                ..model.clone()
            })
            .collect();
        verify(&manifest.to_canonical(), Kind::Bootstrap)
    };
    let tree = "bcm2711-rpi-4-b.dtb";
    let manifest = with(&["kernel", "initramfs", "config.txt", tree, "start4.elf"]).unwrap();
    assert!(manifest.verify_file(tree, b"kernel").is_ok());
    assert!(manifest.verify_file(tree, b"kerneL").is_err());
    assert!(with(&["kernel", "initramfs"]).is_ok());
    for others in [&["kernel"][..], &["initramfs", "config.txt"], &[]] {
        assert!(matches!(with(others), Err(ManifestError::Field(_))));
    }
    let long = "n".repeat(65);
    for bad in [
        "../x", "a/b", ".x", "x.", "-x", "A", "", "kernel", "a b", "\u{e9}", &long,
    ] {
        let refused = with(&["kernel", "initramfs", bad]);
        assert!(matches!(refused, Err(ManifestError::Field(_))), "{bad:?}");
    }
    let many: Vec<String> = (0..15).map(|n| format!("file-{n}")).collect();
    let named = |count: usize| {
        let more = many[..count].iter().map(String::as_str);
        with(
            &["kernel", "initramfs"]
                .into_iter()
                .chain(more)
                .collect::<Vec<_>>(),
        )
    };
    assert!(named(14).is_ok());
    assert!(matches!(named(15), Err(ManifestError::Field(_))));
    // Of the other kinds there are no more than what they always have.
    let mut other = payload();
    other.files[0].name = "config.txt".into();
    let refused = verify(&other.to_canonical(), Kind::Payload);
    assert!(matches!(refused, Err(ManifestError::Field(_))));
}

#[test]
fn a_file_with_another_length_or_byte_is_refused() {
    let manifest = verify(&payload().to_canonical(), Kind::Payload).unwrap();
    assert!(manifest.verify_file("kernel", b"kernel").is_ok());
    assert!(matches!(
        manifest.verify_file("kernel", b"kernel2"),
        Err(FileError::Size { .. })
    ));
    assert!(matches!(
        manifest.verify_file("kernel", b"kerneL"),
        Err(FileError::Digest { .. })
    ));
    assert!(matches!(
        manifest.verify_file("other", b""),
        Err(FileError::Unknown(_))
    ));
    let measured = |size, bytes: &[u8]| {
        manifest.verify_measured("kernel", size, Digest::of(bytes), "where it lies")
    };
    assert_eq!(*measured(6, b"kernel").unwrap(), "where it lies");
    assert!(matches!(
        measured(7, b"kernel"),
        Err(FileError::Size { .. })
    ));
    assert!(matches!(
        measured(6, b"kerneL"),
        Err(FileError::Digest { .. })
    ));
}

proptest! {
    #[test]
    fn any_signed_bytes_are_refused_without_panic(bytes: Vec<u8>) {
        prop_assert!(verify(&bytes, Kind::Payload).is_err());
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The judge is dosfstools and mtools: a volume they made, searched by us.

extern crate std;
use super::*;
use std::{
    fs,
    io::Read as _,
    os::unix::fs::FileExt as _,
    path::Path,
    process::Command,
    string::{String, ToString as _},
    vec,
    vec::Vec,
};

fn run(program: &str, arguments: &[&str]) {
    let done = Command::new(program)
        .args(arguments)
        .env("MTOOLS_SKIP_CHECK", "1")
        .output()
        .unwrap_or_else(|error| panic!("{program} is needed (`cargo xtask doctor`): {error}"));
    assert!(
        done.status.success(),
        "{program}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
}

/// A volume with `racklet/slots.0` (512 times `x`), `racklet/Large-File.json`, `racklet/empty` and 300 other files before them.
fn volume(folder: &Path, sector: u64) -> fs::File {
    let image = folder.join("fat");
    let file = fs::File::create(&image).unwrap();
    // FAT32 has at least 65,525 clusters.
    file.set_len(70_000 * sector).unwrap();
    let image = image.to_str().unwrap();
    run(
        "mkfs.vfat",
        &[
            "-F",
            "32",
            "-S",
            &sector.to_string(),
            "-s",
            "1",
            "--mbr=n",
            image,
        ],
    );
    run("mmd", &["-i", image, "::racklet"]);
    let many = folder.join("many");
    fs::create_dir(&many).unwrap();
    for number in 0..300 {
        fs::write(many.join(std::format!("a long name {number}")), [b'y']).unwrap();
    }
    let mut arguments = vec!["-i", image];
    let names: Vec<String> = fs::read_dir(&many)
        .unwrap()
        .map(|entry| entry.unwrap().path().to_str().unwrap().into())
        .collect();
    arguments.extend(names.iter().map(String::as_str));
    arguments.push("::racklet");
    run("mcopy", &arguments);
    let files = [
        ("slots.0", vec![b'x'; 512]),
        ("Large-File.json", vec![b'z'; 100_000]),
        ("empty", vec![]),
    ];
    for (name, contents) in files {
        put(image, folder, name, &contents);
    }
    fs::File::open(image).unwrap()
}

fn put(image: &str, folder: &Path, name: &str, contents: &[u8]) {
    let path = folder.join(name);
    fs::write(&path, contents).unwrap();
    let to = std::format!("::racklet/{name}");
    run("mcopy", &["-i", image, path.to_str().unwrap(), &to]);
}

fn bytes(mut file: fs::File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

fn search(bytes: &[u8], path: &str) -> Result<Place, LocateError<()>> {
    locate(
        |offset, sector| {
            let start = usize::try_from(offset).map_err(|_| ())?;
            sector.copy_from_slice(bytes.get(start..start + SECTOR).ok_or(())?);
            Ok(())
        },
        path,
    )
}

#[test]
fn a_file_is_found_behind_hundreds_of_others() {
    for sector in [512, 4096] {
        let folder = tempfile::tempdir().unwrap();
        let file = volume(folder.path(), sector);
        let read = |offset, sector: &mut [u8; SECTOR]| file.read_exact_at(sector, offset);
        let place = locate(read, "racklet/slots.0").unwrap();
        assert_eq!(place.size, 512);
        let mut found = [0; 512];
        file.read_exact_at(&mut found, place.offset).unwrap();
        assert_eq!(found, [b'x'; 512]);
    }
}

#[test]
fn a_file_of_many_clusters_is_found_by_its_long_name() {
    for sector in [512, 4096] {
        let folder = tempfile::tempdir().unwrap();
        let bytes = bytes(volume(folder.path(), sector));
        for name in ["Large-File.json", "large-FILE.json", "LARGE-~1.JSO"] {
            let place = search(&bytes, &std::format!("racklet/{name}")).unwrap();
            let start = usize::try_from(place.offset).unwrap();
            assert!(
                bytes[start..start + 100_000]
                    .iter()
                    .all(|byte| *byte == b'z')
            );
            assert_eq!(place.size, 100_000);
        }
        for other in [
            "large-file.jso",
            "arge-file.json",
            "large-file.jsonn",
            "large-~2.jso",
        ] {
            let found = search(&bytes, &std::format!("racklet/{other}"));
            assert_eq!(found, Err(LocateError::Missing), "{other}");
        }
    }
}

#[test]
fn a_long_name_of_another_entry_names_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = bytes(volume(folder.path(), 512));
    let short = b"LARGE-~1JSO";
    let at = (0..bytes.len()).step_by(32);
    let at = { at }.find(|at| bytes[*at..].starts_with(short)).unwrap();
    // Renamed by something that knows short names only, the long one stays before it.
    bytes[at] = b'X';
    let found = search(&bytes, "racklet/Large-File.json");
    assert_eq!(found, Err(LocateError::Missing));
    assert!(search(&bytes, "racklet/XARGE-~1.JSO").is_ok());
}

#[test]
fn a_file_in_pieces_or_outside_of_the_volume_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let good = bytes(volume(folder.path(), 512));
    let place = search(&good, "racklet/Large-File.json").unwrap();
    let volume = Volume::parse(good[..512].try_into().unwrap()).unwrap();
    let first = u32::try_from((place.offset - volume.data) / volume.cluster_size).unwrap() + 2;
    let entry = |cluster: u32| usize::try_from(volume.table).unwrap() + cluster as usize * 4;
    for (cluster, next) in [(first, 0), (first + 60, first), (first + 194, 0x0fff_ffff)] {
        let mut bytes = good.clone();
        bytes[entry(cluster)..entry(cluster) + 4].copy_from_slice(&next.to_le_bytes());
        let found = search(&bytes, "racklet/Large-File.json");
        assert_eq!(found, Err(LocateError::Pieces(100_000)));
    }
    let short = b"LARGE-~1JSO";
    let at = (0..good.len()).step_by(32);
    let at = { at }.find(|at| good[*at..].starts_with(short)).unwrap();
    for (size, cluster) in [(100_000_u32, u32::MAX), (u32::MAX, first), (1, 1)] {
        let mut bytes = good.clone();
        bytes[at + 20..at + 22].copy_from_slice(&cluster.to_le_bytes()[2..]);
        bytes[at + 26..at + 28].copy_from_slice(&cluster.to_le_bytes()[..2]);
        bytes[at + 28..at + 32].copy_from_slice(&size.to_le_bytes());
        assert!(search(&bytes, "racklet/Large-File.json").is_err(), "{size}");
    }
}

#[test]
fn what_is_not_a_file_there_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = bytes(volume(folder.path(), 512));
    assert_eq!(search(&bytes, "racklet/slots.1"), Err(LocateError::Missing));
    assert_eq!(search(&bytes, "racklet"), Err(LocateError::Missing));
    assert_eq!(
        search(&bytes, "racklet/slots.0/x"),
        Err(LocateError::Missing)
    );
    assert_eq!(search(&bytes, "racklet/empty"), Err(LocateError::Empty));
    assert_eq!(search(&bytes, "racklet//x"), Err(LocateError::Name));
    assert_eq!(
        search(&bytes[..4096], "racklet"),
        Err(LocateError::Read(()))
    );
    assert_eq!(
        search(&vec![0; 1 << 20], "racklet"),
        Err(LocateError::NotFat32)
    );
}

#[test]
fn a_folder_that_leads_in_a_circle_ends_the_search() {
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = bytes(volume(folder.path(), 512));
    let volume = Volume::parse(bytes[..512].try_into().unwrap()).unwrap();
    // The root folder's cluster follows itself and is full of deleted entries.
    let table = usize::try_from(volume.table).unwrap() + usize::try_from(volume.root).unwrap() * 4;
    bytes[table..table + 4].copy_from_slice(&volume.root.to_le_bytes());
    let root = usize::try_from(volume.offset_of(volume.root).unwrap()).unwrap();
    bytes[root..root + 512].fill(0xe5);
    assert_eq!(search(&bytes, "racklet/slots.0"), Err(LocateError::Damaged));
}

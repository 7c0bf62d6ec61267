// SPDX-License-Identifier: Apache-2.0
//! A running tray replaces a slot: with the real card, the bootloader's real decisions, and the power cut at every sector that is written.

#![allow(clippy::unwrap_used, reason = "a test may panic anywhere")]

mod scene;

use std::io;

use racklet_slots::{
    BootstrapError, CopyError, Device as _, Esp, InstallError, NoRoom, Storage, copy, install,
    mark_good, observe, withdraw,
};
use racklet_trust::Digest;
use racklet_trust::slot::{Copies, InstallError as Rule, MAX_MANIFEST, SIZE, Slot, State};

use scene::{Cut, Disk, FIRMWARE, STRANGER, card, contents, fetched, of, package, sign};

fn esp(disk: &Disk) -> Esp<Disk> {
    Esp::open(disk.clone()).expect("a boot partition of ours")
}

fn installed(disk: &Disk, running: Slot, version: u64) -> Disk {
    let mut esp = esp(disk);
    install(&mut esp, running, &fetched(version)).expect("installs");
    esp.device().clone()
}

/// The system that was started has found itself healthy.
fn healthy(disk: &Disk, (slot, version): (Slot, u64)) -> Disk {
    let mut esp = esp(disk);
    mark_good(&mut esp, slot, version).expect("marks");
    esp.device().clone()
}

#[test]
fn the_slot_that_does_not_run_is_written_tried_and_bought() {
    let mut disk = installed(&card(), Slot::A, 2);
    disk.judged().expect("fsck.vfat is content");
    let seen = observe(&mut esp(&disk)).expect("reads");
    let (_folder, two) = package(2);
    assert_eq!(seen.manifests[1], Some(Digest::of(two.manifest_bytes())));
    assert_eq!(seen.record.preferred(), Slot::B);

    assert_eq!(disk.boot().started, Some((Slot::B, 2)));
    let mut disk = healthy(&disk, (Slot::B, 2));
    for _ in 0..2 {
        assert_eq!(disk.boot().started, Some((Slot::B, 2)));
    }
    assert_eq!(observe(&mut esp(&disk)).expect("reads").record.floor(), 2);

    // And back into slot a, with files that are shorter and longer than those there.
    let mut disk = installed(&healthy(&disk, (Slot::B, 2)), Slot::B, 3);
    assert_eq!(disk.boot().started, Some((Slot::A, 3)));
}

#[test]
fn wherever_the_power_is_cut_the_tray_starts_and_the_update_is_done_again() {
    let card = card();
    let whole = installed(&card, Slot::A, 2).written.len();
    assert!(whole > 40, "{whole} sectors are few to cut between");
    let mut ran = [0; 3];
    for at in 0..=whole {
        for cut in [Cut::Kept, Cut::Lost, Cut::Torn, Cut::Some(at as u64 + 2)] {
            let mut disk = card.clone();
            disk.power = Some(at);
            let mut esp = esp(&disk);
            let done = install(&mut esp, Slot::A, &fetched_once());
            let mut disk = esp.device().clone().after(cut);
            // A cold start, twice: what the first one counts changes the record.
            let first = disk.boot();
            let again = disk.boot();
            let what = format!("cut at {at} of {whole}, {cut:?}: {}", first.said);
            let Some((slot, version)) = first.started else {
                panic!("nothing starts: {what}");
            };
            assert_eq!(again.started, first.started, "{what}");
            assert!(
                matches!((slot, version), (Slot::A, 1) | (Slot::B, 2)),
                "{what}"
            );
            assert!(done.is_err() || version == 2, "{what}");
            ran[usize::try_from(version).expect("small")] += 1;
            let mut disk = healthy(&disk, (slot, version));
            if version == 1 {
                disk = installed(&disk, Slot::A, 2);
                assert_eq!(disk.boot().started, Some((Slot::B, 2)), "{what}");
                disk = healthy(&disk, (Slot::B, 2));
            }
            assert_eq!(disk.boot().started, Some((Slot::B, 2)), "{what}");
            if at % 16 == 0 {
                disk.judged()
                    .unwrap_or_else(|said| panic!("{what}: {said}"));
            }
        }
    }
    assert!(ran[1] > 0 && ran[2] > 0, "{ran:?}");
}

/// Version 2 as it was fetched: compressing it for each cut would take longer than all the rest.
fn fetched_once() -> racklet_slots::Bootstrap {
    thread_local! {
        static TWO: (tempfile::TempDir, racklet_image::package::Package) = package(2);
    }
    TWO.with(|(_folder, package)| of(package, |_| {}))
        .expect("verifies")
}

#[test]
fn what_runs_is_never_written_and_nothing_but_the_other_slot_and_the_record_is() {
    let card = card();
    let place = |path: &str| {
        let read = |at: u64, sector: &mut [u8; 512]| card.read_at(sector, at);
        let place = racklet_fat::locate(read, path).expect("is there");
        place.offset / 512..(place.offset + u64::from(place.size)).div_ceil(512)
    };
    let slot = |slot: &str| {
        let names = [
            "files/kernel",
            "files/initramfs",
            "manifest.json",
            "signatures/0.sig",
        ];
        names.map(|name| place(&format!("racklet/{slot}/{name}")))
    };
    let record = [place("racklet/slots.0"), place("racklet/slots.1")];
    let disk = installed(&card, Slot::A, 2);
    let mine = slot("b").into_iter().chain(record).collect::<Vec<_>>();
    for sector in &disk.written {
        assert!(mine.iter().any(|place| place.contains(sector)), "{sector}");
    }
    for place in slot("a") {
        assert!(disk.written.iter().all(|sector| !place.contains(sector)));
    }
}

#[test]
fn done_again_an_update_writes_only_what_is_not_there_yet() {
    let mut disk = installed(&card(), Slot::A, 2);
    disk.written.clear();
    let again = installed(&disk, Slot::A, 2);
    // The record: empty, then on trial.
    assert_eq!(again.written.len(), 2, "{:?}", again.written);
}

#[test]
fn a_slot_that_hangs_panics_or_restarts_is_tried_three_times_and_then_the_old_one_runs() {
    let mut disk = installed(&card(), Slot::A, 2);
    for _ in 0..3 {
        assert_eq!(disk.boot().started, Some((Slot::B, 2)));
    }
    assert_eq!(disk.boot().started, Some((Slot::A, 1)));
    let mut disk = healthy(&disk, (Slot::A, 1));
    assert_eq!(disk.boot().started, Some((Slot::A, 1)));
    let record = observe(&mut esp(&disk)).expect("reads").record;
    let other = record.slot(Slot::B);
    assert_eq!((other.state, other.tries_left), (State::Trial, 0));
}

#[test]
fn a_slot_that_is_healthy_and_then_is_not_falls_back_though_the_floor_has_risen() {
    let mut disk = installed(&card(), Slot::A, 2);
    disk.boot();
    let mut disk = healthy(&disk, (Slot::B, 2));
    for _ in 0..3 {
        assert_eq!(disk.boot().started, Some((Slot::B, 2)));
    }
    assert_eq!(disk.boot().started, Some((Slot::A, 1)));
    // The floor stays where it was: another version 1 is not installed.
    let mut esp = esp(&healthy(&disk, (Slot::A, 1)));
    let refused = install(&mut esp, Slot::A, &fetched(1)).expect_err("is refused");
    let text = refused.to_string();
    assert!(
        text.starts_with("version 1 is older than version 2"),
        "{text}"
    );
}

#[test]
fn a_slot_that_rots_before_it_is_tried_costs_nothing_but_the_update() {
    let mut disk = installed(&card(), Slot::A, 2);
    let read = |at: u64, sector: &mut [u8; 512]| disk.read_at(sector, at);
    let kernel = racklet_fat::locate(read, "racklet/b/files/kernel").expect("is there");
    disk.write_at(b"rot", kernel.offset + 700).expect("writes");
    disk.flush().expect("flushes");
    let boot = disk.boot();
    assert_eq!(boot.started, Some((Slot::A, 1)), "{}", boot.said);
    assert!(boot.said.contains("slot b is refused: kernel has SHA-256"));
}

#[test]
fn what_is_not_wanted_any_more_is_not_tried_and_stays_for_when_the_other_fails() {
    let mut disk = installed(&card(), Slot::A, 2);
    let mut slots = esp(&disk);
    assert!(withdraw(&mut slots, Slot::A).expect("writes"));
    assert!(!withdraw(&mut slots, Slot::A).expect("nothing to do"));
    disk = slots.device().clone();
    for _ in 0..3 {
        assert_eq!(disk.boot().started, Some((Slot::A, 1)));
    }
    assert_eq!(disk.boot().started, Some((Slot::B, 2)));
}

#[test]
fn a_slot_that_a_power_cut_left_half_written_gets_what_runs_when_nothing_else_is_wanted() {
    let mut disk = card();
    // All but the last sector, which says that it is complete.
    disk.power = Some(installed(&disk, Slot::A, 2).written.len() - 1);
    let mut slots = esp(&disk);
    install(&mut slots, Slot::A, &fetched_once()).expect_err("the power is cut");
    let mut disk = slots.device().clone().after(Cut::Kept);
    assert_eq!(disk.boot().started, Some((Slot::A, 1)));
    let mut slots = esp(&healthy(&disk, (Slot::A, 1)));
    let state = |slots: &mut Esp<Disk>| {
        let seen = observe(slots).expect("reads");
        (
            seen.record.slot(Slot::B).state,
            seen.manifests[0] == seen.manifests[1],
        )
    };
    assert_eq!(state(&mut slots), (State::Empty, false));
    copy(&mut slots, Slot::A, &scene::root(), scene::BOARD).expect("copies");
    assert_eq!(state(&mut slots), (State::Trial, true));
    let mut disk = slots.device().clone();
    for _ in 0..3 {
        assert_eq!(disk.boot().started, Some((Slot::A, 1)));
    }
    assert_eq!(disk.boot().started, Some((Slot::B, 1)));
}

#[test]
fn a_slot_that_is_not_what_was_started_from_it_is_not_copied() {
    let disk = card();
    for name in ["files/kernel", "manifest.json", "signatures/0.sig"] {
        let mut rotten = disk.clone();
        let read = |at: u64, sector: &mut [u8; 512]| rotten.read_at(sector, at);
        let place = racklet_fat::locate(read, &format!("racklet/a/{name}")).expect("is there");
        rotten.write_at(b"rot", place.offset + 30).expect("writes");
        rotten.written.clear();
        let mut slots = esp(&rotten);
        let refused = copy(&mut slots, Slot::A, &scene::root(), scene::BOARD);
        assert!(
            matches!(refused, Err(CopyError::Held(_))),
            "{name}: {refused:?}"
        );
        assert!(slots.device().written.is_empty(), "{name}");
    }
}

/// Remembers what it was asked for.
struct Watched {
    esp: Esp<Disk>,
    asked: Vec<(String, u64)>,
}

impl Copies for Watched {
    type Error = io::Error;

    fn read(&mut self, copy: usize) -> io::Result<[u8; SIZE]> {
        self.esp.read(copy)
    }

    fn write(&mut self, copy: usize, bytes: &[u8; SIZE]) -> io::Result<()> {
        self.esp.write(copy, bytes)
    }
}

impl Storage for Watched {
    fn read_file(&mut self, slot: Slot, name: &str, most: u64) -> io::Result<Option<Vec<u8>>> {
        self.asked.push((name.to_owned(), most));
        self.esp.read_file(slot, name, most)
    }

    fn has_room(&mut self, slot: Slot, files: &[(String, &[u8])]) -> Result<(), NoRoom> {
        self.esp.has_room(slot, files)
    }

    fn replace(&mut self, slot: Slot, files: &[(String, &[u8])]) -> io::Result<()> {
        self.esp.replace(slot, files)
    }
}

#[test]
fn sizes_in_a_manifest_that_nobody_signed_are_not_looked_at() {
    let mut disk = card();
    let (_folder, one) = package(1);
    let mut manifest = one.manifest().clone();
    let kernel = &mut manifest.files[0];
    kernel.chunks[0].length = 1 << 20;
    kernel.chunks = vec![kernel.chunks[0]; 1000];
    kernel.size = 1000 << 20;
    let bytes = manifest.to_canonical();
    racklet_trust::Manifest::parse_unverified(&bytes).expect("is a manifest");
    let read = |at: u64, sector: &mut [u8; 512]| disk.read_at(sector, at);
    let place = racklet_fat::locate(read, "racklet/a/manifest.json").expect("is there");
    disk.write_at(&bytes, place.offset).expect("writes");
    let (esp, asked) = (esp(&disk), Vec::new());
    let mut watched = Watched { esp, asked };
    let refused = copy(&mut watched, Slot::A, &scene::root(), scene::BOARD);
    assert!(matches!(refused, Err(CopyError::Held(_))), "{refused:?}");
    for (name, most) in &watched.asked {
        assert!(!name.starts_with("files/"), "{name} was asked for");
        assert!(*most <= MAX_MANIFEST, "{most} bytes of {name}");
    }
    assert!(watched.asked.len() > 1, "{:?}", watched.asked);
}

#[test]
fn nothing_is_installed_beside_a_slot_that_has_not_run_well_or_where_there_is_no_room() {
    let mut disk = installed(&card(), Slot::A, 2);
    disk.boot();
    let mut slots = esp(&disk);
    let refused = install(&mut slots, Slot::B, &fetched(3)).expect_err("b is on trial");
    assert!(matches!(
        refused,
        InstallError::Rule(Rule::OtherNotGood(Slot::B))
    ));

    let mut slots = esp(&card());
    slots.device().written.clear();
    let (folder, _) = package(2);
    let mut manifest = racklet_trust::Manifest::new(
        racklet_trust::manifest::Kind::Bootstrap,
        "stable",
        2,
        racklet_trust::Architecture::HERE,
    );
    manifest.boards = vec![scene::BOARD.into()];
    let large = vec![7; (12 << 20) + 1];
    let (mut kernel, mut initramfs) = (&b"kernel"[..], &large[..]);
    let inputs = vec![
        racklet_image::package::Input {
            name: "kernel",
            contents: racklet_image::package::Contents::Read(&mut kernel),
        },
        racklet_image::package::Input {
            name: "initramfs",
            contents: racklet_image::package::Contents::Read(&mut initramfs),
        },
    ];
    let path = folder.path().join("large");
    let large =
        racklet_image::package::build(manifest, inputs, &path, &mut |_| {}).expect("builds");
    let large = of(&large, |signatures| {
        signatures.push(sign(FIRMWARE, large.manifest_bytes()));
    });
    let refused = install(&mut slots, Slot::A, &large.expect("verifies")).expect_err("too large");
    let InstallError::Room(NoRoom::Small { name, room, .. }) = refused else {
        panic!("{refused}");
    };
    assert_eq!((&*name, room), ("files/initramfs", 12 << 20));
    assert!(slots.device().written.is_empty(), "nothing was written");
}

#[test]
fn what_the_bootloader_would_refuse_is_refused_before_it_is_written() {
    let (_folder, two) = package(2);
    let bytes = two.manifest_bytes();
    let unsigned = of(&two, Vec::clear).expect_err("nobody signed");
    assert!(
        matches!(unsigned, BootstrapError::Manifest(_)),
        "{unsigned}"
    );
    let stranger = of(&two, |them| *them = vec![sign(STRANGER, bytes)]);
    assert!(matches!(stranger, Err(BootstrapError::Manifest(_))));
    // Of many signatures, those that count find room.
    let many = of(&two, |them| {
        for seed in 10..60 {
            them.insert(0, sign(seed, bytes));
        }
        them.push(them[50].clone());
    });
    let mut slots = esp(&card());
    install(&mut slots, Slot::A, &many.expect("one counts")).expect("installs");
    assert_eq!(slots.device().clone().boot().started, Some((Slot::B, 2)));

    let signatures = [sign(FIRMWARE, bytes)];
    let tampered = |name: &str| {
        let mut contents = contents(name, 2);
        contents[5] ^= u8::from(name == "kernel");
        Some(contents)
    };
    let verified = |board, file: &dyn Fn(&str) -> Option<Vec<u8>>| {
        racklet_slots::Bootstrap::verify(&scene::root(), board, two.manifest(), &signatures, file)
    };
    assert!(matches!(
        verified(scene::BOARD, &tampered),
        Err(BootstrapError::File(_))
    ));
    assert!(matches!(
        verified(scene::BOARD, &|_| None),
        Err(BootstrapError::Missing(name)) if name == "kernel"
    ));
    let good = |name: &str| Some(contents(name, 2));
    assert!(matches!(
        verified("rpi4", &good),
        Err(BootstrapError::NotForUs(_))
    ));
    assert!(verified(scene::BOARD, &good).is_ok());
}

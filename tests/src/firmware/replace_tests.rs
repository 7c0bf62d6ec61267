// SPDX-License-Identifier: Apache-2.0
//! A running Raspberry Pi replaces the slot that does not run, on a card as `racklet image build` makes it, with the power cut at every
//! sector that is written. What starts then is what the firmware's rules say.

use std::{
    cell::RefCell, collections::BTreeMap, fs::File, io, ops::Range, os::unix::fs::FileExt as _,
    process::Command, rc::Rc, sync::Arc,
};

use racklet_image::package::Package;
use racklet_slots::{
    Bootstrap, Device, PiCard,
    pi::{Part, partition},
};
use racklet_trust::{
    Architecture, Digest, Manifest, TrustRoot, Verified,
    slot::{Slot, State},
};

use super::*;
use crate::{
    process::{output, path_with_sbin},
    raspi::bench::{Bench, Parts},
};

const SECTOR: u64 = 512;
const VOLUME: u64 = 40 << 20;
const PI4: Machine = Machine {
    model: Model::FourB,
    eeprom: WALKS,
    serial: 1,
};
/// As old as may be: it does not look for another partition.
const OLD_PI4: Machine = Machine {
    eeprom: KNOWS_A_B,
    ..PI4
};
const TRIED: Reset = Reset {
    rsts: 0,
    tryboot: true,
};

fn start(number: u32) -> u64 {
    (1 << 20) + u64::from(number - 1) * VOLUME
}

/// What a cut does to the sectors that were written and not flushed.
#[derive(Debug, Clone, Copy)]
enum Cut {
    /// All of them are there.
    Kept,
    /// None is.
    Lost,
    /// Every second one is.
    Half,
}

/// The first three partitions of a card with a cache: what was not flushed is lost, kept or half kept when the power goes.
#[derive(Clone)]
struct Card {
    base: Arc<Vec<u8>>,
    kept: BTreeMap<u64, [u8; 512]>,
    cached: Vec<(u64, [u8; 512])>,
    /// How many more sectors are written before the power goes.
    power: Option<usize>,
    written: usize,
}

impl Card {
    fn sector(&self, number: u64) -> [u8; 512] {
        let cached = self.cached.iter().rev().find(|(of, _)| *of == number);
        let here = cached.map(|(_, bytes)| bytes);
        here.or_else(|| self.kept.get(&number))
            .copied()
            .unwrap_or_else(|| {
                let at = usize::try_from(number * SECTOR).expect("small");
                self.base[at..at + 512].try_into().expect("a sector")
            })
    }

    fn after(mut self, cut: Cut) -> Self {
        for (place, (number, bytes)) in std::mem::take(&mut self.cached).into_iter().enumerate() {
            let is_kept = match cut {
                Cut::Kept => true,
                Cut::Lost => false,
                Cut::Half => place % 2 == 0,
            };
            if is_kept {
                self.kept.insert(number, bytes);
            }
        }
        self.power = None;
        self
    }
}

/// A partition of it, as Linux has it.
struct Partition(Rc<RefCell<Card>>, u32);

impl Partition {
    fn sectors(&self, length: usize, offset: u64) -> Range<u64> {
        let from = start(self.1) + offset;
        assert!(from.is_multiple_of(SECTOR), "whole sectors are written");
        from / SECTOR..(from + length as u64).div_ceil(SECTOR)
    }
}

impl Device for Partition {
    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        let card = self.0.borrow();
        let sectors = self.sectors(out.len(), offset);
        for (number, part) in sectors.zip(out.chunks_mut(512)) {
            part.copy_from_slice(&card.sector(number)[..part.len()]);
        }
        Ok(())
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut card = self.0.borrow_mut();
        for (number, part) in self.sectors(bytes.len(), offset).zip(bytes.chunks(512)) {
            match &mut card.power {
                Some(0) => return Err(io::Error::other("the power is gone")),
                Some(left) => *left -= 1,
                None => {}
            }
            let mut sector = card.sector(number);
            sector[..part.len()].copy_from_slice(part);
            card.cached.push((number, sector));
            card.written += 1;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut card = self.0.borrow_mut();
        if card.power == Some(0) {
            return Err(io::Error::other("the power is gone"));
        }
        let cached = std::mem::take(&mut card.cached);
        card.kept.extend(cached);
        Ok(())
    }
}

/// What the firmware finds on it.
impl Volumes for Card {
    fn file(&self, number: u32, path: &str) -> Result<Option<Vec<u8>>> {
        if !(1..=3).contains(&number) {
            return Ok(None);
        }
        let part = Partition(Rc::new(RefCell::new(self.clone())), number);
        let read = |at: u64, sector: &mut [u8; 512]| part.read_at(sector, at);
        Ok(racklet_fat::locate(read, path).ok().map(|place| {
            let mut bytes = vec![0; place.size as usize];
            part.read_at(&mut bytes, place.offset).expect("is there");
            bytes
        }))
    }
}

/// A builder, its card with version 3 in both slots, and version 4.
struct Scene {
    bench: Bench,
    card: Card,
    next: Bootstrap,
}

fn release(bench: &Bench, version: u64) -> Package {
    let mut kernel = vec![0; 100_000];
    kernel[56..60].copy_from_slice(b"ARM\x64");
    kernel.extend_from_slice(format!("kernel {version}").as_bytes());
    let parts = Parts {
        kernel,
        initramfs: format!("initramfs {version}").repeat(200).into(),
        // Long enough that there is something to cut.
        tree: format!("tree {version} ").repeat(2000).into(),
        firmware: |file| Ok(file.repeat(300).into_bytes()),
    };
    let name = format!("release-{version}");
    bench.release_of(&name, version, &parts).expect("builds")
}

fn scene() -> Scene {
    // Whoever installs looks for a release of its own architecture.
    let mut board = racklet_boards::find("raspberry-pi-4b").expect("there is such a board");
    board.architecture = Architecture::HERE;
    let bench = Bench::of(board).expect("makes keys");
    let old = release(&bench, 3);
    let image = bench.image([Some(&old), Some(&old)]).expect("builds");
    let mut base = vec![0; usize::try_from(start(4)).expect("small")];
    let file = File::open(image).expect("opens");
    file.read_exact_at(&mut base, 0).expect("reads");
    let card = Card {
        base: Arc::new(base),
        kept: BTreeMap::new(),
        cached: Vec::new(),
        power: None,
        written: 0,
    };
    let new = release(&bench, 4);
    let signatures = new.signatures().expect("reads").into_iter();
    let signatures: Vec<Vec<u8>> = signatures.map(|(_, bytes)| bytes).collect();
    let root = Verified::<TrustRoot>::baked(&bench.trust_root().expect("reads"));
    let (root, name) = (root.expect("is one"), &bench.board().name);
    let next = Bootstrap::verify(&root, name, new.manifest(), &signatures, |name| {
        new.file(name).expect("reads")
    });
    let next = next.expect("is one of ours");
    let card = healthy(card, Slot::A, 3).expect("marks");
    Scene { bench, card, next }
}

/// Does something with a card's slots; the card as it is then, and what came of it.
fn with<T>(card: &Card, work: impl FnOnce(&mut PiCard<Partition>) -> T) -> (Card, T) {
    let shared = Rc::new(RefCell::new(card.clone()));
    shared.borrow_mut().written = 0;
    let part = |number| Partition(Rc::clone(&shared), number);
    let slots = Slot::ALL.map(|slot| Part {
        device: part(u32::from(partition(slot))),
        start: start(u32::from(partition(slot))),
    });
    let mut opened = PiCard::open(part(1), slots).expect("is a card of ours");
    let done = work(&mut opened);
    drop(opened);
    (shared.borrow().clone(), done)
}

fn healthy(card: Card, slot: Slot, version: u64) -> Result<Card, ()> {
    let (card, done) = with(&card, |slots| {
        racklet_slots::mark_good(slots, slot, version)
    });
    done.map(|_| card).map_err(drop)
}

/// The slot and the version that start, every file of which is as its manifest says; by that slot's own name for itself.
fn started(card: &Card, machine: &Machine, reset: Reset) -> Result<(Slot, u64), Refused> {
    let loaded = boot(card, machine, reset).expect("reads")?;
    assert!(loaded.missing.is_empty() && !loaded.reads_hat);
    let number = loaded.choice.partition;
    let slot = Slot::ALL
        .into_iter()
        .find(|slot| u32::from(partition(*slot)) == number);
    let slot = slot.expect("a slot");
    let archive = loaded.archive();
    let said = String::from_utf8_lossy(&archive);
    assert!(said.contains(&format!(r#"{{"slot":"{slot}"}}"#)), "{slot}");
    assert!(said.contains("tray-1"), "the owner's word is carried");
    let read = |path: &str| card.file(number, path).expect("reads").expect("is there");
    let manifest = Manifest::parse_unverified(&read("racklet/manifest.json")).expect("parses");
    for file in &manifest.files {
        assert_eq!(Digest::of(&read(&file.name)), file.sha256, "{}", file.name);
    }
    Ok((slot, manifest.version))
}

fn state(card: &Card, slot: Slot) -> (State, u8) {
    let seen = with(card, |slots| racklet_slots::observe(slots).expect("reads")).1;
    let known = seen.record.slot(slot);
    (known.state, known.tries_left)
}

/// `fsck.vfat` is content with each partition.
fn judged(scene: &Scene, card: &Card) {
    let path = scene.bench.path("judged");
    for number in 1..=3 {
        let first = start(number) / SECTOR;
        let all = first..first + VOLUME / SECTOR;
        let bytes: Vec<u8> = all.flat_map(|number| card.sector(number)).collect();
        std::fs::write(&path, bytes).expect("writes");
        let mut fsck = Command::new("fsck.vfat");
        fsck.env("PATH", path_with_sbin());
        let said = output(fsck.args(["-n", "-v"]).arg(&path)).expect("is content");
        assert!(
            !said.contains("differ") && !said.contains("Dirty"),
            "{said}"
        );
    }
}

#[test]
fn a_slot_is_written_tried_by_the_one_shot_and_bought_and_the_other_one_next() {
    let scene = scene();
    let (card, done) = with(&scene.card, |slots| {
        racklet_slots::install(slots, Slot::A, &scene.next)
    });
    done.expect("installs");
    judged(&scene, &card);
    for machine in [&PI4, &OLD_PI4] {
        assert_eq!(started(&card, machine, Reset::default()), Ok((Slot::A, 3)));
        assert_eq!(started(&card, machine, TRIED), Ok((Slot::B, 4)));
    }
    // Counted before the restart, once.
    let (card, counted) = with(&card, |slots| {
        racklet_slots::count_trial(slots, Slot::A).expect("writes")
    });
    assert!(counted);
    assert_eq!(state(&card, Slot::B), (State::Trial, 2));
    let card = healthy(card, Slot::B, 4).expect("marks");
    for machine in [&PI4, &OLD_PI4] {
        assert_eq!(started(&card, machine, Reset::default()), Ok((Slot::B, 4)));
    }
    judged(&scene, &card);
    // Bought: a restart is a plain one. Back into slot a goes what runs, and nothing of slot b is touched.
    let (card, counted) = with(&card, |slots| {
        racklet_slots::count_trial(slots, Slot::B).expect("reads")
    });
    assert!(!counted);
    let (card, done) = with(&card, |slots| {
        racklet_slots::install(slots, Slot::B, &scene.next)
    });
    done.expect("installs");
    assert_eq!(started(&card, &PI4, Reset::default()), Ok((Slot::B, 4)));
    assert_eq!(started(&card, &PI4, TRIED), Ok((Slot::A, 4)));
    judged(&scene, &card);
}

#[test]
fn wherever_the_power_is_cut_while_a_slot_is_written_the_one_that_runs_starts_and_it_is_done_again()
{
    let scene = scene();
    let install = |card: &Card| {
        with(card, |slots| {
            racklet_slots::install(slots, Slot::A, &scene.next)
        })
    };
    let whole = install(&scene.card).0.written;
    assert!(whole > 40, "{whole} sectors are few to cut between");
    let mut complete = 0;
    for at in 0..=whole {
        for cut in [Cut::Kept, Cut::Lost, Cut::Half] {
            let mut card = scene.card.clone();
            card.power = Some(at);
            let card = install(&card).0.after(cut);
            let what = format!("cut at {at} of {whole}, {cut:?}");
            for machine in [&PI4, &OLD_PI4] {
                let plain = started(&card, machine, Reset::default());
                assert_eq!(plain, Ok((Slot::A, 3)), "{what}");
            }
            // A one-shot that was left set, or asked for by hand, starts all of the old one, all of the new one, or leaves it.
            let tried = started(&card, &PI4, TRIED);
            let whole_ones = matches!(tried, Ok((Slot::A, 3) | (Slot::B, 3 | 4)));
            assert!(whole_ones, "{what}: {tried:?}");
            complete += usize::from(tried == Ok((Slot::B, 4)));
            let card = healthy(card, Slot::A, 3).expect("marks");
            let (card, done) = install(&card);
            done.expect("installs");
            assert_eq!(started(&card, &OLD_PI4, TRIED), Ok((Slot::B, 4)), "{what}");
        }
    }
    assert!(complete > 0);
}

#[test]
fn wherever_the_power_is_cut_while_a_slot_is_bought_one_of_the_two_starts_and_buys_itself() {
    let scene = scene();
    let (card, done) = with(&scene.card, |slots| {
        racklet_slots::install(slots, Slot::A, &scene.next)
    });
    done.expect("installs");
    let whole = with(&card, |slots| racklet_slots::mark_good(slots, Slot::B, 4))
        .0
        .written;
    assert!(whole >= 2, "autoboot.txt, and the record");
    for at in 0..=whole {
        for cut in [Cut::Kept, Cut::Lost, Cut::Half] {
            let mut cut_card = card.clone();
            cut_card.power = Some(at);
            let cut_card = with(&cut_card, |slots| {
                racklet_slots::mark_good(slots, Slot::B, 4)
            });
            let card = cut_card.0.after(cut);
            for machine in [&PI4, &OLD_PI4] {
                let (slot, version) = started(&card, machine, Reset::default()).expect("starts");
                let card = healthy(card.clone(), slot, version).expect("marks");
                let again = started(&card, machine, Reset::default());
                assert_eq!(again, Ok((slot, version)), "cut at {at}, {cut:?}");
                assert_eq!(state(&card, slot).0, State::Good);
            }
        }
    }
}

#[test]
fn an_autoboot_that_says_something_else_is_ours_again_once_a_boot_is_good() {
    let scene = scene();
    let autoboot = |card: &Card| card.file(1, "autoboot.txt").expect("reads");
    let text = autoboot(&scene.card).expect("is there");
    let (mut card, ()) = with(&scene.card, |_| ());
    let place = (0..)
        .find(|number| card.sector(*number).starts_with(&text))
        .expect("is somewhere");
    let mut sector = card.sector(place);
    sector[..5].copy_from_slice(b"#all]");
    card.kept.insert(place, sector);
    let card = healthy(card, Slot::A, 3).expect("marks");
    assert_eq!(autoboot(&card), Some(text));
}

// SPDX-License-Identifier: Apache-2.0
//! What a fetch costs grows with what it brings, and not faster: counted on disk and wire, so that a busy machine changes nothing.
#![allow(clippy::unwrap_used, reason = "a test may panic anywhere")]

mod support;

use std::{cell::Cell, io, path::Path};

use racklet_fetch::{
    cache::Cache,
    disk::{Disk, NewFile},
};
use racklet_trust::{Digest, manifest::Kind};
use support::{
    disk::MemDisk,
    package::{Package, noise},
    world::World,
};

/// A disk that counts what is asked of it.
#[derive(Default)]
struct Counted {
    disk: MemDisk,
    calls: Cell<u64>,
    read: Cell<u64>,
    written: Cell<u64>,
}

impl Counted {
    fn disk(&self) -> &MemDisk {
        self.calls.set(self.calls.get() + 1);
        &self.disk
    }
}

struct Writes<'a>(&'a Counted, Box<dyn NewFile + 'a>);

impl io::Write for Writes<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Self(Counted { calls, written, .. }, file) = self;
        calls.set(calls.get() + 1);
        let count = file.write(bytes)?;
        written.set(written.get() + count as u64);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.1.flush()
    }
}

impl NewFile for Writes<'_> {
    fn sync(&mut self) -> io::Result<()> {
        self.1.sync()
    }
}

impl Disk for Counted {
    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let bytes = self.disk().read(path, limit)?;
        self.read.set(self.read.get() + bytes.len() as u64);
        Ok(bytes)
    }

    fn read_through(&self, path: &Path, visit: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        self.disk().read_through(path, &mut |bytes| {
            self.read.set(self.read.get() + bytes.len() as u64);
            visit(bytes);
        })
    }

    fn read_at(&self, path: &Path, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.read.set(self.read.get() + out.len() as u64);
        self.disk().read_at(path, offset, out)
    }

    fn seal(&self, path: &Path) -> io::Result<()> {
        self.disk().seal(path)
    }

    fn sealed(&self, path: &Path) -> io::Result<Option<Digest>> {
        self.disk().sealed(path)
    }

    fn size(&self, path: &Path) -> io::Result<u64> {
        self.disk().size(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn NewFile + '_>> {
        Ok(Box::new(Writes(self, self.disk().create(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk().rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk().remove(path)
    }

    fn remove_all(&self, path: &Path) -> io::Result<()> {
        self.disk().remove_all(path)
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.disk().create_folder(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.disk().list(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.disk().sync_folder(path)
    }

    fn sync_all(&self, path: &Path) -> io::Result<()> {
        self.disk().sync_all(path)
    }
}

/// What a fetch of a package costs, each in its own unit.
fn cost(world: &World, package: &Package) -> [(&'static str, u64); 5] {
    world.publish_for_good(package);
    let disk = Counted::default();
    let cache = Cache::open(&disk, "/state/cache").unwrap();
    let before = world.server.log.lock().unwrap().len();
    let (arrived, remote) = world.fetch(&cache, package, &[]);
    let report = arrived.unwrap().report;
    assert_eq!(report.new_chunks, package.chunks.len());
    let asked = world.server.log.lock().unwrap().len() - before;
    [
        ("calls of the disk", disk.calls.get()),
        ("bytes read from it", disk.read.get()),
        ("bytes written to it", disk.written.get()),
        ("bytes received", remote.received()),
        ("requests", asked as u64),
    ]
}

#[test]
fn a_package_of_four_times_the_size_costs_five_times_as_much_to_fetch_at_most() {
    const SIZE: usize = 4_000_000;
    let image = |version, size| {
        let rootfs = noise(size, version);
        Package::new(Kind::Artifact, "web", version, &[("rootfs", &rootfs)])
    };
    let payload = |version, size| Package::payload(version, &noise(size, version), b"initramfs");
    let world = World::empty("sha256");
    for packages in [
        [image(1, SIZE), image(2, 4 * SIZE)],
        [payload(3, SIZE), payload(4, 4 * SIZE)],
    ] {
        let [one, four] = packages.map(|package| cost(&world, &package));
        for ((what, one), (_, four)) in one.into_iter().zip(four) {
            assert!(
                four <= 5 * one,
                "{what}: {one}, of four times as much {four}"
            );
        }
    }
}

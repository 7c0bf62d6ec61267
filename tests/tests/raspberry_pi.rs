// SPDX-License-Identifier: Apache-2.0
//! A Raspberry Pi 4 in QEMU, from the very image that a user writes to a card: what its firmware would load is read from the image's
//! bytes, by the firmware's documented rules.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use racklet_tests::{
    artifacts::Artifacts,
    raspi::{
        Pi,
        bench::{Bench, Parts},
    },
};
use racklet_trust::Architecture;

const BOARD: &str = "raspberry-pi-4b";
/// An emulated processor of another kind, beside everything else that runs.
const START: Duration = Duration::from_secs(300);

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("{}: run `cargo xtask build`", path.display()))
}

fn firmware(name: &str) -> Result<Vec<u8>> {
    let built = Artifacts::of(Architecture::Aarch64);
    read(&built.path(&format!("firmware/{BOARD}/{name}")))
}

fn parts() -> Result<Parts> {
    let built = Artifacts::of(Architecture::Aarch64);
    Ok(Parts {
        kernel: read(&built.kernel())?,
        initramfs: read(&built.bootstrap_initramfs())?,
        tree: firmware("bcm2711-rpi-4-b.dtb")?,
        firmware,
    })
}

#[test]
fn the_very_image_starts_our_kernel_and_its_pid_1_with_the_trays_own_configuration_and_a_network()
-> Result<()> {
    let bench = Bench::new(BOARD)?;
    let release = bench.release("release", &parts()?)?;
    let image = bench.image([Some(&release), Some(&release)])?;
    let mut pi = Pi::with(&image, &bench.path("pi"))?;
    let mut on = pi.switch_on("")?;
    ensure!(on.loaded().choice.partition == 2);
    // Trust root and configuration came in the slot's second archive.
    on.wait_for("bootstrap, tray tray-1 of rack 0707", START)?;
    on.wait_for("network     eth0 up", START)?;
    on.wait_for("the address of rack.example cannot be found", START)?;
    Ok(())
}

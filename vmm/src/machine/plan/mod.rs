// SPDX-License-Identifier: Apache-2.0
//! What a machine consists of, by its configuration alone. Nothing is opened or looked at: the same configuration is the same machine.

use racklet_api::vmm::{VmConfig, VmDisk, VmNetwork};

use crate::arch;

/// A machine that could be opened.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    /// What metrics call the devices, by number.
    pub(crate) names: Vec<String>,
    pub(super) config: &'a VmConfig,
    /// Ranges of guest memory: first address, bytes.
    pub(super) ram: Vec<(u64, u64)>,
    /// By number. A guest names its disks and cards in this order (`vda`, `eth0`), which is that of the configuration; spare
    /// places are behind the disks.
    pub(super) devices: Vec<Place<'a>>,
    /// Number of the device behind which the agent is.
    pub(super) sockets: u16,
    /// Number of the one that takes memory.
    pub(super) balloon: u16,
}

/// A virtio device and where it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place<'a> {
    pub(super) number: u16,
    /// Address of its registers.
    pub(super) registers: u64,
    /// Number of its interrupt line at the controller, its own alone.
    pub(super) line: u32,
    pub(super) what: What<'a>,
}

/// What a device is made from.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum What<'a> {
    Disk(&'a VmDisk),
    /// Of a disk that may come later.
    Spare,
    Card(&'a VmNetwork),
    /// With the guest's address (CID), 3 or more.
    Sockets(u32),
    Entropy,
    Balloon,
}

impl Plan<'_> {
    /// Decides. Cannot fail: what a machine cannot have, a [`VmConfig`] does not say.
    pub(crate) fn new(config: &VmConfig) -> Plan<'_> {
        let spare = (0..config.spare_disks).map(|_| What::Spare);
        let disks = config.disks.iter().map(What::Disk).chain(spare);
        let places = config.disks.len() + usize::from(config.spare_disks);
        let cards = config.networks.iter().map(What::Card);
        let rest = [
            What::Sockets(config.vsock_cid),
            What::Entropy,
            What::Balloon,
        ];
        let place = |(number, what)| {
            let (registers, line) = arch::device_place(u32::from(number));
            Place {
                number,
                registers,
                line,
                what,
            }
        };
        let number = |kind, count| (0..count).map(move |n| format!("{kind}{n}"));
        let names = number("disk", places);
        let names = names.chain(number("card", config.networks.len()));
        let names = names.chain(["sockets", "entropy", "balloon"].map(str::to_owned));
        let sockets = places + config.networks.len();
        let sockets = u16::try_from(sockets).expect("at most 8 disks and 4 cards");
        Plan {
            names: names.collect(),
            config,
            ram: arch::ram(config.memory_mib),
            devices: (0..)
                .zip(disks.chain(cards).chain(rest))
                .map(place)
                .collect(),
            sockets,
            balloon: sockets + 2,
        }
    }
}

/// Where archives of these lengths lie, counted from the first, and how many bytes they take together. A kernel looks for the next
/// one at a multiple of 4.
pub(super) fn archives(lengths: impl IntoIterator<Item = u64>) -> (Vec<u64>, u64) {
    let mut total = 0;
    let places = lengths
        .into_iter()
        .map(|length: u64| {
            let place = total;
            total += length.next_multiple_of(4);
            place
        })
        .collect();
    (places, total)
}

#[cfg(test)]
mod tests;

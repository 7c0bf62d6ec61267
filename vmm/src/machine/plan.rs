// SPDX-License-Identifier: Apache-2.0
//! What a machine consists of, by its configuration alone. Nothing is opened or looked at: the same configuration is the same machine.

use racklet_api::vmm::{VmConfig, VmDisk, VmNetwork};

use crate::arch;

/// A machine that could be opened.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(super) config: &'a VmConfig,
    /// Ranges of guest memory: first address, bytes.
    pub(super) ram: Vec<(u64, u64)>,
    /// By number. A guest names its disks and cards in this order (`vda`, `eth0`), which is that of the configuration.
    pub(super) devices: Vec<Place<'a>>,
    /// Number of the device behind which the agent is.
    pub(super) sockets: u16,
}

/// A virtio device and where it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place<'a> {
    pub(super) number: u16,
    /// Address of its registers.
    pub(super) registers: u64,
    /// Its interrupt.
    pub(super) line: u32,
    pub(super) what: What<'a>,
}

/// What a device is made from.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum What<'a> {
    Disk(&'a VmDisk),
    Card(&'a VmNetwork),
    /// The guest's address.
    Sockets(u32),
    Entropy,
}

impl Plan<'_> {
    /// Decides. Cannot fail: what a machine cannot have, a [`VmConfig`] does not say.
    pub(crate) fn new(config: &VmConfig) -> Plan<'_> {
        let disks = config.disks.iter().map(What::Disk);
        let cards = config.networks.iter().map(What::Card);
        let rest = [What::Sockets(config.vsock_cid), What::Entropy];
        let place = |(number, what)| {
            let (registers, line) = arch::device_place(u32::from(number));
            Place {
                number,
                registers,
                line,
                what,
            }
        };
        let sockets = config.disks.len() + config.networks.len();
        Plan {
            config,
            ram: arch::ram(config.memory_mib),
            devices: (0..)
                .zip(disks.chain(cards).chain(rest))
                .map(place)
                .collect(),
            sockets: u16::try_from(sockets).expect("at most 8 disks and 4 cards"),
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
mod tests {
    use super::*;

    fn config(disks: usize, cards: usize) -> VmConfig {
        let disk = |n| format!(r#"{{"path":"/disk{n}","read_only":{}}}"#, n == 0);
        let card = |n| format!(r#"{{"tap":"tap{n}","mac":"02:00:00:00:00:0{n}"}}"#);
        let list = |count, one: &dyn Fn(usize) -> String| {
            (0..count).map(one).collect::<Vec<_>>().join(",")
        };
        let text = format!(
            r#"{{"v":1,"name":"web","cpus":2,"memory_mib":4096,"kernel":"/k","initramfs":["/i"],"arguments":"","disks":[{}],
            "networks":[{}],"vsock_cid":77,"confinement":{{"uid":700,"gid":700}}}}"#,
            list(disks, &disk),
            list(cards, &card)
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn devices_have_the_configurations_order_and_the_sockets_are_found() {
        for (disks, cards) in [(0, 0), (1, 0), (0, 1), (2, 1), (8, 4)] {
            let config = config(disks, cards);
            let plan = Plan::new(&config);
            let what: Vec<_> = plan.devices.iter().map(|d| &d.what).collect();
            let expected: Vec<What<'_>> = (config.disks.iter().map(What::Disk))
                .chain(config.networks.iter().map(What::Card))
                .chain([What::Sockets(77), What::Entropy])
                .collect();
            assert_eq!(what, expected.iter().collect::<Vec<_>>());
            let sockets = &plan.devices[usize::from(plan.sockets)];
            assert_eq!(sockets.what, What::Sockets(77), "{disks} {cards}");
        }
    }

    #[test]
    fn the_largest_machine_has_a_place_and_a_line_for_each_device() {
        let config = config(8, 4);
        let plan = Plan::new(&config);
        assert_eq!(plan.devices.len(), 14);
        for (n, device) in plan.devices.iter().enumerate() {
            assert_eq!(usize::from(device.number), n);
            assert_eq!(arch::device_at(device.registers), Some((n, 0)));
            let same = |other: &&Place<'_>| other.line == device.line;
            assert_eq!(plan.devices.iter().filter(same).count(), 1);
        }
        assert_eq!(plan.ram, arch::ram(4096));
    }

    #[test]
    fn archives_begin_where_a_kernel_looks_for_them() {
        for (lengths, places, total) in [
            (&[][..], &[][..], 0),
            (&[512], &[0], 512),
            (&[1, 4, 7], &[0, 4, 8], 16),
        ] {
            assert_eq!(archives(lengths.iter().copied()), (places.to_vec(), total));
        }
    }
}

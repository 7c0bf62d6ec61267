// SPDX-License-Identifier: Apache-2.0
//! What holds of the map of addresses on every architecture.

use super::kernel::fits;
use crate::memory::Memory;
use crate::virtio::MMIO_SIZE;

/// Behind a kernel's end an initramfs of any length lies as high as it may below `top`, at a whole page, or nowhere. `place` says where one of
/// so many bytes is put, or how many it says that there is no room for.
#[track_caller]
pub(super) fn lies_as_high_as_it_may(
    end: u64,
    top: u64,
    page: u64,
    place: impl Fn(u64) -> Result<u64, u64>,
) {
    let lowest = end.next_multiple_of(page);
    let room = top.saturating_sub(lowest);
    for len in [
        0,
        1,
        page - 1,
        page,
        page + 1,
        room.saturating_sub(1),
        room,
        room + 1,
        top,
        u64::MAX,
    ] {
        match place(len) {
            Ok(at) => {
                assert!(at % page == 0 && at >= end && at + len <= top, "{at:#x}");
                assert!(at + len + page > top, "{at:#x} is not the highest");
            }
            Err(refused) => {
                assert_eq!(refused, len);
                assert!(
                    u128::from(lowest) + u128::from(len) > u128::from(top),
                    "{end:#x}, {len} would fit"
                );
            }
        }
    }
}

/// A piece of a kernel that may begin at `kernel` is taken where it is all in one range of memory, around each of these addresses.
#[track_caller]
pub(super) fn is_taken_where_it_fits(
    memory: &Memory,
    ram: &[(u64, u64)],
    kernel: u64,
    edges: &[u64],
    page: u64,
) {
    let near = |at: &u64| [at.saturating_sub(1), *at, at.saturating_add(1)];
    let edges: Vec<u64> = edges.iter().flat_map(near).collect();
    for from in &edges {
        let lengths = edges.iter().filter_map(|to| to.checked_sub(*from));
        for len in lengths.chain([1, page, u64::MAX]).filter(|len| *len > 0) {
            let good = ram.iter().any(|(start, size)| {
                let to = u128::from(*from) + u128::from(len);
                *from >= *start && to <= u128::from(start + size)
            });
            assert_eq!(
                fits(memory, kernel, *from, len).ok(),
                (good && *from >= kernel).then(|| from + len),
                "{from:#x}, {len:#x}"
            );
        }
    }
}

/// Where an architecture has its virtio devices.
pub(super) struct Devices {
    pub(super) most: u32,
    /// Registers and line of one.
    pub(super) place: fn(u32) -> (u64, u32),
    /// Which one an address is of.
    pub(super) at: fn(u64) -> Option<(usize, u64)>,
}

impl Devices {
    /// Every register and every line below `lines` is one device's; none is what is `taken`, and no address `elsewhere` leads to one.
    #[track_caller]
    pub(super) fn have_their_own(&self, taken: &[u32], lines: u32, elsewhere: &[u64]) {
        let mut taken = taken.to_vec();
        for n in 0..self.most {
            let (registers, line) = (self.place)(n);
            for offset in 0..MMIO_SIZE {
                assert_eq!((self.at)(registers + offset), Some((n as usize, offset)));
            }
            assert!(!taken.contains(&line) && line < lines, "line {line}");
            taken.push(line);
        }
        let (first, _) = (self.place)(0);
        let behind = first + u64::from(self.most) * MMIO_SIZE;
        for address in elsewhere.iter().copied().chain([first - 1, behind]) {
            let device = (self.at)(address).map(|(device, _)| device);
            assert!(
                device.is_none_or(|n| n >= self.most as usize),
                "{address:#x}"
            );
        }
    }
}

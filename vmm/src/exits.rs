// SPDX-License-Identifier: Apache-2.0
//! How often vCPUs come out of the guest, and why: relaxed additions are all that their threads do for it.

use std::sync::atomic::{AtomicU64, Ordering};

use kvm_ioctls::VcpuExit;
use racklet_api::vmm::metrics::ExitCounts;

/// Counts since the start.
#[derive(Debug, Default)]
pub(crate) struct Exits {
    mmio_read: AtomicU64,
    mmio_write: AtomicU64,
    port_read: AtomicU64,
    port_write: AtomicU64,
    interrupted: AtomicU64,
    other: AtomicU64,
}

impl Exits {
    /// Counts one.
    pub(crate) fn count(&self, exit: &Result<VcpuExit<'_>, kvm_ioctls::Error>) {
        let counter = match exit {
            Ok(VcpuExit::MmioRead(..)) => &self.mmio_read,
            Ok(VcpuExit::MmioWrite(..)) => &self.mmio_write,
            Ok(VcpuExit::IoIn(..)) => &self.port_read,
            Ok(VcpuExit::IoOut(..)) => &self.port_write,
            Ok(VcpuExit::Intr) => &self.interrupted,
            Err(e) if matches!(e.errno(), libc::EINTR | libc::EAGAIN) => &self.interrupted,
            _ => &self.other,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// What was counted so far.
    pub(crate) fn counts(&self) -> ExitCounts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ExitCounts {
            mmio_read: get(&self.mmio_read),
            mmio_write: get(&self.mmio_write),
            port_read: get(&self.port_read),
            port_write: get(&self.port_write),
            interrupted: get(&self.interrupted),
            other: get(&self.other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_is_counted_by_why_and_an_interruption_is_no_failure() {
        let exits = Exits::default();
        let mut data = [0; 4];
        exits.count(&Ok(VcpuExit::MmioWrite(0, &data.clone())));
        exits.count(&Ok(VcpuExit::MmioRead(0, &mut data)));
        exits.count(&Ok(VcpuExit::Intr));
        exits.count(&Err(kvm_ioctls::Error::new(libc::EINTR)));
        exits.count(&Err(kvm_ioctls::Error::new(libc::EFAULT)));
        exits.count(&Ok(VcpuExit::Shutdown));
        let counted = ExitCounts {
            mmio_read: 1,
            mmio_write: 1,
            interrupted: 2,
            other: 2,
            ..ExitCounts::default()
        };
        assert_eq!(exits.counts(), counted);
    }
}

// SPDX-License-Identifier: Apache-2.0
//! What is in a disk's place, and the orders that change it: one at a time, from another thread, obeyed between two requests.
//!
//! ```text
//!           attach, judged: kind, mode, lock, size
//!  free  ------------------------------------------->  taken --look: its size--.
//!  no sector; all but GET_ID fails                       ^  |                   |
//!        ^------------- detach: kept, unlocked ----------'--'<------------------'
//! ```
//!
//! The disk's own thread judges what it is given, as it alone waits for files; a file that is not or no longer used goes back with the
//! answer, for the thread that may close files.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use racklet_api::vmm::disk::DiskAttach;
use vmm_sys_util::eventfd::EventFd;

use super::{Backend, Block, SECTOR};
use crate::lock::lock;

/// What is in the place of a disk.
pub(super) struct Medium<B> {
    pub(super) backend: B,
    pub(super) read_only: bool,
    /// Most bytes that it may have.
    pub(super) most: u64,
}

/// What is asked of a disk.
#[derive(Debug)]
pub enum Order<B> {
    /// Look how large the file is now.
    Look,
    /// Have this one from now on; the place is a spare one, and free.
    Attach {
        /// The file.
        backend: B,
        /// What is said of it.
        says: DiskAttach,
        /// Most bytes of a file that is written here (`RLIMIT_FSIZE`).
        largest: u64,
    },
    /// Have none any more; the place is a spare one.
    Detach,
}

/// What came of an order.
#[derive(Debug)]
pub struct Said<B> {
    /// How many bytes the guest knows of now.
    pub outcome: Result<u64, String>,
    /// A file that is not used any more, and not locked.
    pub back: Option<B>,
}

impl<B> Said<B> {
    fn of(outcome: Result<u64, String>) -> Said<B> {
        let back = None;
        Said { outcome, back }
    }
}

/// Takes orders to a disk and hears what it says.
#[derive(Debug)]
pub struct Orders<B> {
    asked: AtomicBool,
    slot: Mutex<Slot<B>>,
    done: EventFd,
}

#[derive(Debug)]
enum Slot<B> {
    Free,
    Asked(Order<B>),
    /// The disk's thread has it.
    UnderWay,
    Said(Said<B>),
}

impl<B> Orders<B> {
    /// `done` is written when there is an outcome.
    #[must_use]
    pub fn new(done: EventFd) -> Orders<B> {
        Orders {
            asked: AtomicBool::new(false),
            slot: Mutex::new(Slot::Free),
            done,
        }
    }

    /// Gives an order. The disk's thread is to be woken behind this.
    ///
    /// # Errors
    /// The order, while another one has not been answered.
    pub fn ask(&self, order: Order<B>) -> Result<(), Order<B>> {
        let mut slot = lock(&self.slot);
        if !matches!(*slot, Slot::Free) {
            return Err(order);
        }
        *slot = Slot::Asked(order);
        self.asked.store(true, Ordering::Release);
        Ok(())
    }

    /// What came of the order, once.
    pub fn outcome(&self) -> Option<Said<B>> {
        let mut slot = lock(&self.slot);
        match std::mem::replace(&mut *slot, Slot::Free) {
            Slot::Said(said) => Some(said),
            other => {
                *slot = other;
                None
            }
        }
    }

    /// Waits for an outcome, for who has nothing else to do.
    #[cfg(test)]
    pub(crate) fn wait(&self) -> Said<B> {
        self.done.read().expect("it is open");
        self.outcome().expect("it was written with one")
    }

    fn take(&self) -> Option<Order<B>> {
        // Mostly there is none: no lock, and no write to the line of the cache.
        if !self.asked.load(Ordering::Acquire) {
            return None;
        }
        self.asked.store(false, Ordering::Relaxed);
        let mut slot = lock(&self.slot);
        match std::mem::replace(&mut *slot, Slot::UnderWay) {
            Slot::Asked(order) => Some(order),
            other => {
                *slot = other;
                None
            }
        }
    }

    fn answer(&self, said: Said<B>) {
        *lock(&self.slot) = Slot::Said(said);
        // Fails only when 2^64 - 2 wake-ups wait.
        let _ = self.done.write(1);
    }
}

impl<B: Backend> Block<B> {
    /// Obeys what was ordered since, if anything was.
    pub(super) fn obey(&mut self) {
        let Some(orders) = self.orders.take() else {
            return;
        };
        if let Some(order) = orders.take() {
            let said = match order {
                Order::Look => Said::of(self.look()),
                Order::Attach {
                    backend,
                    says,
                    largest,
                } => self.attach(backend, &says, largest),
                Order::Detach => self.detach(),
            };
            orders.answer(said);
        }
        self.orders = Some(orders);
    }

    /// Looks how large the file is now.
    fn look(&mut self) -> Result<u64, String> {
        let Some(medium) = &self.medium else {
            return Err("no disk is in this place".to_owned());
        };
        let size = medium
            .backend
            .size()
            .map_err(|e| format!("ask its size: {e}"))?;
        let most = medium.most;
        if size > most {
            return Err(format!(
                "its file has {size} bytes, and may have {most}: start the guest, or attach the disk, with a larger `grows_to`"
            ));
        }
        Ok(self.show(size))
    }

    fn attach(&mut self, backend: B, says: &DiskAttach, largest: u64) -> Said<B> {
        let judged = backend.claim(says.read_only);
        let fits = judged.map_err(|e| e.to_string()).and_then(|claim| {
            let most = claim.most(says.grows_to);
            if claim.is_device || says.read_only || most <= largest {
                return Ok((claim.bytes, most));
            }
            backend.release();
            Err(format!(
                "its file may come to have {most} bytes, and this monitor writes to none of more than {largest}: start the guest with a \
                 larger `spare_disk_bytes`"
            ))
        });
        match fits {
            Err(reason) => Said {
                outcome: Err(reason),
                back: Some(backend),
            },
            Ok((bytes, most)) => {
                self.meter.set(None, None);
                self.limit(&says.rate);
                self.name(&says.serial);
                self.medium = Some(Medium {
                    backend,
                    read_only: says.read_only,
                    most,
                });
                Said::of(Ok(self.show(bytes)))
            }
        }
    }

    fn detach(&mut self) -> Said<B> {
        let Some(medium) = self.medium.take() else {
            return Said::of(Err("no disk is in this place".to_owned()));
        };
        if let Some(job) = &mut self.job {
            job.lost = true;
        }
        self.name("");
        self.show(0);
        let kept = if medium.read_only {
            Ok(())
        } else {
            medium.backend.flush()
        };
        medium.backend.release();
        Said {
            outcome: kept
                .map(|()| 0)
                .map_err(|e| format!("it is detached, and what was written last may be lost: {e}")),
            back: Some(medium.backend),
        }
    }

    /// The guest is to know of so many bytes; gives those of whole sectors.
    fn show(&mut self, bytes: u64) -> u64 {
        self.sectors = bytes / SECTOR;
        self.config[..8].copy_from_slice(&self.sectors.to_le_bytes());
        self.sectors * SECTOR
    }
}

/// What a file turned out to be that is to be a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// How many there are.
    pub bytes: u64,
    /// It cannot grow by being written to.
    pub is_device: bool,
}

impl Claim {
    /// Most bytes that it may come to have, where it was said to grow this far.
    #[must_use]
    pub fn most(&self, grows_to: Option<u64>) -> u64 {
        if self.is_device {
            u64::MAX
        } else {
            grows_to.map_or(self.bytes, |most| most.max(self.bytes))
        }
    }
}

/// No disk is there.
pub(super) fn gone() -> io::Error {
    io::ErrorKind::NotFound.into()
}

#[cfg(test)]
mod tests;

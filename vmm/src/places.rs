// SPDX-License-Identifier: Apache-2.0
//! The places of a machine's disks, as the event loop knows them: which are spare, which are free, and who waits for an answer of which.
//! What is in a place its disk's own thread knows, and judges.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use racklet_api::vmm::ControlReply;
use racklet_api::vmm::disk::DiskAttach;

use crate::devices::block::{Order, Orders};

/// By number: those of the document, then its spare ones.
#[derive(Debug, Default)]
pub(crate) struct Places {
    all: Vec<Place>,
    /// Most bytes of a file that the monitor may write to.
    pub(crate) largest: u64,
}

#[derive(Debug)]
struct Place {
    device: u16,
    orders: Arc<Orders<File>>,
    /// Disks come and go there.
    spare: bool,
    taken: bool,
    waits: Option<Waits>,
}

/// Who has ordered something, and what.
#[derive(Debug, Clone, Copy)]
struct Waits {
    client: u32,
    what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Look,
    Attach,
    Detach,
}

impl Places {
    pub(crate) fn push(
        &mut self,
        device: u16,
        orders: Arc<Orders<File>>,
        spare: bool,
        taken: bool,
    ) {
        self.all.push(Place {
            device,
            orders,
            spare,
            taken,
            waits: None,
        });
    }

    pub(crate) fn count(&self) -> usize {
        self.all.len()
    }

    /// Has a disk look how large it is. Gives the device that is to be woken, as the others do.
    pub(crate) fn look(&mut self, client: u32, disk: u8) -> Result<u16, String> {
        self.order(client, disk, What::Look, Order::Look)
    }

    /// Gives a disk to the first place that is free for it. One file is to have come along.
    pub(crate) fn attach(
        &mut self,
        client: u32,
        says: DiskAttach,
        files: Vec<OwnedFd>,
    ) -> Result<u16, String> {
        let Ok([file]) = <[OwnedFd; 1]>::try_from(files) else {
            return Err(
                "attach takes one file along with the request: the disk's, open".to_owned(),
            );
        };
        let free = |place: &Place| place.spare && !place.taken && place.waits.is_none();
        let Some(disk) = self.all.iter().position(free) else {
            let spare = self.all.iter().filter(|place| place.spare).count();
            return Err(format!(
                "no place is free, of {spare} spare ones: a guest has as many as `spare_disks` said before its start"
            ));
        };
        let order = Order::Attach {
            backend: File::from(file),
            says,
            largest: self.largest,
        };
        let disk = u8::try_from(disk).expect("at most 8");
        self.order(client, disk, What::Attach, order)
    }

    pub(crate) fn detach(&mut self, client: u32, disk: u8) -> Result<u16, String> {
        match self.all.get(usize::from(disk)) {
            Some(place) if !place.spare => Err(format!(
                "disk {disk} is there from the start on and stays: only what is in a spare place is detached"
            )),
            _ => self.order(client, disk, What::Detach, Order::Detach),
        }
    }

    fn order(
        &mut self,
        client: u32,
        disk: u8,
        what: What,
        order: Order<File>,
    ) -> Result<u16, String> {
        let count = self.all.len();
        let Some(place) = self.all.get_mut(usize::from(disk)) else {
            return Err(format!("there are {count} disks, counted from 0"));
        };
        if place.waits.is_some() || place.orders.ask(order).is_err() {
            return Err(format!(
                "disk {disk} has another order, which is not done yet"
            ));
        }
        place.waits = Some(Waits { client, what });
        Ok(place.device)
    }

    /// What a disk says of its order, and to whom. A file that is not used any more is closed with this, before anybody hears of it.
    pub(crate) fn answer(&mut self, disk: u16) -> Option<(u32, ControlReply)> {
        let place = self.all.get_mut(usize::from(disk))?;
        let said = place.orders.outcome()?;
        let Waits { client, what } = place.waits.take()?;
        let disk = u8::try_from(disk).expect("at most 8");
        drop(said.back);
        match what {
            What::Attach => place.taken = said.outcome.is_ok(),
            // Also where it could not be made stable: the disk is out.
            What::Detach => place.taken = false,
            What::Look => {}
        }
        let reply = match (said.outcome, what) {
            (Ok(bytes), What::Look) => ControlReply::Resized { bytes },
            (Ok(bytes), What::Attach) => ControlReply::Attached { disk, bytes },
            (Ok(_), What::Detach) => ControlReply::Detached { disk },
            (Err(reason), _) => ControlReply::Error { reason },
        };
        Some((client, reply))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::block::Block;
    use crate::virtio::Device;
    use std::os::fd::AsRawFd;
    use vmm_sys_util::eventfd::EventFd;

    /// A machine with a disk and two spare places, whose threads do something when they are told to.
    struct Scene {
        places: Places,
        disks: Vec<Block<File>>,
    }

    impl Scene {
        fn new() -> Scene {
            let mut places = Places {
                largest: 1 << 20,
                ..Places::default()
            };
            let mut disks = Vec::new();
            for n in 0..3_u16 {
                let orders = Arc::new(Orders::new(EventFd::new(0).unwrap()));
                let mut disk = match n {
                    0 => Block::new(file(4096), 4096, false, "root"),
                    _ => Block::spare(),
                };
                disk.obeys(orders.clone());
                places.push(n + 5, orders, n > 0, n == 0);
                disks.push(disk);
            }
            Scene { places, disks }
        }

        /// The threads have their turn; what is answered.
        fn turn(&mut self) -> Vec<(u32, ControlReply)> {
            self.disks.iter_mut().for_each(Device::refresh);
            (0..3).filter_map(|n| self.places.answer(n)).collect()
        }
    }

    fn file(bytes: u64) -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(bytes).unwrap();
        file
    }

    fn given(file: &File) -> Vec<OwnedFd> {
        vec![file.try_clone().unwrap().into()]
    }

    #[test]
    fn disks_come_into_the_first_free_place_and_go_and_who_asked_is_told() {
        let mut scene = Scene::new();
        let says = DiskAttach::default;
        let (first, second) = (file(8192), file(1 << 20));
        assert_eq!(scene.places.attach(1, says(), given(&first)), Ok(6));
        // The next one does not wait for the first.
        assert_eq!(scene.places.attach(2, says(), given(&second)), Ok(7));
        let none = scene.places.attach(3, says(), given(&first)).unwrap_err();
        assert!(none.contains("of 2 spare ones"), "{none}");
        let busy = scene.places.look(3, 1).unwrap_err();
        assert!(busy.contains("another order"), "{busy}");
        let attached = |disk, bytes| ControlReply::Attached { disk, bytes };
        assert_eq!(
            scene.turn(),
            [(1, attached(1, 8192)), (2, attached(2, 1 << 20))]
        );
        assert!(scene.turn().is_empty(), "once");
        assert_eq!(scene.places.look(4, 1), Ok(6));
        assert_eq!(scene.turn(), [(4, ControlReply::Resized { bytes: 8192 })]);

        assert_eq!(scene.places.detach(5, 1), Ok(6));
        let early = scene.places.attach(6, says(), given(&first));
        assert!(early.is_err(), "it is not out yet");
        assert_eq!(scene.turn(), [(5, ControlReply::Detached { disk: 1 })]);
        assert_eq!(scene.places.attach(6, says(), given(&first)), Ok(6));
        assert_eq!(scene.turn(), [(6, attached(1, 8192))]);
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_reason_and_the_place_stays_as_it_was() {
        let mut scene = Scene::new();
        let says = DiskAttach::default;
        let fixed = scene.places.detach(1, 0).unwrap_err();
        assert!(fixed.contains("stays"), "{fixed}");
        let unknown = scene.places.detach(1, 3).unwrap_err();
        assert!(unknown.contains("there are 3 disks"), "{unknown}");
        for files in [vec![], vec![file(512).into(), file(512).into()]] {
            let wrong = scene.places.attach(1, says(), files).unwrap_err();
            assert!(wrong.contains("one file"), "{wrong}");
        }
        let refused = |scene: &mut Scene, says, file: &File, why: &str| {
            assert_eq!(scene.places.attach(1, says, given(file)), Ok(6));
            match &scene.turn()[..] {
                [(1, ControlReply::Error { reason })] => assert!(reason.contains(why), "{reason}"),
                other => panic!("{other:?}"),
            }
        };
        let too_large = file((1 << 20) + 1);
        refused(&mut scene, says(), &too_large, "spare_disk_bytes");
        let grows = DiskAttach {
            grows_to: Some((1 << 20) + 1),
            ..says()
        };
        refused(&mut scene, grows, &file(512), "spare_disk_bytes");
        refused(&mut scene, says(), &file(511), "smaller than a sector");
        let (pipe, _other) = std::io::pipe().unwrap();
        let pipe = File::from(OwnedFd::from(pipe));
        refused(&mut scene, says(), &pipe, "neither a file");
        assert_eq!(scene.places.detach(1, 1), Ok(6));
        match &scene.turn()[..] {
            [(1, ControlReply::Error { reason })] => {
                assert!(reason.contains("no disk"), "{reason}")
            }
            other => panic!("{other:?}"),
        }
        // What was refused is nobody's: opened anew, it can be locked.
        let path = format!("/proc/self/fd/{}", too_large.as_raw_fd());
        File::open(path).unwrap().try_lock().unwrap();
    }
}

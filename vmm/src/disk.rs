// SPDX-License-Identifier: Apache-2.0
//! A disk's thread: it waits for its file as long as that takes, so that nobody else has to. It ends only with the process.

use std::io;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use seccompiler::BpfProgram;
use vmm_sys_util::eventfd::EventFd;

use crate::bus::Bus;
use crate::confine::seccomp;
use crate::lifecycle::Event;
use crate::poll::{Poll, Token};
use crate::rate;
use crate::virtio::{Engine, Turn};

/// Deep enough for every path below; a fault beyond it hits the guard page.
const STACK: usize = 128 * 1024;

/// A disk that has no thread yet.
pub(crate) struct Disk {
    /// The device's number.
    pub(crate) number: u16,
    pub(crate) engine: Engine,
    /// Becomes readable when the driver notifies the queue and when a vCPU has an order. Reading it waits.
    pub(crate) wake: EventFd,
}

impl Disk {
    /// Starts the thread. It waits at the barrier, confined, before the guest's first instruction.
    pub(crate) fn spawn(
        self,
        bus: Arc<Bus>,
        filter: BpfProgram,
        start: Arc<Barrier>,
    ) -> io::Result<thread::JoinHandle<()>> {
        let name = format!("disk{}", self.number);
        let poll = self.poll()?;
        thread::Builder::new()
            .name(name.clone())
            .stack_size(STACK)
            .spawn(move || {
                let confined = seccomp::apply(&filter);
                drop(filter);
                start.wait();
                let failed = match confined {
                    Ok(()) => {
                        let error = self.run(&poll);
                        format!("{name} cannot wait for its requests: {error}")
                    }
                    Err(e) => format!("{name} cannot be confined: {e}"),
                };
                bus.end(Event::VcpuFailed(failed));
                // The event loop ends the process.
                loop {
                    thread::park();
                }
            })
    }

    /// Says when it is woken, for waits that have an end.
    fn poll(&self) -> io::Result<Poll> {
        let poll = Poll::new()?;
        let device = self.number;
        poll.readable(&self.wake, Token::Order { device })?;
        Ok(poll)
    }

    /// Serves requests and orders; comes back only when it can no longer wait for them.
    fn run(mut self, poll: &Poll) -> io::Error {
        let (mut turn, mut tokens) = (Turn::Done, Vec::new());
        loop {
            if let Err(e) = self.wait(turn, poll, &mut tokens)
                && e.kind() != io::ErrorKind::Interrupted
            {
                return e;
            }
            let _ = self.engine.receive();
            if turn != Turn::More {
                self.engine.refresh();
            }
            turn = self.engine.notify(0);
        }
    }

    /// Waits as long as the last turn allows: what waits for the disk's rate does not keep an order waiting.
    fn wait(&self, turn: Turn, poll: &Poll, tokens: &mut Vec<Token>) -> io::Result<()> {
        match turn {
            Turn::More => return Ok(()),
            Turn::Done => {}
            Turn::At(at) => {
                let left = Duration::from_nanos(at.saturating_sub(rate::now()));
                poll.wait(Some(left), tokens)?;
                if tokens.is_empty() {
                    return Ok(()); // it is time
                }
            }
        }
        self.wake.read().map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use vm_memory::{Bytes, GuestAddress};

    use super::*;
    use crate::devices::block::{Backend, Block, Claim};
    use crate::memory::Memory;
    use crate::testing::{Driver, start, test_memory};
    use crate::virtio::{Parts, Wires, connect};

    /// A file whose flush takes as long as the test wants: as a worn card, or a network that is down.
    struct Slow {
        begun: Sender<()>,
        done: Receiver<()>,
    }

    impl Backend for Slow {
        fn read(&self, _: &Memory, _: Parts<'_>, _: u64) -> io::Result<()> {
            Ok(())
        }

        fn write(&self, _: &Memory, _: Parts<'_>, _: u64) -> io::Result<()> {
            Ok(())
        }

        fn discard(&self, _: u64, _: u64) -> io::Result<()> {
            Ok(())
        }

        fn zero(&self, _: u64, _: u64, _: bool) -> io::Result<()> {
            Ok(())
        }

        fn size(&self) -> io::Result<u64> {
            Ok(0)
        }

        fn claim(&self, _: bool) -> io::Result<Claim> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn release(&self) {}

        fn flush(&self) -> io::Result<()> {
            self.begun.send(()).map_err(io::Error::other)?;
            self.done.recv().map_err(io::Error::other)
        }
    }

    #[test]
    fn a_disk_that_waits_for_its_rate_obeys_meanwhile_and_hears_of_a_new_rate() {
        let memory = test_memory();
        let event = |flags| EventFd::new(flags).unwrap();
        let (wake, interrupt) = (event(0), event(0));
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 20).unwrap();
        let mut block = Block::new(file, 1 << 20, false, "slow");
        // After the burst, a day and a half for as much again.
        let rate = r#"{"bytes":{"per_second":1,"burst":131072}}"#;
        let rate = serde_json::from_str(rate).unwrap();
        block.limit(&rate);
        let knob = block.knob();
        let wires = Wires {
            interrupt: interrupt.try_clone().unwrap(),
            wake: wake.try_clone().unwrap(),
            acknowledged: event(libc::EFD_NONBLOCK),
        };
        let (window, engine) = connect(Box::new(block), memory.clone(), wires);
        let disk = Disk {
            number: 0,
            engine,
            wake: wake.try_clone().unwrap(),
        };
        let poll = disk.poll().unwrap();
        thread::spawn(move || disk.run(&poll));
        let set = |offset, value: u32| window.write(offset, &value.to_le_bytes());
        for new_rate in [false, true] {
            let mut driver = Driver::new(&memory, 8);
            start(0, &[&driver], set);
            // All zeros: a read from the first sector on.
            let read = [(0x8000, 16, false), (0x10000, 131_073, true)];
            driver.offer(&memory, &read);
            driver.offer(&memory, &read);
            wake.write(1).unwrap();
            // The burst is spent with the first one, and no other begins full.
            if !new_rate {
                interrupt.read().unwrap();
                assert_eq!(driver.collect(&memory), Some((0, 131_073)));
            }
            while window.counters().throttled == u64::from(new_rate) {
                thread::yield_now();
            }
            if new_rate {
                assert_eq!(driver.collect(&memory), None);
                knob.set(racklet_api::vmm::rate::DiskRate::default());
                window.wake();
                interrupt.read().unwrap();
                while driver.collect(&memory) != Some((2, 131_073)) {
                    thread::yield_now();
                }
            }
            set(0x70, 0);
        }
        assert_eq!(window.counters().throttled, 2);
    }

    #[test]
    fn while_a_disk_flushes_its_registers_answer_and_a_reset_waits_for_the_flush() {
        let memory = test_memory();
        let event = |flags| EventFd::new(flags).unwrap();
        let (wake, interrupt) = (event(0), event(0));
        let (begun, has_begun) = channel();
        let (finish, done) = channel();
        let (window, engine) = connect(
            Box::new(Block::new(Slow { begun, done }, 4096, false, "slow")),
            memory.clone(),
            Wires {
                interrupt: interrupt.try_clone().unwrap(),
                wake: wake.try_clone().unwrap(),
                acknowledged: event(libc::EFD_NONBLOCK),
            },
        );
        let disk = Disk {
            number: 0,
            engine,
            wake: wake.try_clone().unwrap(),
        };
        let poll = disk.poll().unwrap();
        thread::spawn(move || disk.run(&poll));
        let set = |offset, value: u32| window.write(offset, &value.to_le_bytes());
        let get = |offset| {
            let mut data = [0; 4];
            window.read(offset, &mut data);
            u32::from_le_bytes(data)
        };
        let mut driver = Driver::new(&memory, 8);
        let flush = 1 << 9;
        start(flush, &[&driver], set);
        // What cannot be is answered first, and its interrupt does not wait for the flush behind it.
        memory.write_obj(77_u32, GuestAddress(0x8000)).unwrap();
        memory.write_obj(4_u32, GuestAddress(0x8100)).unwrap();
        for header in [0x8000, 0x8100] {
            driver.offer(&memory, &[(header, 16, false), (0x9000, 1, true)]);
        }
        wake.write(1).unwrap();
        has_begun.recv().unwrap();
        interrupt.read().unwrap();
        assert_eq!((get(0x60), get(0x70)), (1, 15));
        set(0x64, 1);
        assert_eq!((get(0x60), get(0x44), get(0x100)), (0, 1, 8));
        assert_eq!(driver.collect(&memory), Some((0, 1)));
        assert_eq!(driver.collect(&memory), None, "the flush goes on");
        thread::scope(|scope| {
            let reset = scope.spawn(|| {
                set(0x70, 0);
                // The memory is the guest's again only when nothing is under way.
                assert_eq!(driver.collect(&memory), Some((2, 1)));
            });
            assert_eq!(get(0x70), 15, "not reset before the flush has ended");
            finish.send(()).unwrap();
            reset.join().unwrap();
        });
        assert_eq!((get(0x60), get(0x70)), (0, 0));
    }
}

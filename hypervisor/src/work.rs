// SPDX-License-Identifier: Apache-2.0
//! The workload thread: sleeps until a monitor ends, a new desired state arrives or a wait is over, then takes a turn.

use crate::console::{Once, say};
use crate::shared::{Shared, boot_millis};
use crate::workload::runner::Runner;
use racklet_api::hypervisor::Phase;
use racklet_rack::TrayDesired;
use racklet_tell::text::count;
use rustix::event::{EventfdFlags, PollFd, PollFlags};
use rustix::fd::{AsFd, OwnedFd};
use std::io;
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, mpsc};

/// What the workload thread is told.
pub(crate) enum Order {
    /// This is wanted from now on.
    Want {
        generation: u64,
        desired: Box<TrayDesired>,
    },
    /// Something that a start may have waited for has changed.
    Look,
    /// Stop everything, and say when it is done.
    Drain(SyncSender<()>),
}

/// The other end: orders that wake the thread.
#[derive(Clone)]
pub(crate) struct Orders {
    sender: mpsc::Sender<Order>,
    wake: Arc<OwnedFd>,
}

impl Orders {
    pub(crate) fn new() -> io::Result<(Self, Inbox)> {
        let wake = Arc::new(rustix::event::eventfd(
            0,
            EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK,
        )?);
        let (sender, receiver) = mpsc::channel();
        let inbox = Inbox {
            receiver,
            wake: Arc::clone(&wake),
        };
        Ok((Self { sender, wake }, inbox))
    }

    pub(crate) fn give(&self, order: Order) {
        // The thread only ends with the process.
        let _ = self.sender.send(order);
        let _ = rustix::io::write(&*self.wake, &1u64.to_ne_bytes());
    }
}

pub(crate) struct Inbox {
    receiver: Receiver<Order>,
    wake: Arc<OwnedFd>,
}

/// How often a booting guest's status is looked at, in milliseconds.
const BOOTING: u64 = 250;
/// How often everything is looked at in any case.
const IDLE: u64 = 10_000;

/// Runs until the process ends.
pub(crate) fn run(mut runner: Runner, inbox: &Inbox, shared: &Shared) -> ! {
    let trouble = Once::default();
    let mut generation = None;
    let mut drain: Option<SyncSender<()>> = None;
    loop {
        while let Ok(order) = inbox.receiver.try_recv() {
            match order {
                Order::Want {
                    generation: new,
                    desired,
                } => {
                    generation = Some(new);
                    // A drain that was to end in a restart did not.
                    drain = None;
                    runner.want(&desired);
                }
                Order::Look => {}
                Order::Drain(done) => {
                    runner.want_nothing();
                    drain = Some(done);
                }
            }
        }
        let now = boot_millis();
        let mut wake = match runner.turn(now) {
            Ok(wake) => {
                trouble.clear();
                wake
            }
            Err(error) => {
                trouble.say(&format!("workloads: {error}; trying again"));
                if let Err(error) = runner.recover(now) {
                    trouble.say(&format!("workloads: {error}; trying again"));
                }
                Some(now + 1000)
            }
        };
        let report = runner.report(now);
        if report.workloads.iter().any(|w| w.phase == Phase::Starting) {
            wake = Some(wake.map_or(now + BOOTING, |at| at.min(now + BOOTING)));
        }
        if report.workloads.is_empty()
            && let Some(done) = &drain
        {
            let _ = done.try_send(());
        }
        publish(shared, generation, report);
        let until = wake.unwrap_or(u64::MAX).min(now + IDLE);
        sleep(&runner, &inbox.wake, until.saturating_sub(now));
    }
}

fn publish(shared: &Shared, generation: Option<u64>, report: crate::workload::report::Report) {
    let mut view = shared.view();
    let before = view.converged;
    view.converged = if report.converged { generation } else { None };
    view.workloads = report.workloads;
    let (after, there) = (view.converged, view.workloads.len());
    drop(view);
    if let Some(generation) = after.filter(|_| before != after) {
        say(&format!(
            "converged at generation {generation}: {} as wanted",
            count(there as u64, "workload")
        ));
    }
}

fn sleep(runner: &Runner, wake: &OwnedFd, millis: u64) {
    let mut fds = vec![PollFd::new(wake, PollFlags::IN)];
    fds.extend(
        runner
            .watched()
            .map(|pidfd| PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN)),
    );
    let timeout = rustix::time::Timespec {
        tv_sec: i64::try_from(millis / 1000).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(millis % 1000).unwrap_or(0) * 1_000_000,
    };
    // An interrupted sleep is only a short one.
    let _ = rustix::event::poll(&mut fds, Some(&timeout));
    let mut count = [0u8; 8];
    let _ = rustix::io::read(wake, &mut count);
}

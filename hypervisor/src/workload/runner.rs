// SPDX-License-Identifier: Apache-2.0
//! Carries out the steps that [`super::decide`] names. One turn looks at everything once; nothing here waits.

use super::decide::{Seen, Step, Wanted, decide, streak};
use super::folder;
use super::monitor::{self, LaunchError, Monitor};
use super::record::{Ending, Plan, Process, Record, Records, State, free_index};
use crate::cgroup;
use crate::console::say;
use crate::images::Images;
use crate::network::{Attach, Link, Networks};
use crate::options::Options;
use racklet_api::vmm::{POWER_OFF_S, REPORT_S, VmState, VmStatus};
use racklet_rack::capacity::{is_there, without_room};
use racklet_rack::{Name, TrayDesired};
use racklet_tell::error::chain;
use racklet_trust::Digest;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

/// How long to wait after the host could not do something a start needs.
const HOLD: u64 = 2_000;
/// What a monitor gets beyond the grace before it is ended by force, in milliseconds: it ends a guest that neither reports nor
/// powers off by itself, and only that keeps the guest's exit code and last lines. The margin of 10 s is for a machine that is busy.
const FORCE_AFTER: u64 = (REPORT_S as u64 + POWER_OFF_S as u64 + 10) * 1000;

/// Something a start needs could not be had; try again then.
pub(crate) struct Hold {
    until: u64,
    pub(crate) message: String,
}

pub(crate) struct Runner {
    options: Options,
    rack: String,
    records: Records,
    networks: Box<dyn Networks>,
    images: Arc<Images>,
    pub(super) known: BTreeMap<Name, Record>,
    monitors: BTreeMap<Name, Monitor>,
    /// `None` until the first desired state arrives: then nothing is stopped, whatever runs.
    pub(super) desired: Option<BTreeMap<Name, Plan>>,
    pub(super) holds: BTreeMap<Name, Hold>,
    /// What finds no room in this tray's memory, and why.
    no_room: BTreeMap<Name, String>,
    /// Whose confinement was looked at, once a run.
    looked_at: BTreeSet<Name>,
}

impl Runner {
    /// Takes over whatever runs already.
    pub(crate) fn open(
        options: Options,
        rack: String,
        networks: Box<dyn Networks>,
        images: Arc<Images>,
        now: u64,
    ) -> io::Result<Self> {
        let records = Records::open(&options.records())?;
        let (known, faults) = records.load()?;
        for fault in faults {
            say(&format!("ignoring a record that cannot be read: {fault}"));
        }
        let mut runner = Self {
            options,
            rack,
            records,
            networks,
            images,
            known,
            monitors: BTreeMap::new(),
            desired: None,
            holds: BTreeMap::new(),
            no_room: BTreeMap::new(),
            looked_at: BTreeSet::new(),
        };
        runner.adopt(now)?;
        Ok(runner)
    }

    /// A new desired state for this tray.
    pub(crate) fn want(&mut self, desired: &TrayDesired) {
        let plans = desired.workloads.iter().map(|(name, workload)| {
            let network = workload
                .network
                .as_ref()
                .and_then(|a| desired.networks.get(&a.name));
            let plan = Plan {
                workload: workload.clone(),
                network: network.cloned(),
            };
            (name.clone(), plan)
        });
        self.desired = Some(plans.collect());
        self.holds.clear();
        self.no_room = crate::memory::of_tray().map_or_else(BTreeMap::new, |memory| {
            if let Some(stated) = desired.memory.filter(|it| !is_there(*it, memory.total)) {
                say(&format!(
                    "trays/{}.yaml says memory: {stated}, but this tray has {} MiB; write what it has",
                    desired.tray,
                    memory.total >> 20
                ));
            }
            let needs = desired.workloads.iter().map(|(name, it)| (name, it.memory));
            without_room(memory.total, desired.overcommit, needs)
        });
        for (name, why) in &self.no_room {
            say(&format!("{name}: not started: {why}"));
        }
        self.tidy_networks();
    }

    /// Nothing is wanted any more: everything stops.
    pub(crate) fn want_nothing(&mut self) {
        self.desired = Some(BTreeMap::new());
        self.holds.clear();
    }

    /// After a turn that could not finish: what is the case is found out anew.
    pub(crate) fn recover(&mut self, now: u64) -> io::Result<()> {
        self.adopt(now)
    }

    fn adopt(&mut self, now: u64) -> io::Result<()> {
        let names: Vec<Name> = self.known.keys().cloned().collect();
        for name in names {
            let Some(mut record) = self.known.get(&name).cloned() else {
                continue;
            };
            if record.state == State::Launching {
                record.state = match monitor::find(&self.options.vm(name.as_str())) {
                    // Of this start or of an earlier one, whose description it would run and whose status and socket this start has
                    // removed: nobody can tell.
                    Some(process) => {
                        say(&format!("{name}: {UNKNOWN} is ended first"));
                        State::Killing { process }
                    }
                    None => ended(
                        now,
                        Ending::Failure,
                        None,
                        "the hypervisor ended while it was starting this",
                    ),
                };
                self.keep(&name, record.clone())?;
            }
            let Some(process) = record.process() else {
                continue;
            };
            match Monitor::attach(process) {
                Some(monitor) => {
                    say(&format!("{name}: still running as process {}", process.pid));
                    self.monitors.insert(name.clone(), monitor);
                    // Whoever noted an order may have ended before it was given; a guest takes it twice.
                    match record.state {
                        State::Stopping { .. } => {
                            self.order_stop(&name, process, record.plan.workload.grace_seconds);
                        }
                        State::Killing { .. } => self.kill(&name)?,
                        _ => {}
                    }
                }
                None => self.finish(&name, now)?,
            }
        }
        Ok(())
    }

    /// Looks at everything once; returns when to look again if nothing happens before.
    pub(crate) fn turn(&mut self, now: u64) -> io::Result<Option<u64>> {
        let gone: Vec<Name> = self
            .monitors
            .iter()
            .filter(|(_, monitor)| monitor.ended())
            .map(|(name, _)| name.clone())
            .collect();
        for name in gone {
            self.monitors.remove(&name);
            self.looked_at.remove(&name);
            self.finish(&name, now)?;
        }
        self.look_at_confinement();
        let mut names: BTreeSet<Name> = self.known.keys().cloned().collect();
        names.extend(self.desired.iter().flat_map(|d| d.keys().cloned()));
        if self.desired.is_none() {
            return Ok(None);
        }
        let mut wake: Option<u64> = None;
        for name in names {
            // Each step leads to another situation; few situations lead to a step at once.
            for _ in 0..4 {
                let (wanted, seen) = self.look(&name, now);
                let step = decide(wanted.as_ref(), seen.as_ref(), now);
                match step {
                    Step::Rest => {
                        if let Some(hold) = self.holds.get(&name) {
                            wake = earliest(wake, hold.until);
                        }
                        break;
                    }
                    Step::Wait(until) => {
                        wake = earliest(wake, until);
                        break;
                    }
                    Step::StartWanted | Step::StartAgain if self.holds.contains_key(&name) => {
                        wake = self
                            .holds
                            .get(&name)
                            .map_or(wake, |hold| earliest(wake, hold.until));
                        break;
                    }
                    step => self.act(&name, step, now)?,
                }
            }
        }
        Ok(wake)
    }

    /// Descriptors that become readable when something ends.
    pub(crate) fn watched(&self) -> impl Iterator<Item = &rustix::fd::OwnedFd> {
        self.monitors.values().map(Monitor::pidfd)
    }

    fn look(&mut self, name: &Name, now: u64) -> (Option<Wanted<Digest>>, Option<Seen<Digest>>) {
        if self.holds.get(name).is_some_and(|hold| hold.until <= now) {
            self.holds.remove(name);
        }
        let wanted = self
            .desired
            .as_ref()
            .and_then(|d| d.get(name))
            .map(|plan| Wanted {
                spec: plan.spec(),
                rules: plan.rules(),
                ready: !self.holds.contains_key(name)
                    && !self.no_room.contains_key(name)
                    && self.images.find(&plan.workload.rootfs.manifest).is_ok(),
            });
        (wanted, self.known.get(name).map(Record::seen))
    }

    /// What a wanted workload waits for, if anything.
    pub(super) fn missing(&self, name: &Name, plan: &Plan) -> Option<String> {
        if let Some(why) = self.no_room.get(name) {
            return Some(why.clone());
        }
        match self.images.find(&plan.workload.rootfs.manifest) {
            Err(message) => Some(message),
            Ok(_) => self.holds.get(name).map(|hold| hold.message.clone()),
        }
    }

    fn act(&mut self, name: &Name, step: Step, now: u64) -> io::Result<()> {
        match step {
            Step::StartWanted => {
                let plan = self.desired.as_ref().and_then(|d| d.get(name)).cloned();
                plan.map_or(Ok(()), |plan| self.start(name, plan, now))
            }
            Step::StartAgain => {
                let plan = self.known.get(name).map(|record| record.plan.clone());
                plan.map_or(Ok(()), |plan| self.start(name, plan, now))
            }
            Step::Stop => self.stop(name, now),
            Step::Kill => self.kill(name),
            Step::Forget => self.forget(name),
            Step::Rest | Step::Wait(_) => Ok(()),
        }
    }

    fn start(&mut self, name: &Name, plan: Plan, now: u64) -> io::Result<()> {
        let index = match self.known.get(name) {
            Some(record) => record.index,
            None => free_index(self.known.values()),
        };
        let prepared = self.prepare(name, index, &plan);
        if let Err(message) = prepared {
            say(&format!(
                "{name}: cannot start: {message}; next try in {} s",
                HOLD / 1000
            ));
            let until = now + HOLD;
            self.holds.insert(name.clone(), Hold { until, message });
            return Ok(());
        }
        let before = self
            .known
            .get(name)
            .filter(|record| record.plan.spec() == plan.spec());
        let by_itself = before
            .is_some_and(|r| matches!(r.state, State::Ended { how, .. } if how != Ending::Ordered));
        let mut record = Record {
            v: 1,
            index,
            streak: before.map_or(0, |record| record.streak),
            restarts: before.map_or(0, |record| record.restarts + u64::from(by_itself)),
            plan,
            started: now,
            state: State::Launching,
        };
        self.keep(name, record.clone())?;
        let folder = self.options.vm(name.as_str());
        let launched = monitor::start(&self.options.vmm, &folder, &self.records.lock(name));
        record.state = match launched {
            Ok(process) => {
                say(&format!("{name}: started as process {}", process.pid));
                State::Running { process }
            }
            Err(LaunchError::Held) => {
                // Started by a hypervisor that was killed before it could note so, and perhaps with another description.
                say(&format!("{name}: {UNKNOWN} is ended first"));
                match monitor::find(&folder) {
                    Some(process) => State::Killing { process },
                    None => ended(now, Ending::Ordered, None, format!("{UNKNOWN} was there")),
                }
            }
            Err(error) => {
                let message = chain(&error);
                say(&format!("{name}: not started: {message}"));
                record.streak = record.streak.saturating_add(1);
                ended(now, Ending::Refused, None, message)
            }
        };
        self.keep(name, record.clone())?;
        match record.state {
            State::Running { process } => self.watch(name, process, now),
            State::Killing { process } => {
                self.watch(name, process, now)?;
                self.kill(name)
            }
            _ => Ok(()),
        }
    }

    fn watch(&mut self, name: &Name, process: Process, now: u64) -> io::Result<()> {
        match Monitor::attach(process) {
            Some(monitor) => {
                self.monitors.insert(name.clone(), monitor);
                Ok(())
            }
            None => self.finish(name, now),
        }
    }

    /// Everything the monitor needs; the message says what could not be had.
    fn prepare(&mut self, name: &Name, index: u32, plan: &Plan) -> Result<(), String> {
        let rootfs = self.images.find(&plan.workload.rootfs.manifest)?;
        let cgroup = match &self.options.cgroup {
            None => None,
            Some(parent) => Some(
                cgroup::prepare(parent, name.as_str(), &plan.workload)
                    .map_err(|error| format!("make its cgroup: {error}"))?,
            ),
        };
        let link = self.link(name, index, plan)?;
        folder::prepare(
            &self.options,
            name,
            index,
            plan,
            folder::root_disk(rootfs.path(), rootfs.sealed()),
            link.as_ref(),
            cgroup,
        )
        .map_err(|error| chain(&error))
    }

    fn link(&mut self, name: &Name, index: u32, plan: &Plan) -> Result<Option<Link>, String> {
        // What it had before is given up first: two workloads may be exchanging their addresses.
        let before = self
            .known
            .get(name)
            .and_then(|record| record.plan.workload.network.as_ref());
        if before.is_some() && before != plan.workload.network.as_ref() {
            self.networks.detach(name)?;
        }
        let (Some(attachment), Some(network)) = (&plan.workload.network, &plan.network) else {
            return Ok(None);
        };
        let v4 = attachment.address.map(IpAddr::V4);
        let attach = Attach {
            workload: name,
            name: &attachment.name,
            network,
            mac: folder::mac(&self.rack, name),
            addresses: v4
                .into_iter()
                .chain(attachment.address6.map(IpAddr::V6))
                .collect(),
            uid: folder::uid(index),
        };
        self.networks.attach(&attach).map(Some)
    }

    fn stop(&mut self, name: &Name, now: u64) -> io::Result<()> {
        let Some(mut record) = self.known.get(name).cloned() else {
            return Ok(());
        };
        let Some(process) = record.process() else {
            return Ok(());
        };
        let grace = record.plan.workload.grace_seconds;
        say(&format!("{name}: asked to stop within {grace} s"));
        let force_at = now + u64::from(grace) * 1000 + FORCE_AFTER;
        record.state = State::Stopping { process, force_at };
        self.keep(name, record)?;
        self.order_stop(name, process, grace);
        Ok(())
    }

    /// Gives the order from a thread of its own: a monitor that is slow to listen holds up no other one.
    fn order_stop(&self, name: &Name, process: Process, grace_s: u32) {
        let folder = self.options.vm(name.as_str());
        let thread = std::thread::Builder::new().name(format!("stop {name}"));
        if let Err(error) = thread.spawn(move || monitor::stop(&folder, process, grace_s)) {
            // Without memory for a thread: force comes when the grace is over.
            say(&format!("{name}: cannot be asked to stop: {error}"));
        }
    }

    fn kill(&mut self, name: &Name) -> io::Result<()> {
        let Some(mut record) = self.known.get(name).cloned() else {
            return Ok(());
        };
        let Some(process) = record.process() else {
            return Ok(());
        };
        record.state = State::Killing { process };
        self.keep(name, record)?;
        if let Some(monitor) = self.monitors.get(name) {
            say(&format!("{name}: ended by force"));
            monitor.kill();
        }
        Ok(())
    }

    /// Its monitor is gone: note how.
    fn finish(&mut self, name: &Name, now: u64) -> io::Result<()> {
        let Some(mut record) = self.known.get(name).cloned() else {
            return Ok(());
        };
        let ordered = matches!(record.state, State::Stopping { .. } | State::Killing { .. });
        let (how, exit_code, message) = folder::ending(&self.options.vm(name.as_str()));
        let how = if ordered { Ending::Ordered } else { how };
        record.streak = match how {
            Ending::Ordered => 0,
            _ => streak(
                record.streak,
                now.saturating_sub(record.started),
                record.plan.workload.backoff,
            ),
        };
        say(&format!("{name}: ended: {message}"));
        // A monitor may have refused to start since the image is another one by now.
        let doubtful = matches!(how, Ending::Failure | Ending::Refused);
        if doubtful && self.images.suspect(&record.plan.workload.rootfs.manifest) {
            say(&format!(
                "{name}: its image is read through before it starts again"
            ));
        }
        record.state = ended(now, how, exit_code, message);
        self.keep(name, record)
    }

    fn forget(&mut self, name: &Name) -> io::Result<()> {
        if let Err(error) = self.networks.detach(name) {
            say(&format!("{name}: its tap stays for now: {error}"));
        }
        if let Some(parent) = &self.options.cgroup
            && let Err(error) = cgroup::remove(parent, name.as_str())
        {
            say(&format!("{name}: its cgroup stays for now: {error}"));
        }
        match std::fs::remove_dir_all(self.options.vm(name.as_str())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.records.forget(name)?;
        self.known.remove(name);
        say(&format!("{name}: removed"));
        self.tidy_networks();
        Ok(())
    }

    /// Removes networks that no workload is or will be in.
    fn tidy_networks(&mut self) {
        let used: BTreeSet<&Name> = self
            .known
            .values()
            .map(|record| &record.plan)
            .chain(self.desired.iter().flat_map(BTreeMap::values))
            .filter_map(|plan| plan.workload.network.as_ref().map(|a| &a.name))
            .collect();
        let used: Vec<&Name> = used.into_iter().collect();
        if let Err(error) = self.networks.retain(&used) {
            say(&format!("unused networks stay for now: {error}"));
        }
    }

    fn keep(&mut self, name: &Name, record: Record) -> io::Result<()> {
        self.records.save(name, &record)?;
        self.known.insert(name.clone(), record);
        Ok(())
    }

    /// Says once a run what a monitor lacks of its confinement.
    fn look_at_confinement(&mut self) {
        for name in self.monitors.keys() {
            if self.looked_at.contains(name) {
                continue;
            }
            let status = self.status(name);
            // Before that nothing of a guest runs, and nothing is confined.
            let Some(status) = status.filter(|status| status.state != VmState::Starting) else {
                continue;
            };
            for what in &status.lacks {
                say(&format!("{name}: runs with less confinement: {what}"));
            }
            self.looked_at.insert(name.clone());
        }
    }

    /// What the monitor of `name` said last.
    pub(super) fn status(&self, name: &Name) -> Option<VmStatus> {
        folder::status(&self.options.vm(name.as_str()))
    }
}

/// A monitor whose start no record tells: the hypervisor that started it was killed before it could note so.
const UNKNOWN: &str = "a monitor that nobody knew of";

fn ended(at: u64, how: Ending, exit_code: Option<i32>, message: impl Into<String>) -> State {
    State::Ended {
        at,
        how,
        exit_code,
        message: message.into(),
    }
}

fn earliest(wake: Option<u64>, candidate: u64) -> Option<u64> {
    Some(wake.map_or(candidate, |wake| wake.min(candidate)))
}

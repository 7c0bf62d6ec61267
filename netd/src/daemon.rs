// SPDX-License-Identifier: Apache-2.0
//! Answers requests and looks after the uplink; one thread, one loop.

use racklet_tell::error::chain;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use racklet_api::init;
use racklet_api::netd::{Attached, Bridge, Link, Op, Port, Request, Response, Status};
use racklet_line::{Server, Unreadable};
use racklet_linux::clock;
use racklet_uplink::{Uplink, UplinkError, What};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::apply::{ApplyError, Kernel};
use crate::found::Found;
use crate::model::{Desired, Refused};
use crate::names;
use crate::{lease, say};

/// Something is looked at anew at least this often.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// How long init may take to answer. It only notes what it is told; longer, and it is on its way down.
const INIT_ANSWERS: Duration = Duration::from_secs(1);
/// When init did not listen.
const TELL_AGAIN: Duration = Duration::from_secs(2);
/// What a monitor's configuration accepts.
const MTUS: std::ops::RangeInclusive<u32> = 1280..=9000;

/// Everything netd has.
pub(crate) struct Daemon {
    pub(crate) uplink: Uplink,
    pub(crate) found: Found,
    pub(crate) kernel: Kernel,
    pub(crate) desired: Desired,
    pub(crate) lease_file: PathBuf,
    pub(crate) init_socket: PathBuf,
    /// What init was told last.
    pub(crate) told: Option<(bool, String)>,
}

impl Daemon {
    /// Works until the kernel cannot be talked to any more.
    pub(crate) fn run(&mut self, server: &mut Server) -> Result<(), UplinkError> {
        loop {
            let now = clock::since_boot();
            let mut changed = false;
            for event in self.uplink.handle(now)? {
                changed |= matches!(event.what, What::Lease { .. } | What::LeaseLost(_));
                say(&event.to_string());
            }
            if changed {
                let lease = self.uplink.lease(now);
                if let Err(error) = lease::save(&self.lease_file, lease, now) {
                    say(&format!(
                        "the lease cannot be saved: {error}; a restart will ask DHCP"
                    ));
                }
            }
            self.found.work(&self.uplink, now);
            server.serve(|request| self.asked(request));
            let at_most = if self.report() {
                LONGEST_WAIT
            } else {
                TELL_AGAIN
            };
            wait(&self.uplink, &self.found, server, at_most).map_err(UplinkError::Wait)?;
        }
    }

    fn asked(&mut self, request: Result<Request, Unreadable>) -> Response {
        match request {
            Ok(request) => self.answer(request.op),
            Err(error) => Response::refused(error),
        }
    }

    pub(crate) fn answer(&mut self, op: Op) -> Response {
        match op {
            Op::Status => Response {
                status: Some(Box::new(self.status())),
                ..Response::done()
            },
            Op::Attach { network, port } => self.attach(&network, &port),
            Op::Detach { workload } => self.edit(|desired| desired.detach(&workload)),
            Op::Retain { networks } => self.edit(|desired| desired.retain(&networks)),
        }
    }

    fn attach(&mut self, network: &Bridge, port: &Port) -> Response {
        let uplink = self.uplink.addresses();
        let mut workload = None;
        let response = self.edit(|desired| {
            workload = Some(desired.attach(network, port, &uplink)?);
            Ok(())
        });
        let Some(workload) = workload.filter(|_| response.ok) else {
            return response;
        };
        let reaches = |server: &IpAddr| {
            let mut gateways = network.gateways.iter();
            network.nat && gateways.any(|gateway| gateway.address.is_ipv4() == server.is_ipv4())
        };
        let servers = self.uplink.dns_servers().into_iter();
        Response {
            attached: Some(Attached {
                tap: names::tap(&workload),
                mtu: self.mtu(),
                // One that is of use on the tray's own link only is of none to a workload.
                dns: servers
                    .filter(|(server, scope)| scope.is_none() && reaches(server))
                    .map(|(server, _)| server)
                    .collect(),
            }),
            ..Response::done()
        }
    }

    /// Changes what is desired and the kernel with it; on failure both stay as they were.
    fn edit(&mut self, change: impl FnOnce(&mut Desired) -> Result<(), Refused>) -> Response {
        let mut desired = self.desired.clone();
        if let Err(refused) = change(&mut desired) {
            return Response::refused(refused);
        }
        let mtu = self.mtu();
        match self.kernel.apply(&desired, mtu) {
            Ok(actions) => {
                if !actions.is_empty() {
                    say(&format!(
                        "{} networks, {} taps ({} changes)",
                        desired.networks.len(),
                        desired.taps.len(),
                        actions.len()
                    ));
                }
                self.desired = desired;
                self.protect();
                Response::done()
            }
            Err(error) => {
                let reason = chain(&error);
                if let Err(again) = self.restore() {
                    say(&format!(
                        "going back failed: {}; trying with the next request",
                        chain(&again)
                    ));
                }
                Response::refused(reason)
            }
        }
    }

    /// Keeps DHCP from giving the tray what its own guests have.
    fn protect(&mut self) {
        let v4 = self.desired.in_use().filter_map(|address| match address {
            IpAddr::V4(v4) => Some(v4),
            IpAddr::V6(_) => None,
        });
        self.uplink.set_taken(v4.collect());
    }

    /// Puts the kernel into the state that was last accepted.
    pub(crate) fn restore(&mut self) -> Result<(), ApplyError> {
        let mtu = self.mtu();
        self.protect();
        self.kernel.apply(&self.desired, mtu).map(drop)
    }

    /// The smallest MTU of a way out, within what a monitor takes.
    fn mtu(&self) -> u16 {
        let cards = self
            .uplink
            .cards()
            .into_iter()
            .filter(|(_, online)| *online);
        let mtu = cards.map(|(link, _)| link.mtu).min().unwrap_or(1500);
        u16::try_from(mtu.clamp(*MTUS.start(), *MTUS.end())).unwrap_or(1500)
    }

    fn status(&self) -> Status {
        let cards = self.uplink.cards().into_iter().map(|(link, _)| {
            let found = Link {
                up: link.carrier,
                network: None,
                addresses: self.uplink.addresses_of(link.index),
            };
            (link.name.clone(), found)
        });
        let bridges = self.desired.networks.iter().map(|(name, network)| {
            let found = Link {
                up: true,
                network: Some(name.to_string()),
                addresses: network.gateways.clone(),
            };
            (names::bridge(name), found)
        });
        let lease = self.uplink.lease(clock::since_boot());
        Status {
            links: cards.chain(bridges).collect(),
            gateways: lease.map_or_else(Vec::new, |lease| lease.gateways),
            dns: self
                .uplink
                .dns_servers()
                .into_iter()
                .map(|(dns, _)| dns)
                .collect(),
            taps: self
                .desired
                .taps
                .keys()
                .map(|workload| (workload.to_string(), names::tap(workload)))
                .collect(),
        }
    }

    /// Tells init how things are, when that changed; false when it has to be tried again.
    ///
    /// Healthy means that netd does its job, not that somebody else does: a tray whose cable or DHCP server is out goes on
    /// running its workloads. Without any card, though, this system cannot work here, and init may try the other slot.
    fn report(&mut self) -> bool {
        let cards = self.uplink.cards();
        let message = match self.uplink.lease(clock::since_boot()) {
            Some(lease) => {
                let addresses: Vec<String> =
                    lease.addresses.iter().map(ToString::to_string).collect();
                format!("{} {}", lease.interface, addresses.join(" "))
            }
            None if cards.is_empty() => "no network card; does the kernel have its driver?".into(),
            None if cards.iter().any(|(link, _)| link.carrier) => {
                "no address yet; asking DHCP and routers".into()
            }
            None => "no carrier; is the cable plugged in at both ends?".to_owned(),
        };
        let news = (!cards.is_empty(), message);
        if self.told.as_ref() != Some(&news) && tell(&self.init_socket, &news) {
            self.told = Some(news);
            return true;
        }
        self.told.as_ref() == Some(&news)
    }
}

/// Whether init heard it.
fn tell(socket: &Path, (healthy, message): &(bool, String)) -> bool {
    let request = init::Request::new(init::Op::Health {
        service: "netd".into(),
        healthy: *healthy,
        message: message.clone(),
    });
    racklet_line::ask::<init::Response>(socket, &request, INIT_ANSWERS)
        .is_ok_and(|response| response.ok)
}

fn wait(uplink: &Uplink, found: &Found, server: &Server, at_most: Duration) -> std::io::Result<()> {
    let now = clock::since_boot();
    let wake = uplink
        .next_wake()
        .map_or(at_most, |wake| wake.saturating_sub(now));
    let timeout = Timespec::try_from(wake.min(at_most)).map_err(std::io::Error::other)?;
    let descriptors: Vec<_> = uplink
        .descriptors()
        .into_iter()
        .chain(server.descriptors())
        .chain(found.descriptors())
        .collect();
    let mut fds: Vec<PollFd<'_>> = descriptors
        .iter()
        .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN))
        .collect();
    match poll(&mut fds, Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

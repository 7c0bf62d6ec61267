// SPDX-License-Identifier: Apache-2.0
//! The network, as far as the bootstrap needs it: waiting for it with a reason when it does not come, and serving leases
//! between tries. The work is done by [`racklet_uplink`], as in the network daemon later.

use std::time::Duration;

use racklet_api::handoff::Lease;
use racklet_api::tray::TrayConfig;
use racklet_linux::clock;
use racklet_linux::netlink::NetlinkError;
use racklet_linux::rtnl::Rtnl;
use racklet_uplink::{Settings, Uplink, UplinkError, What};

use super::NETWORK;

/// IPv4 is waited for so long when IPv6 is there already.
const PREFER_V4: Duration = Duration::from_secs(4);

/// Why there is no network (yet).
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetworkError {
    #[error(transparent)]
    Uplink(#[from] UplinkError),
    #[error("no Ethernet interface; does the kernel have its driver?")]
    NoInterface,
    #[error("this tray's configuration names interface {0}, which is not there")]
    NoSuchInterface(String),
    #[error("no carrier on {0}: is the cable plugged in at both ends?")]
    NoCarrier(String),
    #[error("no address from DHCP or a router on {0} within {1} s")]
    NoAddress(String, u64),
}

/// The tray's cards.
pub(crate) struct Network {
    uplink: Uplink,
    wanted: Option<String>,
    fixed: bool,
    told: String,
}

impl Network {
    /// Begins to listen; the cards are switched on with the first wait.
    pub(crate) fn open(tray: &TrayConfig) -> Result<Self, NetworkError> {
        let uplink = Uplink::open(Settings {
            network: tray.network.clone(),
            host_name: Some(tray.tray.clone()),
            resolv_conf: "/etc/resolv.conf".into(),
            resume: None,
            ignore: Vec::new(),
        })?;
        let wanted = tray.network.interface.clone();
        Ok(Self {
            uplink,
            wanted,
            fixed: !tray.network.addresses.is_empty(),
            told: String::new(),
        })
    }

    /// Waits until there is an address, at most until `deadline` on the clock since boot. `tick` runs every second.
    pub(crate) fn wait(
        &mut self,
        deadline: Duration,
        tick: &mut dyn FnMut(),
    ) -> Result<(), NetworkError> {
        let began = clock::since_boot();
        loop {
            let now = clock::since_boot();
            self.serve(now)?;
            let lease = self.uplink.lease(now);
            let late = now.saturating_sub(began) >= PREFER_V4;
            if lease
                .as_ref()
                .is_some_and(|lease| self.fixed || lease.dhcp4.is_some() || late)
            {
                self.tell(lease.as_ref());
                return Ok(());
            }
            if now >= deadline {
                return Err(self.what_is_missing(deadline.saturating_sub(began)));
            }
            self.uplink
                .wait(now, (deadline - now).min(Duration::from_secs(1)))?;
            tick();
        }
    }

    /// Serves leases and news until `until`: also how to wait between tries.
    pub(crate) fn pump(
        &mut self,
        until: Duration,
        tick: &mut dyn FnMut(),
    ) -> Result<(), NetworkError> {
        loop {
            let now = clock::since_boot();
            self.serve(now)?;
            if now >= until {
                return Ok(());
            }
            self.uplink
                .wait(now, (until - now).min(Duration::from_secs(1)))?;
            tick();
        }
    }

    fn serve(&mut self, now: Duration) -> Result<(), NetworkError> {
        for event in self.uplink.handle(now)? {
            if matches!(event.what, What::Trouble(_) | What::LeaseLost(_)) {
                NETWORK.failed(event, "go on");
            }
        }
        Ok(())
    }

    /// One line, when it says something new.
    fn tell(&mut self, lease: Option<&Lease>) {
        let text = lease.map_or_else(String::new, describe);
        if text != self.told {
            NETWORK.say(&text);
            self.told = text;
        }
    }

    fn what_is_missing(&self, waited: Duration) -> NetworkError {
        let cards = self.uplink.cards();
        let names = || {
            cards
                .iter()
                .map(|(link, _)| link.name.as_str())
                .collect::<Vec<_>>()
                .join(", ")
        };
        match &self.wanted {
            Some(name) if cards.is_empty() => NetworkError::NoSuchInterface(name.clone()),
            None if cards.is_empty() => NetworkError::NoInterface,
            _ if cards.iter().all(|(link, _)| !link.carrier) => NetworkError::NoCarrier(names()),
            _ => NetworkError::NoAddress(names(), waited.as_secs()),
        }
    }

    /// Time servers that DHCP named.
    pub(crate) fn time_servers(&self) -> Vec<String> {
        self.uplink
            .ntp_servers()
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    /// Switches the cards off: none of them may write to memory that another kernel is about to have, and not every driver stops its card
    /// at a kexec (dwc2, the USB controller of Raspberry Pis, switches off its interrupts alone).
    pub(crate) fn switch_off(self) -> Result<(), NetlinkError> {
        let mut kernel = Rtnl::open()?;
        for (link, _) in self.uplink.cards() {
            kernel.set_up(link.index, false)?;
        }
        Ok(())
    }

    /// What to tell the next stage.
    pub(crate) fn lease(&self) -> Option<Lease> {
        self.uplink.lease(clock::since_boot())
    }
}

fn describe(lease: &Lease) -> String {
    let list = |items: Vec<String>| items.join(" ");
    let addresses = list(lease.addresses.iter().map(ToString::to_string).collect());
    let mut text = format!("{} up, {addresses}", lease.interface);
    if let Some(dhcp) = &lease.dhcp4 {
        text.push_str(&format!(" by DHCP from {}", dhcp.server));
    }
    if !lease.gateways.is_empty() {
        let gateways = list(lease.gateways.iter().map(ToString::to_string).collect());
        text.push_str(&format!(", gateway {gateways}"));
    }
    if lease.dns.is_empty() {
        text.push_str(", no DNS");
    } else {
        let dns = list(lease.dns.iter().map(ToString::to_string).collect());
        text.push_str(&format!(", DNS {dns}"));
    }
    text
}

/// Different on every tray and boot, so that a rack does not ask in step. Not a secret.
pub(crate) fn seed() -> u64 {
    let mut bytes = [0_u8; 8];
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::INSECURE) {
        Ok(8) => u64::from_ne_bytes(bytes),
        _ => u64::from(clock::since_boot().subsec_nanos()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_network_is_told_in_one_line() {
        let lease: Lease = serde_json::from_str(
            r#"{"interface":"eth0","addresses":["10.0.2.15/24","fd00::5/64"],"gateways":["10.0.2.2"],"dns":[]}"#,
        )
        .expect("parses");
        assert_eq!(
            describe(&lease),
            "eth0 up, 10.0.2.15/24 fd00::5/64, gateway 10.0.2.2, no DNS"
        );
    }
}

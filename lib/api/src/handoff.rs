// SPDX-License-Identifier: Apache-2.0
//! What each stage of the boot tells the next: the bootloader the bootstrap ([`BootInfo`]), the bootstrap the hypervisor
//! OS ([`Handoff`]). Both travel inside verified memory, behind the initramfs.

use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use crate::{V1, tray::Cidr};

/// `/racklet/boot.json`, written by the bootloader.
// untrusted: handoff
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BootInfo {
    /// The slot that was started.
    pub slot: Slot,
    /// How many times it has been tried without success, this boot included.
    pub tries: u8,
    /// The version of the manifest that was verified: what the slot is reported good with.
    pub version: u64,
}

/// `/racklet/slot.json`, part of a slot that firmware starts without a bootloader of ours, and of no release.
// untrusted: handoff
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlotName {
    /// The slot that it lies in.
    pub slot: Slot,
}

/// A bootstrap slot: a folder on the ESP, or a partition of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Slot {
    /// `racklet/a`.
    A,
    /// `racklet/b`.
    B,
}

impl std::fmt::Display for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::A => "a",
            Self::B => "b",
        })
    }
}

/// `/racklet/card.json`: what the stage before knows about the disk. The bootloader writes it, and the bootstrap for the
/// hypervisor OS; either may be older than this file or know more than this version, so fields may be missing or new.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Card {
    /// Format version: 1.
    pub v: u32,
    /// What Linux calls the partition that comes first (`PARTUUID`): a GUID, or an MBR's signature and a number. No disk but the one that
    /// has it is this tray's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_partition: Option<String>,
    /// Floors were kept, and the bootstrap could read no copy of them.
    pub floors_lost: bool,
}

/// `/racklet/handoff.json`, written by the bootstrap.
// untrusted: handoff
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Handoff {
    /// Format version.
    pub v: V1,
    /// The accepted head, unless nothing was ever accepted.
    pub head: Option<Head>,
    /// Version of the trust root that travels beside this file.
    pub trust_root: u64,
    /// Newest signed time seen, Unix seconds: the clock is never before it.
    pub time_floor: u64,
    /// The time at kexec and who said so.
    pub time: TimeReport,
    /// The slot that started the bootstrap; absent when it was started from none, as over the network.
    pub boot: Option<BootInfo>,
    /// What was started.
    pub payload: PayloadReport,
    /// The network as the bootstrap left it, so that the next stage can begin where it ended.
    pub lease: Option<Lease>,
    /// Whether `/state` is on a disk that takes writes; when false nothing of this boot survives a reboot. How it is now,
    /// [`crate::init::StateStatus`] says.
    pub persistent: bool,
}

/// A commit of the rack repository and its place in the history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Head {
    /// The commit's object name, hex.
    pub commit: String,
    /// Accepted commits up to and including this one.
    pub generation: u64,
}

/// The clock as the bootstrap left it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TimeReport {
    /// Unix seconds.
    pub unix: u64,
    /// Where it came from.
    pub source: TimeSource,
}

/// What the clock was set from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TimeSource {
    /// A time server answered.
    Sntp,
    /// The real-time clock, which was not before the floor.
    Rtc,
    /// The floor, or the time that the card kept: the real-time clock was behind it or absent.
    Floor,
}

impl TimeSource {
    /// Whether this clock forgets the time when the power goes, as far as is known: all but a real-time clock that was right.
    #[must_use]
    pub fn forgets(self) -> bool {
        self != Self::Rtc
    }
}

/// The payload that was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PayloadReport {
    /// SHA-256 of its manifest, hex: its name in the cache.
    pub manifest: String,
    /// Its name, for people.
    pub name: String,
    /// Its version; a floor once it is healthy.
    pub version: u64,
    /// Why it is not the one that the rack repository pins, when it is not.
    pub fallback: Option<String>,
}

/// The network configuration in use at kexec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Lease {
    /// The interface.
    pub interface: String,
    /// Its addresses.
    pub addresses: Vec<Cidr>,
    /// Default gateways.
    pub gateways: Vec<IpAddr>,
    /// Name servers in use.
    pub dns: Vec<IpAddr>,
    /// The DHCP lease behind it, unless the addresses are fixed or IPv6 only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dhcp4: Option<Dhcp4Lease>,
}

/// A DHCPv4 lease, so that the next stage can go on using and renewing it. Times are seconds from the moment of writing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Dhcp4Lease {
    /// The address.
    pub address: Ipv4Addr,
    /// Bits of the subnet.
    pub prefix: u8,
    /// The server that gave it.
    pub server: Ipv4Addr,
    /// The default gateway.
    pub gateway: Option<Ipv4Addr>,
    /// Further routes: `10.1.0.0/16 via 10.0.0.9`, or without ` via …` for a destination on the link.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<String>,
    /// Its DNS servers.
    pub dns: Vec<Ipv4Addr>,
    /// Its NTP servers.
    pub ntp: Vec<Ipv4Addr>,
    /// The MTU it asks for.
    pub mtu: Option<u16>,
    /// What is left of it; nothing means for ever.
    pub lifetime: Option<u64>,
    /// When to ask the server again.
    pub renew_after: u64,
    /// When to ask any server.
    pub rebind_after: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_the_disk_may_be_less_or_more_than_this_version_knows() {
        let written = r#"{"v":1,"bootPartition":"03020100-0504-0706-0809-0a0b0c0d0e0f"}"#;
        let card: Card = serde_json::from_str(written).expect("parses");
        assert_eq!(
            card.boot_partition.as_deref(),
            Some("03020100-0504-0706-0809-0a0b0c0d0e0f")
        );
        assert!(!card.floors_lost);
        let newer: Card = serde_json::from_str(r#"{"v":1,"colour":"red"}"#).expect("parses");
        assert_eq!(newer.boot_partition, None);
    }

    #[test]
    fn boot_info_is_what_the_bootloader_writes() {
        let info: BootInfo =
            serde_json::from_str(r#"{"slot":"a","tries":1,"version":7}"#).expect("parses");
        assert_eq!(
            info,
            BootInfo {
                slot: Slot::A,
                tries: 1,
                version: 7
            }
        );
        assert!(serde_json::from_str::<BootInfo>(r#"{"slot":"c","tries":1,"version":7}"#).is_err());
    }
}

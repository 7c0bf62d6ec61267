// SPDX-License-Identifier: Apache-2.0
//! A microVM's folder: the two configuration files a start needs, and what is read back from it.

use super::record::{Ending, Plan};
use crate::files;
use crate::network::Link;
use crate::options::Options;
use racklet_api::V1;
use racklet_api::guest::{
    CommandEnd, GuestConfig, GuestNetwork, GuestOverlay, GuestUser, InterfaceAddress,
};
use racklet_api::vmm::rate::{CardRate, DiskRate};
use racklet_api::vmm::{
    MAX_CONFIG, Mac, VmConfig, VmConfinement, VmDisk, VmNetwork, VmState, VmStatus,
};
use racklet_rack::{Name, Network};
use racklet_tell::text;
use racklet_trust::Digest;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Users of monitors begin here: above all that a Linux distribution gives away, and above systemd's dynamic ones.
const FIRST_UID: u32 = 0x5241_0000;
/// The first vsock address that is not reserved (vsock(7)).
const FIRST_CID: u32 = 3;
/// Bound of each of a workload's logs, kept twice. They live in the tray's memory.
const LOG_BYTES: u64 = 1024 * 1024;

/// What is read of a monitor's state: its own is below 1 KiB.
const MAX_STATUS: u64 = 64 * 1024;
/// Longest text of a monitor's that is shown, in characters: the longest of ours, a refusal with what to do, has some 300.
pub(crate) const MAX_WORDS: usize = 900;
/// So many lines of what a monitor lacks: there are half as many that it can.
pub(crate) const MAX_LACKS: usize = 16;

/// Why a folder cannot be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FolderError {
    #[error("write {0}")]
    Write(PathBuf, #[source] io::Error),
    #[error("the configuration for the guest is {0} bytes, more than {MAX_CONFIG}")]
    TooLarge(usize),
    #[error("pack the guest's configuration")]
    Pack(#[from] racklet_cpio::CpioError),
    #[error("{name} has the address {address}, which its network does not have")]
    Address { name: Name, address: IpAddr },
}

/// The user a monitor becomes.
pub(crate) fn uid(index: u32) -> u32 {
    FIRST_UID + index
}

/// Makes the folder ready for a start; logs of earlier runs stay.
pub(crate) fn prepare(
    options: &Options,
    name: &Name,
    index: u32,
    plan: &Plan,
    rootfs: VmDisk,
    link: Option<&Link>,
    cgroup: Option<PathBuf>,
) -> Result<(), FolderError> {
    let folder = options.vm(name.as_str());
    let write = |path: PathBuf, bytes: &[u8]| {
        files::replace(&path, bytes).map_err(|error| FolderError::Write(path, error))
    };
    fs::create_dir_all(&folder).map_err(|error| FolderError::Write(folder.clone(), error))?;
    for stale in ["status.json", "control.sock"] {
        let path = folder.join(stale);
        files::remove(&path).map_err(|error| FolderError::Write(path, error))?;
    }
    let guest = serde_json::to_vec(&guest_config(name, plan, link)?).expect("only text keys");
    if guest.len() > MAX_CONFIG {
        return Err(FolderError::TooLarge(guest.len()));
    }
    let mut archive = racklet_cpio::Archive::new();
    archive.directory("racklet", 0o755)?;
    archive.file("racklet/guest.json", 0o600, &guest)?;
    write(folder.join("guest.cpio"), &archive.finish())?;
    let config = vm_config(options, name, index, plan, rootfs, link, cgroup);
    let config = serde_json::to_vec(&config).expect("only text keys");
    write(folder.join("config.json"), &config)
}

/// The disk that holds a workload's root. Where the card verifies the image, the monitor opens that one and no other.
pub(crate) fn root_disk(rootfs: &Path, sealed: Option<Digest>) -> VmDisk {
    VmDisk {
        path: rootfs.to_owned(),
        read_only: true,
        serial: "rootfs".to_owned(),
        rate: DiskRate::default(),
        grows_to: None,
        spare: false,
        verity: sealed,
    }
}

fn vm_config(
    options: &Options,
    name: &Name,
    index: u32,
    plan: &Plan,
    rootfs: VmDisk,
    link: Option<&Link>,
    cgroup: Option<PathBuf>,
) -> VmConfig {
    let workload = &plan.workload;
    VmConfig {
        v: V1,
        name: name.to_string(),
        cpus: u8::try_from(workload.cpus).unwrap_or(u8::MAX),
        memory_mib: u32::try_from(workload.memory.mib()).unwrap_or(u32::MAX),
        balloon_mib: 0,
        kernel: Some(options.guest_kernel()),
        restore: None,
        initramfs: vec![
            options.guest_initramfs(),
            options.vm(name.as_str()).join("guest.cpio"),
        ],
        arguments: String::new(),
        disks: vec![rootfs],
        spare_disks: 0,
        spare_disk_bytes: None,
        networks: link
            .map(|link| VmNetwork {
                tap: link.tap.clone(),
                mac: link.mac,
                mtu: link.mtu,
                rate: CardRate::default(),
            })
            .into_iter()
            .collect(),
        vsock_cid: FIRST_CID + index,
        confinement: VmConfinement {
            uid: uid(index),
            gid: uid(index),
            cgroup,
        },
        watchdog_s: workload.watchdog_seconds,
        log_bytes: LOG_BYTES,
    }
}

fn guest_config(name: &Name, plan: &Plan, link: Option<&Link>) -> Result<GuestConfig, FolderError> {
    let workload = &plan.workload;
    Ok(GuestConfig {
        v: V1,
        hostname: name.to_string(),
        command: workload.command.clone(),
        environment: workload.env.clone(),
        working_directory: workload.working_dir.clone().into(),
        user: GuestUser {
            uid: workload.user.uid,
            gid: workload.user.gid,
        },
        overlay: GuestOverlay::Memory {
            size_mib: u32::try_from(workload.overlay.mib()).unwrap_or(u32::MAX),
        },
        volumes: Vec::new(),
        networks: match &plan.network {
            Some(network) => vec![guest_network(name, plan, network)?],
            None => Vec::new(),
        },
        dns: link.map(|link| link.dns.clone()).unwrap_or_default(),
        grace_s: workload.grace_seconds,
        watchdog_s: workload.watchdog_seconds,
    })
}

fn guest_network(name: &Name, plan: &Plan, network: &Network) -> Result<GuestNetwork, FolderError> {
    let mut out = GuestNetwork {
        addresses: Vec::new(),
        gateways: Vec::new(),
    };
    let attachment = plan.workload.network.as_ref();
    let v4 = attachment.and_then(|a| a.address).map(IpAddr::V4);
    let v6 = attachment.and_then(|a| a.address6).map(IpAddr::V6);
    for (address, prefix) in [(v4, network.ipv4), (v6, network.ipv6)] {
        let Some(address) = address else { continue };
        let prefix = prefix.ok_or_else(|| FolderError::Address {
            name: name.clone(),
            address,
        })?;
        out.addresses.push(InterfaceAddress {
            address,
            prefix: prefix.length(),
        });
        // The first host of a network is its gateway.
        out.gateways.extend(prefix.nth(1));
    }
    Ok(out)
}

/// A workload's hardware address: the same after every start and on every tray. `02` makes it locally administered.
pub(crate) fn mac(rack: &str, name: &Name) -> Mac {
    let digest = Digest::of(format!("racklet mac {rack} {name}").as_bytes()).0;
    Mac([0x02, 0x52, 0x4b, digest[0], digest[1], digest[2]])
}

/// What the monitor said last; `None` before it said anything.
pub(crate) fn status(folder: &Path) -> Option<VmStatus> {
    let bytes = files::read_bounded(&folder.join("status.json"), MAX_STATUS).ok()?;
    read_status(&bytes)
}

/// The process that a guest would get hold of first: its words are text of bounded length that drives no terminal, for they go to the
/// console, into the workload's record and to everybody who asks for the state.
// untrusted: monitor_status
pub(crate) fn read_status(bytes: &[u8]) -> Option<VmStatus> {
    let plain = |words: &mut String| *words = text::line(words).chars().take(MAX_WORDS).collect();
    let mut status: VmStatus = serde_json::from_slice(bytes).ok()?;
    status.lacks.truncate(MAX_LACKS);
    status.lacks.iter_mut().for_each(plain);
    match &mut status.state {
        VmState::Exited {
            end: CommandEnd::NotStarted { reason },
            ..
        }
        | VmState::Crashed { reason }
        | VmState::Killed { reason }
        | VmState::Refused { reason }
        | VmState::Failed { reason } => plain(reason),
        VmState::Exited {
            end: CommandEnd::Code { .. } | CommandEnd::Signal { .. },
            ..
        }
        | VmState::Starting
        | VmState::Running
        | VmState::Up
        | VmState::PoweredOff
        | VmState::Rebooted => {}
    }
    Some(status)
}

/// How a run ended, from the monitor's last words.
pub(crate) fn ending(folder: &Path) -> (Ending, Option<i32>, String) {
    match status(folder).map(|status| status.state) {
        Some(VmState::Exited { end, stopped }) => {
            let (ending, code, message) = match end {
                CommandEnd::Code { code: 0 } => {
                    (Ending::Success, Some(0), "exit code 0".to_owned())
                }
                CommandEnd::Code { code } => (
                    Ending::Failure,
                    Some(code.into()),
                    format!("exit code {code}"),
                ),
                CommandEnd::Signal { signal } => (
                    Ending::Failure,
                    Some(128 + i32::from(signal)),
                    format!("ended by signal {signal}"),
                ),
                CommandEnd::NotStarted { reason } => (
                    Ending::Failure,
                    None,
                    format!("the command could not be started: {reason}"),
                ),
            };
            if stopped {
                (Ending::Ordered, code, format!("stopped, {message}"))
            } else {
                (ending, code, message)
            }
        }
        Some(VmState::Crashed { reason }) => (
            Ending::Failure,
            None,
            format!("the guest crashed: {reason}"),
        ),
        // As a command that ends with code 0: it did what somebody in it asked for.
        Some(VmState::PoweredOff) => (
            Ending::Success,
            None,
            "the guest switched itself off".to_owned(),
        ),
        // It wants to be started again: every policy that restarts at all does.
        Some(VmState::Rebooted) => (
            Ending::Failure,
            None,
            "the guest restarted itself".to_owned(),
        ),
        Some(VmState::Killed { reason }) => (Ending::Failure, None, format!("killed: {reason}")),
        Some(VmState::Refused { reason }) => {
            (Ending::Refused, None, format!("not started: {reason}"))
        }
        Some(VmState::Failed { reason }) => (
            Ending::Failure,
            None,
            format!("the monitor failed: {reason}"),
        ),
        Some(VmState::Starting | VmState::Running | VmState::Up) | None => {
            let words = last_line(&folder.join("monitor.log"));
            let words = words.unwrap_or_else(|| "it left no word".to_owned());
            (
                Ending::Failure,
                None,
                format!("the monitor ended unexpectedly: {words}"),
            )
        }
    }
}

fn last_line(path: &Path) -> Option<String> {
    let bytes = files::read_bounded(path, 64 * 1024).ok()?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let line = text.lines().rev().find(|line| !line.trim().is_empty())?;
    Some(line.chars().take(300).collect())
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::plan;
    use super::*;

    fn web() -> Name {
        "web".parse().expect("name")
    }

    fn link() -> Link {
        Link {
            tap: "rk-tap1".into(),
            mac: mac("00", &web()),
            mtu: 1500,
            dns: vec!["10.0.2.3".parse().expect("ip")],
        }
    }

    fn prepared() -> (tempfile::TempDir, Options) {
        let dir = tempfile::tempdir().expect("scratch");
        let options = Options {
            run: dir.path().to_owned(),
            ..Options::default()
        };
        fs::create_dir_all(options.vm("web")).expect("folder");
        (dir, options)
    }

    #[test]
    fn what_is_written_is_what_the_monitor_accepts() {
        let (_dir, options) = prepared();
        let folder = options.vm("web");
        fs::write(folder.join("status.json"), b"stale").expect("written");
        let sealed = Digest::of(b"image");
        prepare(
            &options,
            &web(),
            4,
            &plan(),
            root_disk(Path::new("/state/r.erofs"), Some(sealed)),
            Some(&link()),
            None,
        )
        .expect("prepared");
        assert!(
            !folder.join("status.json").exists(),
            "a stale status would be taken for the new run's"
        );
        let config: VmConfig =
            serde_json::from_slice(&fs::read(folder.join("config.json")).expect("read"))
                .expect("accepted");
        assert_eq!(
            (config.vsock_cid, config.memory_mib, config.cpus),
            (7, 64, 1)
        );
        assert_ne!(config.confinement.uid, 0);
        assert_eq!(config.disks[0].verity, Some(sealed));
        assert_eq!(config.networks[0].tap, "rk-tap1");
    }

    #[test]
    fn the_guest_learns_its_address_and_gateway() {
        let config = guest_config(&web(), &plan(), Some(&link())).expect("good");
        let json = serde_json::to_vec(&config).expect("json");
        let config: GuestConfig = serde_json::from_slice(&json).expect("the guest accepts it");
        assert_eq!(config.networks[0].addresses[0].to_string(), "10.80.0.10/24");
        assert_eq!(config.networks[0].gateways[0].to_string(), "10.80.0.1");
        assert_eq!(config.dns.len(), 1);
    }

    #[test]
    fn every_last_word_is_understood() {
        let (_dir, options) = prepared();
        let folder = options.vm("web");
        for (words, ending_expected, code) in [
            (
                r#"{"v":1,"pid":1,"since_ms":1,"state":"exited","end":"code","code":0,"stopped":false}"#,
                Ending::Success,
                Some(0),
            ),
            (
                r#"{"v":1,"pid":1,"since_ms":1,"state":"exited","end":"code","code":3,"stopped":false}"#,
                Ending::Failure,
                Some(3),
            ),
            (
                r#"{"v":1,"pid":1,"since_ms":1,"state":"exited","end":"code","code":0,"stopped":true}"#,
                Ending::Ordered,
                Some(0),
            ),
            (
                r#"{"v":1,"pid":1,"since_ms":1,"state":"exited","end":"signal","signal":9,"stopped":false}"#,
                Ending::Failure,
                Some(137),
            ),
            (
                r#"{"v":1,"pid":1,"since_ms":1,"state":"crashed","reason":"panic"}"#,
                Ending::Failure,
                None,
            ),
            (
                r#"{"v":1,"pid":1,"since_ms":1,"state":"powered-off"}"#,
                Ending::Success,
                None,
            ),
            (
                r#"{"v":1,"pid":1,"since_ms":1,"state":"rebooted"}"#,
                Ending::Failure,
                None,
            ),
            (
                r#"{"v":1,"pid":1,"since_ms":1,"state":"refused","reason":"no KVM"}"#,
                Ending::Refused,
                None,
            ),
            (
                r#"{"v":1,"pid":1,"since_ms":1,"state":"up"}"#,
                Ending::Failure,
                None,
            ),
            ("", Ending::Failure, None),
        ] {
            fs::write(folder.join("status.json"), words).expect("written");
            let (ending, found, message) = ending(&folder);
            assert_eq!(
                (ending, found),
                (ending_expected, code),
                "{words}: {message}"
            );
        }
    }
    #[test]
    fn a_monitor_that_its_guest_took_over_drives_no_terminal_and_fills_no_record() {
        let words = format!("\u{1b}[2J{}\n", "x".repeat(20_000));
        let end = CommandEnd::NotStarted {
            reason: words.clone(),
        };
        let reason = words.clone();
        let states = [
            VmState::Exited {
                end,
                stopped: false,
            },
            VmState::Crashed {
                reason: reason.clone(),
            },
            VmState::Killed {
                reason: reason.clone(),
            },
            VmState::Refused {
                reason: reason.clone(),
            },
            VmState::Failed { reason },
        ];
        for state in states {
            let told = VmStatus {
                v: racklet_api::V1,
                pid: 1,
                since_ms: 1,
                lacks: vec![words.clone(); 2],
                paused: false,
                state,
            };
            let dir = tempfile::tempdir().expect("folder");
            let bytes = serde_json::to_vec(&told).expect("JSON");
            fs::write(dir.path().join("status.json"), bytes).expect("written");
            let lacks = status(dir.path()).expect("a status").lacks;
            let (_, _, message) = ending(dir.path());
            for shown in lacks.iter().chain([&message]) {
                assert!(!shown.contains(text::is_hidden), "{shown}");
                assert!((100..1000).contains(&shown.len()), "{}", shown.len());
            }
        }
    }
}

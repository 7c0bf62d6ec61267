// SPDX-License-Identifier: Apache-2.0
//! Where everything is: the places of a tray, each of which a flag can move, so that the daemon runs anywhere.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// What outlives a reboot.
    pub(crate) state: PathBuf,
    /// What does not: sockets, folders of running microVMs.
    pub(crate) run: PathBuf,
    /// What the bootstrap handed over.
    pub(crate) handoff: PathBuf,
    /// The monitor.
    pub(crate) vmm: PathBuf,
    /// Guest kernel and initramfs.
    pub(crate) guest: PathBuf,
    /// Where a cgroup per microVM is made; `None`: no limits beyond the guest's own memory.
    pub(crate) cgroup: Option<PathBuf>,
    /// Where the network API listens.
    pub(crate) listen: Option<SocketAddr>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            state: "/state".into(),
            run: "/run/racklet".into(),
            handoff: "/racklet".into(),
            vmm: "/sbin/vmm".into(),
            guest: "/usr/lib/racklet/guest".into(),
            cgroup: Some("/sys/fs/cgroup/racklet".into()),
            listen: Some(SocketAddr::from(([0u16; 8], racklet_api::hypervisor::PORT))),
        }
    }
}

pub(crate) const USAGE: &str = "\
usage: hypervisor [--state DIR] [--run DIR] [--handoff DIR] [--vmm FILE] [--guest DIR] [--cgroup DIR|none] [--listen ADDRESS|none]";

/// Why the command line is not understood.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UsageError {
    #[error("unknown flag {0:?}\n{USAGE}")]
    Unknown(OsString),
    #[error("{0} needs a value\n{USAGE}")]
    Missing(&'static str),
    #[error("--listen takes an address with a port, or `none`, not {0:?}\n{USAGE}")]
    Listen(OsString),
}

impl Options {
    pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Self, UsageError> {
        let mut options = Self::default();
        let mut args = args.into_iter();
        while let Some(flag) = args.next() {
            let mut value = |name| args.next().ok_or(UsageError::Missing(name));
            match flag.to_str() {
                Some("--state") => options.state = value("--state")?.into(),
                Some("--run") => options.run = value("--run")?.into(),
                Some("--handoff") => options.handoff = value("--handoff")?.into(),
                Some("--vmm") => options.vmm = value("--vmm")?.into(),
                Some("--guest") => options.guest = value("--guest")?.into(),
                Some("--cgroup") => {
                    let dir = value("--cgroup")?;
                    options.cgroup = (dir != "none").then(|| dir.into());
                }
                Some("--listen") => {
                    let address = value("--listen")?;
                    options.listen = match address.to_str() {
                        Some("none") => None,
                        text => Some(
                            text.and_then(|t| t.parse().ok())
                                .ok_or_else(|| UsageError::Listen(address.clone()))?,
                        ),
                    };
                }
                _ => return Err(UsageError::Unknown(flag)),
            }
        }
        Ok(options)
    }

    /// The folder of one microVM.
    pub(crate) fn vm(&self, name: &str) -> PathBuf {
        self.run.join("vm").join(name)
    }

    /// What the hypervisor remembers about workloads while the machine is up; not the monitors' to touch.
    pub(crate) fn records(&self) -> PathBuf {
        self.run.join("hypervisor")
    }

    pub(crate) fn socket(&self, server: &str) -> PathBuf {
        self.run.join(server).with_extension("sock")
    }

    /// The default guest kernel.
    pub(crate) fn guest_kernel(&self) -> PathBuf {
        self.guest.join("vmlinux")
    }

    pub(crate) fn guest_initramfs(&self) -> PathBuf {
        self.guest.join("initramfs.cpio")
    }

    pub(crate) fn handoff_file(&self, name: &str) -> PathBuf {
        Path::join(&self.handoff, name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Options, UsageError> {
        Options::parse(args.iter().map(OsString::from))
    }

    #[test]
    fn without_flags_the_places_are_a_trays() {
        let options = parse(&[]).expect("good");
        assert_eq!(options.vm("web"), PathBuf::from("/run/racklet/vm/web"));
        assert_eq!(
            options.socket("netd"),
            PathBuf::from("/run/racklet/netd.sock")
        );
        assert_eq!(options.listen.map(|a| a.port()), Some(7443));
    }

    #[test]
    fn every_place_can_be_moved() {
        let options = parse(&[
            "--run",
            "/tmp/r",
            "--cgroup",
            "none",
            "--listen",
            "127.0.0.1:0",
        ])
        .expect("good");
        assert_eq!(options.records(), PathBuf::from("/tmp/r/hypervisor"));
        assert_eq!(options.cgroup, None);
        assert_eq!(parse(&["--listen", "none"]).expect("good").listen, None);
    }

    #[test]
    fn mistakes_show_the_usage() {
        assert!(
            parse(&["--sate", "x"])
                .expect_err("unknown")
                .to_string()
                .contains("usage:")
        );
        assert_eq!(parse(&["--run"]), Err(UsageError::Missing("--run")));
        assert!(matches!(
            parse(&["--listen", "x"]),
            Err(UsageError::Listen(_))
        ));
    }
}

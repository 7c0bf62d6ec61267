// SPDX-License-Identifier: Apache-2.0
//! The one JSON document that starts a guest. It is what a person writes; its bounds are those of the monitor's own configuration,
//! which is made from it.

use std::path::{Path, PathBuf};

use anyhow::Context;
use racklet_api::vmm::VmConfig;
use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::rate::{CardRate, DiskRate};

/// A guest. Paths may be relative to where the command is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "A guest of racklet-vmm")]
pub(crate) struct Document {
    /// Kernel: ELF `vmlinux`, the same compressed with zstd, or a bzImage. Left out where the guest is restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) kernel: Option<PathBuf>,
    /// A snapshot's folder, from which the guest goes on; without `kernel`, `initramfs` and `arguments`, and with processors, memory,
    /// disks and cards as they were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) restore: Option<PathBuf>,
    /// Archives given to the kernel one behind the other as its initramfs, at most 8.
    #[serde(default)]
    pub(crate) initramfs: Vec<PathBuf>,
    /// Added to the kernel command line: printable ASCII, at most 1,024 bytes.
    #[serde(default)]
    pub(crate) arguments: String,
    /// Virtual processors, 1 to 32.
    #[serde(default = "one")]
    pub(crate) cpus: u8,
    /// Memory in MiB, 32 to 1,048,576; taken when the guest touches it.
    #[serde(default = "memory")]
    pub(crate) memory_mib: u32,
    /// MiB of it that the guest is to do without from its start on (a balloon); it keeps at least 32. Whatever this is, the guest gives
    /// back what it does not use.
    #[serde(default)]
    pub(crate) balloon_mib: u32,
    /// `/dev/vda`, `/dev/vdb`, … in this order; at most 8.
    #[serde(default)]
    pub(crate) disks: Vec<Disk>,
    /// Places behind them for disks that come while the guest runs (`racklet-vmm attach`); with `disks` at most 8.
    #[serde(default)]
    pub(crate) spare_disks: u8,
    /// Most bytes of a file that is written to in a spare place. Where absent: as many as the largest of the other disks, of what they may
    /// grow to, and of the guest's memory. A block device has no such bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) spare_disk_bytes: Option<u64>,
    /// `eth0`, … in this order; at most 4.
    #[serde(default)]
    pub(crate) networks: Vec<Network>,
    /// Name: 1 to 63 of `a-z`, `0-9`, `-`.
    #[serde(default = "name")]
    pub(crate) name: String,
    /// The guest's vsock address, 3 or more. Its port P is the socket `vsock.sock_P` in the microVM's folder.
    #[serde(default = "three")]
    pub(crate) vsock_cid: u32,
    /// Ends a guest whose guest-init gives no sign of life for this many seconds, 10 to 3,600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) watchdog_s: Option<u32>,
}

/// A disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Disk {
    /// File or block device. One that is written belongs to one guest.
    pub(crate) path: PathBuf,
    /// The guest cannot write to it.
    #[serde(default)]
    pub(crate) read_only: bool,
    /// Serial number that the guest sees, at most 20 printable ASCII characters.
    #[serde(default)]
    pub(crate) serial: String,
    /// How fast it may be.
    #[serde(default)]
    pub(crate) rate: DiskRate,
    /// Most bytes that its file may have later (`racklet-vmm ask VM resize --disk N`); what it has at the start where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) grows_to: Option<u64>,
    /// It can be detached while the guest runs. Of a guest that is restored: it was attached while it ran.
    #[serde(default)]
    pub(crate) spare: bool,
}

/// A network card on a tap device that exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Network {
    /// The tap's name; it has to be the user's (`ip tuntap add mode tap user NAME vnet_hdr`).
    pub(crate) tap: String,
    /// The guest's hardware address, as `02:52:4b:00:00:01`.
    pub(crate) mac: String,
    /// Bytes of IP packet per frame, 1,280 to 9,000.
    #[serde(default = "mtu")]
    pub(crate) mtu: u16,
    /// How fast it may be.
    #[serde(default)]
    pub(crate) rate: CardRate,
}

fn one() -> u8 {
    1
}

fn memory() -> u32 {
    256
}

fn name() -> String {
    "vm".to_owned()
}

fn three() -> u32 {
    3
}

fn mtu() -> u16 {
    1500
}

impl Document {
    /// One that has no more than a kernel.
    pub(crate) fn of(kernel: PathBuf) -> Document {
        Document {
            kernel: Some(kernel),
            ..Document::empty()
        }
    }

    /// One that goes on from a snapshot, whose machine is like that one's as far as the snapshot says it.
    pub(crate) fn restored(folder: PathBuf) -> anyhow::Result<Document> {
        let machine = racklet_vmm::snapshot::look(&folder)?;
        Ok(Document {
            restore: Some(folder),
            cpus: machine.cpus,
            memory_mib: machine.memory_mib,
            ..Document::empty()
        })
    }

    fn empty() -> Document {
        Document {
            kernel: None,
            restore: None,
            initramfs: Vec::new(),
            arguments: String::new(),
            cpus: one(),
            memory_mib: memory(),
            balloon_mib: 0,
            disks: Vec::new(),
            spare_disks: 0,
            spare_disk_bytes: None,
            networks: Vec::new(),
            name: name(),
            vsock_cid: three(),
            watchdog_s: None,
        }
    }

    /// The monitor's configuration, for a monitor that runs as this user.
    pub(crate) fn config(&self, uid: u32, gid: u32) -> anyhow::Result<VmConfig> {
        let initramfs: anyhow::Result<Vec<PathBuf>> =
            self.initramfs.iter().map(|path| found(path)).collect();
        let disks: anyhow::Result<Vec<Disk>> = self
            .disks
            .iter()
            .map(|disk| {
                Ok(Disk {
                    path: found(&disk.path)?,
                    ..disk.clone()
                })
            })
            .collect();
        let mut config = json!({
            "v": 1, "name": self.name, "cpus": self.cpus, "memory_mib": self.memory_mib,
            "balloon_mib": self.balloon_mib, "spare_disks": self.spare_disks,
            "initramfs": initramfs?, "arguments": self.arguments, "disks": disks?, "networks": self.networks,
            "vsock_cid": self.vsock_cid, "confinement": {"uid": uid, "gid": gid},
        });
        for (field, path) in [("kernel", &self.kernel), ("restore", &self.restore)] {
            if let Some(path) = path {
                config[field] = json!(found(path)?);
            }
        }
        if let Some(bytes) = self.spare_disk_bytes {
            config["spare_disk_bytes"] = json!(bytes);
        }
        if let Some(seconds) = self.watchdog_s {
            config["watchdog_s"] = json!(seconds);
        }
        serde_json::from_value(config).context("the guest cannot be as it is described")
    }
}

fn found(path: &Path) -> anyhow::Result<PathBuf> {
    std::fs::canonicalize(path).with_context(|| format!("find {}", path.display()))
}

/// The JSON Schema of a document, as `docs/guest.schema.json` has it.
pub(crate) fn schema_text() -> anyhow::Result<String> {
    let generator: SchemaGenerator = SchemaSettings::draft2020_12().into_generator();
    let schema: Schema = generator.into_root_schema_for::<Document>();
    Ok(serde_json::to_string_pretty(&schema)? + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_the_one_in_the_documents() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guest.schema.json");
        let kept = std::fs::read_to_string(path).unwrap_or_default();
        let hint =
            "write it again: cargo run -p racklet-vmm-shell -- schema > docs/guest.schema.json";
        assert!(kept == schema_text().unwrap(), "{hint}");
    }

    #[test]
    fn a_document_needs_a_kernel_and_nothing_else_and_its_bounds_are_the_monitors() {
        let kernel = tempfile::NamedTempFile::new().unwrap();
        let path = kernel.path();
        let least = format!(r#"{{"kernel":{path:?}}}"#);
        let document: Document = serde_json::from_str(&least).unwrap();
        assert_eq!(document, Document::of(path.into()));
        let config = document.config(1000, 100).unwrap();
        assert_eq!((config.cpus, config.memory_mib), (1, 256));
        assert_eq!(
            (config.confinement.uid, config.confinement.gid),
            (1000, 100)
        );
        assert!(config.initramfs.is_empty());
        let wrong = |change: fn(&mut Document), what: &str| {
            let mut document = document.clone();
            change(&mut document);
            let error = document.config(1000, 100).unwrap_err();
            let said = racklet_tell::error::chain(error.as_ref());
            assert!(said.contains(what), "{said}");
        };
        wrong(|d| d.cpus = 0, "cpus");
        wrong(|d| d.balloon_mib = 225, "balloon_mib");
        wrong(|d| d.spare_disks = 9, "spare_disks");
        wrong(|d| d.spare_disk_bytes = Some(4096), "spare_disk_bytes");
        wrong(|d| d.kernel = Some("/nowhere".into()), "find /nowhere");
        wrong(|d| d.kernel = None, "kernel: missing");
        wrong(|d| d.restore.clone_from(&d.kernel), "restore");
        wrong(|d| d.name = "../x".into(), "name");
        let limited = |rate: &str| {
            let disk = format!(r#"{{"path":{path:?},"rate":{rate}}}"#);
            let card = r#"{"tap":"t","mac":"02:00:00:00:00:01","rate":{"sent":{"packets":{"per_second":5}}}}"#;
            let text = format!(r#"{{"kernel":{path:?},"disks":[{disk}],"networks":[{card}]}}"#);
            serde_json::from_str::<Document>(&text)
                .unwrap()
                .config(1, 1)
        };
        let config = limited(r#"{"bytes":{"per_second":1000}}"#).unwrap();
        let bytes = config.disks[0].rate.bytes.unwrap();
        assert_eq!((bytes.per_second(), bytes.burst()), (1000, 131_072));
        assert!(config.networks[0].rate.sent.packets.is_some());
        let refused = limited(r#"{"bytes":{"per_second":0}}"#).unwrap_err();
        let said = racklet_tell::error::chain(refused.as_ref());
        assert!(said.contains("per_second: 0"), "{said}");
        assert!(serde_json::from_str::<Document>(r#"{"kernel":"k","cpu":1}"#).is_err());
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The rack objects exactly as a person writes them. These types exist to be read from YAML and to generate the JSON
//! Schema; what the rest of the system uses is [`super::state`], which can only hold checked values.

use super::values::{ManifestDigest, Memory, Name, Prefix, RackId, RepositoryUrl};
use super::yaml::Position;
use super::yaml::de::{LOCATED, LOCATED_FIELDS};
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::net::{Ipv4Addr, Ipv6Addr};

/// A value together with the place it was written at, for complaints that only a look at other objects can find.
#[derive(Debug)]
pub(super) struct Located<T> {
    pub(super) at: Position,
    pub(super) value: T,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Located<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Read<T> {
            type Value = Located<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value with its place")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Located<T>, A::Error> {
                // The deserializer gives exactly these three, in this order; any other one does not know places.
                let expect = |map: &mut A, field: &'static str| match map.next_key::<String>()? {
                    Some(found) if found == field => Ok(()),
                    _ => Err(de::Error::missing_field(field)),
                };
                expect(&mut map, "line")?;
                let line = map.next_value()?;
                expect(&mut map, "column")?;
                let column = map.next_value()?;
                expect(&mut map, "value")?;
                let value = map.next_value()?;
                Ok(Located {
                    at: Position { line, column },
                    value,
                })
            }
        }

        deserializer.deserialize_struct(LOCATED, LOCATED_FIELDS, Read(PhantomData))
    }
}

#[cfg(feature = "schema")]
impl<T: schemars::JsonSchema> schemars::JsonSchema for Located<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        generator.subschema_for::<T>()
    }
}

/// One rack object.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Object<S> {
    /// Always `racklet.dev/v1alpha1`; checked before the rest is read.
    #[serde(rename = "apiVersion")]
    pub(super) _api_version: String,
    /// Which kind of object this is; checked before the rest is read.
    #[serde(rename = "kind")]
    pub(super) _kind: String,
    /// Name and labels.
    pub(super) metadata: Metadata,
    /// What is wanted.
    pub(super) spec: S,
}

/// Name and labels of an object.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Metadata {
    /// The object's name; the file is named after it.
    pub(super) name: Located<Name>,
    /// Free labels, for selectors and for people.
    #[serde(default)]
    pub(super) labels: Option<Located<BTreeMap<String, String>>>,
}

/// The rack as a whole: `rack.yaml`.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RackSpec {
    /// The id in the rack's trust root.
    pub(super) id: RackId,
    /// How often a tray looks for new commits, in seconds (1 to 3600).
    #[serde(default)]
    pub(super) poll_seconds: Option<Located<u64>>,
    /// When given, every network must lie inside one of these.
    #[serde(default)]
    pub(super) network_prefixes: Vec<Prefix>,
    /// Rules for the whole rack.
    #[serde(default)]
    pub(super) policies: Option<PoliciesSpec>,
}

/// Rules for the whole rack.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct PoliciesSpec {
    /// A tray with a new release downloaded waits a random part of this many seconds before it reboots into it, so that
    /// a rack does not restart all at once (0 to 86400).
    #[serde(default)]
    pub(super) reboot_wait_seconds: Option<Located<u64>>,
}

/// One tray: `trays/<name>.yaml`.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct TraySpec {
    /// The board it is built on, for example `qemu-x86_64`.
    pub(super) board: String,
    /// Its memory, for example `4Gi`: `racklet check` then refuses workloads that find no room. The tray goes by what it has.
    #[serde(default)]
    pub(super) memory: Option<Located<Memory>>,
    /// Its processors (1 to 1024): `racklet check` then refuses workloads with more.
    #[serde(default)]
    pub(super) cpus: Option<Located<u32>>,
    /// The tray's public key (`ssh-ed25519 AAAA…`), by which its API is recognised.
    #[serde(default)]
    pub(super) identity: Option<Located<String>>,
}

/// One operating system release: `releases/<name>.yaml`.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct ReleaseSpec {
    /// The payload that is booted.
    pub(super) payload: PayloadSpec,
    /// Which trays boot it; all when left out.
    #[serde(default)]
    pub(super) rollout: Option<Located<TraysSpec>>,
}

/// A payload, pinned by its manifest's digest.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct PayloadSpec {
    /// The payload's name: it is fetched from the branch `payload/<name>`.
    pub(super) name: Name,
    /// SHA-256 of its manifest.
    pub(super) manifest: ManifestDigest,
    /// Where it is fetched from; the rack repository when left out.
    #[serde(default)]
    pub(super) repository: Option<RepositoryUrl>,
}

/// A choice of trays: by name, by labels, or both.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct TraysSpec {
    /// These trays.
    #[serde(default)]
    pub(super) trays: Vec<Located<Name>>,
    /// And those with all of these labels.
    #[serde(default)]
    pub(super) match_labels: BTreeMap<String, String>,
}

/// One network, a bridge on every tray that runs a workload in it: `networks/<name>.yaml`.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct NetworkSpec {
    /// IPv4 prefix, for example `10.80.0.0/24`.
    #[serde(default)]
    pub(super) ipv4: Option<Located<Prefix>>,
    /// IPv6 prefix, for example `fd00:80::/64`.
    #[serde(default)]
    pub(super) ipv6: Option<Located<Prefix>>,
    /// Whether workloads reach the outside through the tray's address; true when left out.
    #[serde(default)]
    pub(super) nat: Option<bool>,
}

/// One virtual machine with one command in it: `workloads/<name>.yaml`.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct MicroVmSpec {
    /// The tray it runs on.
    #[serde(default)]
    pub(super) tray: Option<Located<Name>>,
    /// Instead of `tray`: one tray with all of these labels, always the same one while it exists.
    #[serde(default)]
    pub(super) tray_selector: Option<Located<SelectorSpec>>,
    /// The guest kernel; `guest` is the one that comes with the operating system.
    #[serde(default)]
    pub(super) kernel: Kernel,
    /// Its read-only root file system.
    pub(super) rootfs: RootfsSpec,
    /// Virtual processors (1 to 32); 1 when left out.
    #[serde(default)]
    pub(super) cpus: Option<Located<u32>>,
    /// Memory, for example `256Mi` (32Mi to 64Gi).
    pub(super) memory: Located<Memory>,
    /// The program and its arguments; a program without a slash is looked up in `PATH`.
    pub(super) command: Located<Vec<String>>,
    /// Where the program starts, as an absolute path; `/` when left out.
    #[serde(default)]
    pub(super) working_dir: Option<Located<String>>,
    /// Whom the program runs as; 0 and 0 when left out (root of the virtual machine, not of the tray).
    #[serde(default)]
    pub(super) user: Option<User>,
    /// How much may be written over the read-only root file system; it is kept in the machine's memory and gone when it
    /// ends. A quarter of `memory` when left out.
    #[serde(default)]
    pub(super) overlay: Option<Located<Memory>>,
    /// Seconds between the polite and the forced end (0 to 600); 10 when left out.
    #[serde(default)]
    pub(super) grace_seconds: Option<Located<u64>>,
    /// Environment variables of the program.
    #[serde(default)]
    pub(super) env: Option<Located<BTreeMap<String, String>>>,
    /// The network it is attached to; none when left out.
    #[serde(default)]
    pub(super) network: Option<AttachmentSpec>,
    /// When to start the command again after it ended.
    #[serde(default)]
    pub(super) restart_policy: RestartPolicy,
    /// How long to wait between restarts.
    #[serde(default)]
    pub(super) backoff: Option<Located<BackoffSpec>>,
}

/// A numeric user of the workload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct User {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Trays by labels.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct SelectorSpec {
    /// All of these labels.
    pub(super) match_labels: BTreeMap<String, String>,
}

/// A root file system, pinned by its manifest's digest.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RootfsSpec {
    /// The artifact's name: it is fetched from the branch `artifact/<name>`.
    pub(super) artifact: Name,
    /// SHA-256 of its manifest.
    pub(super) manifest: ManifestDigest,
    /// Where it is fetched from; the rack repository when left out.
    #[serde(default)]
    pub(super) repository: Option<RepositoryUrl>,
}

/// A workload's place in a network.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct AttachmentSpec {
    /// The network.
    pub(super) name: Located<Name>,
    /// A fixed IPv4 address; one is chosen when left out.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub(super) address: Option<Located<Ipv4Addr>>,
    /// A fixed IPv6 address; one is chosen when left out.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub(super) address6: Option<Located<Ipv6Addr>>,
}

/// How long to wait between restarts: doubling from `initialSeconds` to `maxSeconds`.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct BackoffSpec {
    /// The first wait (1 to 3600); 1 when left out.
    #[serde(default)]
    pub(super) initial_seconds: Option<u32>,
    /// The longest wait, at least the first (up to 86400); 60 when left out.
    #[serde(default)]
    pub(super) max_seconds: Option<u32>,
}

/// Which kernel a workload boots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum Kernel {
    /// The one that comes with the hypervisor OS.
    #[default]
    Guest,
}

/// When a workload's command is started again after it ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum RestartPolicy {
    /// Whenever it ends.
    #[default]
    Always,
    /// When it ends with anything but exit code 0.
    OnFailure,
    /// Never.
    Never,
}

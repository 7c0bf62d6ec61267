// SPDX-License-Identifier: Apache-2.0
//! What commands print with `--json`, as types: keys in camelCase, times in Unix seconds (a log's in milliseconds), sizes in
//! bytes, digests in hex, those of a rack's root with `sha256:` in front.
//!
//! `docs/answers.schema.json` is made from these types and is part of what users rely on: a key may come, none goes or changes its
//! meaning.

use std::collections::BTreeMap;
use std::path::PathBuf;

use racklet_api::handoff::Head;
use racklet_api::hypervisor::{LogLine, Rejection, State};
use racklet_rack::{Problem, TrayPlan};
use racklet_trust::PublicKey;
use schemars::generate::{SchemaGenerator, SchemaSettings};
use schemars::{JsonSchema, Schema};
use serde::Serialize;
use serde_json::{Map, Value, json};

/// Instead of an answer, with exit status 1, 2 or 130.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Failed {
    /// What did not work.
    pub(crate) error: String,
    /// What led to it, the nearest first.
    pub(crate) causes: Vec<String>,
}

/// `--help` and `--version`.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Text {
    /// For people.
    pub(crate) text: String,
}

/// `rack init`.
#[derive(Serialize, JsonSchema)]
pub(crate) struct RackMade {
    /// Where it is.
    pub(crate) directory: PathBuf,
    /// The rack's id.
    pub(crate) rack: String,
    /// `sha256:` and the digest of its first trust root, which everything is judged from.
    pub(crate) root: String,
    /// Its first commit.
    pub(crate) commit: String,
    /// The private keys of its trays.
    pub(crate) identities: Vec<PathBuf>,
}

/// `rack add-tray`.
#[derive(Serialize, JsonSchema)]
pub(crate) struct TrayAdded {
    /// The tray's file in the rack.
    pub(crate) file: String,
    /// The tray's private key.
    pub(crate) identity: PathBuf,
}

/// `rack setup`.
#[derive(Serialize, JsonSchema)]
pub(crate) struct SetUp {
    /// `sha256:` and the digest of the first trust root, which everything here is judged from now.
    pub(crate) root: String,
    /// The fingerprint of the key that signs commits.
    pub(crate) key: String,
}

/// A public key.
#[derive(Serialize, JsonSchema)]
pub(crate) struct KeyShown {
    /// As in a `.pub` file.
    pub(crate) key: String,
    /// `SHA256:…`, as `ssh-keygen -l` shows it.
    pub(crate) fingerprint: String,
}

impl KeyShown {
    pub(crate) fn of(key: &PublicKey) -> Self {
        Self {
            key: key.to_string(),
            fingerprint: key.fingerprint(),
        }
    }
}

/// One of `key list`.
#[derive(Serialize, JsonSchema)]
pub(crate) struct KeyListed {
    #[serde(flatten)]
    pub(crate) key: KeyShown,
    /// The remark in it.
    pub(crate) comment: String,
    /// Its file; null when only the agent has it.
    pub(crate) path: Option<PathBuf>,
    /// Whether the agent has it.
    pub(crate) agent: bool,
    /// Its roles in the rack that is here.
    pub(crate) roles: Vec<String>,
}

/// `key generate`.
#[derive(Serialize, JsonSchema)]
pub(crate) struct KeyMade {
    #[serde(flatten)]
    pub(crate) key: KeyShown,
    /// Its file; the public half has `.pub` behind it.
    pub(crate) path: PathBuf,
}

/// `key issue`.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Certified {
    /// Whose it is.
    pub(crate) name: String,
    /// What it is good for: `viewer`, `operator` or `owner`.
    pub(crate) role: String,
    /// The last day on which it is good, as `2027-03-01`.
    pub(crate) until: String,
    /// Its file, in PEM.
    pub(crate) certificate: PathBuf,
    /// The file of its private key, in PEM.
    pub(crate) key: PathBuf,
}

/// `key enrol`.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Enrolled {
    /// The tray whose BMC it is.
    pub(crate) tray: String,
    /// What the BMC is given.
    pub(crate) vault: PathBuf,
    /// The certificate that its own is signed by, in PEM.
    pub(crate) authority: PathBuf,
}

/// `console`.
#[derive(Serialize, JsonSchema)]
pub(crate) struct ConsoleRead {
    /// The tray.
    pub(crate) tray: String,
    /// Which history it was, 16 hex digits; another one when the BMC's memory was lost meanwhile.
    pub(crate) history: String,
    /// The offset of the next byte in it.
    pub(crate) offset: u64,
    /// Bytes that were written.
    pub(crate) bytes: u64,
    /// Bytes that were overwritten before they were read.
    pub(crate) lost: u64,
}

/// `key add`, `key remove`, `trust rotate` and `trust sign`.
#[derive(Serialize, JsonSchema)]
pub(crate) struct RootStep {
    /// The version of the trust root that was made or signed.
    pub(crate) version: u64,
    /// Whether enough keys have signed it.
    pub(crate) complete: bool,
    /// How many root keys have signed it.
    pub(crate) signatures: usize,
    /// The commit with it; null when it is not complete, or with `--no-commit`.
    pub(crate) commit: Option<String>,
}

/// `trust show`.
#[derive(Serialize, JsonSchema)]
pub(crate) struct RootShown {
    /// The rack's id.
    pub(crate) rack: String,
    /// `sha256:` and the digest of the first version.
    pub(crate) root: String,
    /// The version in force.
    pub(crate) version: u64,
    /// By the role's name.
    pub(crate) roles: BTreeMap<String, RoleShown>,
    /// The next version, when one is being prepared.
    pub(crate) pending: Option<RootPending>,
}

/// Who has a role.
#[derive(Serialize, JsonSchema)]
pub(crate) struct RoleShown {
    /// How many of the keys have to agree.
    pub(crate) threshold: u8,
    /// Its keys.
    pub(crate) keys: Vec<KeyShown>,
}

/// A version of the trust root that does not count yet.
#[derive(Serialize, JsonSchema)]
pub(crate) struct RootPending {
    /// Which.
    pub(crate) version: u64,
    /// Why it does not count.
    pub(crate) reason: String,
}

/// A package: `payload build` and `bootstrap build`.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Package {
    /// Its folder.
    pub(crate) directory: PathBuf,
    /// `payload`, `artifact` or `bootstrap`.
    pub(crate) kind: String,
    /// Its name.
    pub(crate) name: String,
    /// Its version.
    pub(crate) version: u64,
    /// As the kernel names it.
    pub(crate) architecture: String,
    /// The boards it is for; none for an artifact.
    pub(crate) boards: Vec<String>,
    /// When it was made.
    pub(crate) created: u64,
    /// From when on it is not accepted.
    pub(crate) expires: Option<u64>,
    /// What it was made from, by name.
    pub(crate) source: BTreeMap<String, String>,
    /// SHA-256 of its manifest: what a rack pins.
    pub(crate) manifest: String,
    /// Bytes of its files.
    pub(crate) size: u64,
    /// Bytes that a tray fetches.
    pub(crate) fetch: u64,
}

/// `artifact build`.
#[derive(Serialize, JsonSchema)]
pub(crate) struct ArtifactBuilt {
    #[serde(flatten)]
    pub(crate) package: Package,
    /// What the image does not keep.
    pub(crate) omitted: Vec<Omitted>,
}

/// What an image does not keep of its files.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Omitted {
    /// Such as `access control lists`.
    pub(crate) what: &'static str,
    /// Of how many files.
    pub(crate) count: usize,
    /// One of them.
    pub(crate) first: String,
}

/// `payload show`, `artifact show` and `bootstrap show`.
#[derive(Serialize, JsonSchema)]
pub(crate) struct PackageShown {
    #[serde(flatten)]
    pub(crate) package: Package,
    /// The fingerprints of the keys that signed it.
    pub(crate) signers: Vec<String>,
}

/// `payload sign`, `artifact sign` and `bootstrap sign`.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Signed {
    /// The fingerprint of the key.
    pub(crate) signer: String,
    /// How many have signed.
    pub(crate) signatures: usize,
    /// How many have to, by the rack that is here.
    pub(crate) needed: Option<u8>,
}

/// `payload verify`, `artifact verify` and `bootstrap verify`.
#[derive(Serialize, JsonSchema)]
pub(crate) struct PackageVerified {
    /// True: what a tray would refuse is an error.
    pub(crate) ok: bool,
    /// SHA-256 of its manifest.
    pub(crate) manifest: String,
}

/// `payload publish` and `artifact publish`.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Published {
    /// Its branch.
    pub(crate) branch: String,
    /// The commit with it.
    pub(crate) commit: String,
    /// False when it was published before.
    pub(crate) changed: bool,
    /// SHA-256 of its manifest.
    pub(crate) manifest: String,
}

/// `payload pin` and `artifact pin`.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Pinned {
    /// SHA-256 of the manifest.
    pub(crate) manifest: String,
    /// The files of the rack that were changed; none when it was pinned before.
    pub(crate) changed: Vec<String>,
}

/// `artifact prune`.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Pruned {
    /// False with --dry-run, and where there was nothing to do.
    pub(crate) changed: bool,
    /// What was removed from the server, or would be.
    pub(crate) removed: Vec<PrunedImage>,
    /// How many images stay because they are pinned, or the newest of their name.
    pub(crate) kept: u64,
    /// SHA-256 of the manifests that were left alone because their commits are not in this clone.
    pub(crate) unknown: Vec<String>,
}

/// One image that nothing pins.
#[derive(Serialize, JsonSchema)]
pub(crate) struct PrunedImage {
    /// Its name.
    pub(crate) name: String,
    /// Its version.
    pub(crate) version: u64,
    /// SHA-256 of its manifest.
    pub(crate) manifest: String,
}

/// `image build`.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ImageBuilt {
    /// The file.
    pub(crate) image: PathBuf,
    /// For which tray.
    pub(crate) tray: String,
    /// Of which board.
    pub(crate) board: String,
    /// `sha256:` and the digest of the first trust root.
    pub(crate) root: String,
    /// The version of the trust root in it.
    pub(crate) trust_root: u64,
    /// Bytes.
    pub(crate) size: u64,
    /// Of the whole image.
    pub(crate) sha256: String,
}

/// `check`.
#[derive(Serialize, JsonSchema, Default)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Checked {
    /// Whether trays would accept it.
    pub(crate) ok: bool,
    /// The commit that was checked.
    pub(crate) head: Option<String>,
    /// How many commits up to it are signed as they must be.
    pub(crate) commits: Option<u64>,
    /// The version of the trust root in force there.
    pub(crate) trust_root: Option<u64>,
    /// What trays would refuse.
    pub(crate) problems: Vec<Problem>,
    pub(crate) refusals: Vec<String>,
    /// What is allowed but probably not meant, and what could not be checked.
    pub(crate) warnings: Vec<String>,
    /// What was checked and is good.
    pub(crate) good: Vec<String>,
}

/// `approve`.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Approved {
    /// Which commit.
    pub(crate) commit: String,
    /// Where the approval is kept.
    pub(crate) r#ref: String,
    /// The fingerprint of the key.
    pub(crate) key: String,
}

/// `plan`.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Planned {
    /// Before.
    pub(crate) from: String,
    /// After.
    pub(crate) to: String,
    /// What changes; trays without a change are left out.
    pub(crate) trays: Vec<TrayPlan>,
    /// Files that Git does not know yet.
    pub(crate) untracked: Vec<String>,
}

/// One tray of `status`.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum TrayStatus {
    /// It answered.
    State(Box<State>),
    /// It did not.
    NoAnswer(NoAnswer),
}

/// One tray of `sync`.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum TraySync {
    /// Without `--wait`.
    Nudged(Nudged),
    /// With `--wait`.
    Waited(Waited),
    /// It did not answer.
    NoAnswer(NoAnswer),
}

/// A tray that looks for a new commit now.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Nudged {
    /// Its name.
    pub(crate) tray: String,
    /// What was in force when it was asked.
    pub(crate) head: Option<Head>,
}

/// How waiting for a tray ended.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Waited {
    /// Its name.
    pub(crate) tray: String,
    /// The commit that was waited for.
    pub(crate) commit: String,
    /// Whether the tray runs it.
    pub(crate) runs: bool,
    /// Why it is refused, when it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rejected: Option<Rejection>,
    /// What was still to be done when time was up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) waits_for: Option<String>,
}

/// A tray that did not answer.
#[derive(Serialize, JsonSchema)]
pub(crate) struct NoAnswer {
    /// Its name.
    pub(crate) tray: String,
    /// Why.
    pub(crate) error: String,
}

impl From<NoAnswer> for TrayStatus {
    fn from(no_answer: NoAnswer) -> Self {
        Self::NoAnswer(no_answer)
    }
}

impl From<NoAnswer> for TraySync {
    fn from(no_answer: NoAnswer) -> Self {
        Self::NoAnswer(no_answer)
    }
}

/// `logs`.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Log {
    /// Whose.
    pub(crate) workload: String,
    /// Where it runs.
    pub(crate) tray: String,
    /// The oldest first.
    pub(crate) lines: Vec<LogLine>,
    /// Whether lines before them are gone.
    pub(crate) lost: bool,
}

/// `completion`.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Completion {
    /// What the shell is to run.
    pub(crate) script: String,
}

/// `man`.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Manual {
    /// Where the pages are.
    pub(crate) directory: PathBuf,
}

/// JSON Schema of every answer: a property for each command, and `error` for any that failed.
pub(crate) fn schema() -> Value {
    let mut generator = SchemaSettings::draft2020_12()
        .for_serialize()
        .into_generator();
    let of = &mut generator;
    let answers = vec![
        ("error", one::<Failed>(of)),
        ("--help", one::<Text>(of)),
        ("--version", one::<Text>(of)),
        ("rack init", one::<RackMade>(of)),
        ("rack add-tray", one::<TrayAdded>(of)),
        ("rack setup", one::<SetUp>(of)),
        ("key list", one::<Vec<KeyListed>>(of)),
        ("key generate", one::<KeyMade>(of)),
        ("key fingerprint", one::<KeyShown>(of)),
        ("key add", one::<RootStep>(of)),
        ("key remove", one::<RootStep>(of)),
        ("key issue", one::<Certified>(of)),
        ("key enrol", one::<Enrolled>(of)),
        ("trust show", one::<RootShown>(of)),
        ("trust rotate", one::<RootStep>(of)),
        ("trust sign", one::<RootStep>(of)),
        ("payload build", one::<Package>(of)),
        ("artifact build", one::<ArtifactBuilt>(of)),
        ("bootstrap build", one::<Package>(of)),
        ("payload sign", one::<Signed>(of)),
        ("artifact sign", one::<Signed>(of)),
        ("bootstrap sign", one::<Signed>(of)),
        ("payload show", one::<PackageShown>(of)),
        ("artifact show", one::<PackageShown>(of)),
        ("bootstrap show", one::<PackageShown>(of)),
        ("payload verify", one::<PackageVerified>(of)),
        ("artifact verify", one::<PackageVerified>(of)),
        ("bootstrap verify", one::<PackageVerified>(of)),
        ("payload publish", one::<Published>(of)),
        ("artifact publish", one::<Published>(of)),
        ("bootstrap publish", one::<Published>(of)),
        ("payload pin", one::<Pinned>(of)),
        ("artifact pin", one::<Pinned>(of)),
        ("bootstrap pin", one::<Pinned>(of)),
        ("artifact prune", one::<Pruned>(of)),
        ("image build", one::<ImageBuilt>(of)),
        ("check", one::<Checked>(of)),
        ("approve", one::<Approved>(of)),
        ("plan", one::<Planned>(of)),
        ("status", one::<Vec<TrayStatus>>(of)),
        ("logs", one::<Log>(of)),
        ("console", one::<ConsoleRead>(of)),
        ("sync", one::<Vec<TraySync>>(of)),
        // A JSON Schema itself, or with --output nothing.
        ("schema", one::<Option<Map<String, Value>>>(of)),
        ("completion", one::<Completion>(of)),
        ("man", one::<Manual>(of)),
    ];
    let properties: Map<String, Value> = answers
        .into_iter()
        .map(|(name, schema)| (name.to_owned(), schema.to_value()))
        .collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What racklet prints with --json",
        "description": "Each property is the answer of one command; `error` is what any command prints instead when it fails before it has an answer.",
        "type": "object",
        "properties": properties,
        "$defs": generator.take_definitions(true),
    })
}

fn one<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_in_the_documents_is_that_of_what_is_printed() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/answers.schema.json");
        let kept = std::fs::read_to_string(path).unwrap_or_default();
        let made = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
        assert!(
            kept == made,
            "write it anew: racklet schema --answers > docs/answers.schema.json"
        );
    }

    #[test]
    fn every_key_is_in_camel_case() {
        fn keys<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
            match value {
                Value::Object(map) => {
                    if let Some(Value::Object(properties)) = map.get("properties") {
                        found.extend(properties.keys().map(String::as_str));
                    }
                    map.values().for_each(|value| keys(value, found));
                }
                Value::Array(list) => list.iter().for_each(|value| keys(value, found)),
                _ => {}
            }
        }
        let mut found = Vec::new();
        let mut schema = schema();
        // Above are commands, below are keys.
        let commands = schema["properties"].take();
        for part in [
            &schema["$defs"],
            &Value::Array(commands.as_object().unwrap().values().cloned().collect()),
        ] {
            let mut here = Vec::new();
            keys(part, &mut here);
            found.extend(here.into_iter().map(str::to_owned));
        }
        assert!(found.len() > 100, "{found:?}");
        for key in found {
            let good = key.starts_with(|c: char| c.is_ascii_lowercase())
                && key.chars().all(|c| c.is_ascii_alphanumeric());
            assert!(good, "{key}");
        }
    }
}

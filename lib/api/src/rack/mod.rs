// SPDX-License-Identifier: Apache-2.0
//! The rack repository's objects: from files of a verified tree to one checked [`RackState`], or to every problem found.
//!
//! ```text
//! files --yaml--> located tree --serde--> object --check--> RackState --resolve--> TrayDesired
//!        problems of one file          problems between files
//! ```
//!
//! Pure: no files, no clocks, no network. `racklet check`, the tray's init and the hypervisor all call [`load`], so
//! they cannot disagree. It is not this module's work to verify signatures; the caller hands over a tree that is.
//!
//! | file | kind |
//! | --- | --- |
//! | `rack.yaml` | `Rack` |
//! | `trays/<name>.yaml` | `Tray` |
//! | `releases/<name>.yaml` | `Release` |
//! | `networks/<name>.yaml` | `Network` |
//! | `workloads/<name>.yaml` | `MicroVM` |
//!
//! Other files are not looked at.

pub mod capacity;
mod check;
mod object;
mod plan;
mod problem;
mod resolve;
#[cfg(feature = "schema")]
mod schema;
mod state;
mod values;
mod yaml;

pub use plan::{Change, FieldChange, TrayPlan, plan};
pub use problem::{Problem, Problems};
pub use resolve::{TrayDesired, UnknownTray, resolve};
#[cfg(feature = "schema")]
pub use schema::json_schema;
pub use state::{
    Attachment, Backoff, Kernel, Network, Pin, RackState, Release, RestartPolicy, Tray, User,
    Workload,
};
pub use values::{ManifestDigest, Memory, Name, Prefix, RackId, RepositoryUrl, ValueError};

use object::{MicroVmSpec, NetworkSpec, Object, RackSpec, ReleaseSpec, TraySpec};
use serde::de::DeserializeOwned;
use yaml::Node;

/// The version of the objects, in their `apiVersion`.
pub const API_VERSION: &str = "racklet.dev/v1alpha1";

/// The most object files one repository may have, and their total size.
const MAX_FILES: usize = 4096;
const MAX_TOTAL: usize = 16 * 1024 * 1024;

const KINDS: [&str; 5] = ["Rack", "Tray", "Release", "Network", "MicroVM"];

/// An object and the file it came from.
struct Parsed<S> {
    file: String,
    object: Object<S>,
}

#[derive(Default)]
struct Repository {
    rack: Vec<Parsed<RackSpec>>,
    trays: Vec<Parsed<TraySpec>>,
    releases: Vec<Parsed<ReleaseSpec>>,
    networks: Vec<Parsed<NetworkSpec>>,
    workloads: Vec<Parsed<MicroVmSpec>>,
}

/// Whether [`load`] looks at a file of this path; callers need not read the others.
#[must_use]
pub fn is_object_file(path: &str) -> bool {
    !matches!(place(path), Place::Elsewhere)
}

/// Reads and checks a rack repository, given as paths (with `/`, from the repository's top) and contents.
pub fn load<'f, I, P>(files: I) -> Result<RackState, Problems>
where
    I: IntoIterator<Item = (P, &'f [u8])>,
    P: AsRef<str>,
{
    let mut problems = Vec::new();
    let mut repository = Repository::default();
    let (mut count, mut total) = (0usize, 0usize);
    for (path, bytes) in files {
        let path = path.as_ref();
        let kind = match place(path) {
            Place::Elsewhere => continue,
            Place::Object(kind) => kind,
            Place::Wrong(message) => {
                problems.push(Problem::new(path, None, message));
                continue;
            }
        };
        count += 1;
        total = total.saturating_add(bytes.len());
        if count > MAX_FILES || total > MAX_TOTAL {
            problems.push(Problem::new(
                path,
                None,
                format!(
                    "too much: at most {MAX_FILES} objects and {MAX_TOTAL} bytes in a repository"
                ),
            ));
            break;
        }
        if let Err(problem) = repository.add(path, kind, bytes) {
            problems.push(problem);
        }
    }
    let result = check::check(repository, &mut problems);
    match (Problems::from_list(problems), result) {
        (None, Some(state)) => Ok(state),
        (Some(problems), _) => Err(problems),
        (None, None) => unreachable!("check reports a problem whenever it gives no state"),
    }
}

enum Place {
    Elsewhere,
    Object(&'static str),
    Wrong(String),
}

/// What belongs at `path`.
fn place(path: &str) -> Place {
    if path == "rack.yaml" {
        return Place::Object("Rack");
    }
    if path == "rack.yml" {
        return Place::Wrong("call this file rack.yaml".to_owned());
    }
    let Some((folder, file)) = path.split_once('/') else {
        return Place::Elsewhere;
    };
    let kind = match folder {
        "trays" => "Tray",
        "releases" => "Release",
        "networks" => "Network",
        "workloads" => "MicroVM",
        _ => return Place::Elsewhere,
    };
    if file.contains('/') {
        return match file.rsplit_once('.') {
            Some((_, "yaml" | "yml")) => {
                Place::Wrong(format!("move this file directly into {folder}/"))
            }
            _ => Place::Elsewhere,
        };
    }
    match file.rsplit_once('.') {
        Some((_, "yaml")) => Place::Object(kind),
        Some((stem, "yml")) => Place::Wrong(format!("call this file {stem}.yaml")),
        _ => Place::Elsewhere,
    }
}

impl Repository {
    fn add(&mut self, path: &str, kind: &'static str, bytes: &[u8]) -> Result<(), Problem> {
        let root = yaml::parse(bytes)
            .map_err(|error| Problem::new(path, Some(error.at), error.message))?;
        header(path, &root, kind)?;
        match kind {
            "Rack" => self.rack.push(read(path, &root)?),
            "Tray" => self.trays.push(read(path, &root)?),
            "Release" => self.releases.push(read(path, &root)?),
            "Network" => self.networks.push(read(path, &root)?),
            _ => self.workloads.push(read(path, &root)?),
        }
        Ok(())
    }
}

/// `apiVersion` and `kind` first: with another version or kind, every other complaint would mislead.
fn header(path: &str, root: &Node, kind: &str) -> Result<(), Problem> {
    let fault = |node: &Node, message: String| Err(Problem::new(path, Some(node.at), message));
    let Some(version) = root.get("apiVersion") else {
        return fault(
            root,
            format!("`apiVersion` is missing: write `apiVersion: {API_VERSION}`"),
        );
    };
    if version.text() != Some(API_VERSION) {
        return fault(version, format!("apiVersion must be {API_VERSION}"));
    }
    let Some(found) = root.get("kind") else {
        return fault(root, format!("`kind` is missing: write `kind: {kind}`"));
    };
    match found.text() {
        Some(text) if text == kind => Ok(()),
        Some(text) if KINDS.contains(&text) => fault(
            found,
            format!("a {text} does not belong into this file; a {kind} does"),
        ),
        _ => fault(found, format!("the kind in this file must be {kind}")),
    }
}

fn read<S: DeserializeOwned>(path: &str, root: &Node) -> Result<Parsed<S>, Problem> {
    let object = Object::<S>::deserialize_node(root).map_err(|error| {
        let inside = error.path();
        let message = if inside.is_empty() {
            error.message
        } else {
            format!("{inside}: {}", error.message)
        };
        Problem::new(path, error.at.or(Some(root.at)), message)
    })?;
    Ok(Parsed {
        file: path.to_owned(),
        object,
    })
}

impl<S: DeserializeOwned> Object<S> {
    fn deserialize_node(root: &Node) -> Result<Self, yaml::de::DeError> {
        serde::Deserialize::deserialize(root)
    }
}

#[cfg(test)]
mod tests;

// SPDX-License-Identifier: Apache-2.0
//! The rack repository's objects: from files of a verified tree to one checked [`RackState`], or to every problem found.
//!
//! ```text
//! files --yaml--> located tree --serde--> object --check--> RackState --resolve--> TrayDesired
//!        problems of one file          problems between files
//! ```
//!
//! After a mistake that leaves the text readable, reading goes on with something made up in its place, so that all mistakes of a
//! file are told at once; such an object never becomes state.
//!
//! Pure: no files, no clocks, no network. `racklet check`, the tray's init and the hypervisor all call [`load`], so
//! they cannot disagree. It is not this crate's work to verify signatures; the caller hands over a tree that is.
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

#![forbid(unsafe_code)]

pub mod capacity;
mod check;
pub mod name;
mod object;
mod plan;
mod problem;
mod resolve;
#[cfg(feature = "schema")]
mod schema;
mod state;
pub mod subnet;
pub mod url;
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
use std::collections::BTreeSet;
use yaml::{Node, mend};

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
    /// The files with mistakes: in the objects read from them something is made up.
    mended: BTreeSet<String>,
}

/// Whether [`load`] looks at a file of this path; callers need not read the others.
#[must_use]
pub fn is_object_file(path: &str) -> bool {
    !matches!(place(path), Place::Elsewhere)
}

/// Reads and checks a rack repository, given as paths (with `/`, from the repository's top) and contents.
// untrusted: rack_yaml
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
        repository.add(path, kind, bytes, &mut problems);
    }
    let result = repository.check(&mut problems);
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
    /// Adds the object in `bytes`, mended where it has mistakes, which are told.
    fn add(&mut self, path: &str, kind: &'static str, bytes: &[u8], problems: &mut Vec<Problem>) {
        let before = problems.len();
        let readable = yaml::parse(bytes)
            .map_err(|error| Problem::new(path, Some(error.at), error.message))
            .and_then(|mut root| header(path, &mut root, kind, problems).map(|()| root));
        let mut root = readable.unwrap_or_else(|problem| {
            problems.push(problem);
            // Others may name the object, which is there, though nobody can say what is in it.
            Node::unread()
        });
        match kind {
            "Rack" => self.rack.extend(read(path, &mut root, problems)),
            "Tray" => self.trays.extend(read(path, &mut root, problems)),
            "Release" => self.releases.extend(read(path, &mut root, problems)),
            "Network" => self.networks.extend(read(path, &mut root, problems)),
            _ => self.workloads.extend(read(path, &mut root, problems)),
        }
        if problems.len() > before {
            self.mended.insert(path.to_owned());
        }
    }

    /// Checks objects against each other. Where some are mended, a complaint about another file has to come with and without
    /// them, so that what was made up, or is not there, makes nobody look for a mistake that is none; about a mended file
    /// it has to be about what it says.
    fn check(mut self, problems: &mut Vec<Problem>) -> Option<RackState> {
        if self.mended.is_empty() {
            return check::check(&self, problems);
        }
        let before = problems.len();
        let mut with = problems.clone();
        check::check(&self, &mut with);
        self.keep_whole();
        check::check(&self, problems);
        let without = problems.split_off(before);
        problems.extend(with.drain(before..).filter(|problem| {
            if self.mended.contains(&problem.file) {
                problem.line != mend::MADE_UP
            } else {
                without.contains(problem)
            }
        }));
        None
    }

    fn keep_whole(&mut self) {
        fn keep<S>(all: &mut Vec<Parsed<S>>, mended: &BTreeSet<String>) {
            all.retain(|parsed| !mended.contains(&parsed.file));
        }
        keep(&mut self.rack, &self.mended);
        keep(&mut self.trays, &self.mended);
        keep(&mut self.releases, &self.mended);
        keep(&mut self.networks, &self.mended);
        keep(&mut self.workloads, &self.mended);
    }
}

/// `apiVersion` and `kind` first: with another version or kind, every other complaint would mislead.
fn header(
    path: &str,
    root: &mut Node,
    kind: &str,
    problems: &mut Vec<Problem>,
) -> Result<(), Problem> {
    let fault = |node: &Node, message: String| Problem::new(path, Some(node.at), message);
    for (key, wanted) in [("apiVersion", API_VERSION), ("kind", kind)] {
        let Some(found) = root.get(key) else {
            let problem = fault(root, format!("`{key}` is missing: write `{key}: {wanted}`"));
            // The place of the file tells what is meant, so the rest can be looked at.
            if root.add(key, wanted).is_none() {
                return Err(problem);
            }
            problems.push(problem);
            continue;
        };
        match found.text() {
            Some(text) if text == wanted => {}
            _ if key == "apiVersion" => {
                return Err(fault(found, format!("apiVersion must be {API_VERSION}")));
            }
            Some(text) if KINDS.contains(&text) => {
                return Err(fault(
                    found,
                    format!("a {text} does not belong into this file; a {kind} does"),
                ));
            }
            _ => {
                return Err(fault(
                    found,
                    format!("the kind in this file must be {kind}"),
                ));
            }
        }
    }
    Ok(())
}

/// The object, if there is one after its mistakes were mended.
fn read<S: DeserializeOwned>(
    path: &str,
    root: &mut Node,
    problems: &mut Vec<Problem>,
) -> Option<Parsed<S>> {
    let top = root.at;
    let name = path.rsplit('/').next().unwrap_or(path);
    let name = name.strip_suffix(".yaml").unwrap_or(name);
    let reading = mend::read::<Object<S>>(root, name);
    let mut mistakes: Vec<Problem> = reading
        .mistakes
        .into_iter()
        .map(|error| {
            let inside = error.path();
            let message = if inside.is_empty() {
                error.message
            } else {
                format!("{inside}: {}", error.message)
            };
            Problem::new(path, error.at.or(Some(top)), message)
        })
        .collect();
    if mistakes.len() > mend::MAX_MISTAKES {
        mistakes.truncate(mend::MAX_MISTAKES);
        let message = format!(
            "this file has more mistakes than the {} told here: mend these first",
            mend::MAX_MISTAKES
        );
        mistakes.push(Problem::new(path, None, message));
    }
    problems.append(&mut mistakes);
    reading.value.map(|object| Parsed {
        file: path.to_owned(),
        object,
    })
}

#[cfg(test)]
mod tests;

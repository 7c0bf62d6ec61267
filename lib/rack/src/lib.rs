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
//! Which files are objects is said by the list of kinds, [`KINDS`]; other files are not looked at.

#![forbid(unsafe_code)]

pub mod capacity;
mod check;
mod kind;
mod located;
pub mod name;
mod plan;
mod problem;
mod report;
mod resolve;
#[cfg(feature = "schema")]
mod schema;
mod state;
pub mod subnet;
pub mod url;
mod values;
mod yaml;

pub use kind::network::Network;
pub use kind::release::Release;
pub use kind::tray::Tray;
pub use kind::workload::{Attachment, Backoff, Kernel, RestartPolicy, User, Workload};
pub use kind::{KINDS, Kind, Place};
pub use plan::{Change, FieldChange, TrayPlan, plan};
pub use problem::{Problem, Problems};
pub use resolve::{TrayDesired, UnknownTray, resolve};
#[cfg(feature = "schema")]
pub use schema::json_schemas;
pub use state::{Pin, RackState};
pub use values::{ManifestDigest, Memory, Name, Prefix, RackId, RepositoryUrl, ValueError};

use kind::{Found, Objects};
use std::collections::BTreeSet;
use yaml::{Node, mend};

/// The version of the objects, in their `apiVersion`.
pub const API_VERSION: &str = "racklet.dev/v1alpha1";

/// The most object files one repository may have, and their total size.
const MAX_FILES: usize = 4096;
const MAX_TOTAL: usize = 16 * 1024 * 1024;

/// Whether [`load`] looks at a file of this path; callers need not read the others.
#[must_use]
pub fn is_object_file(path: &str) -> bool {
    !matches!(kind::find(path), Found::Elsewhere)
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
        let kind = match kind::find(path) {
            Found::Elsewhere => continue,
            Found::Object(kind) => kind,
            Found::Wrong(message) => {
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

/// The objects of a repository, and where reading them went.
#[derive(Default)]
struct Repository {
    objects: Objects,
    /// The files with mistakes: in the objects read from them something is made up.
    mended: BTreeSet<String>,
}

impl Repository {
    /// Adds the object in `bytes`, mended where it has mistakes, which are told.
    fn add(&mut self, path: &str, kind: &Kind, bytes: &[u8], problems: &mut Vec<Problem>) {
        let before = problems.len();
        let readable = yaml::parse(bytes)
            .map_err(|error| Problem::new(path, Some(error.at), error.message))
            .and_then(|mut root| header(path, &mut root, kind, problems).map(|()| root));
        let mut root = readable.unwrap_or_else(|problem| {
            problems.push(problem);
            // Others may name the object, which is there, though nobody can say what is in it.
            Node::unread()
        });
        self.objects.read(kind, path, &mut root, problems);
        if problems.len() > before {
            self.mended.insert(path.to_owned());
        }
    }

    /// Checks objects against each other. Where some are mended, a complaint about another file has to come with and without
    /// them, so that what was made up, or is not there, makes nobody look for a mistake that is none; about a mended file
    /// it has to be about what it says.
    fn check(mut self, problems: &mut Vec<Problem>) -> Option<RackState> {
        if self.mended.is_empty() {
            return check::check(&self.objects, problems);
        }
        let before = problems.len();
        let mut with = problems.clone();
        check::check(&self.objects, &mut with);
        self.objects.retain(|file| !self.mended.contains(file));
        check::check(&self.objects, problems);
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
}

/// `apiVersion` and `kind` first: with another version or kind, every other complaint would mislead.
fn header(
    path: &str,
    root: &mut Node,
    kind: &Kind,
    problems: &mut Vec<Problem>,
) -> Result<(), Problem> {
    let fault = |node: &Node, message: String| Problem::new(path, Some(node.at), message);
    for (key, wanted) in [("apiVersion", API_VERSION), ("kind", kind.name)] {
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
            Some(text) if KINDS.iter().any(|kind| kind.name == text) => {
                return Err(fault(
                    found,
                    format!(
                        "a {text} does not belong into this file; a {} does",
                        kind.name
                    ),
                ));
            }
            _ => {
                return Err(fault(
                    found,
                    format!("the kind in this file must be {}", kind.name),
                ));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

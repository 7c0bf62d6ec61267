// SPDX-License-Identifier: Apache-2.0
//! The kinds of objects, each in a file of its own: what a person writes (its spec), what the rest of the system uses (the checked
//! type), and what can be said about one object alone. What is between objects is [`super::check`]'s work.
//!
//! A new kind is its file and a line in the list below. Where its files lie, how they are read, that they are named after
//! their object, its JSON Schema, `racklet schema`, and the tables for people follow from the list.

pub(crate) mod network;
pub(crate) mod rack;
pub(crate) mod release;
pub(crate) mod tray;
pub(crate) mod workload;

use super::located::Located;
use super::problem::Problem;
use super::values::Name;
use super::yaml::{Node, mend};
use network::NetworkSpec;
use rack::RackSpec;
use release::ReleaseSpec;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use tray::TraySpec;
use workload::MicroVmSpec;

kinds! {
    rack: RackSpec,
    trays: TraySpec,
    releases: ReleaseSpec,
    networks: NetworkSpec,
    workloads: MicroVmSpec,
}

/// What is said of a kind in one place.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// As in `kind:`.
    pub name: &'static str,
    /// As people call one object in a sentence.
    pub noun: &'static str,
    /// Where its files are.
    pub place: Place,
    /// What it is for, for tables that people read.
    pub about: &'static str,
}

/// Where a kind's objects are in the repository.
#[derive(Debug, PartialEq, Eq)]
pub enum Place {
    /// One object, in this file at the top.
    File(&'static str),
    /// One object per file in this folder at the top; a file is named after its object.
    Folder(&'static str),
}

impl Kind {
    /// The path of the object of this name.
    #[must_use]
    pub fn file(&self, name: &str) -> String {
        match self.place {
            Place::File(file) => file.to_owned(),
            Place::Folder(folder) => format!("{folder}/{name}.yaml"),
        }
    }
}

/// What a path in a rack repository is.
pub(crate) enum Found {
    /// Not looked at.
    Elsewhere,
    /// An object of this kind.
    Object(&'static Kind),
    /// Almost certainly meant to be an object; what to do about it.
    Wrong(String),
}

/// What belongs at `path`.
pub(crate) fn find(path: &str) -> Found {
    let (stem, extension) = path.rsplit_once('.').unwrap_or((path, ""));
    if !matches!(extension, "yaml" | "yml") {
        return Found::Elsewhere;
    }
    let right = format!("{stem}.yaml");
    let kind = KINDS.iter().find(|kind| match kind.place {
        Place::File(file) => file == right,
        Place::Folder(folder) => stem
            .split_once('/')
            .is_some_and(|(first, _)| first == folder),
    });
    let name = |path: &str| path.rsplit('/').next().unwrap_or(path).to_owned();
    match kind {
        None => Found::Elsewhere,
        Some(Kind {
            place: Place::Folder(folder),
            ..
        }) if stem.matches('/').count() > 1 => {
            Found::Wrong(format!("move this file directly into {folder}/"))
        }
        Some(_) if right != path => Found::Wrong(format!("call this file {}", name(&right))),
        Some(kind) => Found::Object(kind),
    }
}

/// What a person writes as the `spec` of one kind.
pub(crate) trait Spec: DeserializeOwned {
    /// The kind.
    const KIND: Kind;
}

/// An object and the file it came from.
pub(crate) struct Parsed<S> {
    pub(crate) file: String,
    pub(crate) object: Object<S>,
}

impl<S> Parsed<S> {
    pub(crate) fn name(&self) -> &Located<Name> {
        &self.object.metadata.name
    }
}

/// One rack object.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Object<S> {
    /// Always `racklet.dev/v1alpha1`; checked before the rest is read.
    #[serde(rename = "apiVersion")]
    pub(crate) _api_version: String,
    /// Which kind of object this is; checked before the rest is read.
    #[serde(rename = "kind")]
    pub(crate) _kind: String,
    /// Name and labels.
    pub(crate) metadata: Metadata,
    /// What is wanted.
    pub(crate) spec: S,
}

/// Name and labels of an object.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Metadata {
    /// The object's name; the file is named after it.
    pub(crate) name: Located<Name>,
    /// Free labels, for selectors and for people.
    #[serde(default)]
    pub(crate) labels: Option<Located<BTreeMap<String, String>>>,
}

impl Metadata {
    pub(crate) fn labels(&self) -> BTreeMap<String, String> {
        self.labels
            .as_ref()
            .map(|labels| labels.value.clone())
            .unwrap_or_default()
    }
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

/// Makes all of it out of the one list of kinds.
macro_rules! kinds {
    ($($field:ident: $spec:ty),+ $(,)?) => {
        /// All kinds.
        pub const KINDS: &[Kind] = &[$(<$spec>::KIND),+];

        /// The objects of a repository, as they were written.
        #[derive(Default)]
        pub(crate) struct Objects {
            $(pub(crate) $field: Vec<Parsed<$spec>>,)+
        }

        impl Objects {
            /// Reads `root` as an object of `kind`, mended where it has mistakes, which are told.
            pub(crate) fn read(&mut self, kind: &Kind, path: &str, root: &mut Node, problems: &mut Vec<Problem>) {
                $(if *kind == <$spec>::KIND {
                    self.$field.extend(read(path, root, problems));
                })+
            }

            /// Keeps the objects of these files.
            pub(crate) fn retain(&mut self, keep: impl Fn(&str) -> bool) {
                $(self.$field.retain(|parsed| keep(&parsed.file));)+
            }

            /// What every object has: its kind, its file, name and labels.
            pub(crate) fn each(&self) -> impl Iterator<Item = (Kind, &str, &Metadata)> {
                std::iter::empty()
                    $(.chain(self.$field.iter().map(|parsed| {
                        (<$spec>::KIND, parsed.file.as_str(), &parsed.object.metadata)
                    })))+
            }
        }

        /// The schema of every kind's objects, as their types have it.
        #[cfg(feature = "schema")]
        pub(crate) fn schemas() -> Vec<(Kind, schemars::Schema)> {
            vec![$((<$spec>::KIND, schemars::schema_for!(Object<$spec>))),+]
        }
    };
}
use kinds;

// SPDX-License-Identifier: Apache-2.0
//! What would change where: the difference between two rack states, tray by tray, for people to read.

use super::resolve::{TrayDesired, resolve};
use super::state::RackState;
use super::values::Name;
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The changes on one tray; trays without any are left out of a plan.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TrayPlan {
    /// The tray.
    pub tray: Name,
    /// In the order release, networks, workloads.
    pub changes: Vec<Change>,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "action", rename_all = "camelCase")]
pub enum Change {
    /// The object appears on this tray.
    Create {
        /// `release`, `network` or `workload`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// The object stays and changes; a changed workload is stopped and started, a changed release means a reboot.
    Update {
        /// `release`, `network` or `workload`.
        kind: &'static str,
        /// Its name.
        name: String,
        /// What is different.
        fields: Vec<FieldChange>,
    },
    /// The object disappears from this tray.
    Delete {
        /// `release`, `network` or `workload`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
}

/// One field before and after.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FieldChange {
    /// The field's name in the object.
    pub field: String,
    /// Its value before.
    pub from: Value,
    /// Its value after.
    pub to: Value,
}

/// The changes that lead from `old` (nothing, for a new rack) to `new`.
#[must_use]
pub fn plan(old: Option<&RackState>, new: &RackState) -> Vec<TrayPlan> {
    let trays: BTreeSet<&Name> = old
        .into_iter()
        .flat_map(|state| state.trays.keys())
        .chain(new.trays.keys())
        .collect();
    trays
        .into_iter()
        .filter_map(|tray| {
            let before = old.and_then(|state| resolve(state, tray).ok());
            let after = resolve(new, tray).ok();
            let changes = changes(before.as_ref(), after.as_ref());
            (!changes.is_empty()).then(|| TrayPlan {
                tray: tray.clone(),
                changes,
            })
        })
        .collect()
}

fn changes(before: Option<&TrayDesired>, after: Option<&TrayDesired>) -> Vec<Change> {
    let mut out = Vec::new();
    compare(
        "release",
        &objects(before, releases),
        &objects(after, releases),
        &mut out,
    );
    compare(
        "network",
        &objects(before, networks),
        &objects(after, networks),
        &mut out,
    );
    compare(
        "workload",
        &objects(before, workloads),
        &objects(after, workloads),
        &mut out,
    );
    out
}

type Objects = BTreeMap<String, Value>;

fn objects(tray: Option<&TrayDesired>, get: fn(&TrayDesired) -> Objects) -> Objects {
    tray.map(get).unwrap_or_default()
}

fn releases(tray: &TrayDesired) -> Objects {
    // One entry for each whatever the name, so that another payload shows as a change of it.
    let pins = [("bootstrap", &tray.bootstrap), ("payload", &tray.release)];
    pins.into_iter()
        .filter_map(|(what, pin)| Some((what.to_owned(), value(pin.as_ref()?))))
        .collect()
}

fn networks(tray: &TrayDesired) -> Objects {
    tray.networks
        .iter()
        .map(|(name, n)| (name.to_string(), value(n)))
        .collect()
}

fn workloads(tray: &TrayDesired) -> Objects {
    tray.workloads
        .iter()
        .map(|(name, w)| (name.to_string(), value(w)))
        .collect()
}

fn value<T: Serialize>(object: &T) -> Value {
    serde_json::to_value(object).expect("these types have only text keys and finite numbers")
}

fn compare(kind: &'static str, before: &Objects, after: &Objects, out: &mut Vec<Change>) {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for name in names {
        let name = name.clone();
        match (before.get(&name), after.get(&name)) {
            (None, _) => out.push(Change::Create { kind, name }),
            (_, None) => out.push(Change::Delete { kind, name }),
            (Some(from), Some(to)) if from != to => {
                let fields = fields(from, to);
                out.push(Change::Update { kind, name, fields });
            }
            _ => {}
        }
    }
}

fn fields(from: &Value, to: &Value) -> Vec<FieldChange> {
    let (Value::Object(from), Value::Object(to)) = (from, to) else {
        return Vec::new();
    };
    let names: BTreeSet<&String> = from.keys().chain(to.keys()).collect();
    names
        .into_iter()
        .filter(|name| from.get(*name) != to.get(*name))
        .map(|name| FieldChange {
            field: name.clone(),
            from: from.get(name).cloned().unwrap_or(Value::Null),
            to: to.get(name).cloned().unwrap_or(Value::Null),
        })
        .collect()
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create { kind, name } => write!(f, "+ {kind} {name}"),
            Self::Delete { kind, name } => write!(f, "- {kind} {name}"),
            Self::Update { kind, name, fields } => {
                write!(f, "~ {kind} {name}:")?;
                for (index, change) in fields.iter().enumerate() {
                    let comma = if index > 0 { "," } else { "" };
                    write!(
                        f,
                        "{comma} {} {} -> {}",
                        change.field, change.from, change.to
                    )?;
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    #[test]
    fn a_plan_names_each_tray_object_and_field() {
        let old = state(&good());
        let mut files = good();
        files.insert(
            "workloads/web.yaml".into(),
            WEB.replace("demo", "prod").replace("128Mi", "256Mi"),
        );
        files.insert(
            "workloads/api.yaml".into(),
            WEB.replace("name: web", "name: api")
                .replace("0.10", "0.11"),
        );
        let new = state(&files);
        let text = |plan: Vec<TrayPlan>| -> Vec<String> {
            plan.iter()
                .flat_map(|t| t.changes.iter().map(move |c| format!("{} {c}", t.tray)))
                .collect()
        };
        assert_eq!(
            text(plan(Some(&old), &new)),
            [
                "tray-1 + workload api",
                "tray-1 ~ workload web: env {\"MODE\":\"demo\"} -> {\"MODE\":\"prod\"}, memory \"128Mi\" -> \"256Mi\", overlay \"32Mi\" -> \"64Mi\"",
            ]
        );
        assert_eq!(
            text(plan(Some(&new), &old)).first().map(String::as_str),
            Some("tray-1 - workload api")
        );
        assert_eq!(
            text(plan(None, &old)),
            [
                "tray-1 + release payload",
                "tray-1 + network lan",
                "tray-1 + workload web"
            ]
        );
        assert_eq!(plan(Some(&old), &old), []);
    }

    #[test]
    fn another_bootstrap_is_a_change_of_the_release_and_one_that_is_no_longer_pinned_goes() {
        let mut files = good();
        let bootstrap = |digit: &str| {
            let digest = digit.repeat(64);
            format!("{RELEASE}  bootstrap: {{name: boot, manifest: sha256:{digest}}}\n")
        };
        let before = state(&files);
        files.insert("releases/stable.yaml".into(), bootstrap("1"));
        let one = state(&files);
        files.insert("releases/stable.yaml".into(), bootstrap("2"));
        let two = state(&files);
        let text = |old, new| -> Vec<String> {
            let plans = plan(Some(old), new).into_iter();
            plans
                .flat_map(|tray| tray.changes)
                .map(|change| change.to_string())
                .collect()
        };
        assert_eq!(text(&before, &one), ["+ release bootstrap"]);
        let (from, to) = ("1".repeat(64), "2".repeat(64));
        assert_eq!(
            text(&one, &two),
            [format!(
                "~ release bootstrap: manifest \"sha256:{from}\" -> \"sha256:{to}\""
            )]
        );
        assert_eq!(text(&two, &before), ["- release bootstrap"]);
    }
}

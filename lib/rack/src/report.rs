// SPDX-License-Identifier: Apache-2.0
//! Where checks say what they found.

use super::kind::Kind;
use super::located::Located;
use super::problem::Problem;
use super::values::Name;
use super::yaml::Position;
use super::yaml::word::closest;

/// Problems, after which there is no state, and warnings, which come with it.
pub(crate) struct Report<'p> {
    pub(crate) problems: &'p mut Vec<Problem>,
    pub(crate) warnings: Vec<Problem>,
}

impl Report<'_> {
    pub(crate) fn fault(&mut self, file: &str, at: Position, message: impl Into<String>) {
        self.problems.push(Problem::new(file, Some(at), message));
    }

    pub(crate) fn warn(&mut self, file: &str, at: Option<Position>, message: &str) {
        self.warnings.push(Problem::new(file, at, message));
    }

    /// A number within bounds, both included, or what stands for one that was left out.
    pub(crate) fn within(
        &mut self,
        file: &str,
        value: Option<&Located<u64>>,
        what: &str,
        (least, most): (u64, u64),
        default: u64,
    ) -> u64 {
        let Some(Located { at, value }) = value else {
            return default;
        };
        if !(least..=most).contains(value) {
            let message = format!("{what} is {value}, it must be {least} to {most}");
            self.fault(file, *at, message);
        }
        *value
    }

    /// A name that no object has.
    pub(crate) fn unknown<'n>(
        &mut self,
        file: &str,
        name: &Located<Name>,
        kind: &Kind,
        known: impl Iterator<Item = &'n Name>,
    ) {
        let known: Vec<&str> = known.map(Name::as_str).collect();
        let Located { at, value } = name;
        let help = match closest(value.as_str(), &known) {
            Some(best) => format!("; did you mean `{best}`?"),
            None => format!(": write {}, or correct the name", kind.file(value.as_str())),
        };
        let message = format!("there is no {} `{value}`{help}", kind.noun);
        self.fault(file, *at, message);
    }
}

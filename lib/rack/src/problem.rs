// SPDX-License-Identifier: Apache-2.0
//! What is wrong in a rack repository, and where.

use super::yaml::Position;
use serde::{Deserialize, Serialize};
use std::fmt;

/// One complaint: `workloads/web.yaml:7:3: spec: unknown field …`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Problem {
    /// Path inside the repository.
    pub file: String,
    /// Line from 1; 0 when the complaint is about the file as a whole.
    pub line: u32,
    /// Column from 1; 0 when the complaint is about the file as a whole.
    pub column: u32,
    /// What is wrong and, where possible, what to write instead.
    pub message: String,
}

impl Problem {
    pub(super) fn new(file: &str, at: Option<Position>, message: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line: at.map_or(0, |at| at.line),
            column: at.map_or(0, |at| at.column),
            message: message.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.message),
            line => write!(
                f,
                "{}:{}:{}: {}",
                self.file, line, self.column, self.message
            ),
        }
    }
}

/// Why a rack repository is refused: every problem found, in the order of files and lines. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problems(Vec<Problem>);

/// More are counted but not kept: a console is read by people.
const MAX_KEPT: usize = 100;

impl Problems {
    pub(super) fn from_list(mut all: Vec<Problem>) -> Option<Self> {
        all.sort();
        all.dedup();
        let extra = all.len().saturating_sub(MAX_KEPT);
        if extra > 0 {
            all.truncate(MAX_KEPT);
            all.push(Problem::new(
                "rack.yaml",
                None,
                format!("and {extra} more problems elsewhere"),
            ));
        }
        (!all.is_empty()).then_some(Self(all))
    }

    /// All problems.
    #[must_use]
    pub fn list(&self) -> &[Problem] {
        &self.0
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

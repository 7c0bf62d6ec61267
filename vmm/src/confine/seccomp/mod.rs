// SPDX-License-Identifier: Apache-2.0
//! Seccomp filters from the lists in `rules`.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

use super::rules::Test;
pub use super::rules::{Allow, Kind, rules};

/// Compiles the filter for a kind of thread: everything not listed kills the process.
pub fn filter(kind: Kind) -> Result<BpfProgram, seccompiler::Error> {
    let mut calls: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for allow in rules(kind) {
        let rules = calls.entry(allow.call).or_default();
        let conditions: Result<Vec<_>, _> =
            allow.tests.iter().map(|test| condition(*test)).collect();
        let conditions = conditions.map_err(seccompiler::Error::Backend)?;
        if !conditions.is_empty() {
            rules.push(SeccompRule::new(conditions).map_err(seccompiler::Error::Backend)?);
        }
    }
    let target = std::env::consts::ARCH
        .try_into()
        .map_err(seccompiler::Error::Backend)?;
    SeccompFilter::new(
        calls,
        SeccompAction::KillProcess,
        SeccompAction::Allow,
        target,
    )
    .and_then(BpfProgram::try_from)
    .map_err(seccompiler::Error::Backend)
}

fn condition(test: Test) -> Result<SeccompCondition, seccompiler::BackendError> {
    match test {
        Test::Equal { argument, value } => {
            SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
        }
        Test::Own { argument } => SeccompCondition::new(
            argument,
            SeccompCmpArgLen::Dword,
            SeccompCmpOp::Eq,
            u64::from(std::process::id()),
        ),
        Test::Masked {
            argument,
            mask,
            value,
        } => SeccompCondition::new(
            argument,
            SeccompCmpArgLen::Dword,
            SeccompCmpOp::MaskedEq(mask),
            value,
        ),
    }
}

/// Confines the calling thread, for good.
pub fn apply(filter: &BpfProgram) -> Result<(), seccompiler::Error> {
    seccompiler::apply_filter(filter)
}

#[cfg(test)]
mod tests;

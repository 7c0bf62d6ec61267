// SPDX-License-Identifier: Apache-2.0
//! Whether the boards of a rack can do what is asked of them.

use std::collections::BTreeMap;

use racklet_rack::RackState;

use crate::answer::Checked;

/// Refuses workloads on boards that run no microVMs.
pub(super) fn check(state: &RackState, report: &mut Checked) {
    // A board's description is TOML: read once, however many trays have it.
    let mut without: BTreeMap<&str, Option<String>> = BTreeMap::new();
    for (name, workload) in &state.workloads {
        let Some(tray) = state.trays.get(&workload.tray) else {
            continue;
        };
        let board = tray.board.as_str();
        let reason = without
            .entry(board)
            .or_insert_with(|| racklet_boards::find(board).ok()?.no_microvms);
        if let Some(reason) = reason {
            report.refusals.push(format!(
                "workloads/{name}.yaml: {} is a {board}, which runs no microVMs: {reason}",
                workload.tray
            ));
        }
    }
}

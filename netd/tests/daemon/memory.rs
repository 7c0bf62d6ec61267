// SPDX-License-Identifier: Apache-2.0
//! What netd's memory grows with.

use super::place::{network, on_a_tray, port};

/// KiB for each workload; 68 were measured. netd keeps the rules of the packet filter, to see whether they change, and makes all of them anew
/// at each change. The bound is for what would be kept beside these.
const MOST: f64 = 160.0;

/// Counted in what the kernel gives to the process alone (proc(5), smaps_rollup), with 8 workloads and then 32.
#[test]
fn a_workload_costs_netd_some_kilobytes() {
    on_a_tray(|place| {
        let lan = network("lan", &["10.80.0.1/24", "fd00:80::1/64"]);
        let add = |from: u8, to: u8| {
            for n in from..to {
                let addresses = [
                    format!("10.80.0.{}", 10 + n),
                    format!("fd00:80::{}", 10 + n),
                ];
                let port = port(
                    &format!("w{n}"),
                    10 + n,
                    &addresses.each_ref().map(String::as_str),
                );
                place.attach(&lan, &port);
            }
            place.own_memory()
        };
        let (few, many) = (add(0, 8), add(8, 32));
        let each = (many as f64 - few as f64) / 24.0;
        println!("8 workloads: {few} KiB, 32: {many} KiB, {each:.1} KiB each");
        assert!(each <= MOST, "{each} KiB a workload");
    });
}

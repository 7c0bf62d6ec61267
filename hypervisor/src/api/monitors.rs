// SPDX-License-Identifier: Apache-2.0
//! Asks the monitors what they have counted.

use crate::options::Options;
use racklet_api::V1;
use racklet_api::vmm::metrics::VmMetrics;
use racklet_api::vmm::{ControlAction, ControlReply, ControlRequest};
use std::time::Duration;

/// What a monitor is given for its answer, which takes it well below a millisecond: on a tray under load it may have to wait for a
/// processor.
const ANSWER: Duration = Duration::from_millis(500);

/// Asks all of them at once, so that one which does not answer costs its own counters and no more than [`ANSWER`]. A workload
/// without a monitor, or with one that is silent, is not among the answers.
pub(super) fn ask<'a>(
    options: &Options,
    names: impl Iterator<Item = &'a str>,
) -> Vec<(String, VmMetrics)> {
    std::thread::scope(|scope| {
        let asked: Vec<_> = names
            .map(|name| scope.spawn(move || Some((name.to_owned(), one(options, name)?))))
            .collect();
        let answers = asked.into_iter().map(std::thread::ScopedJoinHandle::join);
        answers.filter_map(|joined| joined.ok().flatten()).collect()
    })
}

fn one(options: &Options, name: &str) -> Option<VmMetrics> {
    let socket = options.vm(name).join("control.sock");
    let request = ControlRequest {
        v: V1,
        action: ControlAction::Metrics,
    };
    match racklet_line::ask(&socket, &request, ANSWER) {
        Ok(ControlReply::Metrics(metrics)) => Some(metrics),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use racklet_api::vmm::metrics::{BalloonMetrics, BootTimes, CallCounts, ExitCounts};
    use std::io::BufReader;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_monitor_that_does_not_answer_costs_nobody_elses_counters() {
        let folder = tempfile::tempdir().unwrap();
        let options = Options {
            run: folder.path().into(),
            ..Options::default()
        };
        let listen = |name| {
            std::fs::create_dir_all(options.vm(name)).unwrap();
            UnixListener::bind(options.vm(name).join("control.sock")).unwrap()
        };
        let _deaf = listen("deaf");
        let good = listen("good");
        let counted = VmMetrics {
            v: V1,
            devices: Vec::new(),
            exits: ExitCounts {
                other: 3,
                ..ExitCounts::default()
            },
            balloon: BalloonMetrics::default(),
            calls: CallCounts::default(),
            boot: BootTimes::default(),
        };
        let answer = ControlReply::Metrics(counted.clone());
        let monitor = std::thread::spawn(move || {
            let (stream, _) = good.accept().unwrap();
            let asked: Option<ControlRequest> =
                racklet_line::read(&mut BufReader::new(&stream)).unwrap();
            racklet_line::write(&mut &stream, &answer).unwrap();
            asked.unwrap().action
        });
        let answers = ask(&options, ["deaf", "gone", "good"].into_iter());
        assert_eq!(answers, [("good".to_owned(), counted)]);
        assert_eq!(monitor.join().unwrap(), ControlAction::Metrics);
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The program: its arguments, which exist for tests, and how it ends.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use racklet_netd::{Options, run, say};
use racklet_tell::error::chain;

fn main() -> ExitCode {
    let options = match options(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            say(&error);
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!(
                "{}; ending, to be started again",
                chain(error.as_ref())
            ));
            ExitCode::FAILURE
        }
    }
}

fn options(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options {
        tray: "/racklet/tray.json".into(),
        handoff: "/racklet/handoff.json".into(),
        resolv_conf: "/etc/resolv.conf".into(),
        run: "/run/racklet".into(),
    };
    while let Some(argument) = arguments.next() {
        let place = match argument.as_str() {
            "--tray" => &mut options.tray,
            "--handoff" => &mut options.handoff,
            "--resolv-conf" => &mut options.resolv_conf,
            "--run" => &mut options.run,
            _ => {
                return Err(format!(
                    "unknown argument `{argument}`; known are --tray, --handoff, --resolv-conf and --run, each with a path"
                ));
            }
        };
        *place = arguments
            .next()
            .ok_or_else(|| format!("{argument} needs a path"))?
            .into();
    }
    Ok(options)
}

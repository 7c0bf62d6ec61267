// SPDX-License-Identifier: Apache-2.0
//! A monitor without a machine, for tests of how monitors are supervised: it reads the same `config.json` and `guest.cpio`, writes
//! the same `status.json` and logs, and answers on the same `control.sock`. What it does depends on the command:
//!
//! | command | behaviour |
//! | --- | --- |
//! | `run` | up until it is asked to stop |
//! | `exit N` | up, then ends with code N |
//! | `stubborn` | up, and does not obey |
//! | `vanish` | up, then gone without a word |
//! | `together N` | up, and neither answers nor obeys before N of them were asked to stop |

use racklet_api::V1;
use racklet_api::guest::{CommandEnd, GuestConfig};
use racklet_api::vmm::metrics::{BalloonMetrics, BootTimes, CallCounts, ExitCounts, VmMetrics};
use racklet_api::vmm::{ControlAction, ControlReply, ControlRequest, VmConfig, VmState, VmStatus};
use std::io::BufReader;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::{fs, process};

fn main() {
    let folder = PathBuf::from(std::env::args_os().nth(1).expect("a folder"));
    let config: VmConfig =
        serde_json::from_slice(&fs::read(folder.join("config.json")).expect("config.json"))
            .expect("a good config.json");
    for file in config
        .initramfs
        .iter()
        .chain(config.disks.iter().map(|d| &d.path))
        .chain(&config.kernel)
    {
        assert!(file.exists(), "{} is not there", file.display());
    }
    let guest = guest(&folder);
    let listener = UnixListener::bind(folder.join("control.sock")).expect("control.sock");
    say(&folder, VmState::Up);
    let line = format!(
        "{{\"time_ms\":1,\"stream\":\"stdout\",\"line\":\"{}\"}}\n",
        guest.command.join(" ")
    );
    fs::write(folder.join("workload.log"), line).expect("workload.log");
    match guest.command[0].as_str() {
        "exit" => {
            let code = guest.command[1].parse().expect("a code");
            let end = CommandEnd::Code { code };
            say(
                &folder,
                VmState::Exited {
                    end,
                    stopped: false,
                },
            );
            process::exit(0);
        }
        "vanish" => process::exit(70),
        _ => {}
    }
    for stream in listener.incoming() {
        let stream = stream.expect("a connection");
        let request: ControlRequest = racklet_line::read(&mut BufReader::new(&stream))
            .expect("reads")
            .expect("asks");
        let stop = matches!(request.action, ControlAction::Stop { .. });
        if stop && guest.command[0] == "together" {
            fs::write(folder.join("asked"), "").expect("asked");
            // Those that see it first end, and their folders go: they leave word for the others.
            let all = folder.join("../../all-asked");
            while !all.exists() && asked(&folder) < guest.command[1].parse().expect("a number") {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            fs::write(all, "").expect("all asked");
        }
        let status = VmStatus {
            v: V1,
            pid: process::id(),
            since_ms: 1,
            lacks: lacks(),
            paused: false,
            state: VmState::Up,
        };
        let answer = match request.action {
            ControlAction::Metrics => ControlReply::Metrics(counted()),
            _ => ControlReply::Status(status),
        };
        // Whoever asked may have gone: the order counts as given.
        let _ = racklet_line::write(&mut &stream, &answer);
        if stop && guest.command[0] != "stubborn" {
            let end = CommandEnd::Code { code: 0 };
            say(&folder, VmState::Exited { end, stopped: true });
            process::exit(0);
        }
    }
}

/// As of a guest that left its processor once.
fn counted() -> VmMetrics {
    VmMetrics {
        v: V1,
        devices: Vec::new(),
        exits: ExitCounts {
            other: 1,
            ..ExitCounts::default()
        },
        balloon: BalloonMetrics::default(),
        calls: CallCounts::default(),
        boot: BootTimes::default(),
    }
}

/// How many monitors of this tray were asked to stop.
fn asked(folder: &Path) -> usize {
    let all = fs::read_dir(folder.parent().expect("folders are in one")).expect("lists");
    all.flatten()
        .filter(|vm| vm.path().join("asked").exists())
        .count()
}

/// As on a kernel without Landlock.
fn lacks() -> Vec<String> {
    vec!["this kernel has no Landlock".to_owned()]
}

fn say(folder: &Path, state: VmState) {
    let status = VmStatus {
        v: V1,
        pid: process::id(),
        since_ms: 1,
        lacks: lacks(),
        paused: false,
        state,
    };
    fs::write(
        folder.join("status.new"),
        serde_json::to_vec(&status).expect("json"),
    )
    .expect("status");
    fs::rename(folder.join("status.new"), folder.join("status.json")).expect("status");
}

/// The guest's configuration, found in the archive by its first bytes.
fn guest(folder: &Path) -> GuestConfig {
    let archive = fs::read(folder.join("guest.cpio")).expect("guest.cpio");
    let start = archive
        .windows(7)
        .position(|w| w == b"{\"v\":1,")
        .expect("guest.json");
    let mut values = serde_json::Deserializer::from_slice(&archive[start..]).into_iter();
    values
        .next()
        .expect("guest.json")
        .expect("a good guest.json")
}

// SPDX-License-Identifier: Apache-2.0
//! MicroVMs on arm64 for real, once with each version of the interrupt controller: version 3 as servers have it, version 2 as a
//! Raspberry Pi has it. What differs from `microvm.rs` is below `vmm/src/arch`; what it may touch is tested here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use racklet_tests::board::board;
use racklet_tests::nested::{self, exited, has, lines, two_went_on};
use serde_json::{Value, json};

type Outcomes = BTreeMap<String, Value>;

/// Few, for an emulated machine inside an emulated machine needs ten seconds for a start.
const CASES: [&str; 10] = [
    "hello",
    "compressed_two_cpus",
    "devices",
    "disk_room",
    "disk_added",
    "stop",
    "restored",
    "quietly_off",
    "quietly_again",
    "guest_panic",
];

fn run(gic: u8) -> Outcomes {
    let mut board = board();
    let emulator = board.emulator.as_mut().expect("an emulator has it");
    let version = format!("gic-version={gic}");
    for word in &mut emulator.machine {
        *word = word.replace("gic-version=2", &version);
    }
    assert!(emulator.machine.iter().any(|word| word.ends_with(&version)));
    let folder = tempfile::Builder::new()
        .prefix("microvm-arm64-")
        .tempdir()
        .expect("a scratch folder")
        .keep();
    eprintln!("console and logs: {}", folder.display());
    let outcomes =
        nested::run_watched(&board, &folder, &CASES).expect("the machine runs to its end");
    std::fs::remove_dir_all(&folder).expect("the scratch folder is ours");
    outcomes
}

/// One machine for each version of the controller runs all cases; each test looks at its own.
fn outcomes(case: &str) -> [&'static Value; 2] {
    static OUTCOMES: [OnceLock<Outcomes>; 2] = [OnceLock::new(), OnceLock::new()];
    [(2, &OUTCOMES[0]), (3, &OUTCOMES[1])].map(|(gic, of)| {
        let outcomes = of.get_or_init(|| run(gic));
        outcomes
            .get(case)
            .unwrap_or_else(|| panic!("no outcome of {case}: {:?}", outcomes.keys()))
    })
}

#[test]
fn a_command_sees_what_was_configured_and_its_code_and_output_come_back() {
    for ended in outcomes("hello") {
        exited(ended, 3);
        for line in [
            r#"arguments ["a b", "ü"]"#,
            "colour green",
            "host hello",
            "folder /tmp",
            "Uid: 33 33 33 33",
            "serial root",
            "rng virtio_rng.0",
            "clock arch_sys_counter",
            "no newline at the end",
        ] {
            has(ended, line);
        }
    }
}

#[test]
fn the_guest_knows_the_time() {
    for ended in outcomes("hello") {
        let said = lines(ended)
            .into_iter()
            .find_map(|l| l.strip_prefix("time "));
        let guest: i64 = said.expect("it said the time").parse().unwrap();
        let host = ended["host_time_s"].as_i64().unwrap();
        assert!((guest - host).abs() < 60, "guest {guest}, host {host}");
    }
}

#[test]
fn a_compressed_kernel_boots_on_two_processors() {
    for ended in outcomes("compressed_two_cpus") {
        exited(ended, 3);
        has(ended, "cpus 2");
        has(ended, "online 0-1");
    }
}

#[test]
fn a_mebibyte_goes_through_the_tap_and_through_vsock_and_back() {
    for ended in outcomes("devices") {
        exited(ended, 0);
        for line in [
            "echo true",
            "resolv nameserver 10.9.0.1",
            "inet6 true",
            "vsock echo true",
        ] {
            has(ended, line);
        }
    }
}

#[test]
fn what_is_written_to_a_disk_is_in_the_file_and_nowhere_else() {
    for ended in outcomes("devices") {
        for line in ["serial data-1", "sectors 16384", "back true", "root true"] {
            has(ended, line);
        }
        assert_eq!(
            (&ended["pattern_in_file"], &ended["rest_is_zero"]),
            (&json!(true), &json!(true))
        );
    }
}

#[test]
fn a_stop_lets_the_command_finish() {
    for case in outcomes("stop") {
        exited(&case["ended"], 0);
        assert_eq!(case["ended"]["status"]["stopped"], true);
        has(&case["ended"], "asked to end");
    }
}

#[test]
fn a_busy_guests_snapshot_restored_twice_goes_on_as_two_machines() {
    for case in outcomes("restored") {
        two_went_on(case);
    }
}

#[track_caller]
fn named(ended: &Value, code: u8, state: &str) {
    assert_eq!(
        (&ended["code"], &ended["status"]["state"]),
        (&json!(code), &json!(state)),
        "{ended:#}"
    );
}

#[test]
fn a_guest_that_switches_itself_off_or_restarts_is_named_so_without_a_word_on_its_console() {
    for (case, code, state) in [
        ("quietly_off", 14, "powered-off"),
        ("quietly_again", 15, "rebooted"),
    ] {
        for ended in outcomes(case) {
            named(ended, code, state);
            let console = ended["console"].as_array().expect("a list");
            let words = |line: &Value| line.as_str().is_some_and(|l| l.contains("reboot:"));
            assert!(!console.iter().any(words), "{ended:#}");
        }
    }
}

#[test]
fn a_guest_kernel_panic_is_a_crash_with_the_kernels_words() {
    for ended in outcomes("guest_panic") {
        named(ended, 10, "crashed");
        let reason = ended["status"]["reason"].as_str().unwrap();
        assert!(
            reason.starts_with("guest kernel: Kernel panic - not syncing"),
            "{reason}"
        );
    }
}

#[test]
fn each_rule_of_the_filters_on_arm64_is_needed_by_some_guest() {
    // One controller's registers are read otherwise than the other's.
    let never = outcomes("rules").map(|rules| {
        assert!(rules["needed"].as_u64() > Some(20), "{rules}");
        let never = rules["never"].as_array().expect("a list");
        BTreeSet::from_iter(never.iter().map(ToString::to_string))
    });
    let [one, other] = &never;
    let never: Vec<_> = one.intersection(other).collect();
    assert!(never.is_empty(), "nothing needs {never:#?}");
}

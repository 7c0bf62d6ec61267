// SPDX-License-Identifier: Apache-2.0
//! MicroVMs for real: what happens in a guest, what the monitor says about it, and what it could still do if it were hostile.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;

use racklet_tests::nested::{self, Time, exited, has, lines, two_went_on};
use racklet_tests::qemu::Accelerator;
use serde_json::{Value, json};

/// One machine runs all cases; each test looks at its own.
fn outcome(case: &str) -> &'static Value {
    static OUTCOMES: OnceLock<BTreeMap<String, Value>> = OnceLock::new();
    let outcomes = OUTCOMES.get_or_init(|| {
        let folder = tempfile::Builder::new()
            .prefix("microvm-")
            .tempdir()
            .expect("a scratch folder")
            .keep();
        eprintln!("console and logs: {}", folder.display());
        let mut outcomes =
            nested::run(&folder, &[], Time::Real).expect("the machine runs to its end");
        let again = fell_over(&outcomes);
        if !again.is_empty() {
            eprintln!("once more, for a guest fell into a triple fault: {again:?}");
            let again: Vec<&str> = again.iter().map(String::as_str).collect();
            outcomes.extend(
                nested::run(&folder, &again, Time::Real).expect("the machine runs to its end"),
            );
        }
        remove(&folder);
        outcomes
    });
    outcomes
        .get(case)
        .unwrap_or_else(|| panic!("no outcome of {case}: {:?}", outcomes.keys()))
}

/// The cases that are run a second time, in a machine of their own: a guest of theirs fell into a triple fault, as no guest here is
/// meant to. In emulated SVM one in about a thousand guests did, one that had been well for a second and said nothing of it (QEMU
/// 10.0.2, TCG; cause unknown). Two at once, or one without emulation, are the monitor's fault.
fn fell_over(outcomes: &BTreeMap<String, Value>) -> Vec<String> {
    let fell: Vec<String> = outcomes
        .iter()
        .filter(|(_, outcome)| outcome.to_string().contains("triple fault"))
        .map(|(name, _)| name.clone())
        .collect();
    match Accelerator::chosen() {
        Accelerator::Tcg if fell.len() == 1 => fell,
        _ => vec![],
    }
}

fn remove(folder: &Path) {
    std::fs::remove_dir_all(folder).expect("the scratch folder is ours");
}

#[test]
fn once_loading_is_switched_off_not_even_root_loads_a_kernel_module() {
    let outcome = outcome("one_more_module");
    assert_eq!(outcome["loaded"], false, "{outcome}");
    // On one maker's processor one of two modules is there, and it nests nothing. AMD's says a number, Intel's a letter.
    let nested = outcome["nested"].as_array().expect("a list");
    assert!(!nested.is_empty(), "{outcome}");
    assert!(nested.iter().all(|n| n == "0" || n == "N"), "{outcome}");
    // EPERM, and not that the file is no module.
    let error = outcome["error"].as_str().unwrap_or_default();
    assert!(error.contains("os error 1)"), "{outcome}");
}

#[test]
fn a_command_sees_what_was_configured_and_its_code_and_output_come_back() {
    let ended = outcome("hello");
    exited(ended, 3);
    for line in [
        r#"arguments ["a b", "ü"]"#,
        "colour green",
        "host hello",
        "folder /tmp",
        "Uid: 33 33 33 33",
        "Gid: 34 34 34 34",
        "serial root",
        "rng virtio_rng.0",
        "clock kvm-clock",
        "virtualization false",
        "leader true",
        "no newline at the end",
    ] {
        has(ended, line);
    }
    let errors: Vec<&Value> = ended["lines"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|l| l["stream"] == "stderr")
        .map(|l| &l["line"])
        .collect();
    assert_eq!(errors, ["to standard error"]);
}

#[test]
fn the_guest_knows_the_time() {
    let ended = outcome("hello");
    let text = lines(ended)
        .into_iter()
        .find_map(|l| l.strip_prefix("time "))
        .expect("it said the time");
    let (guest, host): (i64, i64) = (
        text.parse().unwrap(),
        ended["host_time_s"].as_i64().unwrap(),
    );
    assert!((guest - host).abs() < 60, "guest {guest}, host {host}");
}

#[test]
fn a_compressed_kernel_boots_on_two_processors() {
    let ended = outcome("compressed_two_cpus");
    exited(ended, 3);
    has(ended, "cpus 2");
    has(ended, "online 0-1");
}

#[test]
fn a_root_without_overlay_is_read_only() {
    let ended = outcome("read_only");
    exited(ended, 1);
    assert!(lines(ended)[0].contains("Read-only"), "{ended:#}");
}

#[test]
fn a_mebibyte_goes_through_the_tap_and_back() {
    let ended = outcome("network");
    exited(ended, 0);
    for line in [
        "echo true",
        "resolv nameserver 10.9.0.1",
        "routes 2",
        "inet6 true",
    ] {
        has(ended, line);
    }
}

#[test]
fn what_is_written_to_a_disk_is_in_the_file_and_nowhere_else() {
    let ended = outcome("disk");
    exited(ended, 0);
    for line in ["serial data-1", "sectors 16384", "back true", "root true"] {
        has(ended, line);
    }
    assert_eq!(
        (&ended["pattern_in_file"], &ended["rest_is_zero"]),
        (&json!(true), &json!(true))
    );
}

/// What fio or iperf3 said in a line that begins with this: each number by the word before it.
#[track_caller]
fn counted(ended: &Value, name: &str) -> BTreeMap<String, u64> {
    let line = lines(ended)
        .into_iter()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
        .unwrap_or_else(|| panic!("it said nothing of {name}: {ended:#}"));
    let words: Vec<&str> = line.split(' ').collect();
    let pairs = words.chunks(2).map(|pair| {
        // A share in percent has a fraction.
        let whole = pair[1].split('.').next().expect("there is a first");
        (pair[0].to_owned(), whole.parse().expect("a number"))
    });
    pairs.collect()
}

#[test]
fn fio_reads_back_what_it_wrote_to_two_disks_at_once_between_flushes_and_discards() {
    let case = outcome("fio");
    let all = 4 << 20;
    exited(&case["good"], 0);
    for (job, trimmed) in [("plain", 0), ("trims", all)] {
        let job = counted(&case["good"], job);
        let of = |what: &str| job[what];
        assert_eq!(
            (of("error"), of("read"), of("written"), of("trimmed")),
            (0, all, all, trimmed)
        );
        assert!(of("deepest") > 0, "eight at once: {job:?}");
    }
    assert!(counted(&case["good"], "plain")["flushes"] >= 4);
    for device in &case["metrics"]["metrics"]["devices"].as_array().unwrap()[..3] {
        assert_eq!(
            (&device["refused"], &device["failed"]),
            (&json!(0), &json!(0)),
            "{device}"
        );
    }
}

#[test]
fn fio_notices_one_bit_of_a_disk_that_is_not_what_was_written() {
    let altered = &outcome("fio")["altered"];
    exited(altered, 1);
    // EILSEQ.
    assert_eq!(counted(altered, "plain")["error"], 84);
}

#[test]
fn iperf3_sends_all_of_its_bytes_to_a_guest_and_from_it_and_hardly_any_twice() {
    let case = outcome("iperf");
    exited(&case["ended"], 0);
    let all = 16 << 20;
    for way in ["out", "in"] {
        let stream = counted(&case["ended"], way);
        assert_eq!(stream["sent"], all, "{stream:?}");
        // Of some 11,600 segments of 1,448 bytes.
        assert!(stream["again"] <= 116, "{way}: {stream:?}");
        // The host's iperf3 does not count what comes behind its client's word that this was all: 1.4 % of it, once.
        let least = if way == "in" { all } else { all / 10 * 9 };
        assert!(stream["received"] >= least, "{way}: {stream:?}");
    }
    let card = &case["metrics"]["metrics"]["devices"][1];
    assert_eq!(
        (&card["refused"], &card["failed"]),
        (&json!(0), &json!(0)),
        "{card}"
    );
}

#[test]
fn what_a_guest_removes_or_zeroes_is_room_for_the_host_again() {
    let case = outcome("disk_room");
    exited(&case["ended"], 0);
    has(&case["ended"], "zeroes true");
    let kib = |when: &str| case[when].as_u64().unwrap();
    // A file of 4 MiB was removed from a file system mounted with `discard`; a MiB zeroed after that may have been its.
    assert!(kib("before_kib") >= 16 << 10, "{case:#}");
    assert!(
        kib("after_kib") + (2 << 10) <= kib("before_kib"),
        "{case:#}"
    );
}

#[test]
fn a_disk_with_a_limit_is_as_slow_for_its_guest() {
    let case = outcome("disk_room");
    let text = lines(&case["ended"])
        .into_iter()
        .find_map(|line| line.strip_prefix("read_ms "))
        .expect("it said how long it took");
    // 4 MiB at 1 MiB a second, of which at most 1 MiB was saved.
    assert!(text.parse::<u64>().unwrap() >= 2900, "{text}");
    let disk = &case["metrics"]["metrics"]["devices"][1];
    assert!(disk["throttled"].as_u64() > Some(2), "{disk}");
}

#[test]
fn a_running_guest_sees_how_large_its_disk_has_become() {
    let case = outcome("disk_room");
    let refused = case["too_large"]["error"]["reason"].as_str().unwrap();
    assert!(refused.contains("grows_to"), "{refused}");
    assert_eq!(case["resized"]["resized"]["bytes"], 17 << 20, "{case:#}");
    has(&case["ended"], "sectors 34816");
}

#[test]
fn a_running_guest_gets_a_disk_gives_it_back_whole_and_gets_another_in_its_place() {
    let case = outcome("disk_added");
    exited(&case["ended"], 0);
    assert_eq!(case["first"]["attached"]["disk"], 1, "{case:#}");
    assert_eq!(case["detached"]["detached"]["disk"], 1, "{case:#}");
    assert_eq!(case["second"]["attached"]["disk"], 1, "{case:#}");
    assert_eq!(case["clean"], true, "{case:#}");
    for said in [
        "sectors 0",
        "sectors 32768",
        "serial late",
        "nothing 0",
        "program true",
        "written false",
    ] {
        has(&case["ended"], said);
    }
}

#[test]
fn an_overlay_on_a_disk_outlives_its_vm() {
    let both = outcome("overlay_on_disk");
    has(&both["first"], "count 1");
    has(&both["second"], "count 2");
    assert_eq!(both["clean"], true, "{both:#}");
}

#[test]
fn a_thousand_connections_of_a_guest_are_open_at_once_and_end_by_halves() {
    let outcome = outcome("crowd");
    exited(&outcome["ended"], 0);
    has(&outcome["ended"], "connections 1000 good 1000");
    assert_eq!(
        (&outcome["accepted"], &outcome["good"]),
        (&json!(1000), &json!(1000))
    );
    let descriptors = outcome["descriptors"].as_u64().unwrap_or_default();
    assert!((1000..1100).contains(&descriptors), "{outcome:#}");
}

#[test]
fn the_host_opens_connections_to_a_guest_that_end_by_halves_and_hears_at_once_where_nobody_listens()
{
    let outcome = outcome("host_calls");
    exited(&outcome["ended"], 0);
    has(&outcome["ended"], "taken 200");
    assert_eq!(outcome["good"], 200, "{outcome:#}");
    assert_eq!(outcome["nobody"], "unexpected end of file");
    // Well before the monitor gives up: the guest's own refusal.
    let refused = outcome["refused_ms"].as_u64();
    assert!(refused.is_some_and(|ms| ms < 5000), "{outcome:#}");
    let boot = &outcome["metrics"]["metrics"]["boot"];
    let stages = ["entered_us", "console_us", "guest_init_us"].map(|stage| boot[stage].as_u64());
    assert!(stages[0].is_some() && stages.is_sorted(), "{boot}");
    let calls = &outcome["metrics"]["metrics"]["calls"];
    assert_eq!(*calls, json!({"taken": 200, "refused": 1}), "{outcome:#}");
}

#[test]
fn memory_that_a_guest_used_and_freed_is_the_hosts_again() {
    let outcome = outcome("memory");
    exited(&outcome["ended"], 0);
    has(&outcome["ended"], "used 64");
    let kib = |name: &str| {
        outcome[name]
            .as_u64()
            .unwrap_or_else(|| panic!("{outcome:#}"))
    };
    // Free areas of less than 128 KiB are not reported, and the guest's kernel has its own use for some memory.
    assert!(kib("used") > 64 << 10, "{outcome:#}");
    assert!(kib("freed") + (48 << 10) <= kib("used"), "{outcome:#}");
}

#[test]
fn a_power_button_ends_a_guest_in_order_and_is_refused_where_nobody_hears_it() {
    let outcome = outcome("power_off");
    let reason = outcome["early"]["error"]["reason"].as_str();
    assert!(
        reason.is_some_and(|r| r.contains("guest-init has not called")),
        "{outcome:#}"
    );
    assert_eq!(outcome["answer"]["status"]["state"], "up", "{outcome:#}");
    exited(&outcome["ended"], 0);
    assert_eq!(outcome["ended"]["status"]["stopped"], true, "{outcome:#}");
    has(&outcome["ended"], "asked to end");
}

#[test]
fn a_guest_is_asked_to_do_without_memory_and_does() {
    let outcome = outcome("memory");
    let balloon = |name: &str| &outcome[name]["balloon"];
    let reason = outcome["too_much"]["error"]["reason"].as_str();
    assert!(
        reason.is_some_and(|r| r.contains("more than 96")),
        "{outcome:#}"
    );
    assert_eq!(
        balloon("ordered"),
        &json!({"target_mib": 48, "actual_mib": 0})
    );
    assert_eq!(outcome["inflated"], true, "{outcome:#}");
    let told = &outcome["told"];
    assert_eq!(
        (&told["target_mib"], &told["actual_mib"]),
        (&json!(48), &json!(48))
    );
    // A driver that may take pages out again goes on counting them (`fill_balloon`, drivers/virtio/virtio_balloon.c).
    let said = |what: &str| told["guest"][what].as_u64().expect("it said so");
    let (total, available) = (said("total"), said("available"));
    assert!((90 << 20..128 << 20).contains(&total), "{outcome:#}");
    assert!(
        available > 0 && available < total - (48 << 20),
        "{outcome:#}"
    );
    // 64 MiB that were free, and 48 in the balloon.
    assert!(
        told["given_back"]
            .as_u64()
            .is_some_and(|bytes| bytes > 96 << 20),
        "{outcome:#}"
    );
    assert_eq!(
        balloon("undone"),
        &json!({"target_mib": 0, "actual_mib": 48})
    );
    assert_eq!(outcome["deflated"], true, "{outcome:#}");
}

#[test]
fn a_command_that_does_not_exist_is_reported_as_not_started() {
    let ended = outcome("not_found");
    assert_eq!(ended["code"], 0);
    assert_eq!(ended["status"]["end"], "not-started", "{ended:#}");
    assert!(
        ended["status"]["reason"]
            .as_str()
            .unwrap()
            .contains("/bin/nothing")
    );
}

#[test]
fn a_command_ended_by_a_signal_is_reported_as_such() {
    let status = &outcome("signal")["status"];
    assert_eq!(
        (&status["end"], &status["signal"]),
        (&json!("signal"), &json!(6)),
        "{status:#}"
    );
}

#[test]
fn a_workload_without_privileges_is_not_taken_for_the_agent() {
    let ended = outcome("be_agent");
    exited(ended, 5);
    has(ended, "taken for the agent: false");
}

#[test]
fn a_guest_that_switches_itself_off_or_restarts_is_named_so() {
    for (case, code, state) in [
        ("switched_off", 14, "powered-off"),
        ("restarted", 15, "rebooted"),
    ] {
        let ended = outcome(case);
        assert_eq!(
            (&ended["code"], &ended["status"]["state"]),
            (&json!(code), &json!(state)),
            "{ended:#}"
        );
    }
}

#[test]
fn a_guest_that_hangs_is_ended_where_its_workload_wants_a_watchdog_and_a_quiet_one_is_not() {
    let case = outcome("watchdog");
    let hung = &case["hung"];
    assert_eq!(
        (&hung["code"], &hung["status"]["state"]),
        (&json!(10), &json!("crashed")),
        "{case:#}"
    );
    let reason = hung["status"]["reason"].as_str().expect("text");
    assert!(reason.contains("no sign of life for 10 s"), "{reason}");
    assert_eq!(case["well"]["state"], "up", "{case:#}");
}

#[test]
fn the_last_lines_arrive_however_slow_monitor_and_guest_are() {
    for (case, count) in [("flood_stopped", 5_000), ("flood_slow", 3_000)] {
        let ended = outcome(case);
        exited(ended, 0);
        let last = format!("line {:08} of a workload that talks a lot", count - 1);
        assert_eq!(
            lines(ended).last(),
            Some(&last.as_str()),
            "{case}: {ended:#}"
        );
        assert_eq!(ended["line_count"], count, "{case}");
    }
}

#[test]
fn a_talkative_command_fills_its_bound_and_its_last_line_arrives() {
    let ended = outcome("flood");
    exited(ended, 0);
    assert_eq!(
        lines(ended).last(),
        Some(&"line 00019999 of a workload that talks a lot")
    );
    for size in ended["sizes"].as_array().unwrap() {
        assert!(size.as_u64().unwrap() <= 65_536, "{ended:#}");
    }
}

#[test]
fn a_service_of_the_host_is_reached_over_vsock() {
    let ended = outcome("vsock");
    exited(ended, 0);
    has(ended, "vsock echo true");
}

#[test]
fn the_monitor_has_no_privileges_and_sees_only_its_folder() {
    let seen = &outcome("confined")["seen"];
    assert_eq!(seen["up"], true, "{seen:#}");
    let threads = seen["threads"].as_array().unwrap();
    // The event loop, one vCPU, one disk, the saver, and on newer kernels a worker of KVM's own in the monitor's name.
    assert!((4..=5).contains(&threads.len()), "{seen:#}");
    for thread in threads {
        let expected = json!({
            "uid": "7001 7001 7001 7001", "gid": "7001 7001 7001 7001", "groups": "", "seccomp": "2",
            "permitted": "0000000000000000", "bounding": "0000000000000000", "no_new_privs": "1",
        });
        assert_eq!(*thread, expected);
    }
    assert_eq!(
        seen["namespaces"],
        json!(["mnt", "net", "ipc", "uts", "cgroup"])
    );
    let folder = [
        "config.json",
        "console.log",
        "control.sock",
        "guest.cpio",
        "lock",
        "status.json",
        "stderr",
        "vsock.sock",
        "workload.log",
    ];
    assert_eq!(seen["root"], json!(folder));
    assert_eq!(seen["mounts"], 1);
    let fds: Vec<&str> = seen["fds"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| f.as_str().unwrap())
        .collect();
    // Plain files by their whole path, each of them once; anything else by its kind. A folder is none of them.
    let folder = "/run/racklet/vm/confined";
    let files = [
        format!("{folder}/console.log"),
        format!("{folder}/workload.log"),
        format!("{folder}/lock"),
        "/run/racklet/hypervisor/confined".to_owned(),
        "/guest/root.erofs".to_owned(),
    ];
    let kinds = ["socket:[", "anon_inode:"];
    let (mut others, known): (Vec<&str>, Vec<&str>) = fds
        .iter()
        .partition(|fd| !kinds.iter().any(|kind| fd.starts_with(kind)));
    assert!(!known.is_empty(), "{fds:?}");
    others.retain(|fd| *fd != "/dev/null" && *fd != "/dev/kvm");
    others.sort_unstable();
    let mut expected: Vec<&str> = files.iter().map(String::as_str).collect();
    expected.sort_unstable();
    assert_eq!(others, expected, "{fds:?}");
    assert_eq!(seen["lacks"], Value::Null, "{seen:#}");
}

#[test]
fn the_lock_that_the_monitor_was_started_with_lasts_as_long_as_it() {
    let case = outcome("confined");
    assert_eq!(
        (&case["seen"]["locked"], &case["locked"]),
        (&json!(true), &json!(false)),
        "{case:#}"
    );
}

#[test]
fn the_folder_is_the_monitors_but_not_its_configuration() {
    let seen = &outcome("confined")["seen"];
    assert_eq!(
        (&seen["config_owner"], &seen["folder_mode"]),
        (&json!(0), &json!("1770"))
    );
    assert_eq!(seen["control_mode"], "600");
    assert!(
        seen["cgroup"].as_str().unwrap().ends_with("/vm"),
        "{seen:#}"
    );
}

#[test]
fn the_control_socket_answers_and_explains() {
    let case = outcome("confined");
    assert_eq!(case["seen"]["state"]["status"]["state"], "up");
    assert!(
        case["seen"]["nonsense"]["error"]["reason"]
            .as_str()
            .unwrap()
            .contains("dance")
    );
    assert_eq!(case["ended"]["status"]["state"], "killed");
}

#[test]
fn a_stop_lets_the_command_finish() {
    let case = outcome("stop");
    exited(&case["ended"], 0);
    assert_eq!(case["ended"]["status"]["stopped"], true);
    has(&case["ended"], "asked to end");
    assert_eq!(
        case["answer"]["status"]["state"], "up",
        "answered before it takes effect"
    );
}

#[test]
fn a_command_that_ignores_a_stop_is_killed_after_its_grace() {
    let ended = &outcome("stop_deaf")["ended"];
    has(ended, "asked to end");
    let status = &ended["status"];
    assert_eq!(
        (&status["state"], &status["signal"], &status["stopped"]),
        (&json!("exited"), &json!(9), &json!(true))
    );
}

#[test]
fn a_guest_that_is_paused_stands_still_with_all_its_processors_and_goes_on() {
    let case = outcome("paused");
    assert_eq!(case["ready"], true, "{case:#}");
    for (answer, paused) in [
        ("answer", json!(true)),
        ("resumed", Value::Null),
        ("again", json!(true)),
    ] {
        let status = &case[answer]["status"];
        assert_eq!(
            (&status["state"], &status["paused"]),
            (&json!("up"), &paused),
            "{answer}"
        );
    }
    let exits = &case["before"]["metrics"]["exits"];
    // A driver writes some 25 registers of each of three devices before it is ready.
    assert!(exits["mmio_write"].as_u64() > Some(50), "{exits}");
    assert_eq!(
        &case["after"]["metrics"]["exits"], exits,
        "it stood still for two seconds"
    );
    assert_eq!(case["console"]["console"]["from"], 0, "{}", case["console"]);
    assert_eq!(case["taken"]["input"]["taken"], 11);
    assert_eq!(
        case["echoed"], true,
        "the guest's terminal shows what is typed: {case:#}"
    );
    // The stop came while it stood still.
    exited(&case["ended"], 0);
    assert_eq!(case["ended"]["status"]["stopped"], true);
}

#[test]
fn a_busy_guests_snapshot_restored_twice_goes_on_as_two_machines() {
    two_went_on(outcome("restored"));
}

#[test]
fn a_linux_guests_devices_count_what_they_did_and_refused_nothing() {
    let devices = outcome("paused")["before"]["metrics"]["devices"]
        .as_array()
        .unwrap();
    let names: Vec<_> = devices
        .iter()
        .map(|device| device["device"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["disk0", "sockets", "entropy", "balloon"]);
    for device in devices {
        let none = [&device["refused"], &device["failed"]].map(|count| count == &json!(0));
        assert_eq!(none, [true; 2], "{device}");
        // A balloon has its first report after some seconds, and may have none yet.
        let worked = device["returned"].as_u64() > Some(0);
        assert!(worked || device["device"] == "balloon", "{device}");
        assert!(
            device["faults"]
                .as_object()
                .unwrap()
                .values()
                .all(|count| count == 0),
            "{device}"
        );
    }
}

#[test]
fn a_kill_request_ends_the_vm_at_once() {
    let ended = outcome("kill_request");
    assert_eq!(
        (&ended["code"], &ended["status"]["state"]),
        (&json!(11), &json!("killed")),
        "{ended:#}"
    );
}

#[test]
fn a_killed_monitor_leaves_a_folder_that_can_be_used_again_and_two_never_share_one() {
    let case = outcome("monitor_killed");
    assert_eq!(case["taken"]["code"], 12);
    assert!(
        case["taken"]["stderr"]
            .as_str()
            .unwrap()
            .contains("another monitor"),
        "{case:#}"
    );
    assert_eq!(
        (&case["first"]["signal"], &case["first"]["status"]["state"]),
        (&json!(9), &json!("up"))
    );
    assert_eq!(case["socket"], "refused");
    exited(&case["again"], 3);
}

#[test]
fn a_guest_kernel_panic_is_a_crash_with_the_kernels_words() {
    let ended = outcome("guest_panic");
    assert_eq!(
        (&ended["code"], &ended["status"]["state"]),
        (&json!(10), &json!("crashed")),
        "{ended:#}"
    );
    let reason = ended["status"]["reason"].as_str().unwrap();
    assert!(
        reason.starts_with("guest kernel: Kernel panic - not syncing"),
        "{reason}"
    );
}

#[test]
fn a_guest_that_never_answers_a_stop_is_killed() {
    let case = outcome("guest_hangs");
    assert_eq!(case["running"], true, "{case:#}");
    assert_eq!(
        (&case["ended"]["code"], &case["ended"]["status"]["state"]),
        (&json!(11), &json!("killed")),
        "{case:#}"
    );
}

#[test]
fn what_cannot_be_started_is_refused_with_the_reason() {
    let cases = outcome("refused");
    for (case, reason) in [
        ("no_config", "config.json"),
        ("unknown_key", "unknown field `cpu`"),
        ("root_user", "confinement.uid"),
        ("no_kernel", "open kernel /nothing"),
        ("bad_kernel", "neither"),
        ("no_disk", "open disk /nothing"),
        ("no_tap", "none0"),
        ("no_cgroup", "/sys/fs/cgroup/none"),
        ("small", "raise"),
    ] {
        let ended = &cases[case];
        assert_eq!(
            (&ended["code"], &ended["status"]["state"]),
            (&json!(12), &json!("refused")),
            "{case}: {ended:#}"
        );
        for text in [&ended["status"]["reason"], &ended["stderr"]] {
            assert!(text.as_str().unwrap().contains(reason), "{case}: {ended:#}");
        }
    }
}

#[test]
fn without_kvm_the_reason_says_what_to_look_at() {
    let ended = outcome("no_kvm");
    assert_eq!(
        (&ended["code"], &ended["status"]["state"]),
        (&json!(12), &json!("refused")),
        "{ended:#}"
    );
    assert!(
        ended["status"]["reason"]
            .as_str()
            .unwrap()
            .contains("/dev/kvm"),
        "{ended:#}"
    );
}

#[test]
fn other_processes_run_in_a_guest_with_pipes_or_a_terminal_and_end_with_their_caller() {
    let outcome = outcome("exec");
    assert_eq!(outcome["ready"], true, "{outcome}");
    let hello = &outcome["hello"];
    assert_eq!(hello["code"], 3, "{hello}");
    let said = hello["out"].as_str().unwrap_or_default();
    for line in [
        r#"arguments ["a b"]"#,
        "colour green",
        "host exec",
        "folder /tmp",
        "Uid: 33 33 33 33",
        "Gid: 34 34 34 34",
        "leader true",
    ] {
        assert!(
            said.lines()
                .any(|l| l.split_whitespace().eq(line.split_whitespace())),
            "{line}: {said}"
        );
    }
    assert_eq!(hello["err"], "to standard error\n");
    assert_eq!(outcome["echo"], json!({"code": 7, "bytes": 800_000}));
    let terminal = &outcome["terminal"];
    assert_eq!(terminal["out"], "24 80 /dev/pts/0 true\r\n", "{terminal}");
    let nothing = &outcome["nothing"];
    assert_eq!(nothing["code"], 127, "{nothing}");
    let why = nothing["err"].as_str().unwrap_or_default();
    assert!(why.contains("start \"/no/such\""), "{why}");
    assert_eq!(outcome["deaf"], true);
    assert_eq!(outcome["left"]["code"], 0, "{outcome}");
    // The one whose caller was killed had no time to take its socket away.
    assert!(outcome["sockets"].as_u64().unwrap() <= 1, "{outcome}");
    assert_eq!(outcome["ended"]["status"]["stopped"], true, "{outcome}");
    let late = outcome["late"]["err"].as_str().unwrap_or_default();
    assert!(
        late.contains("is there a monitor in this folder?"),
        "{late}"
    );
}

#[test]
fn a_linux_guest_is_started_from_a_shell_by_options_and_by_a_document() {
    let outcome = outcome("from_a_shell");
    let options = &outcome["options"];
    assert_eq!(options["code"], 3, "{options}");
    let console = options["out"].as_str().unwrap_or_default();
    assert!(console.contains("guest-init: version"), "{console}");
    let document = &outcome["document"];
    assert_eq!(document["code"], 3, "{document}");
    let status: Value = serde_json::from_str(document["out"].as_str().unwrap()).unwrap();
    assert_eq!(
        (&status["state"], &status["end"], &status["code"]),
        (&json!("exited"), &json!("code"), &json!(3)),
        "{status}"
    );
}

// SPDX-License-Identifier: Apache-2.0
//! Commits in, workloads out.

use crate::support::{BOUND, Tray, alive, workload};
use anyhow::{Context as _, Result};
use racklet_tests::until::until;
use serde_json::{Value, json};

#[test]
fn a_commit_becomes_a_workload_an_edit_restarts_only_it_and_a_deletion_ends_it() -> Result<()> {
    let mut tray = Tray::new()?;
    tray.workload(
        "web",
        "[run, one]",
        "  network: {name: lan, address: 10.80.0.10}\n",
    )?;
    tray.workload("api", "[run, two]", "")?;
    let first = tray.push("two workloads")?;
    tray.start()?;
    let before = tray.converged(&first)?;
    assert_eq!(workload(&before, "web")["addresses"][0], "10.80.0.10");

    tray.workload(
        "web",
        "[run, three]",
        "  network: {name: lan, address: 10.80.0.10}\n",
    )?;
    let second = tray.push("an edit")?;
    let after = tray.converged(&second)?;
    assert_ne!(
        workload(&before, "web")["pid"],
        workload(&after, "web")["pid"],
        "changed"
    );
    assert_eq!(
        workload(&before, "api")["pid"],
        workload(&after, "api")["pid"],
        "untouched"
    );
    // The stand-in says so of itself, as a monitor does where the kernel lacks it.
    let lacks = "less confined: this kernel has no Landlock";
    assert_eq!(workload(&after, "api")["message"], lacks);
    let said = "api: runs with less confinement: this kernel has no Landlock";
    assert_eq!(
        tray.console().matches(said).count(),
        1,
        "{}",
        tray.console()
    );
    let (_, log) = tray.ask("GET", "/v1/workloads/web/logs")?;
    assert!(log.contains("run three"), "{log}");

    tray.remove("workloads/web.yaml")?;
    let third = tray.push("a deletion")?;
    let end = tray.converged(&third)?;
    assert_eq!(*workload(&end, "web"), Value::Null);
    assert!(!alive(&workload(&after, "web")["pid"]));
    assert!(!tray.path("run/vm/web").exists() && !tray.path("run/hypervisor/web.json").exists());
    let told = tray.told.lock().expect("lock").clone();
    assert!(
        told.iter()
            .any(|t| t["op"] == "health" && t["healthy"] == true),
        "{told:?}"
    );
    assert!(
        told.iter()
            .any(|t| t["op"] == "raise" && t["head"]["commit"] == *third),
        "{told:?}"
    );
    Ok(())
}

#[test]
fn a_bad_edit_changes_nothing_also_over_a_restart() -> Result<()> {
    let mut tray = Tray::new()?;
    tray.workload("web", "[run]", "")?;
    let good = tray.push("good")?;
    tray.start()?;
    let before = tray.converged(&good)?;

    tray.workload("web", "[run]", "  memroy: 1\n")?;
    let bad = tray.push("bad")?;
    let state = tray.until("refused", |s| {
        (s["rejected"]["commit"] == *bad).then(|| s.clone())
    })?;
    let reason = "workloads/web.yaml:10:3: spec: unknown field `memroy`; did you mean `memory`?";
    assert_eq!(state["rejected"]["reason"], reason);
    assert_eq!(state["head"]["commit"], *good);
    assert_eq!(
        workload(&state, "web")["pid"],
        workload(&before, "web")["pid"]
    );
    assert!(alive(&workload(&before, "web")["pid"]));
    assert!(tray.console().contains(reason), "{}", tray.console());
    let metrics = tray.ask("GET", "/metrics")?.1;
    for line in [
        "racklet_rejected{commit=\"",
        "racklet_vm_exits_total{workload=\"web\",exit=\"other\"} 1\n",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    assert!(tray.ask("GET", "/v1/rejected")?.1.contains("memroy"));

    let told = tray.told.lock().expect("lock").clone();
    let remembered = |told: &Value| told["op"] == "raise" && told["head"]["commit"] == *bad;
    assert!(told.iter().any(remembered), "nothing goes behind it again");

    // A restart with the server away, and nothing running any more: all there is lies on the card.
    tray.kill()?;
    let killed = workload(&before, "web")["pid"].clone();
    let _ = std::process::Command::new("kill")
        .args(["-9", &killed.to_string()])
        .status();
    let repository = tray.path("s/git/rack.git");
    std::fs::rename(&repository, tray.path("elsewhere.git"))?;
    tray.start()?;
    let again = tray.until("runs again", |s| {
        let web = workload(s, "web");
        // Until somebody waits for the killed one, it looks alive.
        let again = web["phase"] == "running" && web["pid"] != killed;
        (s["rejected"]["commit"] == *bad && again).then(|| s.clone())
    })?;
    assert_eq!(
        again["head"]["commit"], *good,
        "a restart begins with what was in force"
    );
    assert_eq!(again["rejected"]["reason"], reason);
    assert_eq!(again["converged"], false);
    std::fs::rename(tray.path("elsewhere.git"), &repository)?;

    tray.workload("web", "[run]", "")?;
    let fixed = tray.push("fixed")?;
    // A server that says "not found" is left alone for a minute and a little.
    tray.ask("POST", "/v1/sync")?;
    let after = tray.converged(&fixed)?;
    assert_eq!(
        workload(&after, "web")["pid"],
        workload(&again, "web")["pid"],
        "nothing changed for it"
    );
    Ok(())
}

#[test]
fn commits_that_are_not_the_owners_are_refused() -> Result<()> {
    let mut tray = Tray::new()?;
    tray.workload("web", "[run]", "")?;
    let good = tray.push("good")?;
    tray.start()?;
    tray.converged(&good)?;
    let stranger = format!("user.signingkey={}", tray.key("stranger").display());
    for (why, configuration) in [
        ("unsigned", "commit.gpgsign=false"),
        ("by a stranger", &stranger),
    ] {
        tray.workload("web", "[run, evil]", "")?;
        let bad = tray.push_with(why, &[configuration])?;
        let state = tray.until(why, |s| {
            (s["rejected"]["commit"] == *bad).then(|| s.clone())
        })?;
        assert_eq!(state["head"]["commit"], *good, "{why}");
        let work = tray.path("rack");
        racklet_tests::process::output(
            racklet_tests::process::git(&work).args(["reset", "-q", "--hard", &good]),
        )?;
    }
    tray.workload("web", "[run, good]", "")?;
    let next = tray.push("the owner again")?;
    tray.converged(&next)?;
    Ok(())
}

#[test]
fn workloads_outlive_the_daemon_and_are_found_again() -> Result<()> {
    let mut tray = Tray::new()?;
    tray.workload("web", "[run]", "")?;
    let head = tray.push("one")?;
    tray.start()?;
    let pid = workload(&tray.converged(&head)?, "web")["pid"].clone();
    for _ in 0..2 {
        tray.kill()?;
        assert!(alive(&pid), "its daemon was killed");
        tray.start()?;
        let state = tray.converged(&head)?;
        assert_eq!(workload(&state, "web")["pid"], pid);
        assert_eq!(workload(&state, "web")["restarts"], 0);
    }
    Ok(())
}

#[test]
fn a_tray_goes_on_without_its_server() -> Result<()> {
    let mut tray = Tray::new()?;
    tray.workload("web", "[run]", "")?;
    let head = tray.push("one")?;
    tray.start()?;
    let pid = workload(&tray.converged(&head)?, "web")["pid"].clone();
    tray.kill()?;
    let repository = tray.path("s/git/rack.git");
    std::fs::rename(&repository, tray.path("elsewhere.git"))?;
    let _ = std::process::Command::new("kill")
        .args(["-9", &pid.to_string()])
        .status();
    until("it has ended", BOUND, || Ok((!alive(&pid)).then_some(())))?;
    tray.start()?;
    let running = |s: &Value| (workload(s, "web")["phase"] == "running").then(|| s.clone());
    let state = tray.until("started from what is kept", running)?;
    assert_ne!(workload(&state, "web")["pid"], pid);
    tray.until("and says why it is alone", |s| {
        s["repository"]["error"].as_str().map(drop)
    })?;
    std::fs::rename(tray.path("elsewhere.git"), &repository)?;
    tray.ask("POST", "/v1/sync")?;
    tray.until("reached again", |s| s["repository"]["reached"].as_u64())?;
    Ok(())
}

#[test]
fn restarts_follow_the_policy_and_back_off_across_restarts_of_the_daemon() -> Result<()> {
    let mut tray = Tray::new()?;
    tray.workload(
        "fails",
        "[exit, 3]",
        "  backoff: {initialSeconds: 1, maxSeconds: 600}\n",
    )?;
    tray.workload("once", "[exit, 0]", "  restartPolicy: OnFailure\n")?;
    tray.workload("never", "[exit, 4]", "  restartPolicy: Never\n")?;
    tray.push("three that end")?;
    tray.start()?;
    tray.until("two restarts", |s| {
        workload(s, "fails")["restarts"]
            .as_u64()
            .filter(|r| *r >= 2)
    })?;
    tray.kill()?;
    tray.start()?;
    let state = tray.until("a third", |s| {
        let fails = workload(s, "fails");
        (fails["restarts"].as_u64() >= Some(3) && fails["phase"] == "back-off").then(|| s.clone())
    })?;
    assert_eq!(workload(&state, "fails")["exitCode"], 3);
    assert_eq!(workload(&state, "once")["phase"], "ended");
    assert_eq!(workload(&state, "once")["restarts"], 0);
    assert_eq!(workload(&state, "never")["phase"], "ended");
    assert_eq!(workload(&state, "never")["exitCode"], 4);
    Ok(())
}

#[test]
fn what_does_not_obey_is_ended_and_what_vanishes_is_started_again() -> Result<()> {
    let mut tray = Tray::new()?;
    tray.workload("stubborn", "[stubborn]", "")?;
    tray.workload("vanish", "[vanish]", "")?;
    tray.push("difficult ones")?;
    tray.start()?;
    let state = tray.until("both were there", |s| {
        (workload(s, "stubborn")["phase"] == "running"
            && workload(s, "vanish")["restarts"].as_u64() >= Some(1))
        .then(|| s.clone())
    })?;
    let pid = workload(&state, "stubborn")["pid"].clone();
    tray.remove("workloads/stubborn.yaml")?;
    tray.push("end it")?;
    tray.until("gone", |s| workload(s, "stubborn").is_null().then_some(()))?;
    assert!(!alive(&pid));
    Ok(())
}

#[test]
fn twenty_four_monitors_are_asked_to_stop_side_by_side_and_none_that_is_slow_to_answer_is_forced()
-> Result<()> {
    let mut tray = Tray::new()?;
    let names: Vec<String> = (1..=24).map(|n| format!("w{n}")).collect();
    for name in &names {
        tray.workload(name, "[together, \"24\"]", "")?;
    }
    let head = tray.push("two dozen")?;
    tray.start()?;
    tray.converged(&head)?;
    // None of them answers before the last one is asked.
    for name in &names {
        tray.remove(&format!("workloads/{name}.yaml"))?;
    }
    let none = tray.push("none")?;
    tray.converged(&none)?;
    let console = tray.console();
    assert_eq!(
        console.matches(": ended: stopped, exit code 0").count(),
        24,
        "{console}"
    );
    assert!(!console.contains("by force"), "{console}");
    Ok(())
}

#[test]
fn a_stop_that_was_noted_and_not_given_is_given_by_the_next_daemon() -> Result<()> {
    let mut tray = Tray::new()?;
    tray.workload("web", "[run]", "")?;
    let head = tray.push("one")?;
    tray.start()?;
    tray.converged(&head)?;
    tray.kill()?;
    // What a daemon leaves behind that was killed between the two.
    let path = tray.path("run/hypervisor/web.json");
    let mut record: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
    record["state"]["is"] = "stopping".into();
    record["state"]["force_at"] = u64::MAX.into();
    std::fs::write(&path, record.to_string())?;
    tray.remove("workloads/web.yaml")?;
    let gone = tray.push("none")?;
    tray.start()?;
    tray.converged(&gone)?;
    Ok(())
}

#[test]
fn the_daemon_may_be_killed_at_any_moment_and_no_workload_runs_twice() -> Result<()> {
    let mut tray = Tray::new()?;
    let names = ["one", "two", "three"];
    let mut head = String::new();
    for round in 0..4u64 {
        for name in names {
            tray.workload(name, &format!("[run, \"{round}\"]"), "")?;
        }
        head = tray.push("an edit")?;
        for step in 0..6 {
            tray.start()?;
            // Spread over the daemon's first half second, in which it reopens, fetches, stops and starts.
            std::thread::sleep(std::time::Duration::from_millis(step * 80 + round * 20));
            tray.kill()?;
        }
    }
    tray.start()?;
    let state = tray.converged(&head)?;
    for name in names {
        assert_eq!(
            tray.monitors(name),
            [workload(&state, name)["pid"].to_string()],
            "{}",
            tray.console()
        );
    }
    Ok(())
}

/// What a daemon leaves that is killed while it starts a workload of which an earlier one is still there: this daemon's launcher would say
/// that it is, and nobody heard it.
#[test]
fn a_monitor_of_an_earlier_start_is_not_taken_for_that_of_the_last_one() -> Result<()> {
    for state in ["launching", "killing"] {
        let mut tray = Tray::new()?;
        tray.workload("web", "[run]", "")?;
        let head = tray.push("one")?;
        tray.start()?;
        let earlier = workload(&tray.converged(&head)?, "web")["pid"].clone();
        tray.kill()?;
        let record = tray.path("run/hypervisor/web.json");
        let mut text: Value = serde_json::from_slice(&std::fs::read(&record)?)?;
        let process = text["state"]["process"].clone();
        text["state"] = match state {
            "killing" => json!({"is": state, "process": process}),
            _ => json!({"is": state}),
        };
        std::fs::write(&record, serde_json::to_vec(&text)?)?;
        for removed in ["status.json", "control.sock"] {
            let _ = std::fs::remove_file(tray.path("run/vm/web").join(removed));
        }
        tray.start()?;
        let later = tray.until("another one runs", |state| {
            let web = workload(state, "web");
            (web["phase"] == "running" && web["pid"] != earlier).then(|| web["pid"].clone())
        })?;
        assert!(!alive(&earlier), "{state}: {}", tray.console());
        assert_eq!(tray.monitors("web"), [later.to_string()], "{state}");
    }
    Ok(())
}

#[test]
fn workloads_can_exchange_their_addresses_in_one_commit() -> Result<()> {
    let mut tray = Tray::new()?;
    let place = |n: u8| format!("  network: {{name: lan, address: 10.80.0.{n}}}\n");
    tray.workload("left", "[run]", &place(10))?;
    tray.workload("right", "[run]", &place(11))?;
    let before = tray.push("two addresses")?;
    tray.start()?;
    tray.converged(&before)?;
    tray.workload("left", "[run]", &place(11))?;
    tray.workload("right", "[run]", &place(10))?;
    let after = tray.push("exchanged")?;
    let state = tray.converged(&after)?;
    assert_eq!(workload(&state, "left")["addresses"][0], "10.80.0.11");
    assert_eq!(workload(&state, "right")["addresses"][0], "10.80.0.10");
    Ok(())
}

/// What this machine has, in MiB: the daemon goes by it as by a tray's.
fn memory_of_this_machine() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|value| value.split_whitespace().next());
    Ok(kib.context("MemTotal")?.parse::<u64>()? / 1024)
}

#[test]
fn a_workload_without_room_is_refused_with_the_reason_and_the_others_run() -> Result<()> {
    let mut tray = Tray::new()?;
    tray.workload("api", "[run]", "")?;
    // As many of the largest as there is room for, and one more. Room is given in the order of names: 128 MiB stay the tray's, and each
    // takes 8 MiB beside the guest's memory.
    let fitting = memory_of_this_machine()?.saturating_sub(128 + 64 + 8) / ((64 << 10) + 8);
    let large: Vec<String> = (0..fitting).map(|n| format!("large-{n}")).collect();
    for name in large.iter().map(String::as_str).chain(["too-large"]) {
        tray.workload(name, "[run]", "")?;
        let file = format!("workloads/{name}.yaml");
        let text = std::fs::read_to_string(tray.path("rack").join(&file))?;
        tray.write(&file, &text.replace("memory: 64Mi", "memory: 64Gi"))?;
    }
    tray.push("more than there is")?;
    tray.start()?;
    let state = tray.until("refused, and the other one runs", |s| {
        let refused = workload(s, "too-large")["message"].is_string();
        (refused && workload(s, "api")["phase"] == "running").then(|| s.clone())
    })?;
    let refused = workload(&state, "too-large");
    let message = refused["message"].as_str().unwrap_or_default();
    assert!(message.starts_with("needs 65544 MiB"), "{message}");
    assert!(message.contains("are left"), "{message}");
    assert_eq!(
        (&refused["phase"], &refused["pid"]),
        (&"pending".into(), &Value::Null)
    );
    assert_eq!(state["converged"], false, "it is wanted and does not run");
    assert!(tray.monitors("too-large").is_empty());
    assert!(
        tray.console().contains("too-large: not started: needs"),
        "{}",
        tray.console()
    );

    tray.remove("workloads/too-large.yaml")?;
    let fits = tray.push("what there is room for")?;
    let state = tray.converged(&fits)?;
    assert_eq!(*workload(&state, "too-large"), Value::Null);
    Ok(())
}

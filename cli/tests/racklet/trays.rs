// SPDX-License-Identifier: Apache-2.0
//! `racklet status`, `logs` and `sync` against real TLS servers with the trays' keys, and against ones without.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};

use rcgen::KeyPair;
use serde_json::{Value, json};

use crate::fake::{Answer, Fake, another, at, first, identity, uncommitted};
use crate::world::{World, text};

fn state(tray: &str) -> Value {
    json!({
        "v": 1, "tray": tray, "rack": "r", "time": 1000, "uptime": 75,
        "memory": {"total": 1_006_632_960, "available": 943_718_400}, "received": 9,
        "head": {"commit": "abc", "generation": 3}, "converged": true, "rejected": null,
        "repository": {"url": "https://git.example/rack.git", "branch": "main", "reached": 990, "error": null},
        "release": {"running": "stable 1", "manifest": "00", "wanted": null, "message": null},
        "workloads": [{
            "name": "web", "phase": "back-off", "current": true, "message": "exit code 1", "age": 5, "restarts": 3,
            "exitCode": 1, "pid": null, "addresses": ["10.80.0.10"], "rootfs": "00",
        }],
    })
}

fn refused(commit: &str) -> Value {
    let mut state = state("tray-1");
    state["converged"] = json!(false);
    state["rejected"] = json!({
        "commit": commit, "since": 940, "reason": "workloads/web.yaml:7:3: no",
        "problems": [{"file": "workloads/web.yaml", "line": 7, "column": 3, "message": "no"}],
    });
    state
}

pub(crate) fn ok(value: &Value) -> Answer {
    Some((200, value.to_string()))
}

/// What an ordinary tray answers.
pub(crate) fn ordinary(request: &str) -> Answer {
    match request {
        "GET /v1/state" => ok(&state("tray-1")),
        "POST /v1/sync" => ok(&json!({"v": 1, "head": null})),
        other => Some((404, json!({ "error": format!("no {other}") }).to_string())),
    }
}

#[test]
fn status_and_sync_reach_the_tray_with_a_signed_request() {
    let world = World::with_rack();
    first(&world, ordinary);
    let said = world.in_rack(&["status", "tray-1"]);
    for expected in [
        "tray-1  converged",
        "reached 10 s ago",
        "60 of 960 MiB used",
        "web: waiting to restart; for 5 s; at 10.80.0.10; restarted 3 times; exit code 1",
    ] {
        assert!(said.contains(expected), "{expected}\n{said}");
    }
    let said = world.in_rack(&["sync", "tray-1"]);
    assert!(said.contains("tray-1 looks now"), "{said}");
}

#[test]
fn status_says_refused_once_with_file_and_line_and_does_not_end_well() {
    let world = World::with_rack();
    first(&world, |_| ok(&refused("def")));
    let said = world.refused(&["status"]);
    assert!(said.contains("tray-1  refuses the newest commit"), "{said}");
    assert!(
        said.contains("1 min 0 s ago, def: workloads/web.yaml:7:3: no"),
        "{said}"
    );
    assert_eq!(said.matches("web.yaml:7:3").count(), 1, "{said}");
    assert_eq!(said.matches("refuse").count(), 2, "{said}");
    let (code, value) = world.json_code(&["status"]);
    assert_eq!((code, &value[0]["rejected"]["commit"]), (1, &json!("def")));
}

/// A world whose `ssh-keygen` writes a line into `signed` each time it is asked for a signature.
fn counted(world: &World) -> impl Fn(&World, &[&str]) -> (bool, String, usize) + use<> {
    let script = "#!/bin/sh\nfor word; do [ \"$word\" = sign ] && echo sign >> \"$SIGNED\"; done\nexec \"$REAL\" \"$@\"\n";
    let path = world.write("bin/ssh-keygen", script);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let real = std::env::split_paths(&std::env::var_os("PATH").unwrap())
        .map(|folder| folder.join("ssh-keygen"))
        .find(|program| program.exists())
        .unwrap();
    move |world, args| {
        let search = std::env::join_paths(
            [world.path("bin")]
                .into_iter()
                .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
        )
        .unwrap();
        let out = world
            .racklet_in("rack", args)
            .env("PATH", search)
            .env("REAL", &real)
            .env("SIGNED", world.path("signed"))
            .output()
            .unwrap();
        let signed = std::fs::read_to_string(world.path("signed")).unwrap_or_default();
        let said = text(&out.stdout) + &text(&out.stderr);
        (out.status.success(), said, signed.lines().count())
    }
}

#[test]
fn the_user_is_asked_once_per_command_and_all_trays_are_asked_at_once() {
    let world = World::with_rack();
    let racklet = counted(&world);
    // Nobody answers before all three are asked.
    let all = Arc::new(Barrier::new(3));
    let wait = Arc::clone(&all);
    first(&world, move |_| {
        wait.wait();
        ok(&state("tray-1"))
    });
    for name in ["tray-2", "tray-3"] {
        let wait = Arc::clone(&all);
        another(&world, name, move |_| {
            wait.wait();
            ok(&state(name))
        });
    }
    let (good, said, signed) = racklet(&world, &["status"]);
    assert!(good, "{said}");
    for name in ["tray-1", "tray-2", "tray-3"] {
        assert!(said.contains(&format!("{name}  converged")), "{said}");
    }
    assert_eq!(signed, 1, "{said}");
}

#[test]
fn a_hundred_trays_are_asked_at_once_and_with_one_signature() {
    const TRAYS: usize = 100;
    let world = World::with_rack();
    let racklet = counted(&world);
    let all = Arc::new(Barrier::new(TRAYS));
    let alone = Arc::new(AtomicBool::new(false));
    let waits = |name: String| {
        let (all, alone) = (Arc::clone(&all), Arc::clone(&alone));
        move |_: &str| {
            if !alone.load(Ordering::SeqCst) {
                all.wait();
            }
            ok(&state(&name))
        }
    };
    first(&world, waits("tray-1".to_owned()));
    for n in 2..=TRAYS {
        let name = format!("tray-{n}");
        uncommitted(&world, &name, waits(name.clone()));
    }
    world.commit("a hundred");
    let (good, said, signed) = racklet(&world, &["status"]);
    assert!(good, "{said}");
    assert_eq!(said.matches("  converged").count(), TRAYS, "{said}");
    assert_eq!(signed, 1, "{said}");
    // Their places were kept. Asked again, all of them cost no more calls of Git than one does.
    let calls = |args: &[&str]| {
        let trace = world.path("trace");
        let out = world
            .racklet_in("rack", args)
            .env("GIT_TRACE2_EVENT", &trace)
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", text(&out.stderr));
        let traced = std::fs::read_to_string(&trace).unwrap();
        std::fs::remove_file(&trace).unwrap();
        traced.matches(r#"{"event":"start""#).count()
    };
    alone.store(true, Ordering::SeqCst);
    let one = calls(&["status", "tray-1"]);
    alone.store(false, Ordering::SeqCst);
    assert_eq!(calls(&["status"]), one, "calls of Git");
    assert!(one > 0, "Git's trace shows no call");
}

#[test]
fn nobody_is_asked_to_sign_for_trays_that_are_not_there() {
    let world = World::with_rack();
    let racklet = counted(&world);
    at(&world, "tray-1", &unused());
    let (good, said, signed) = racklet(&world, &["status"]);
    assert!(!good && said.contains("is it on"), "{said}");
    assert_eq!(signed, 0);
}

fn unused() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

#[test]
fn a_key_that_does_not_sign_is_said_once_and_not_once_per_tray() {
    let world = World::with_rack();
    first(&world, ordinary);
    for name in ["tray-2", "tray-3"] {
        another(&world, name, move |_| ok(&state(name)));
    }
    world.write("home/.ssh/id_ed25519", "not a key");
    let said = world.refused(&["status"]);
    assert_eq!(said.matches("did not sign").count(), 1, "{said}");
}

#[test]
fn each_tray_is_shown_when_it_answers() {
    let world = World::with_rack();
    first(&world, ordinary);
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    another(&world, "tray-2", move |_| {
        released.lock().unwrap().recv().unwrap();
        ok(&state("tray-2"))
    });
    let mut child = world
        .racklet_in("rack", &["status"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "tray-1  converged");
    release.send(()).unwrap();
    assert!(lines.any(|line| line.unwrap() == "tray-2  converged"));
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_tray_that_accepts_and_says_nothing_is_given_up_and_the_others_are_shown() {
    let world = World::with_rack();
    first(&world, ordinary);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    another(&world, "tray-2", |_| None);
    at(&world, "tray-2", &silent.local_addr().unwrap().to_string());
    let said = world.refused(&["status"]);
    assert!(said.contains("tray-1  converged"), "{said}");
    assert!(said.contains("says nothing for 5 s"), "{said}");
    assert!(said.contains("no answer from tray-2"), "{said}");
}

#[test]
fn with_json_there_is_one_value_also_when_a_tray_is_down_or_the_command_is_wrong() {
    let world = World::with_rack();
    first(&world, ordinary);
    another(&world, "tray-2", |_| None);
    at(&world, "tray-2", &unused());
    let (code, value) = world.json_code(&["status"]);
    assert_eq!(code, 1);
    assert_eq!(value[0]["tray"], "tray-1");
    assert_eq!(value[1]["tray"], "tray-2");
    assert!(
        value[1]["error"].as_str().unwrap().contains("is it on"),
        "{value}"
    );
    for (args, status) in [
        (&["status", "--colour"][..], 2),
        (&["logs", "web", "--follow"], 2),
        (&["no-such-command"], 2),
        (&["status", "tray-9"], 1),
        (&["logs", "nothing"], 1),
    ] {
        let (code, value) = world.json_code(args);
        assert_eq!(code, status, "{args:?}: {value}");
        assert!(value["error"].is_string(), "{args:?}: {value}");
    }
    let (code, value) = world.json_code(&["--version"]);
    assert_eq!(code, 0);
    assert!(value["text"].as_str().unwrap().starts_with("racklet "));
}

#[test]
fn a_tray_that_is_busy_and_sends_us_away_is_asked_again() {
    let world = World::with_rack();
    let asked = AtomicUsize::new(0);
    first(&world, move |request| {
        match asked.fetch_add(1, Ordering::SeqCst) {
            0 | 1 => None,
            _ => ordinary(request),
        }
    });
    let said = world.in_rack(&["status", "tray-1"]);
    assert!(said.contains("tray-1  converged"), "{said}");
}

#[test]
fn where_a_tray_was_found_is_kept_for_the_next_time() {
    let world = World::with_rack();
    let address = Fake::serve(&world, "tray-1", &identity(&world), ordinary);
    world.in_rack(&["status", "tray-1", "--address", &address]);
    let said = world.in_rack(&["status"]);
    assert!(said.contains("tray-1  converged"), "{said}");
    // Somebody else has got that address since: he is not asked, and the other places are tried.
    let other = KeyPair::generate_for(&rcgen::PKCS_ED25519)
        .unwrap()
        .serialize_pem();
    let taken = Fake::serve(&world, "tray-1", &other, |_| panic!("nothing may be asked"));
    at(&world, "tray-1", &taken);
    let said = world.in_rack(&["status"]);
    assert!(said.contains("tray-1  converged"), "{said}");
}

#[test]
fn a_mistake_in_the_work_tree_does_not_keep_a_tray_from_being_asked() {
    let world = World::with_rack();
    world.web(&world.artifact("artifact", b"x"));
    let file = world.read("rack/workloads/web.yaml");
    world.write(
        "rack/workloads/web.yaml",
        file.replace("kind: MicroVM", "kind: MicroWM"),
    );
    // Committed already, which is worse: what lies in the work tree alone is not even looked at.
    world.commit("web");
    first(&world, ordinary);
    let said = world.in_rack(&["status", "tray-1"]);
    assert!(said.contains("converged"), "{said}");
    let said = world.refused(&["logs", "web"]);
    assert!(
        said.contains("no workload web")
            && said.contains("left out because of workloads/web.yaml:"),
        "{said}"
    );
}

#[test]
fn a_machine_with_another_key_is_not_talked_to() {
    let world = World::with_rack();
    let other = KeyPair::generate_for(&rcgen::PKCS_ED25519)
        .unwrap()
        .serialize_pem();
    let address = Fake::serve(&world, "tray-1", &other, |_| panic!("nothing may be asked"));
    let said = world.refused(&["status", "tray-1", "--address", &address]);
    assert!(
        said.contains("does not have the identity key of tray-1"),
        "{said}"
    );
}

#[test]
fn what_the_tray_refuses_is_said_with_its_reason() {
    let world = World::with_rack();
    first(&world, |_| {
        Some((503, r#"{"error":"still starting"}"#.to_owned()))
    });
    let said = world.refused(&["sync", "tray-1"]);
    assert!(
        said.contains("tray-1 refuses: still starting (HTTP 503)"),
        "{said}"
    );
}

#[test]
fn a_tray_that_is_off_is_named_with_what_to_look_at() {
    let world = World::with_rack();
    let said = world.refused(&["status", "tray-1", "--address", &unused()]);
    assert!(said.contains("is it on"), "{said}");
    assert!(
        world
            .refused(&["status", "tray-9", "--address", "127.0.0.1"])
            .contains("the rack has no tray tray-9")
    );
}

/// A tray that gives these states one after the other, the last one for ever.
fn states(states: Vec<Value>) -> impl Fn(&str) -> Answer {
    let next = AtomicUsize::new(0);
    move |request| match request {
        "GET /v1/state" => {
            let at = next.fetch_add(1, Ordering::SeqCst);
            ok(&states[at.min(states.len() - 1)])
        }
        other => ordinary(other),
    }
}

fn head(world: &World) -> String {
    let head = crate::world::run(&mut world.git("rack", &["rev-parse", "HEAD"]));
    head.trim().to_owned()
}

#[test]
fn sync_with_wait_returns_when_the_tray_runs_this_commit() {
    let world = World::with_rack();
    let commit = head(&world);
    let before = state("tray-1");
    let mut after = state("tray-1");
    after["head"]["commit"] = json!(commit);
    after["workloads"][0]["phase"] = json!("running");
    first(&world, states(vec![before.clone(), before, after]));
    let said = world.in_rack(&["sync", "--wait"]);
    assert_eq!(said.trim(), format!("tray-1 runs {commit}"));
}

#[test]
fn sync_with_wait_says_who_refuses_this_commit_and_why() {
    let world = World::with_rack();
    let commit = head(&world);
    first(&world, states(vec![state("tray-1"), refused(&commit)]));
    let said = world.refused(&["sync", "--wait"]);
    assert_eq!(
        said.trim(),
        format!("tray-1 refuses {commit}: workloads/web.yaml:7:3: no")
    );
    let (code, value) = world.json_code(&["sync", "--wait"]);
    assert_eq!((code, &value[0]["runs"]), (1, &json!(false)));
}

#[test]
fn a_wait_for_a_commit_that_is_not_pushed_is_refused() {
    let world = World::with_rack();
    first(&world, ordinary);
    for args in [
        &["push", "-q", "-u", "origin", "main"][..],
        &["commit", "-q", "--allow-empty", "-m", "more"],
    ] {
        crate::world::run(&mut world.git("rack", args));
    }
    let said = world.refused(&["sync", "--wait"]);
    assert!(said.contains("not pushed yet"), "{said}");
}

/// A page of a log: lines as (time in ms, stream, text).
fn page(lines: &[(Option<u64>, &str, &str)], next: &str) -> Answer {
    let lines: Vec<Value> = lines
        .iter()
        .map(|(time, stream, line)| match time {
            Some(time) => json!({"timeMs": time, "stream": stream, "line": line}),
            None => json!({"stream": stream, "line": line}),
        })
        .collect();
    ok(&json!({"v": 1, "lines": lines, "next": next, "lost": false}))
}

fn log(request: &str) -> Answer {
    const FIRST: u64 = 1_790_000_000_000;
    let lines = [
        (Some(FIRST), "stdout", "one"),
        (Some(FIRST + 60_000), "stderr", "two"),
        (Some(FIRST + 120_000), "stdout", "three"),
    ];
    match request {
        "GET /v1/workloads/web/logs?log=console" => {
            page(&[(None, "console", "Linux version")], "7")
        }
        "GET /v1/workloads/web/logs?log=workload"
        | "GET /v1/workloads/web/logs?log=workload&from=start" => page(&lines, "7"),
        "GET /v1/workloads/web/logs?log=console&from=7"
        | "GET /v1/workloads/web/logs?log=workload&from=7" => page(&[], "7"),
        other => ordinary(other),
    }
}

fn with_web() -> World {
    let world = World::with_rack();
    world.web(&world.artifact("artifact", b"x"));
    world.commit("web");
    world
}

#[test]
fn logs_show_time_and_stream_and_begin_where_they_are_wanted() {
    let world = with_web();
    first(&world, log);
    let logs = |more: &[&str]| {
        let mut command = world.racklet_in("rack", &["logs", "web"]);
        crate::world::run(command.args(more).env("TZ", "UTC"))
    };
    assert_eq!(logs(&["--console"]), "console Linux version\n");
    let (one, two, three) = (
        "2026-09-21 14:13:20.000 stdout  one\n",
        "2026-09-21 14:14:20.000 stderr  two\n",
        "2026-09-21 14:15:20.000 stdout  three\n",
    );
    assert_eq!(logs(&[]), [one, two, three].concat());
    assert_eq!(logs(&["--tail", "1"]), three);
    assert_eq!(
        logs(&["--since", "2026-09-21 14:14:20"]),
        [two, three].concat()
    );
    assert_eq!(logs(&["--since", "2026-09-21 14:14", "--tail", "1"]), three);
    let value = world.json(&["logs", "web", "--tail", "2"]);
    assert_eq!(value["lines"][0]["line"], "two");
    assert_eq!(value["tray"], "tray-1");
}

#[test]
fn a_followed_log_goes_on_where_it_was_after_the_tray_was_away() {
    let world = with_web();
    let times = Arc::new(AtomicUsize::new(0));
    let asked = Arc::clone(&times);
    first(&world, move |request| match request {
        "GET /v1/workloads/web/logs?log=workload&from=7&follow=20" => {
            match asked.fetch_add(1, Ordering::SeqCst) {
                // More often than a busy tray is asked again: it restarts.
                0..5 => None,
                // It is up, and the workload not yet.
                5 => Some((404, r#"{"error":"there is no workload web"}"#.to_owned())),
                _ => page(&[(None, "stdout", "four")], "9"),
            }
        }
        "GET /v1/workloads/web/logs?log=workload&from=9&follow=20" => {
            page(&[(None, "stdout", "five")], "9")
        }
        other => log(other),
    });
    let mut child = world
        .racklet_in("rack", &["logs", "web", "--follow"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines: Vec<String> = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .take(5)
        .map(Result::unwrap)
        .collect();
    // The reader has gone: so does the follower.
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success());
    assert!(lines[2].ends_with("three"), "{lines:?}");
    assert_eq!(&lines[3..], ["stdout  four", "stdout  five"]);
    let said = text(&out.stderr);
    assert_eq!(said.matches("trying again").count(), 1, "{said}");
    assert!(said.contains("answers again"), "{said}");
    assert_eq!(times.load(Ordering::SeqCst), 7);
}

#[test]
fn nothing_that_could_not_be_written_looks_like_success() {
    let world = World::with_rack();
    for args in [
        &["schema", "Tray"][..],
        &["completion", "bash"],
        &["--help"],
    ] {
        let full = std::fs::OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .unwrap();
        let out = world
            .racklet_in("rack", args)
            .stdout(full)
            .output()
            .unwrap();
        let said = text(&out.stderr);
        assert_eq!(out.status.code(), Some(1), "{args:?}: {said}");
        assert!(said.contains("No space left"), "{args:?}: {said}");
    }
    // Who reads has had enough: that is nobody's fault.
    for args in ["schema Tray", "completion bash", "--help"] {
        let mut shell = Command::new("bash");
        let program = env!("CARGO_BIN_EXE_racklet");
        let out = shell
            .args([
                "-c",
                &format!("{program} {args} | true; exit ${{PIPESTATUS[0]}}"),
            ])
            .output()
            .unwrap();
        let said = text(&out.stderr);
        assert_eq!((out.status.code(), said.as_str()), (Some(0), ""), "{args}");
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The main job, on real parts. One signed repository, one image, one tray, one workload; then an edit.
//!
//! It does what a user does, with the tools a user has, and stays up to be played with. With `--once` it ends when all has
//! happened. What happened is in `target/demo.json`; `cargo xtask` reads there how long it took.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use racklet_tests::{
    artifacts::{Artifacts, target},
    process::tail,
    qemu::{Accelerator, Machine, Tray},
    rack::{FIRST_MESSAGE, Rack, TRAY, UP, WORKLOAD},
    servers::GitServer,
    until::until,
};
use serde_json::{Value, json};

use crate::{
    accel, short,
    steps::{self, StatusLine, say},
};

/// What the edit makes the workload say.
const SECOND_MESSAGE: &str = "second edition";

/// How long the tray may take to converge to an edit, under emulation on a busy machine.
const CONVERGE: Duration = Duration::from_secs(120);

/// What it is started with.
pub(crate) struct Arguments {
    /// Ends when everything has happened, with success only if all of it did.
    pub(crate) once: bool,
    /// Seconds that it took last time, or is thought to take.
    pub(crate) expected: u64,
}

/// What happened, for `target/demo.json`.
struct Record {
    began: Instant,
    expected: u64,
    steps: Vec<Value>,
    tray_up: Option<f64>,
    converge: Option<f64>,
    head: String,
    workloads: Value,
}

impl Record {
    fn step<T>(&mut self, title: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let start = Instant::now();
        let whole = (self.began, Duration::from_secs(self.expected));
        let result = steps::step(title, Some(whole), work);
        self.steps.push(json!({
            "step": title, "seconds": seconds(start), "ok": result.is_ok(),
        }));
        result
    }

    fn write(&self, error: Option<&anyhow::Error>) -> Result<()> {
        let path = target().join("demo.json");
        let value = json!({
            "ok": error.is_none(),
            "error": error.map(|error| format!("{error:#}")),
            "tray_up_s": self.tray_up,
            "converge_s": self.converge,
            "head": self.head,
            "workloads": self.workloads,
            "steps": self.steps,
        });
        fs::write(&path, format!("{value:#}\n"))
            .with_context(|| format!("write {}", path.display()))
    }
}

fn seconds(since: Instant) -> f64 {
    (since.elapsed().as_secs_f64() * 10.0).round() / 10.0
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let over = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // A second Ctrl-C, should ending in order hang, ends at once.
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&over))?;
        signal_hook::flag::register(signal, Arc::clone(&over))?;
    }
    let artifacts = Artifacts::find()?;
    let accelerator = accel::choose(&artifacts)?;
    let mut record = Record {
        began: Instant::now(),
        expected: arguments.expected,
        steps: Vec::new(),
        tray_up: None,
        converge: None,
        head: String::new(),
        workloads: Value::Null,
    };
    let result = show(arguments, &artifacts, accelerator, &over, &mut record);
    if over.load(Ordering::Relaxed) {
        say("\nEnded everything that was started.");
        if !arguments.once && record.converge.is_some() {
            return record.write(None);
        }
    }
    record.write(result.as_ref().err())?;
    result
}

fn show(
    arguments: &Arguments,
    artifacts: &Artifacts,
    accelerator: Accelerator,
    over: &AtomicBool,
    record: &mut Record,
) -> Result<()> {
    say("The rack");
    // Short, because of the sockets in it; the logs stay in the target folder.
    let scratch = tempfile::Builder::new().prefix("racklet-demo-").tempdir()?;
    let logs = target().join("demo");
    if logs.exists() {
        fs::remove_dir_all(&logs)?;
    }
    let server_folder = scratch.path().join("server");
    let mut server = record.step(
        "Git server: git http-backend behind nginx, TLS from a throw-away authority",
        || GitServer::start(&server_folder),
    )?;
    let rack = record.step(
        "racklet rack init, payload and workload built, signed, published; first push",
        || Rack::create("my-rack", &logs.join("rack"), artifacts, "", &server),
    )?;
    let image = record.step("racklet image build", || rack.image(artifacts))?;
    stop_if(over)?;

    say("The tray");
    let start = Instant::now();
    let machine = Machine {
        accelerator,
        ..Machine::default()
    };
    let mut tray = Tray::boot(TRAY, &logs.join("tray"), &image, &machine)?;
    let console = tray.console().path().to_owned();
    say(&format!("  its console: {}", short(&console)));
    for (title, line) in [
        (
            "firmware and bootloader: a slot is verified",
            "Linux version",
        ),
        (
            "bootstrap: fetches, verifies, kexecs",
            "Starting new kernel",
        ),
        ("hypervisor OS: starts", "Linux version"),
    ] {
        record.step(title, || {
            patiently(over, UP, title, || Ok(tray.seen(line)?.map(drop)))
        })?;
    }
    record.step("workload: runs and says its message", || {
        said(&rack, &mut tray, &mut server, over, FIRST_MESSAGE, UP)
    })?;
    record.tray_up = Some(seconds(start));

    say("The edit");
    let edited = Instant::now();
    record.head = record.step("workloads/web.yaml edited, committed, pushed", || {
        rack.edit(SECOND_MESSAGE)
    })?;
    record.step("the tray converges", || {
        said(
            &rack,
            &mut tray,
            &mut server,
            over,
            SECOND_MESSAGE,
            CONVERGE,
        )
    })?;
    record.converge = Some(seconds(edited));
    let status = rack.status(tray.api())?;
    record.workloads = status["workloads"].clone();
    let head = &status["head"]["commit"];
    if head.as_str() != Some(record.head.as_str()) {
        bail!(
            "the tray says its head is {head}, but {} was pushed",
            record.head
        );
    }
    say(&format!(
        "\nAll of it happened: workload up {:.1} s after power-on, edit running {:.1} s after the push.",
        record.tray_up.unwrap_or_default(),
        record.converge.unwrap_or_default(),
    ));
    if arguments.once {
        return Ok(());
    }
    record.write(None)?;
    stay(&rack, &mut tray, &mut server, over)
}

/// Polls until `probe` answers, for at most `bound` or until Ctrl-C.
fn patiently<T>(
    over: &AtomicBool,
    bound: Duration,
    what: &str,
    mut probe: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    until(what, bound, || {
        stop_if(over)?;
        probe()
    })
}

fn stop_if(over: &AtomicBool) -> Result<()> {
    if over.load(Ordering::Relaxed) {
        bail!("interrupted");
    }
    Ok(())
}

/// Waits until the workload's log on the tray, as `racklet logs` shows it, has this message.
fn said(
    rack: &Rack,
    tray: &mut Tray,
    server: &mut GitServer,
    over: &AtomicBool,
    message: &str,
    bound: Duration,
) -> Result<()> {
    let wanted = format!("serving: {message}");
    let mut last = String::new();
    let result = patiently(over, bound, &format!("{WORKLOAD} says {wanted:?}"), || {
        tray.check()?;
        server.check()?;
        match rack.logs(tray.api(), WORKLOAD) {
            Ok(text) if text.contains(&wanted) => return Ok(Some(())),
            Ok(text) => last = text,
            // Not up yet, most likely; if it never comes up this is the reason.
            Err(error) => last = format!("{error:#}"),
        }
        Ok(None)
    });
    result.with_context(|| {
        format!(
            "racklet logs said last:\n{last}\n{}",
            tail(tray.console().path(), 25)
        )
    })
}

/// Up until Ctrl-C, with a status line.
fn stay(rack: &Rack, tray: &mut Tray, server: &mut GitServer, over: &AtomicBool) -> Result<()> {
    let repository = rack.repository();
    let console = tray.console().path().to_owned();
    let address = format!("127.0.0.1:{}", tray.api());
    rack.git(&["config", &format!("racklet.{TRAY}.address"), &address])?;
    let racklet = format!(
        "HOME={} {}",
        rack.home().display(),
        rack.program().display()
    );
    // It counts more than the repository's own configuration, which names the demo's authority.
    let other_authority = std::env::var_os("GIT_SSL_CAINFO").is_some();
    say(&format!(
        "\nIt stays up until Ctrl-C. To try, in another terminal:\n\n  \
         cd {}\n  alias racklet='{racklet}'\n  \
         racklet status\n  \
         racklet logs {WORKLOAD} --follow\n  \
         {}\n\n\
         Console  {}\nQEMU     {}\nServer   {}\n",
        repository.display(),
        edit(other_authority),
        console.display(),
        tray.folder().join("qemu.log").display(),
        server.logs().display(),
    ));
    let bar = StatusLine::new();
    while !over.load(Ordering::Relaxed) {
        tray.check()?;
        server.check()?;
        let line = match rack.status(tray.api()) {
            Ok(state) => summary(&state),
            Err(error) => format!("{TRAY} does not answer: {}", first_line(&error)),
        };
        bar.show(&line);
        let next = Instant::now() + Duration::from_secs(2);
        while Instant::now() < next && !over.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(50));
        }
    }
    Ok(())
}

/// How to edit. Where the surroundings tell Git of another authority, `git push` by itself would refuse the demo's server.
fn edit(other_authority: bool) -> String {
    let push = match other_authority {
        true => {
            "env -u GIT_SSL_CAINFO git push   # GIT_SSL_CAINFO names another authority than the demo's"
        }
        false => "git push",
    };
    format!("$EDITOR workloads/web.yaml && racklet check && git commit -am 'my edit' && {push}")
}

fn summary(state: &Value) -> String {
    let workloads = state["workloads"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let workloads: Vec<String> = workloads
        .iter()
        .map(|workload| {
            let text = |name: &str| workload[name].as_str().unwrap_or("?").to_owned();
            format!("{} {}", text("name"), text("phase"))
        })
        .collect();
    let head = state["head"]["commit"].as_str().unwrap_or("none");
    let refused = state["rejected"]["reason"]
        .as_str()
        .map(|reason| format!(" | refused: {reason}"))
        .unwrap_or_default();
    format!(
        "{TRAY} up {} s | head {} | {}{refused}",
        state["uptime"],
        &head[..head.len().min(10)],
        workloads.join(", "),
    )
}

fn first_line(error: &anyhow::Error) -> String {
    format!("{error:#}")
        .lines()
        .last()
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_push_that_is_suggested_works_where_git_is_told_of_another_authority() {
        assert!(edit(false).ends_with("&& git push"));
        assert!(edit(true).contains("&& env -u GIT_SSL_CAINFO git push"));
    }

    #[test]
    fn the_status_line_says_what_runs_and_what_is_refused() {
        let state = json!({
            "uptime": 7, "head": {"commit": "0123456789abcdef"}, "rejected": {"reason": "web.yaml:3: no"},
            "workloads": [{"name": "web", "phase": "running"}],
        });
        assert_eq!(
            summary(&state),
            "tray-1 up 7 s | head 0123456789 | web running | refused: web.yaml:3: no"
        );
    }
}

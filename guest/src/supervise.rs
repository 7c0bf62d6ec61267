// SPDX-License-Identifier: Apache-2.0
//! Runs the command to its end: output, orders, signals and time meet in one loop.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use std::os::unix::process::CommandExt;

use racklet_api::guest::{AgentOrder, AgentReport, CommandEnd, GuestConfig, OutputStream};
use racklet_linux::child::{self, Ended, Kill};
use racklet_linux::signal::{Signal, Signals};
use racklet_linux::{clock, session};

use crate::agent::Agent;
use crate::console::say;
use crate::event::Event;
use crate::lines::Lines;

/// How often a lost monitor is looked for.
const RECONNECT: Duration = Duration::from_secs(1);
/// How long it has to be quiet after the command's end: something it started may hold the pipes open.
const LAST_OUTPUT: Duration = Duration::from_millis(500);
/// How long output is waited for in any case, should something left behind never be quiet. What the command itself said last is
/// at most what the pipes and the queue hold, and a guest on a busy machine needs seconds to send that.
const LAST_OUTPUT_AT_MOST: Duration = Duration::from_secs(10);
/// How long the monitor may take to record the end.
const RELEASE: Duration = Duration::from_secs(10);
/// How long everything else has between SIGTERM and SIGKILL when the command is gone.
const STRAGGLERS: Duration = Duration::from_millis(200);

fn now_ms() -> u64 {
    u64::try_from(clock::wall().as_millis()).unwrap_or(u64::MAX)
}

/// The command's life; gives its end, which the monitor has been told if it could be reached.
pub(crate) fn run(config: &GuestConfig, signals: Signals) -> CommandEnd {
    let (send, events) = sync_channel(64);
    let mut agent = Agent::new(send.clone());
    let for_signals = send.clone();
    thread::spawn(move || forward_signals(signals, &for_signals));
    let end = match start(config, &send) {
        Ok(pid) => Running {
            pid,
            grace: Duration::from_secs(config.grace_s.into()),
            kill_at: None,
            end: None,
            open_streams: 2,
        }
        .supervise(&mut agent, &events),
        Err(reason) => CommandEnd::NotStarted { reason },
    };
    child::kill_all(Kill::Terminate);
    thread::sleep(STRAGGLERS);
    child::kill_all(Kill::Kill);
    report(&mut agent, &events, &end);
    end
}

/// Nothing could be set up: tells the monitor.
pub(crate) fn give_up(reason: String) -> CommandEnd {
    let (send, events) = sync_channel(64);
    let end = CommandEnd::NotStarted { reason };
    report(&mut Agent::new(send), &events, &end);
    end
}

fn forward_signals(signals: Signals, events: &SyncSender<Event>) {
    loop {
        let event = match signals.wait() {
            Signal::Child => Event::Child,
            Signal::Terminate | Signal::Power => Event::Terminate,
        };
        if events.send(event).is_err() {
            return;
        }
    }
}

/// The environment with the usual values where the configuration has none.
fn environment(config: &GuestConfig) -> Vec<(String, String)> {
    let home = if config.user.uid == 0 { "/root" } else { "/" };
    let usual = [
        (
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        ),
        ("HOME", home),
        ("TERM", "dumb"),
    ];
    let mut all: Vec<(String, String)> = usual
        .iter()
        .filter(|(name, _)| !config.environment.contains_key(*name))
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    all.extend(
        config
            .environment
            .iter()
            .map(|(name, value)| (name.clone(), value.clone())),
    );
    all
}

fn start(config: &GuestConfig, events: &SyncSender<Event>) -> Result<u32, String> {
    let (program, arguments) = config.command.split_first().ok_or("the command is empty")?;
    if !Path::new(&config.working_directory).is_dir() {
        return Err(format!(
            "working directory {} does not exist",
            config.working_directory.display()
        ));
    }
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(environment(config))
        .current_dir(&config.working_directory)
        .uid(config.user.uid)
        .gid(config.user.gid)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    session::own(&mut command);
    let mut child = command
        .spawn()
        .map_err(|e| format!("start {program:?}: {e}"))?;
    for (stream, pipe) in [
        (
            OutputStream::Stdout,
            child
                .stdout
                .take()
                .map(|p| Box::new(p) as Box<dyn Read + Send>),
        ),
        (
            OutputStream::Stderr,
            child
                .stderr
                .take()
                .map(|p| Box::new(p) as Box<dyn Read + Send>),
        ),
    ] {
        let events = events.clone();
        thread::spawn(move || {
            if let Some(pipe) = pipe {
                forward_output(pipe, Lines::new(stream), &events);
            }
            // Nobody listens only when PID 1 is on its way out.
            let _ = events.send(Event::OutputEnded);
        });
    }
    say(&format!("started {program:?} as process {}", child.id()));
    // Reaped with all others: the handle is not waited for.
    Ok(child.id())
}

fn forward_output(mut pipe: Box<dyn Read + Send>, mut lines: Lines, events: &SyncSender<Event>) {
    let mut bytes = [0; 4096];
    loop {
        match pipe.read(&mut bytes) {
            Ok(0) => break,
            Ok(count) => {
                for line in lines.add(&bytes[..count], now_ms()) {
                    if events.send(Event::Output(line)).is_err() {
                        return;
                    }
                }
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    if let Some(line) = lines.end(now_ms()) {
        // As above.
        let _ = events.send(Event::Output(line));
    }
}

/// How the command ended, and until when its last output is waited for.
struct End {
    how: CommandEnd,
    quiet: Instant,
    at_most: Instant,
}

impl End {
    fn new(how: CommandEnd, now: Instant) -> Self {
        Self {
            how,
            quiet: now + LAST_OUTPUT,
            at_most: now + LAST_OUTPUT_AT_MOST,
        }
    }

    /// There was output.
    fn heard(&mut self, now: Instant) {
        self.quiet = now + LAST_OUTPUT;
    }

    fn until(&self) -> Instant {
        self.quiet.min(self.at_most)
    }
}

struct Running {
    pid: u32,
    grace: Duration,
    kill_at: Option<Instant>,
    end: Option<End>,
    open_streams: usize,
}

impl Running {
    fn supervise(mut self, agent: &mut Agent, events: &Receiver<Event>) -> CommandEnd {
        let mut connect_at = Instant::now();
        loop {
            let now = Instant::now();
            if !agent.connected() && now >= connect_at {
                agent.connect(true, now_ms());
                connect_at = now + RECONNECT;
            }
            if self.kill_at.is_some_and(|at| now >= at) {
                say("the command did not end in time: SIGKILL");
                child::kill_group(self.pid, Kill::Kill);
                self.kill_at = None;
            }
            if let Some(end) = &self.end
                && (self.open_streams == 0 || now >= end.until())
            {
                return end.how.clone();
            }
            let mut next = now + Duration::from_secs(3600);
            for at in [
                (!agent.connected()).then_some(connect_at),
                self.kill_at,
                self.end.as_ref().map(End::until),
            ]
            .into_iter()
            .flatten()
            {
                next = next.min(at);
            }
            match events.recv_timeout(next.saturating_duration_since(now)) {
                Ok(event) => self.happen(event, agent),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => thread::sleep(RECONNECT),
            }
        }
    }

    fn happen(&mut self, event: Event, agent: &mut Agent) {
        match event {
            Event::Output(line) => {
                agent.send(&AgentReport::Output(line));
                if let Some(end) = &mut self.end {
                    end.heard(Instant::now());
                }
            }
            Event::OutputEnded => self.open_streams -= 1,
            Event::Broken(generation) if agent.is_current(generation) => agent.broken(),
            Event::Order(generation, AgentOrder::Stop { grace_s })
                if agent.is_current(generation) =>
            {
                self.stop(grace_s.map_or(self.grace, |s| Duration::from_secs(s.into())));
            }
            Event::Terminate => self.stop(self.grace),
            Event::Child => self.reap(),
            Event::Broken(_) | Event::Order(..) => {}
        }
    }

    fn stop(&mut self, grace: Duration) {
        if self.end.is_none() && self.kill_at.is_none() {
            say(&format!(
                "stopping: SIGTERM, then SIGKILL after {} s",
                grace.as_secs()
            ));
            child::kill_group(self.pid, Kill::Terminate);
            self.kill_at = Some(Instant::now() + grace);
        }
    }

    fn reap(&mut self) {
        for (pid, ended) in child::reap() {
            if pid == self.pid && self.end.is_none() {
                self.end = Some(End::new(command_end(ended), Instant::now()));
            }
        }
    }
}

fn command_end(ended: Ended) -> CommandEnd {
    match ended {
        // The kernel keeps eight bits of an exit status.
        Ended::Code(code) => CommandEnd::Code {
            code: u8::try_from(code & 0xff).unwrap_or(u8::MAX),
        },
        Ended::Signal(signal) => CommandEnd::Signal {
            signal: u8::try_from(signal).unwrap_or(0),
        },
    }
}

/// Tells the end until the monitor has recorded it, or cannot be reached for too long.
fn report(agent: &mut Agent, events: &Receiver<Event>, end: &CommandEnd) {
    let until = Instant::now() + RELEASE;
    let mut told = None;
    loop {
        let now = Instant::now();
        if now >= until {
            say("the monitor did not acknowledge the end");
            return;
        }
        if !agent.connected() {
            agent.connect(false, now_ms());
            told = None;
        }
        if agent.connected() && told.is_none() {
            agent.send(&AgentReport::Ended { end: end.clone() });
            told = Some(now);
        }
        match events.recv_timeout(Duration::from_millis(200)) {
            Ok(Event::Order(generation, AgentOrder::Release)) if agent.is_current(generation) => {
                return;
            }
            Ok(Event::Broken(generation)) if agent.is_current(generation) => agent.broken(),
            Ok(Event::Output(line)) => agent.send(&AgentReport::Output(line)),
            Ok(Event::Child) => drop(child::reap()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_output_is_waited_for_while_it_comes_and_not_for_ever() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let mut end = End::new(CommandEnd::Code { code: 0 }, start);
        assert_eq!(end.until(), after(500));
        for ms in (400..9_600).step_by(400) {
            assert!(after(ms) < end.until(), "it was quiet for 400 ms only");
            end.heard(after(ms));
        }
        end.heard(after(9_900));
        assert_eq!(end.until(), after(10_000), "something goes on talking");
    }

    #[test]
    fn usual_variables_are_there_unless_the_configuration_has_its_own() {
        let config: GuestConfig = serde_json::from_str(
            r#"{"v":1,"hostname":"a","command":["x"],"overlay":{"kind":"none"},"environment":{"PATH":"/only","A":"b"}}"#,
        )
        .unwrap();
        let all = environment(&config);
        let get = |name: &str| {
            all.iter()
                .filter(|(n, _)| n == name)
                .map(|(_, v)| v.as_str())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            (get("PATH"), get("A"), get("HOME")),
            (vec!["/only"], vec!["b"], vec!["/root"])
        );
    }

    #[test]
    fn ends_keep_their_number() {
        assert_eq!(
            command_end(Ended::Code(0x1ff)),
            CommandEnd::Code { code: 255 }
        );
        assert_eq!(
            command_end(Ended::Signal(9)),
            CommandEnd::Signal { signal: 9 }
        );
    }
}

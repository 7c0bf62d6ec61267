// SPDX-License-Identifier: Apache-2.0
//! Runs the command to its end: output, orders, signals and time meet in one loop.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use std::os::unix::process::CommandExt;

use racklet_api::guest::{
    AgentOrder, AgentReport, CommandEnd, GuestConfig, GuestUser, OutputStream,
};
use racklet_linux::child::{self, Ended, Kill};
use racklet_linux::signal::{Signal, Signals};
use racklet_linux::{clock, session};

use crate::agent::{self, Agent};
use crate::console::say;
use crate::event::Event;
use crate::exec::{self, Sessions};
use crate::lines::Lines;
use crate::restored;

/// How often a lost monitor is looked for.
const RECONNECT: Duration = Duration::from_secs(1);
/// How long it has to be quiet after the command's end until what it left behind is ended, too: that may hold the pipes open.
const LAST_OUTPUT: Duration = Duration::from_millis(500);
/// How long the left behind may go on talking. Nothing is lost when it is over: what the pipes hold is sent all the same.
const LAST_OUTPUT_AT_MOST: Duration = Duration::from_secs(3);
/// A turn of waiting. What comes after the command's end is counted in turns and not by the clock, which goes on while the monitor, and
/// with it this machine, is stopped.
const TURN: Duration = Duration::from_millis(200);
/// For how many turns (10 s) nothing at all may come out of the pipes when every process is gone: then something holds them that cannot be
/// killed.
const STUCK_TURNS: u32 = 50;
/// How many turns (a minute) the monitor may take to record the end. While it runs at all, waiting costs nothing, and leaving costs the
/// last lines.
const RELEASE_TURNS: u32 = 300;
/// How long everything else has between SIGTERM and SIGKILL when the command is gone.
const STRAGGLERS: Duration = Duration::from_millis(200);

fn now_ms() -> u64 {
    u64::try_from(clock::wall().as_millis()).unwrap_or(u64::MAX)
}

/// The command's life; gives its end, which the monitor has been told if it could be reached.
pub(crate) fn run(config: &GuestConfig, signals: Signals) -> CommandEnd {
    let (send, events) = sync_channel(64);
    let mut agent = Agent::new(agent::monitor(), send.clone());
    let for_signals = send.clone();
    thread::spawn(move || forward_signals(signals, &for_signals));
    let everything = || {
        child::kill_all(Kill::Terminate);
        thread::sleep(STRAGGLERS);
        child::kill_all(Kill::Kill);
    };
    let sessions = Sessions::new(config.clone(), exec::host());
    conduct(config, sessions, &send, &mut agent, &events, everything)
}

/// The command, then the end of `everything` else, then all that was said, then the report: in this order, so that the report is the
/// last line.
fn conduct(
    config: &GuestConfig,
    sessions: Sessions,
    send: &SyncSender<Event>,
    agent: &mut Agent,
    events: &Receiver<Event>,
    everything: impl FnOnce(),
) -> CommandEnd {
    let end = match start(config, send) {
        Ok(pid) => {
            let mut running = Running {
                pid,
                grace: Duration::from_secs(config.grace_s.into()),
                kill_at: None,
                end: None,
                open_streams: 2,
                // A third of what the monitor waits for: two that come late are made up for by the next one.
                alive: config.watchdog_s.map(|s| Duration::from_secs(s.into()) / 3),
                sessions,
                send: send.clone(),
            };
            let end = running.supervise(agent, events);
            everything();
            running.drain(agent, events);
            end
        }
        Err(reason) => {
            everything();
            CommandEnd::NotStarted { reason }
        }
    };
    report(agent, events, &end);
    end
}

/// Nothing could be set up: tells the monitor.
pub(crate) fn give_up(reason: String) -> CommandEnd {
    let (send, events) = sync_channel(64);
    let end = CommandEnd::NotStarted { reason };
    let mut agent = Agent::new(agent::monitor(), send);
    report(&mut agent, &events, &end);
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

/// A program of the guest, in its command's environment: not started, and without streams.
pub(crate) fn program(
    config: &GuestConfig,
    words: &[String],
    folder: &Path,
    user: GuestUser,
) -> Result<Command, String> {
    let (program, arguments) = words.split_first().ok_or("the command is empty")?;
    if !folder.is_dir() {
        return Err(format!(
            "working directory {} does not exist",
            folder.display()
        ));
    }
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(environment(config))
        .current_dir(folder)
        .uid(user.uid)
        .gid(user.gid);
    Ok(command)
}

fn start(config: &GuestConfig, events: &SyncSender<Event>) -> Result<u32, String> {
    let words = &config.command;
    let mut command = program(config, words, &config.working_directory, config.user)?;
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    session::own(&mut command);
    let mut child = command
        .spawn()
        .map_err(|e| format!("start {:?}: {e}", words[0]))?;
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
    say(&format!("started {:?} as process {}", words[0], child.id()));
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
    /// How often the monitor wants a sign of life, if it does.
    alive: Option<Duration>,
    sessions: Sessions,
    /// For the threads of sessions.
    send: SyncSender<Event>,
}

impl Running {
    fn supervise(&mut self, agent: &mut Agent, events: &Receiver<Event>) -> CommandEnd {
        let mut connect_at = Instant::now();
        let mut alive_at = self.alive.map(|_| connect_at);
        loop {
            let now = Instant::now();
            if let (Some(every), Some(at)) = (self.alive, alive_at)
                && now >= at
            {
                alive_at = Some(now + every);
                // Not kept for later: a sign of life that comes late is none.
                if agent.connected() {
                    agent.send(&AgentReport::Alive);
                }
            }
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
                alive_at,
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

    /// Every process is gone, so that each pipe ends behind what it holds, and that is bounded (64 KiB as Linux makes them): it is sent to
    /// the end, however long the monitor takes to read it.
    fn drain(&mut self, agent: &mut Agent, events: &Receiver<Event>) {
        let mut turns = 0;
        while self.open_streams > 0 {
            if !agent.connected() {
                agent.connect(true, now_ms());
            }
            match events.recv_timeout(TURN) {
                Ok(event) => {
                    self.happen(event, agent);
                    turns = 0;
                }
                Err(_) if turns < STUCK_TURNS => turns += 1,
                Err(_) => {
                    say("something that cannot be killed holds the command's output open");
                    return;
                }
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
            // A machine that ends begins nothing.
            Event::Order(generation, AgentOrder::Exec(call))
                if agent.is_current(generation) && self.end.is_none() =>
            {
                self.sessions.call(call, &self.send);
            }
            Event::Exec(request) if self.end.is_none() => self.sessions.start(*request),
            Event::Order(
                generation,
                AgentOrder::Restored {
                    seed,
                    time_ms,
                    cards,
                },
            ) if agent.is_current(generation) => {
                restored::settle(&seed.0, Duration::from_millis(time_ms), &cards);
            }
            Event::Terminate => self.stop(self.grace),
            Event::Child => self.reap(),
            Event::Broken(_) | Event::Order(..) | Event::Exec(_) => {}
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
            let end = command_end(ended);
            self.sessions.ended(pid, &end);
            if pid == self.pid && self.end.is_none() {
                self.end = Some(End::new(end, Instant::now()));
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
    let (mut told, mut turns, mut turn) = (false, 0, Instant::now());
    while turns < RELEASE_TURNS {
        // However much happens in it: and one in which the machine was stopped is one.
        if turn.elapsed() >= TURN {
            (turns, turn) = (turns + 1, Instant::now());
        }
        if !agent.connected() {
            agent.connect(false, now_ms());
            told = false;
        }
        if agent.connected() && !told {
            agent.send(&AgentReport::Ended { end: end.clone() });
            told = true;
        }
        match events.recv_timeout(TURN) {
            Ok(Event::Order(generation, AgentOrder::Release)) if agent.is_current(generation) => {
                return;
            }
            Ok(Event::Broken(generation)) if agent.is_current(generation) => agent.broken(),
            Ok(Event::Output(line)) => agent.send(&AgentReport::Output(line)),
            Ok(Event::Child) => drop(child::reap()),
            _ => {}
        }
    }
    say("the monitor did not acknowledge the end");
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{BufRead, BufReader, Write};
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    use std::sync::Mutex;

    use super::*;

    /// Runs a shell's command and gives what the monitor heard, which it reads as `read` says.
    fn heard(
        command: &str,
        read: impl FnOnce(&mut BufReader<UnixStream>) -> Vec<AgentReport> + Send + 'static,
    ) -> Vec<AgentReport> {
        let (ours, monitors) = UnixStream::pair().unwrap();
        let ours = Mutex::new(Some(File::from(OwnedFd::from(ours))));
        let dial = move || -> std::io::Result<File> {
            let once = ours.lock().unwrap().take();
            once.ok_or_else(|| std::io::ErrorKind::NotConnected.into())
        };
        let monitor = thread::spawn(move || {
            let mut orders = monitors.try_clone().unwrap();
            let mut reader = BufReader::new(monitors);
            let heard = read(&mut reader);
            orders.write_all(b"{\"order\":\"release\"}\n").unwrap();
            heard
        });
        let config: GuestConfig = serde_json::from_value(serde_json::json!({
            "v": 1, "hostname": "a", "command": ["/bin/sh", "-c", command], "overlay": {"kind": "none"},
            "user": {"uid": rustix::process::geteuid().as_raw(), "gid": rustix::process::getegid().as_raw()},
        }))
        .unwrap();
        let (send, events) = sync_channel(64);
        let mut agent = Agent::new(Box::new(dial), send.clone());
        // Instead of signals: the threads of a test do not agree on which are blocked.
        let child = send.clone();
        thread::spawn(move || {
            while child.send(Event::Child).is_ok() {
                thread::sleep(Duration::from_millis(20));
            }
        });
        let sessions = Sessions::new(config.clone(), exec::host());
        conduct(&config, sessions, &send, &mut agent, &events, || {});
        monitor.join().unwrap()
    }

    fn until_ended(reader: &mut BufReader<UnixStream>, each: Duration) -> Vec<AgentReport> {
        let mut reports = Vec::new();
        for line in reader.lines() {
            thread::sleep(each);
            reports.push(serde_json::from_str(&line.unwrap()).unwrap());
            if matches!(reports.last(), Some(AgentReport::Ended { .. })) {
                break;
            }
        }
        reports
    }

    #[test]
    fn every_line_of_a_command_is_sent_before_its_end_however_slowly_the_monitor_reads() {
        // No more than pipe and socket hold: the command is gone at once, and what it said takes twice as long to read as anybody left
        // behind may talk.
        let slowly = LAST_OUTPUT_AT_MOST * 2 / 1500;
        let reports = heard(
            "seq -f 'line %08g of a command that talks a lot' 1500",
            move |reader| until_ended(reader, slowly),
        );
        let lines: Vec<&str> = reports
            .iter()
            .filter_map(|report| match report {
                AgentReport::Output(line) => Some(line.line.as_str()),
                _ => None,
            })
            .collect();
        assert_eq!(lines.len(), 1_500);
        assert_eq!(
            lines.last(),
            Some(&"line 00001500 of a command that talks a lot")
        );
        let end = CommandEnd::Code { code: 0 };
        assert_eq!(reports.last(), Some(&AgentReport::Ended { end }));
    }

    #[test]
    fn last_output_is_waited_for_while_it_comes_and_not_for_ever() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let mut end = End::new(CommandEnd::Code { code: 0 }, start);
        assert_eq!(end.until(), after(500));
        for ms in (400..2_800).step_by(400) {
            assert!(after(ms) < end.until(), "it was quiet for 400 ms only");
            end.heard(after(ms));
        }
        end.heard(after(2_900));
        assert_eq!(end.until(), after(3_000), "something goes on talking");
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

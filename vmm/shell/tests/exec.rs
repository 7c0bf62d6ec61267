// SPDX-License-Identifier: Apache-2.0
//! `racklet-vmm exec` before a monitor and a guest that are played here. With the real ones it is tried in `tests/tests/microvm.rs`.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use racklet_api::guest::CommandEnd;
use racklet_api::guest::exec::{Call, Exec, FromGuest, Secret, ToGuest, Window, read, write};
use racklet_api::vmm::console::Bytes;
use racklet_api::vmm::{ControlAction, ControlRequest};
use racklet_linux::pty::{self, Pty};
use serde_json::json;

const PROGRAM: &str = env!("CARGO_BIN_EXE_racklet-vmm");

fn program(folder: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg("exec").args(words);
    command.env("TERM", "vt220");
    command.args([folder.to_str().unwrap(), "sh", "-c", "x"]);
    command
}

/// Answers one request as a monitor does whose guest is up.
fn monitor(listener: &UnixListener) -> Call {
    let (mut control, _) = listener.accept().unwrap();
    let mut line = String::new();
    BufReader::new(control.try_clone().unwrap())
        .read_line(&mut line)
        .unwrap();
    let request: ControlRequest = serde_json::from_str(&line).unwrap();
    let ControlAction::Exec(call) = request.action else {
        panic!("{line}");
    };
    let status = json!({"status": {"v": 1, "pid": 1, "since_ms": 1, "state": "up"}});
    writeln!(control, "{status}").unwrap();
    call
}

fn dial(folder: &Path, call: &Call) -> UnixStream {
    UnixStream::connect(folder.join(format!("vsock.sock_{}", call.port))).unwrap()
}

fn hello(to: &mut UnixStream, secret: &Secret) {
    writeln!(to, "{}", json!({"hello": {"v": 1, "secret": secret}})).unwrap();
}

/// The guest's end of a session.
struct Guest(BufReader<UnixStream>);

impl Guest {
    /// Starts the program and gives both sides, once it has asked for a process.
    fn of(folder: &Path, mut command: Command) -> (Child, Guest, Exec) {
        let listener = UnixListener::bind(folder.join("control.sock")).unwrap();
        let child = command.spawn().unwrap();
        drop(command); // it may have the other end of a terminal
        let call = monitor(&listener);
        let mut connection = dial(folder, &call);
        hello(&mut connection, &call.secret);
        let mut guest = Guest(BufReader::new(connection));
        let ToGuest::Start(wanted) = guest.hear() else {
            panic!("it does not begin with what to start");
        };
        // Nobody else can come in any more.
        let left = std::fs::read_dir(folder).unwrap().count();
        assert_eq!(left, 1, "the control socket alone");
        guest.say(&FromGuest::Started { pid: 7 });
        (child, guest, wanted)
    }

    fn hear(&mut self) -> ToGuest {
        read(&mut self.0).unwrap().expect("it goes on")
    }

    fn say(&mut self, what: &FromGuest) {
        write(self.0.get_mut(), what).unwrap();
    }
}

fn piped(mut command: Command) -> Command {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

#[test]
fn a_process_is_asked_for_heard_and_its_end_is_this_programs() {
    let folder = tempfile::tempdir().unwrap();
    let options = ["-e", "A=b", "--user", "7:8", "--workdir", "/tmp"];
    let command = piped(program(folder.path(), &options));
    let (mut child, mut guest, wanted) = Guest::of(folder.path(), command);
    let expected = json!({
        "command": ["sh", "-c", "x"], "environment": {"A": "b"}, "user": {"uid": 7, "gid": 8}, "working_directory": "/tmp",
    });
    assert_eq!(serde_json::to_value(&wanted).unwrap(), expected);

    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"in \xff").unwrap();
    assert_eq!(guest.hear(), ToGuest::Input(Bytes(b"in \xff".to_vec())));
    drop(stdin);
    assert_eq!(guest.hear(), ToGuest::InputEnd);
    guest.say(&FromGuest::Output(Bytes(b"out \xfe".to_vec())));
    guest.say(&FromGuest::Error(Bytes(b"err".to_vec())));
    guest.say(&FromGuest::Ended(CommandEnd::Code { code: 5 }));
    let out = child.wait_with_output().unwrap();
    assert_eq!(
        (&*out.stdout, &*out.stderr),
        (&b"out \xfe"[..], &b"err"[..])
    );
    assert_eq!(out.status.code(), Some(5));
}

#[test]
fn ends_by_a_signal_of_nothing_and_of_the_guest_are_told_apart() {
    let signal = FromGuest::Ended(CommandEnd::Signal { signal: 9 });
    let reason = "no \u{1b}[2Jsuch".to_owned();
    let nothing = FromGuest::Ended(CommandEnd::NotStarted { reason });
    for (end, code, why) in [
        (Some(signal), 137, ""),
        (Some(nothing), 127, "such"),
        (None, 1, "did not say how"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (child, mut guest, _) = Guest::of(folder.path(), piped(program(folder.path(), &[])));
        if let Some(end) = end {
            guest.say(&end);
        }
        drop(guest);
        let out = child.wait_with_output().unwrap();
        let said = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(code), "{said}");
        assert!(said.contains(why) && !said.contains('\u{1b}'), "{said:?}");
    }
}

#[test]
fn who_does_not_know_the_secret_is_sent_away() {
    let folder = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(folder.path().join("control.sock")).unwrap();
    let child = piped(program(folder.path(), &[])).spawn().unwrap();
    let call = monitor(&listener);
    let mut stranger = dial(folder.path(), &call);
    hello(&mut stranger, &Secret::new([0; 16]));
    let mut rude = dial(folder.path(), &call);
    rude.write_all(&[b'x'; 100]).unwrap();
    rude.shutdown(std::net::Shutdown::Write).unwrap();
    let mut guest = dial(folder.path(), &call);
    hello(&mut guest, &call.secret);
    let mut guest = Guest(BufReader::new(guest));
    assert!(matches!(guest.hear(), ToGuest::Start(_)));
    for mut other in [stranger, rude] {
        let mut heard = Vec::new();
        // Cut off with what it said unread, or simply at its end.
        let _ = other.read_to_end(&mut heard);
        assert!(heard.is_empty(), "{}", String::from_utf8_lossy(&heard));
    }
    guest.say(&FromGuest::Ended(CommandEnd::Code { code: 0 }));
    assert!(child.wait_with_output().unwrap().status.success());
}

#[test]
fn a_monitor_that_refuses_is_quoted_and_nothing_is_left_behind() {
    let folder = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(folder.path().join("control.sock")).unwrap();
    let refuse = thread::spawn(move || {
        let (mut control, _) = listener.accept().unwrap();
        let mut line = String::new();
        let mut from = BufReader::new(control.try_clone().unwrap());
        from.read_line(&mut line).unwrap();
        control
            .write_all(b"{\"error\":{\"reason\":\"nobody is in\"}}\n")
            .unwrap();
    });
    let out = piped(program(folder.path(), &[])).output().unwrap();
    refuse.join().unwrap();
    let said = String::from_utf8(out.stderr).unwrap();
    assert!(said.contains("nobody is in"), "{said}");
    assert_eq!(out.status.code(), Some(1));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_signal_is_passed_on_and_a_second_one_ends_what_did_not_listen() {
    let folder = tempfile::tempdir().unwrap();
    let (child, mut guest, _) = Guest::of(folder.path(), piped(program(folder.path(), &[])));
    for signal in [15, 9] {
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert_eq!(guest.hear(), ToGuest::Signal(signal));
    }
    guest.say(&FromGuest::Ended(CommandEnd::Signal { signal: 9 }));
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(137));
}

/// What is on the terminal, up to this.
fn shown(terminal: &mut File, end: &str) -> String {
    let mut said = String::new();
    while !said.ends_with(end) {
        let mut byte = [0];
        terminal.read_exact(&mut byte).unwrap();
        said.push(char::from(byte[0]));
    }
    said
}

#[test]
fn a_terminal_is_the_process_s_with_its_keys_its_size_and_a_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let ids = (rustix::process::geteuid(), rustix::process::getegid());
    let terminal = Pty::open(30, 100, ids.0.as_raw(), ids.1.as_raw()).unwrap();
    let mut command = program(folder.path(), &["--tty"]);
    let mut terminal = terminal.give(&mut command).unwrap();
    let (mut child, mut guest, wanted) = Guest::of(folder.path(), command);
    let size = |rows, columns| Window { rows, columns };
    assert_eq!(wanted.terminal, Some(size(30, 100)));
    assert_eq!(wanted.environment["TERM"], "vt220");
    // Once it shows something, its keys are the process's.
    guest.say(&FromGuest::Output(Bytes(b"$ ".to_vec())));
    shown(&mut terminal, "$ ");
    terminal.write_all(b"a\x03\x04\x01a").unwrap();
    let mut typed = Vec::new();
    while typed.len() < 4 {
        match guest.hear() {
            ToGuest::Input(bytes) => typed.extend(bytes.0),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(typed, b"a\x03\x04\x01");
    pty::resize(&terminal, 31, 101).unwrap();
    assert_eq!(guest.hear(), ToGuest::Window(size(31, 101)));
    terminal.write_all(b"\x01x").unwrap();
    assert_eq!(guest.hear(), ToGuest::Signal(9));
    guest.say(&FromGuest::Ended(CommandEnd::Signal { signal: 9 }));
    assert_eq!(child.wait().unwrap().code(), Some(137));
}

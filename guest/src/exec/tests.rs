// SPDX-License-Identifier: Apache-2.0
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use racklet_api::guest::exec::{Secret, Window};

use super::*;

/// A main loop as far as sessions know it, and the caller's end of one session.
struct Caller {
    said: BufReader<UnixStream>,
    sessions: Arc<Mutex<Sessions>>,
}

const PORT: u32 = 5000;

fn call() -> Call {
    let text = format!(r#"{{"port":{PORT},"secret":"{}"}}"#, "07".repeat(16));
    serde_json::from_str(&text).unwrap()
}

/// Calls so often, and gives the caller's end of the last one that was answered.
fn called(times: usize) -> (Vec<UnixStream>, Arc<Mutex<Sessions>>) {
    let uid = rustix::process::geteuid().as_raw();
    let gid = rustix::process::getegid().as_raw();
    let config = serde_json::json!({
        "v": 1, "hostname": "a", "command": ["x"], "overlay": {"kind": "none"}, "environment": {"COLOUR": "green"},
        "user": {"uid": uid, "gid": gid},
    });
    let config: GuestConfig = serde_json::from_value(config).unwrap();
    let (callers, ends): (Vec<_>, Vec<_>) = (0..times).map(|_| UnixStream::pair().unwrap()).unzip();
    let ends = Mutex::new(ends);
    let dial: Dial = Arc::new(move |port| {
        assert_eq!(port, PORT);
        let end = ends.lock().unwrap().pop().unwrap();
        Ok(File::from(OwnedFd::from(end)))
    });
    let sessions = Arc::new(Mutex::new(Sessions::new(config, dial)));
    let (send, events) = sync_channel(64);
    for _ in 0..times {
        sessions.lock().unwrap().call(call(), &send);
    }
    let main = sessions.clone();
    thread::spawn(move || {
        for event in events {
            if let Event::Exec(request) = event {
                main.lock().unwrap().start(*request);
            }
        }
    });
    (callers, sessions)
}

impl Caller {
    fn new() -> Caller {
        let (mut callers, sessions) = called(1);
        let mut said = BufReader::new(callers.pop().unwrap());
        let hello = read::<FromGuest>(&mut said).unwrap().unwrap();
        let FromGuest::Hello { secret, .. } = hello else {
            panic!("{hello:?}");
        };
        assert!(secret.is(&Secret::new([7; 16])));
        Caller { said, sessions }
    }

    fn say(&mut self, what: &ToGuest) {
        write(self.said.get_mut(), what).unwrap();
    }

    fn start(&mut self, command: &str, terminal: Option<Window>) {
        let exec = serde_json::json!({"command": ["/bin/sh", "-c", command]});
        let mut exec: Exec = serde_json::from_value(exec).unwrap();
        exec.terminal = terminal;
        self.say(&ToGuest::Start(exec));
    }

    fn hear(&mut self) -> FromGuest {
        read(&mut self.said).unwrap().expect("it goes on")
    }

    fn pid(&mut self) -> u32 {
        match self.hear() {
            FromGuest::Started { pid } => pid,
            other => panic!("{other:?}"),
        }
    }

    /// Both streams and the end; `pid` is reaped as the main loop would, once it has ended.
    fn rest(mut self, pid: u32) -> (String, String, CommandEnd) {
        let sessions = self.sessions.clone();
        thread::spawn(move || {
            let end = wait(pid);
            sessions.lock().unwrap().ended(pid, &end);
        });
        let (mut output, mut errors) = (Vec::new(), Vec::new());
        loop {
            match self.hear() {
                FromGuest::Output(bytes) => output.extend(bytes.0),
                FromGuest::Error(bytes) => errors.extend(bytes.0),
                FromGuest::Ended(end) => {
                    let text = |bytes| String::from_utf8(bytes).unwrap();
                    return (text(output), text(errors), end);
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

/// Waits for one process of this test; others run in the same process.
fn wait(pid: u32) -> CommandEnd {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap());
    let options = rustix::process::WaitOptions::empty();
    let (_, status) = rustix::process::waitpid(pid, options).unwrap().unwrap();
    match status.exit_status() {
        Some(code) => CommandEnd::Code {
            code: u8::try_from(code).unwrap(),
        },
        None => CommandEnd::Signal {
            signal: u8::try_from(status.terminating_signal().unwrap()).unwrap(),
        },
    }
}

#[test]
fn input_goes_in_both_outputs_come_out_and_the_end_is_last() {
    let mut caller = Caller::new();
    caller.start("cat; echo $COLOUR; echo no >&2; exit 3", None);
    let pid = caller.pid();
    caller.say(&ToGuest::Input(Bytes(b"one\n".to_vec())));
    caller.say(&ToGuest::Input(Bytes(b"two\n".to_vec())));
    caller.say(&ToGuest::InputEnd);
    let (output, errors, end) = caller.rest(pid);
    assert_eq!((&*output, &*errors), ("one\ntwo\ngreen\n", "no\n"));
    assert_eq!(end, CommandEnd::Code { code: 3 });
}

#[test]
fn everything_is_heard_however_slowly_the_caller_reads() {
    let mut caller = Caller::new();
    caller.start("seq 200000", None);
    let pid = caller.pid();
    // Longer than anything is waited for, while more is said than socket and pipe hold.
    thread::sleep(LAST_OUTPUT * 2);
    let (output, _, end) = caller.rest(pid);
    assert_eq!(end, CommandEnd::Code { code: 0 });
    assert_eq!(output.lines().count(), 200_000);
    assert!(output.ends_with("\n200000\n"));
}

#[test]
fn a_terminal_has_its_size_changes_it_and_is_one_stream() {
    let mut caller = Caller::new();
    let size = |rows, columns| Window { rows, columns };
    let command = "stty -echo; stty size; echo no >&2; read x; stty size; test -t 0";
    caller.start(command, Some(size(24, 80)));
    let pid = caller.pid();
    let mut before = Vec::new();
    while !before.ends_with(b"no\r\n") {
        match caller.hear() {
            FromGuest::Output(bytes) => before.extend(bytes.0),
            other => panic!("{other:?}"),
        }
    }
    caller.say(&ToGuest::Window(size(50, 132)));
    caller.say(&ToGuest::InputEnd); // means nothing at a terminal
    caller.say(&ToGuest::Input(Bytes(b"on\n".to_vec())));
    let (after, errors, end) = caller.rest(pid);
    let said = String::from_utf8(before).unwrap() + &after;
    assert_eq!((&*said, &*errors), ("24 80\r\nno\r\n50 132\r\n", ""));
    assert_eq!(end, CommandEnd::Code { code: 0 });
}

#[test]
fn a_signal_reaches_the_process_and_what_it_started() {
    let mut caller = Caller::new();
    caller.start("sleep 1000 | sleep 1000", None);
    let pid = caller.pid();
    caller.say(&ToGuest::Signal(15));
    let (_, _, end) = caller.rest(pid);
    assert_eq!(end, CommandEnd::Signal { signal: 15 });
}

#[test]
fn who_only_listens_to_hang_ups_ends_with_its_caller_and_so_does_who_does_not() {
    for (command, signal) in [
        ("sleep 1000", HANGUP),
        ("trap '' HUP; echo; sleep 1000", KILL),
    ] {
        let mut caller = Caller::new();
        caller.start(command, None);
        let pid = caller.pid();
        if signal == KILL {
            caller.hear(); // it has set its trap
        }
        drop(caller);
        assert_eq!(wait(pid), CommandEnd::Signal { signal }, "{command}");
    }
}

#[test]
fn what_cannot_be_started_is_said_with_the_reason() {
    for (exec, why) in [
        (
            serde_json::json!({"command": ["/no/such"]}),
            "start \"/no/such\"",
        ),
        (
            serde_json::json!({"command": ["true"], "working_directory": "/no/such"}),
            "does not exist",
        ),
    ] {
        let mut caller = Caller::new();
        caller.say(&ToGuest::Start(serde_json::from_value(exec).unwrap()));
        match caller.hear() {
            FromGuest::Ended(CommandEnd::NotStarted { reason }) => {
                assert!(reason.contains(why), "{reason}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_caller_that_does_not_begin_with_a_start_gets_nothing() {
    for line in [&b"\"input-end\"\n"[..], b"{}\n", b"\xff\n", b"{\"start\""] {
        let mut caller = Caller::new();
        caller.said.get_mut().write_all(line).unwrap();
        let _ = caller.said.get_mut().shutdown(std::net::Shutdown::Write);
        assert!(!matches!(read::<FromGuest>(&mut caller.said), Ok(Some(_))));
    }
}

#[test]
fn one_too_many_is_not_begun_and_a_place_is_free_again_after_an_end() {
    let (callers, sessions) = called(MOST + 1);
    let count = sessions.lock().unwrap().count.clone();
    assert_eq!(count.load(Ordering::SeqCst), MOST);
    // Only as many are greeted, whichever they are.
    let greeted = |caller: &UnixStream| {
        caller
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let mut from = BufReader::new(caller);
        matches!(read(&mut from), Ok(Some(FromGuest::Hello { .. })))
    };
    // The sessions take the last ends first.
    assert!(callers[1..].iter().all(greeted));
    drop(callers);
    while count.load(Ordering::SeqCst) > 0 {
        thread::yield_now();
    }
}

// SPDX-License-Identifier: Apache-2.0
//! What the control socket does with a guest that runs: pause, resume, input, output from any offset on.

use std::arch::global_asm;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use racklet_api::vmm::{ControlReply, VmState, VmStatus, exit};
use serde_json::json;

use super::{code, kill, possible, runs, start, state};

// Entered as those of the main file are.
global_asm!(
    ".pushsection .rodata",
    ".global racklet_echo, racklet_echo_end",
    // A line, and then every byte that is typed.
    "racklet_echo: mov dx, 0x3f8",
    "mov al, '>'",
    "out dx, al",
    "mov al, 10",
    "out dx, al",
    "2: mov dx, 0x3fd", // the line status: bit 0 says that a byte can be read
    "3: pause",
    "in al, dx",
    "test al, 1",
    "jz 3b",
    "mov dx, 0x3f8",
    "in al, dx",
    "out dx, al",
    "jmp 2b",
    "racklet_echo_end:",
    ".popsection",
);

unsafe extern "C" {
    static racklet_echo: u8;
    static racklet_echo_end: u8;
}

/// A connection to the control socket.
pub(super) struct Control(BufReader<UnixStream>);

impl Control {
    pub(super) fn of(folder: &Path) -> Control {
        let stream = UnixStream::connect(folder.join("vm/control.sock")).expect("it listens");
        Control(BufReader::new(stream))
    }

    pub(super) fn ask(&mut self, action: &serde_json::Value) -> ControlReply {
        writeln!(self.0.get_mut(), "{}", json!({"v": 1, "do": action})).expect("it reads");
        self.reply()
    }

    fn reply(&mut self) -> ControlReply {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("it answers");
        serde_json::from_str(&line).expect("an answer is one")
    }

    fn status(&mut self, action: &str) -> VmStatus {
        match self.ask(&json!(action)) {
            ControlReply::Status(status) => status,
            other => panic!("{other:?}"),
        }
    }

    /// The console from an offset on, until it is as long as this.
    fn console(&mut self, from: usize, length: usize) -> Vec<u8> {
        let mut reply = self.ask(&json!({"console": {"from": from}}));
        let mut read = Vec::new();
        loop {
            let ControlReply::Console(piece) = reply else {
                panic!("{reply:?}");
            };
            assert_eq!((piece.from, piece.lost), ((from + read.len()) as u64, 0));
            read.extend(piece.data.0);
            if read.len() >= length {
                return read;
            }
            reply = self.reply();
        }
    }
}

#[test]
fn a_guest_that_never_leaves_its_loop_stands_still_and_goes_on() {
    if !possible() {
        return;
    }
    // SAFETY: labels of the blocks of the main file and of this one, which are in this program.
    let code = unsafe { code(&super::racklet_wait, &super::racklet_end) };
    let (folder, mut monitor) = start(code);
    runs(folder.path(), &mut monitor);
    let mut control = Control::of(folder.path());
    for _ in 0..3 {
        assert!(!control.status("state").paused);
        assert!(control.status("pause").paused);
        assert!(control.status("state").paused);
        assert!(control.status("pause").paused, "it does already");
        let text = fs::read_to_string(folder.path().join("vm/status.json")).unwrap();
        assert!(text.contains(r#""paused":true"#), "{text}");
        assert!(!control.status("resume").paused);
    }
    // Both vCPUs came out, the second of which was never started. Not each time: a pause that comes before they have gone on finds
    // them standing.
    let ControlReply::Metrics(metrics) = control.ask(&json!("metrics")) else {
        panic!("these are no metrics");
    };
    assert!(metrics.exits.interrupted >= 2, "{:?}", metrics.exits);
    control.status("pause");
    kill(folder.path(), &mut monitor);
    assert!(matches!(state(folder.path()), VmState::Killed { .. }));
}

#[test]
fn what_is_typed_reaches_the_guest_when_it_runs_and_its_console_is_read_from_any_offset() {
    if !possible() {
        return;
    }
    // SAFETY: labels of the block above, which is in this program.
    let code = unsafe { code(&racklet_echo, &racklet_echo_end) };
    let (folder, mut monitor) = start(code);
    runs(folder.path(), &mut monitor);
    let mut control = Control::of(folder.path());
    let enter = |control: &mut Control, data: &str| {
        let reply = control.ask(&json!({"input": {"data": data}}));
        let ControlReply::Input { taken } = reply else {
            panic!("{reply:?}");
        };
        taken
    };
    assert!(control.status("pause").paused);
    assert_eq!(enter(&mut control, "aGVsbG8K"), 6); // hello and a line's end
    let console = folder.path().join("vm/console.log");
    assert_eq!(fs::read(&console).unwrap(), b">\n", "it stands still");
    control.status("resume");
    let mut reader = Control::of(folder.path());
    assert_eq!(reader.console(0, 8), b">\nhello\n");
    // More than the UART holds at once. What it echoes comes while it is typed.
    let line = [&b"x".repeat(998)[..], b"\r\n"].concat();
    let typed = "eHh4".repeat(332) + "eHgNCg==";
    assert_eq!(enter(&mut control, &typed), 1000);
    let mut late = Control::of(folder.path());
    assert_eq!(late.console(8, 1000), line);
    // A stop lets go on who stands still; this guest has no agent that would obey.
    assert!(control.status("pause").paused);
    let order = control.ask(&json!({"stop": {"grace_s": 0}}));
    assert!(matches!(order, ControlReply::Status(_)), "{order:?}");
    assert!(!control.status("state").paused);
    kill(folder.path(), &mut monitor);
    assert_eq!(monitor.wait().unwrap().code(), Some(exit::KILLED));
}

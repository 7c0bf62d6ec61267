// SPDX-License-Identifier: Apache-2.0
use std::cell::RefCell;
use std::io::{BufRead, BufReader, Lines, Write};
use std::os::unix::net::UnixStream;

use racklet_api::V1;
use racklet_api::vmm::VmState;
use racklet_api::vmm::console::{ConsolePiece, KEPT, MAX_PIECE};
use racklet_api::vmm::disk::DiskAttach;
use racklet_api::vmm::metrics::{BalloonMetrics, BootTimes, CallCounts, ExitCounts};

use super::*;

fn nothing() -> VmMetrics {
    VmMetrics {
        v: V1,
        devices: Vec::new(),
        exits: ExitCounts::default(),
        balloon: BalloonMetrics::default(),
        calls: CallCounts::default(),
        boot: BootTimes::default(),
    }
}

/// A server, what it has to answer with, and its first client.
struct Scene {
    control: Control,
    history: History,
    status: VmStatus,
    typed: RefCell<Vec<u8>>,
    listens: bool,
    client: UnixStream,
    lines: Lines<BufReader<UnixStream>>,
    _folder: tempfile::TempDir,
}

impl Scene {
    fn new() -> Scene {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let mut control = Control::new(listener, Poll::new().unwrap()).unwrap();
        let client = UnixStream::connect(&path).unwrap();
        control.accept();
        Scene {
            control,
            history: History::default(),
            status: VmStatus {
                v: V1,
                pid: 1,
                since_ms: 2,
                lacks: Vec::new(),
                paused: false,
                state: VmState::Up,
            },
            typed: RefCell::default(),
            listens: true,
            lines: BufReader::new(client.try_clone().unwrap()).lines(),
            client,
            _folder: folder,
        }
    }

    /// Asks for these, one behind the other; gives what is to be done.
    fn ask(&mut self, requests: &[&str]) -> Vec<ControlAction> {
        for request in requests {
            writeln!(self.client, r#"{{"v":1,"do":{request}}}"#).unwrap();
        }
        self.turn()
    }

    fn turn(&mut self) -> Vec<ControlAction> {
        let answers = Answers {
            status: &self.status,
            history: &self.history,
            listens: self.listens,
            metrics: &nothing,
            rate: &|order| match order {
                RateOrder::Disk { number: 0, .. } => Ok(()),
                _ => Err("no such device".to_owned()),
            },
            balloon: &|mib| match mib {
                Some(mib) if mib > 96 => Err("too much".to_owned()),
                mib => Ok(BalloonState {
                    target_mib: mib.unwrap_or(7),
                    actual_mib: 5,
                }),
            },
            enter: &|bytes| {
                let taken = bytes.len().min(3);
                self.typed.borrow_mut().extend(&bytes[..taken]);
                taken
            },
        };
        self.control.serve(0, &answers).actions
    }

    fn reply(&mut self) -> ControlReply {
        let line = self.lines.next().expect("a reply").expect("it is read");
        serde_json::from_str(&line).expect("it is one")
    }

    fn piece(&mut self) -> ConsolePiece {
        match self.reply() {
            ControlReply::Console(piece) => piece,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_takes_a_disks_time_is_answered_when_it_is_done() {
    let mut scene = Scene::new();
    let requests = [
        r#"{"resize":{"disk":1}}"#,
        r#"{"attach":{"read_only":true}}"#,
        r#"{"attach":{"serial":"a b"}}"#,
        r#"{"detach":{"disk":2}}"#,
    ];
    let actions = scene.ask(&requests);
    let says = DiskAttach {
        read_only: true,
        ..DiskAttach::default()
    };
    assert_eq!(
        actions,
        [
            ControlAction::Resize { disk: 1 },
            ControlAction::Attach(says),
            ControlAction::Detach { disk: 2 },
        ]
    );
    // Only what cannot be has an answer yet.
    match scene.reply() {
        ControlReply::Error { reason } => assert!(reason.contains("serial"), "{reason}"),
        other => panic!("{other:?}"),
    }
    let done = ControlReply::Detached { disk: 2 };
    scene
        .control
        .answer(1, &ControlReply::Resized { bytes: 512 });
    scene.control.answer(0, &done);
    assert_eq!(scene.reply(), done, "and nobody else's");
}

#[test]
fn requests_are_answered_and_nonsense_is_explained() {
    let mut scene = Scene::new();
    let requests = [
        r#""state""#,
        r#"{"stop":{"grace_s":3}}"#,
        r#""metrics""#,
        r#"{"input":{"data":"aGVsbG8="}}"#,
        r#"{"rate":{"disk":{"number":0}}}"#,
        r#"{"rate":{"disk":{"number":1}}}"#,
        r#""reboot""#,
    ];
    let actions = scene.ask(&requests);
    assert_eq!(
        actions[..3],
        [
            ControlAction::State,
            ControlAction::Stop { grace_s: Some(3) },
            ControlAction::Metrics
        ]
    );
    assert_eq!(actions.len(), 6);
    let status = ControlReply::Status(scene.status.clone());
    assert_eq!(
        (scene.reply(), scene.reply()),
        (status.clone(), status.clone())
    );
    assert_eq!(scene.reply(), ControlReply::Metrics(nothing()));
    assert_eq!(scene.reply(), ControlReply::Input { taken: 3 });
    assert_eq!(*scene.typed.borrow(), b"hel");
    assert_eq!(scene.reply(), status);
    let reason = "no such device".to_owned();
    assert_eq!(scene.reply(), ControlReply::Error { reason });
    let ControlReply::Error { reason } = scene.reply() else {
        panic!("it is no request");
    };
    assert!(reason.contains("unknown variant `reboot`"), "{reason}");
    scene.client.write_all(b"{\"v\":2}\n").unwrap();
    scene.turn();
    let ControlReply::Error { reason } = scene.reply() else {
        panic!("it is no request");
    };
    assert!(reason.contains("version 2"), "{reason}");
    scene
        .client
        .write_all(&vec![b'x'; MAX_REQUEST + 1])
        .unwrap();
    scene.turn();
    scene.turn();
    assert!(
        scene.control.clients.is_empty(),
        "an endless line ends the connection"
    );
}

#[test]
fn another_process_is_asked_for_where_guest_init_hears_it() {
    let mut scene = Scene::new();
    let secret = "07".repeat(16);
    let exec = format!(r#"{{"exec":{{"port":5000,"secret":"{secret}"}}}}"#);
    let wanted = scene.ask(&[&exec]);
    let [ControlAction::Exec(call)] = &*wanted else {
        panic!("{wanted:?}");
    };
    assert_eq!(call.port, 5000);
    assert_eq!(serde_json::to_value(&call.secret).unwrap(), *secret);
    assert!(matches!(scene.reply(), ControlReply::Status(_)));
    // The agent's own port, and guests that do not listen.
    let agents = exec.replace("5000", "1024");
    assert!(scene.ask(&[&agents]).is_empty());
    assert!(matches!(scene.reply(), ControlReply::Error { .. }));
    scene.status.paused = true;
    assert!(scene.ask(&[&exec]).is_empty());
    let ControlReply::Error { reason } = scene.reply() else {
        panic!("it stands still");
    };
    assert!(reason.contains("stands still"), "{reason}");
    scene.status.paused = false;
    scene.status.state = VmState::Running;
    assert!(scene.ask(&[&exec]).is_empty());
    assert!(matches!(scene.reply(), ControlReply::Error { .. }));
}

#[test]
fn a_power_button_is_pressed_only_where_somebody_hears_it() {
    let mut scene = Scene::new();
    assert_eq!(scene.ask(&[r#""power-off""#]), [ControlAction::PowerOff]);
    assert_eq!(scene.reply(), ControlReply::Status(scene.status.clone()));
    scene.listens = false;
    assert_eq!(scene.ask(&[r#""power-off""#]), []);
    let ControlReply::Error { reason } = scene.reply() else {
        panic!("nobody hears it");
    };
    assert!(reason.contains("guest-init has not called"), "{reason}");
}

#[test]
fn a_balloon_is_answered_with_how_it_stands_and_one_that_cannot_be_is_no_order() {
    let mut scene = Scene::new();
    let requests = [
        r#"{"balloon":{"mib":64}}"#,
        r#"{"balloon":{"mib":97}}"#,
        r#"{"balloon":{}}"#,
    ];
    let balloon = |mib| ControlAction::Balloon { mib };
    assert_eq!(scene.ask(&requests), [balloon(Some(64)), balloon(None)]);
    let state = |target_mib| {
        ControlReply::Balloon(BalloonState {
            target_mib,
            actual_mib: 5,
        })
    };
    assert_eq!(scene.reply(), state(64));
    let reason = "too much".to_owned();
    assert_eq!(scene.reply(), ControlReply::Error { reason });
    assert_eq!(scene.reply(), state(7));
}

#[test]
fn a_pause_is_answered_when_the_guest_stands_still() {
    let mut scene = Scene::new();
    assert_eq!(scene.ask(&[r#""pause""#]), [ControlAction::Pause]);
    assert_eq!(scene.ask(&[r#""state""#]), [ControlAction::State]);
    let running = ControlReply::Status(scene.status.clone());
    assert_eq!(scene.reply(), running, "it does not yet");
    scene.status.paused = true;
    scene.control.still(&scene.status);
    let paused = ControlReply::Status(scene.status.clone());
    assert_eq!(scene.reply(), paused);
    scene.ask(&[r#""pause""#, r#""resume""#]);
    assert_eq!(scene.reply(), paused, "it does already");
    assert_eq!(scene.reply(), running);
}

#[test]
fn a_reader_gets_what_is_kept_and_then_what_comes() {
    let mut scene = Scene::new();
    scene.history.append(b"hello\n");
    scene.ask(&[r#"{"console":{"from":2}}"#]);
    let piece = scene.piece();
    assert_eq!((piece.from, &piece.data.0[..]), (2, &b"llo\n"[..]));
    scene.history.append(b"again\n");
    scene.control.feed(&scene.history);
    let piece = scene.piece();
    assert_eq!((piece.from, piece.next, piece.lost), (6, 12, 0));
    assert_eq!(piece.data.0, b"again\n");
    scene.ask(&[r#""state""#, r#"{"console":{"from":null}}"#]);
    scene.reply();
    assert_eq!(scene.piece().from, 12, "only what comes");
}

#[test]
fn a_slow_reader_is_told_what_it_lost_and_holds_one_piece_here() {
    let mut scene = Scene::new();
    scene.ask(&[r#"{"console":{"from":0}}"#]);
    assert_eq!(scene.piece().next, 0);
    // As much as sockets hold, and far more than is kept.
    let output: Vec<u8> = (0..4_000_000_u32).map(|n| (n % 251) as u8).collect();
    for part in output.chunks(10_000) {
        scene.history.append(part);
        scene.control.feed(&scene.history);
    }
    assert!(scene.control.clients[&0].watched);
    let (mut at, mut read, mut lost) = (0, 0, 0);
    while at < output.len() as u64 {
        // The poll says that there is room when there is.
        scene.turn();
        let piece = scene.piece();
        let from = usize::try_from(piece.from).unwrap();
        assert!(piece.data.0.len() <= MAX_PIECE);
        assert_eq!(piece.data.0, output[from..][..piece.data.0.len()]);
        assert_eq!(piece.from, at + piece.lost);
        read += piece.data.0.len() as u64;
        lost += piece.lost;
        at = piece.next;
    }
    assert_eq!(read + lost, output.len() as u64);
    assert!(lost > 0 && read >= KEPT as u64, "{lost} lost, {read} read");
    scene.turn();
    assert!(!scene.control.clients[&0].watched, "nothing waits any more");
}

#[test]
fn connections_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let mut control = Control::new(listener, Poll::new().unwrap()).unwrap();
    let clients: Vec<_> = (0..MOST_CLIENTS + 3)
        .map(|_| UnixStream::connect(&path).unwrap())
        .collect();
    for _ in &clients {
        control.accept();
    }
    assert_eq!(control.clients.len(), MOST_CLIENTS);
}

// SPDX-License-Identifier: Apache-2.0
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

use racklet_api::V1;
use racklet_api::vmm::VmState;

use super::*;

#[test]
fn requests_are_answered_and_nonsense_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    let mut control =
        Control::new(UnixListener::bind(&path).unwrap(), Poll::new().unwrap()).unwrap();
    let mut client = UnixStream::connect(&path).unwrap();
    control.accept();
    let status = VmStatus {
        v: V1,
        pid: 1,
        since_ms: 2,
        lacks: Vec::new(),
        state: VmState::Up,
    };
    client
        .write_all(
            b"{\"v\":1,\"do\":\"state\"}\n{\"v\":1,\"do\":{\"stop\":{\"grace_s\":3}}}\n{\"v\":2}\n",
        )
        .unwrap();
    let actions = control.serve(0, &status);
    assert_eq!(
        actions,
        [
            ControlAction::State,
            ControlAction::Stop { grace_s: Some(3) }
        ]
    );
    let mut lines = BufReader::new(client.try_clone().unwrap()).lines();
    for _ in 0..2 {
        let reply: ControlReply = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!(reply, ControlReply::Status(status.clone()));
    }
    assert!(lines.next().unwrap().unwrap().contains("version 2"));
    client.write_all(&vec![b'x'; MAX_REQUEST + 1]).unwrap();
    for _ in 0..2 {
        control.serve(0, &status);
    }
    assert!(
        control.clients.is_empty(),
        "an endless line ends the connection"
    );
}

#[test]
fn connections_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    let mut control =
        Control::new(UnixListener::bind(&path).unwrap(), Poll::new().unwrap()).unwrap();
    let clients: Vec<_> = (0..MOST_CLIENTS + 3)
        .map(|_| UnixStream::connect(&path).unwrap())
        .collect();
    for _ in &clients {
        control.accept();
    }
    assert_eq!(control.clients.len(), MOST_CLIENTS);
}

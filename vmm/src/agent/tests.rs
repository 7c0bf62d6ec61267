// SPDX-License-Identifier: Apache-2.0
use proptest::prelude::*;
use racklet_api::V1;

use super::*;

fn write_all(stream: &mut dyn Stream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let count = stream.write(bytes)?;
        bytes = &bytes[count..];
    }
    Ok(())
}

#[test]
fn reports_come_in_whole_however_they_are_cut() {
    let agent = Agent::default();
    let mut stream = agent.connect();
    let text = b"{\"report\":\"hello\",\"v\":1,\"running\":true}\n{\"report\":\"ended\",\"end\":\"code\",\"code\":4}\n";
    for byte in text {
        stream.write(&[*byte]).unwrap();
    }
    let hello = AgentReport::Hello {
        v: V1,
        running: true,
    };
    let ended = AgentReport::Ended {
        end: CommandEnd::Code { code: 4 },
    };
    assert_eq!(agent.take(), [hello.clone(), ended.clone()]);
    write_all(&mut *stream, text).unwrap();
    assert_eq!(agent.take(), [hello, ended]);
}

#[test]
fn what_a_guest_says_of_its_command_is_bounded_and_drives_no_terminal() {
    let agent = Agent::default();
    let mut stream = agent.connect();
    for reason in [
        "\u{1b}[2J\n\u{9b}1m\u{202e}x".to_owned(),
        "y".repeat(20_000),
    ] {
        let end = CommandEnd::NotStarted { reason };
        let mut line = serde_json::to_vec(&AgentReport::Ended { end }).unwrap();
        line.push(b'\n');
        write_all(&mut *stream, &line).unwrap();
    }
    let reasons: Vec<String> = agent
        .take()
        .into_iter()
        .map(|report| match report {
            AgentReport::Ended {
                end: CommandEnd::NotStarted { reason },
            } => reason,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        reasons,
        [
            r"\x1b[2J \x9b1m\u{202e}x".to_owned(),
            "y".repeat(MAX_REASON)
        ]
    );
}

#[test]
fn an_order_reaches_only_the_newest_connection() {
    let agent = Agent::default();
    let mut old = agent.connect();
    agent.order(&AgentOrder::Release);
    let mut new = agent.connect();
    agent.order(&AgentOrder::Stop { grace_s: Some(1) });
    let mut bytes = [0; 100];
    assert_eq!(old.read(&mut bytes).unwrap(), 0);
    let count = new.read(&mut bytes).unwrap();
    assert_eq!(&bytes[..count], b"{\"order\":\"stop\",\"grace_s\":1}\n");
    assert_eq!(
        new.read(&mut bytes).unwrap_err().kind(),
        io::ErrorKind::WouldBlock
    );
    assert!(old.write(b"x").is_err());
}

#[test]
fn endless_lines_nonsense_and_floods_are_stopped() {
    let mut stream = Agent::default().connect();
    assert!(write_all(&mut *stream, &vec![b'x'; MAX_LINE + 1]).is_err());
    let mut stream = Agent::default().connect();
    assert!(write_all(&mut *stream, b"{\"report\":\"reboot\"}\n").is_err());
    let agent = Agent::default();
    let mut stream = agent.connect();
    let flood = b"{\"report\":\"hello\",\"v\":1,\"running\":true}\n".repeat(MOST_REPORTS + 1);
    assert_eq!(
        write_all(&mut *stream, &flood).unwrap_err().kind(),
        io::ErrorKind::WouldBlock
    );
    assert_eq!(agent.take().len(), MOST_REPORTS);
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let _ = write_all(&mut *Agent::default().connect(), &bytes);
    }
}

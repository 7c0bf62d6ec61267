// SPDX-License-Identifier: Apache-2.0
//! Stopping every workload by its monitor's control socket, on the way down.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use racklet_api::V1;
use racklet_api::vmm::{ControlAction, ControlReply, ControlRequest};
use racklet_line::AskError;

/// Asks all monitors below `folder` to stop their guests and waits until they are gone, at most for `grace`. Says how
/// many there were and how many stayed.
pub(crate) fn stop_all(folder: &Path, grace: Duration) -> (usize, usize) {
    let deadline = Instant::now() + grace;
    let sockets: Vec<_> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("control.sock")))
        .filter(|socket| racklet_line::connect(socket).is_ok())
        .collect();
    thread::scope(|scope| {
        for socket in &sockets {
            // Side by side: one that is slow to answer takes nothing of the others' time. What was written counts as an order;
            // whoever does not listen is killed with everything else at the end.
            let _ = thread::Builder::new().spawn_scoped(scope, || stop(socket));
        }
    });
    let mut left = sockets.len();
    while left > 0 && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(50));
        left = sockets
            .iter()
            .filter(|socket| racklet_line::connect(socket).is_ok())
            .count();
    }
    (sockets.len(), left)
}

fn stop(socket: &Path) -> Result<ControlReply, AskError> {
    let request = ControlRequest {
        v: V1,
        action: ControlAction::Stop { grace_s: None },
    };
    racklet_line::ask(socket, &request, Duration::from_secs(2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufReader;
    use std::os::unix::net::UnixListener;

    #[test]
    fn monitors_are_asked_and_waited_for() {
        let folder = tempfile::tempdir().expect("temporary folder");
        for name in ["web", "gone"] {
            fs::create_dir(folder.path().join(name)).expect("creates");
        }
        let socket = folder.path().join("web/control.sock");
        let listener = UnixListener::bind(&socket).expect("listens");
        let monitor = thread::spawn(move || {
            let mut asked = Vec::new();
            while asked.is_empty() {
                let (stream, _) = listener.accept().expect("accepts");
                asked.extend(
                    racklet_line::read::<ControlRequest>(&mut BufReader::new(&stream))
                        .ok()
                        .flatten(),
                );
            }
            asked
        });
        let (there, left) = stop_all(folder.path(), Duration::from_secs(20));
        assert_eq!((there, left), (1, 0));
        let asked = monitor.join().expect("ends");
        assert!(matches!(asked[0].action, ControlAction::Stop { .. }));
    }
}

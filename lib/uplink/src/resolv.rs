// SPDX-License-Identifier: Apache-2.0
//! `/etc/resolv.conf`, replaced as a whole.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;

/// C libraries read no more than three servers.
const MAX_SERVERS: usize = 3;

/// The file's text.
pub(crate) fn conf(servers: &[(IpAddr, Option<String>)]) -> String {
    // The usual five seconds are too long where a fetch waits behind a dead first server.
    let mut text = String::from("options timeout:2 attempts:2\n");
    for (server, scope) in servers.iter().take(MAX_SERVERS) {
        let _ = match scope {
            Some(interface) => writeln!(text, "nameserver {server}%{interface}"),
            None => writeln!(text, "nameserver {server}"),
        };
    }
    text
}

/// Readers see the old file or the new one. It lives in memory on a tray: there is no power cut to survive.
pub(crate) fn replace(path: &Path, text: &str) -> Result<(), WriteError> {
    let wrong = |source| WriteError {
        path: path.display().to_string(),
        source,
    };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(wrong)?;
    }
    let new = path.with_extension("conf.new");
    fs::write(&new, text).map_err(wrong)?;
    fs::rename(&new, path).map_err(wrong)
}

/// The file could not be replaced.
#[derive(Debug, thiserror::Error)]
#[error("write {path}")]
pub(crate) struct WriteError {
    path: String,
    source: io::Error,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_servers_and_link_local_ones_with_their_interface() {
        let address = |text: &str| text.parse().expect("an address");
        let servers = [
            (address("10.0.0.1"), None),
            (address("fe80::1"), Some("eth0".to_owned())),
            (address("2001:db8::1"), None),
            (address("10.0.0.4"), None),
        ];
        assert_eq!(
            conf(&servers),
            "options timeout:2 attempts:2\nnameserver 10.0.0.1\nnameserver fe80::1%eth0\nnameserver 2001:db8::1\n"
        );
    }
}

// SPDX-License-Identifier: Apache-2.0
//! What the doors in [`crate::fuzz`] lead to.

use super::logs::{From, Log, split};
use super::request;
use super::routes::{LogQuery, admit};
use crate::shared::Shared;
use racklet_api::hypervisor::access::ed25519;
use racklet_api::hypervisor::{MAX_BODY, MAX_FOLLOW};
use racklet_trust::root::{RoleKeys, Roles};
use racklet_trust::{PublicKey, TrustRoot};
use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

const RACK: &str = "0123456789abcdef0123456789abcdef";

/// A tray whose only key nobody has: the encoding of the curve's base point.
static TRAY: LazyLock<(Shared, PublicKey)> = LazyLock::new(|| {
    let mut base = [0x66; 32];
    base[0] = 0x58;
    let key = ed25519(&base).expect("the base point is a key");
    let keys = RoleKeys {
        threshold: 1,
        keys: vec![key.clone()],
    };
    let roles = Roles {
        root: keys.clone(),
        config: keys.clone(),
        payload: keys.clone(),
        firmware: keys,
    };
    let root = TrustRoot::new(RACK.parse().expect("an id"), 1, roles).expect("a root");
    let shared = Shared::new("tray-1".into(), RACK.into());
    shared.view().root = Some(Arc::new(root));
    (shared, key)
});

/// What a stranger sends, all at once, and what is answered.
struct Stranger<'a> {
    sends: &'a [u8],
    gets: Vec<u8>,
}

impl Read for Stranger<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.sends.read(out)
    }
}

impl Write for Stranger<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.gets.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(crate) fn request(bytes: &[u8]) {
    let (shared, identity) = &*TRAY;
    let stranger = RefCell::new(Stranger {
        sends: bytes,
        gets: Vec::new(),
    });
    // How the conversation ended is of no interest: what was said in it is.
    let _ = request::serve(&stranger, |_, request| {
        assert!(request.body.len() <= MAX_BODY);
        let refusal = admit(shared, identity, &[0; 32], request).expect_err("nobody has the key");
        assert!(matches!(refusal.status, 401 | 403));
        refusal
    });
    let gets = stranger.into_inner().gets;
    // A refusal, after "100 Continue" where that was asked for.
    let refused = gets.starts_with(b"HTTP/1.") && matches!(gets[9], b'1' | b'4');
    assert!(gets.is_empty() || refused);
}

pub(crate) fn query(text: &str) {
    let Ok(query) = LogQuery::parse(text) else {
        return;
    };
    assert!(query.follow <= Duration::from_secs(MAX_FOLLOW));
    if let From::Cursor(cursor) = query.from {
        let again = From::parse(&cursor.to_string());
        assert_eq!(again, Some(query.from), "a cursor has one meaning");
    }
}

pub(crate) fn workload_log(bytes: &[u8]) {
    for log in [Log::Workload, Log::Console] {
        let (complete, lines) = split(bytes, log, false);
        assert!(complete == 0 || bytes[complete - 1] == b'\n');
        for line in lines {
            let shown = |c: char| c == '\t' || !racklet_tell::text::is_hidden(c);
            assert!(line.line.chars().all(shown));
        }
        // With nothing to wait for, a reader always gets on.
        let (used, _) = split(bytes, log, true);
        assert!(complete <= used && (used > 0 || bytes.is_empty()));
    }
}

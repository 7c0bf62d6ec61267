// SPDX-License-Identifier: Apache-2.0
//! The two headers by which a stranger on the network wants to be let in: pass and signature.
#![no_main]

use racklet_api::hypervisor::access::{Request, authorise, ed25519};
use racklet_trust::TrustRoot;
use racklet_trust::root::{RoleKeys, Roles};

libfuzzer_sys::fuzz_target!(|input: (&str, &str, u64)| {
    // The encoding of the curve's base point: nobody signs with it here.
    let mut base = [0x66; 32];
    base[0] = 0x58;
    let identity = ed25519(&base).expect("a key");
    let keys = RoleKeys {
        threshold: 1,
        keys: vec![identity.clone()],
    };
    let roles = Roles {
        root: keys.clone(),
        config: keys.clone(),
        payload: keys.clone(),
        firmware: keys,
    };
    let rack = "0123456789abcdef0123456789abcdef";
    let root = TrustRoot::new(rack.parse().expect("hex"), 1, roles).expect("a root");
    let request = Request {
        rack,
        tray: "tray-1",
        identity: &identity,
        channel: &[0; 32],
        method: "GET",
        target: "/",
        body: b"",
    };
    let (pass, signature, now) = input;
    assert!(authorise(&request, pass, signature, now, &root).is_err());
});

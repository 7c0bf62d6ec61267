// SPDX-License-Identifier: Apache-2.0
//! Who is let in, with keys and signatures made by the same code that verifies commits.

use super::*;
use ed25519_dalek::{Signer, SigningKey};
use proptest::prelude::*;
use racklet_trust::root::{RoleKeys, Roles};
use racklet_trust::sshsig::{armor, to_be_signed};

const NOW: u64 = 1_790_000_000;
const RACK: &str = "0123456789abcdef0123456789abcdef";
const CHANNEL: Channel = [7; 32];
/// Seeds of keys.
const OWNER: u8 = 2;
const SHORT_LIVED: u8 = 9;
const TRAY: u8 = 20;

struct Holder(SigningKey);

impl Holder {
    fn new(seed: u8) -> Self {
        Self(SigningKey::from_bytes(&[seed; 32]))
    }

    fn public(&self) -> PublicKey {
        ed25519(self.0.verifying_key().as_bytes()).expect("a good key")
    }

    fn sign(&self, purpose: &str, message: &[u8]) -> String {
        let signature = self.0.sign(&to_be_signed(purpose, message)).to_bytes();
        armor(&self.public(), purpose, &signature)
    }
}

fn root() -> TrustRoot {
    let keys = |seed| RoleKeys {
        threshold: 1,
        keys: vec![Holder::new(seed).public()],
    };
    let roles = Roles {
        root: keys(1),
        config: keys(OWNER),
        payload: keys(3),
        firmware: keys(4),
    };
    TrustRoot::new(RACK.parse().expect("hex"), 1, roles).expect("a good root")
}

fn pass() -> Pass {
    Pass {
        key: Holder::new(SHORT_LIVED).public(),
        from: NOW,
        until: NOW + 600,
    }
}

fn pass_by(seed: u8, pass: &Pass) -> String {
    pass.to_header(&Holder::new(seed).sign(namespace::API, &pass.canonical(RACK)))
}

fn request(identity: &PublicKey) -> Request<'_> {
    Request {
        rack: RACK,
        tray: "tray-1",
        identity,
        channel: &CHANNEL,
        method: "POST",
        target: "/v1/sync?x=1",
        body: b"{}",
    }
}

fn signed_by(seed: u8, request: &Request<'_>) -> String {
    signature_to_header(&Holder::new(seed).sign(namespace::API, &canonical_request(request)))
}

/// The answer to a request that is right but for the pass, at `now`.
fn with_pass(header: &str, now: u64) -> Result<PublicKey, Denied> {
    let tray = Holder::new(TRAY).public();
    let request = request(&tray);
    authorise(
        &request,
        header,
        &signed_by(SHORT_LIVED, &request),
        now,
        &root(),
    )
}

#[test]
fn a_config_key_lets_in_whom_it_gave_a_pass() {
    let header = pass_by(OWNER, &pass());
    assert!(!header.contains('\n'), "one header line: {header}");
    for now in [NOW - MAX_SKEW, NOW, NOW + 600 + MAX_SKEW] {
        assert_eq!(with_pass(&header, now), Ok(Holder::new(OWNER).public()));
    }
}

#[test]
fn a_key_of_another_role_is_not() {
    let stranger = Holder::new(3).public().fingerprint();
    assert_eq!(
        with_pass(&pass_by(3, &pass()), NOW),
        Err(Denied::Key(stranger))
    );
}

#[test]
fn a_signature_counts_for_exactly_one_request_on_one_connection_to_one_machine() {
    let (tray, other) = (Holder::new(TRAY).public(), Holder::new(21).public());
    let header = pass_by(OWNER, &pass());
    let signature = signed_by(SHORT_LIVED, &request(&tray));
    let mut others = [request(&tray); 6];
    others[0].tray = "tray-2";
    others[1].identity = &other;
    others[2].channel = &[8; 32];
    others[3].method = "GET";
    others[4].target = "/v1/sync?x=2";
    others[5].body = b"{ }";
    for asked in others {
        let denied = authorise(&asked, &header, &signature, NOW, &root()).expect_err("denied");
        assert!(
            matches!(denied, Denied::Signature { of: "request", .. }),
            "{asked:?}: {denied}"
        );
    }
    let mut elsewhere = request(&tray);
    elsewhere.rack = "ffffffffffffffffffffffffffffffff";
    assert!(matches!(
        authorise(&elsewhere, &header, &signature, NOW, &root()),
        Err(Denied::Signature { of: "pass", .. })
    ));
}

#[test]
fn a_pass_is_nothing_without_the_key_that_it_names() {
    let tray = Holder::new(TRAY).public();
    let request = request(&tray);
    for signer in [OWNER, 3, 10] {
        let signature = signed_by(signer, &request);
        assert!(matches!(
            authorise(&request, &pass_by(OWNER, &pass()), &signature, NOW, &root()),
            Err(Denied::Signature { of: "request", .. })
        ));
    }
}

#[test]
fn a_pass_says_who_and_how_long_and_no_byte_of_that_can_be_changed() {
    let header = pass_by(OWNER, &pass());
    let fields: Vec<&str> = header.split(' ').collect();
    let key = Holder::new(10).public().to_string();
    let key = key.split(' ').nth(1).expect("base64");
    let (later, longer) = ((NOW + 1).to_string(), (NOW + 601).to_string());
    for changed in [
        [key, fields[1], fields[2], fields[3]],
        [fields[0], &later, fields[2], fields[3]],
        [fields[0], fields[1], &longer, fields[3]],
    ] {
        assert!(matches!(
            with_pass(&changed.join(" "), NOW),
            Err(Denied::Signature { of: "pass", .. })
        ));
    }
}

#[test]
fn a_pass_of_another_day_or_for_another_purpose_or_without_end_is_nothing() {
    let header = pass_by(OWNER, &pass());
    assert_eq!(
        with_pass(&header, NOW - MAX_SKEW - 1),
        Err(Denied::Early(MAX_SKEW + 1))
    );
    assert_eq!(
        with_pass(&header, NOW + 600 + MAX_SKEW + 1),
        Err(Denied::Late(MAX_SKEW + 1))
    );
    for until in [NOW + MAX_PASS + 1, u64::MAX, NOW - 1] {
        let endless = Pass { until, ..pass() };
        assert_eq!(with_pass(&pass_by(OWNER, &endless), NOW), Err(Denied::Pass));
    }
    let commit = Holder::new(OWNER).sign(namespace::GIT, &pass().canonical(RACK));
    assert!(matches!(
        with_pass(&pass().to_header(&commit), NOW),
        Err(Denied::Signature { of: "pass", .. })
    ));
}

proptest! {
    #[test]
    fn no_headers_of_strangers_let_anybody_in(pass in "[ -~]{0,200}", signature in "\\PC{0,200}") {
        let tray = Holder::new(TRAY).public();
        prop_assert!(authorise(&request(&tray), &pass, &signature, NOW, &root()).is_err());
    }
}

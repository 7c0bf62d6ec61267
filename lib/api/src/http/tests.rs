// SPDX-License-Identifier: Apache-2.0
//! Who is let in, with keys and signatures made by the same code that verifies commits.

use super::*;
use ed25519_dalek::{Signer, SigningKey};
use racklet_trust::root::{RoleKeys, Roles};
use racklet_trust::sshsig::{armor, to_be_signed};

const NOW: u64 = 1_790_000_000;

struct Person(SigningKey);

impl Person {
    fn new(seed: u8) -> Self {
        Self(SigningKey::from_bytes(&[seed; 32]))
    }

    fn public(&self) -> PublicKey {
        let mut blob = b"\0\0\0\x0bssh-ed25519\0\0\0\x20".to_vec();
        blob.extend_from_slice(self.0.verifying_key().as_bytes());
        PublicKey::from_blob(&blob).expect("a good key")
    }

    fn sign(&self, purpose: &str, message: &[u8]) -> String {
        let signature = self.0.sign(&to_be_signed(purpose, message)).to_bytes();
        signature_to_header(&armor(&self.public(), purpose, &signature))
    }
}

fn root() -> TrustRoot {
    let keys = |seed| RoleKeys {
        threshold: 1,
        keys: vec![Person::new(seed).public()],
    };
    let roles = Roles {
        root: keys(1),
        config: keys(2),
        payload: keys(3),
        firmware: keys(4),
    };
    TrustRoot::new(
        "0123456789abcdef0123456789abcdef".parse().expect("hex"),
        1,
        roles,
    )
    .expect("a good root")
}

fn request<'a>() -> Request<'a> {
    Request {
        rack: "0123456789abcdef0123456789abcdef",
        tray: "tray-1",
        timestamp: NOW,
        method: "POST",
        target: "/v1/sync?x=1",
        body: b"{}",
    }
}

#[test]
fn a_config_key_is_let_in() {
    let header = Person::new(2).sign(namespace::API, &canonical_request(&request()));
    assert!(!header.contains(['\n', ' ']), "one header line: {header}");
    let key = authorise(&request(), &header, NOW + MAX_SKEW, &root()).expect("let in");
    assert_eq!(key, Person::new(2).public());
}

#[test]
fn a_key_of_another_role_is_not() {
    let header = Person::new(3).sign(namespace::API, &canonical_request(&request()));
    let denied = authorise(&request(), &header, NOW, &root()).expect_err("denied");
    assert_eq!(denied, Denied::Key(Person::new(3).public().fingerprint()));
}

#[test]
fn a_signature_counts_for_exactly_one_request() {
    let header = Person::new(2).sign(namespace::API, &canonical_request(&request()));
    let mut others = [request(); 6];
    others[0].rack = "ffffffffffffffffffffffffffffffff";
    others[1].tray = "tray-2";
    others[2].timestamp += 1;
    others[3].method = "GET";
    others[4].target = "/v1/sync?x=2";
    others[5].body = b"{ }";
    for other in others {
        assert!(
            matches!(
                authorise(&other, &header, NOW, &root()),
                Err(Denied::Signature(_))
            ),
            "{other:?}"
        );
    }
}

#[test]
fn a_signature_for_another_purpose_or_of_another_day_is_nothing() {
    let header = Person::new(2).sign(namespace::GIT, &canonical_request(&request()));
    assert!(matches!(
        authorise(&request(), &header, NOW, &root()),
        Err(Denied::Signature(_))
    ));
    let header = Person::new(2).sign(namespace::API, &canonical_request(&request()));
    for now in [NOW + MAX_SKEW + 1, NOW - MAX_SKEW - 1] {
        assert_eq!(
            authorise(&request(), &header, now, &root()),
            Err(Denied::Clock(MAX_SKEW + 1))
        );
    }
    assert!(matches!(
        authorise(&request(), "", NOW, &root()),
        Err(Denied::Signature(_))
    ));
    assert!(matches!(
        authorise(&request(), "!!!", NOW, &root()),
        Err(Denied::Signature(_))
    ));
}

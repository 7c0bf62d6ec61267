// SPDX-License-Identifier: Apache-2.0
//! Thresholds, and the step from one trust root to the next.

use super::*;
use crate::testing::{Keypair, roles, trust_root};
use alloc::string::ToString;
use proptest::prelude::*;

const MESSAGE: &[u8] = b"message";

fn signatures(seeds: &[u8]) -> Vec<Vec<u8>> {
    let sign = |seed: &u8| Keypair::new(*seed).sign(namespace::MANIFEST, MESSAGE);
    seeds.iter().map(sign).collect()
}

fn check(threshold: u8, keys: &[u8], signed_by: &[u8]) -> Result<usize, String> {
    let root = trust_root(1, roles(threshold, keys));
    root.check(
        Role::Payload,
        namespace::MANIFEST,
        MESSAGE,
        &signatures(signed_by),
    )
    .map(|signers| signers.len())
    .map_err(|error| error.to_string())
}

#[test]
fn a_threshold_counts_different_authorised_keys() {
    assert_eq!(check(1, &[1, 2], &[2]), Ok(1));
    assert_eq!(check(2, &[1, 2, 3], &[3, 1]), Ok(2));
    assert_eq!(check(2, &[1, 2, 3], &[9, 3, 1, 1]), Ok(2));
    for signed_by in [&[][..], &[1], &[1, 1], &[1, 9], &[9, 9]] {
        let error = check(2, &[1, 2, 3], signed_by).unwrap_err();
        assert!(
            error.starts_with("2 signatures by payload keys needed"),
            "{error}"
        );
    }
}

#[test]
fn junk_beside_good_signatures_never_matters_whatever_its_order_or_number() {
    let root = trust_root(1, roles(2, &[1, 2, 3]));
    let good = signatures(&[1, 2]);
    let other = |seed: u8| Keypair::new(seed).sign(namespace::MANIFEST, b"another message");
    let kinds = [
        b"junk".to_vec(),
        other(3),
        other(1),
        signatures(&[9]).remove(0),
        signatures(&[1]).remove(0),
    ];
    let junk: Vec<_> = kinds.iter().cycle().take(200).cloned().collect();
    for at in [0, 100, 200] {
        let mut all = junk.clone();
        all.splice(at..at, good.clone());
        let signers = root.check(Role::Payload, namespace::MANIFEST, MESSAGE, &all);
        assert_eq!(signers.unwrap().len(), 2, "behind {at}");
    }
    let error = root
        .check(Role::Payload, namespace::MANIFEST, MESSAGE, &junk)
        .unwrap_err();
    assert_eq!(error.valid, 1);
    assert_eq!(error.refused.len(), MAX_KEYS + 1);
    assert_eq!(error.refused[MAX_KEYS], Refused::Others(200 - 1 - MAX_KEYS));
}

#[test]
fn one_key_in_two_encodings_counts_once() {
    let root = trust_root(1, roles(2, &[1, 2]));
    let pair = Keypair::new(1);
    let both = [
        pair.sign(namespace::MANIFEST, MESSAGE),
        pair.sign_as_token(namespace::MANIFEST, MESSAGE, 1),
    ];
    let error = root
        .check(Role::Payload, namespace::MANIFEST, MESSAGE, &both)
        .unwrap_err();
    assert_eq!(error.valid, 1);
}

#[test]
fn a_refusal_says_whose_signature_did_not_count() {
    let error = check(1, &[1], &[9]).unwrap_err();
    let stranger = Keypair::new(9).public().fingerprint();
    assert_eq!(
        error,
        alloc::format!(
            "1 signature by payload keys needed, 0 valid ({stranger} is not a payload key)"
        )
    );
    assert!(
        check(1, &[1], &[])
            .unwrap_err()
            .ends_with("0 valid (not signed)")
    );
}

fn advance(
    from: u64,
    to: u64,
    new_keys: &[u8],
    signed_by: &[u8],
) -> Result<Verified<TrustRoot>, RootError> {
    let old = trust_root(from, roles(1, &[1]));
    let next = trust_root(to, roles(1, new_keys)).to_canonical();
    let sign = |seed: &u8| Keypair::new(*seed).sign(namespace::TRUST_ROOT, &next);
    old.advance(&next, &signed_by.iter().map(sign).collect::<Vec<_>>())
}

#[test]
fn the_next_root_needs_the_old_keys_and_its_own() {
    assert_eq!(advance(1, 2, &[2], &[1, 2]).unwrap().version(), 2);
    assert!(matches!(advance(1, 2, &[2], &[2]), Err(RootError::Old(_))));
    assert!(matches!(advance(1, 2, &[2], &[1]), Err(RootError::Own(_))));
}

#[test]
fn no_root_version_is_skipped_repeated_or_brought_back() {
    for to in [1, 2, 4, u64::MAX] {
        let outcome = advance(2, to, &[1], &[1]);
        assert_eq!(
            outcome.unwrap_err(),
            RootError::Version {
                found: to,
                expected: 3
            }
        );
    }
    assert!(advance(u64::MAX, u64::MAX, &[1], &[1]).is_err());
}

#[test]
fn roles_that_nobody_or_anybody_could_meet_are_refused() {
    for (threshold, keys) in [(0, &[1][..]), (2, &[1]), (1, &[]), (2, &[1, 1])] {
        let root = TrustRoot::new(crate::testing::RACK, 1, roles(threshold, keys));
        assert_eq!(root.unwrap_err(), RootError::Threshold(Role::Root));
    }
}

#[test]
fn a_second_spelling_of_the_same_root_is_refused() {
    let text = String::from_utf8(trust_root(1, roles(1, &[1])).to_canonical()).unwrap();
    let spaced = text.replacen(':', ": ", 1);
    assert_eq!(
        TrustRoot::parse(spaced.as_bytes()),
        Err(RootError::NotCanonical)
    );
    let unknown = text.replacen("\"rack\"", "\"extra\":1,\"rack\"", 1);
    assert!(matches!(
        TrustRoot::parse(unknown.as_bytes()),
        Err(RootError::Malformed(_))
    ));
}

proptest! {
    #[test]
    fn any_bytes_are_refused_without_panic(bytes: Vec<u8>) {
        prop_assert!(TrustRoot::parse(&bytes).is_err());
    }
}

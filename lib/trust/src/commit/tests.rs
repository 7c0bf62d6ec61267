// SPDX-License-Identifier: Apache-2.0
//! Commits by hand, one sentence each.

use super::*;
use crate::testing::{Keypair, roles, signed_commit, trust_root, with_signature};
use alloc::{format, string::String};
use proptest::prelude::*;

const TREE: &str = "1111111111111111111111111111111111111111";

fn unsigned(more_headers: &str) -> String {
    format!(
        "tree {TREE}\nauthor A <a@b> 1 +0000\ncommitter C <c@d> 1790000000 +0200\n{more_headers}\nmessage\n"
    )
}

const NONE: &[&[u8]] = &[];

#[test]
fn a_commit_signed_by_a_config_key_counts_and_any_other_does_not() {
    let root = trust_root(1, roles(1, &[1]));
    let signed = |seed| signed_commit(&unsigned(""), &Keypair::new(seed), "gpgsig");
    let good = Commit::parse(&signed(1)).unwrap();
    assert_eq!((good.time(), good.parents()), (1_790_000_000, &[][..]));
    assert_eq!(good.verify(&root, NONE), Ok(()));
    assert!(
        Commit::parse(&signed(2))
            .unwrap()
            .verify(&root, NONE)
            .is_err()
    );
    let stripped = Commit::parse(unsigned("").as_bytes()).unwrap();
    assert_eq!(stripped.signed_bytes(), good.signed_bytes());
    assert!(stripped.verify(&root, NONE).is_err());
}

#[test]
fn two_signatures_in_one_commit_are_refused() {
    let once = signed_commit(&unsigned(""), &Keypair::new(1), "gpgsig");
    let twice = signed_commit(
        core::str::from_utf8(&once).unwrap(),
        &Keypair::new(2),
        "gpgsig-sha256",
    );
    assert_eq!(Commit::parse(&twice), Err(CommitError::Signature("gpgsig")));
}

#[test]
fn a_threshold_of_two_takes_an_approval_by_another_key() {
    let root = trust_root(1, roles(2, &[1, 2]));
    let raw = signed_commit(&unsigned(""), &Keypair::new(1), "gpgsig");
    let commit = Commit::parse(&raw).unwrap();
    let approval = |seed, namespace| Keypair::new(seed).sign(namespace, commit.signed_bytes());
    assert!(commit.verify(&root, NONE).is_err());
    assert!(
        commit
            .verify(&root, &[approval(1, namespace::APPROVAL)])
            .is_err()
    );
    assert!(
        commit
            .verify(&root, &[approval(2, namespace::GIT)])
            .is_err()
    );
    assert_eq!(
        commit.verify(&root, &[approval(2, namespace::APPROVAL)]),
        Ok(())
    );
}

#[test]
fn objects_that_read_two_ways_are_refused() {
    let longer = "1".repeat(64);
    let first_is = |line: &str| unsigned("").replacen("author", &format!("{line}\nauthor"), 1);
    let cases = [
        unsigned(&format!("tree {TREE}\n")),
        unsigned(&format!("parent {TREE}\n")),
        unsigned("author A <a@b> 1 +0000\n"),
        unsigned("committer C <c@d> 1 +0000\n"),
        unsigned(" behind the committer\n"),
        unsigned("gpgsigx y\n"),
        unsigned("").replacen("tree", "Tree", 1),
        unsigned("").replacen(TREE, &TREE.replace('1', "A"), 1),
        unsigned("").replacen(TREE, &format!("{TREE} "), 1),
        unsigned("").replacen("\n\n", "\n", 1).trim_end().into(),
        unsigned("").replacen("message", "mess\0age", 1),
        first_is(" behind the tree"),
        first_is("gpgsig x"),
        first_is("encoding UTF-8"),
        first_is(&format!("parent {TREE}\n behind it")),
        first_is(&format!("parent {longer}")),
    ];
    for raw in cases {
        assert!(Commit::parse(raw.as_bytes()).is_err(), "{raw}");
    }
}

#[test]
fn a_date_is_what_git_takes_for_one_and_below_2_to_the_40() {
    let parse = |author: &str, committer: &str| {
        let raw = format!("tree {TREE}\nauthor {author}\ncommitter {committer}\n\nmessage\n");
        Commit::parse(raw.as_bytes()).map(|commit| commit.time())
    };
    let good = "C <c@d> 7 +0200";
    for (identity, time) in [
        ("A B. <> 0 -1130", 0),
        (" <a> 5 +9999", 5),
        ("\u{e4} <x y@z> 1099511627775 -0000", MAX_TIME - 1),
    ] {
        assert_eq!(parse(good, identity), Ok(time), "{identity}");
        assert_eq!(parse(identity, good), Ok(7), "{identity}");
    }
    for identity in [
        "A <a@b> 1099511627776 +0000",
        "A <a@b> 9223372036854775808 +0000",
        "A <a@b> 18446744073709551615 +0000",
        "A <a@b> 99999999999999999999 +0000",
        "A <a@b> <c@d> 5 +0000",
        "A <a@b> 5 +0000 <c@d> 6 +0000",
        "A> <a@b> 5 +0000",
        "A<a@b> 5 +0000",
        "<a@b> 5 +0000",
        "A <a@b>5 +0000",
        "A <a@b>  5 +0000",
        "A <a@b> 05 +0000",
        "A <a@b> -5 +0000",
        "A <a@b> +5 +0000",
        "A <a@b> 5 0000",
        "A <a@b> 5 +000",
        "A <a@b> 5 +00000",
        "A <a@b> 5 UTC",
        "A <a@b> 5 +0000 ",
        "A <a@b> 5",
        "A a@b 5 +0000",
        "",
    ] {
        assert_eq!(
            parse(good, identity),
            Err(CommitError::Header("committer")),
            "{identity}"
        );
        assert_eq!(
            parse(identity, good),
            Err(CommitError::Header("author")),
            "{identity}"
        );
    }
}

/// What is signed in either format, with every header that Git puts there.
fn full(format: &str) -> String {
    let name = |digit: &str| digit.repeat(if format == "sha1" { 40 } else { 64 });
    format!(
        "tree {}\nparent {}\nparent {}\nauthor A <a@b> 1 +0000\ncommitter C <c@d> 1790000000 +0200\n\
         encoding ISO-8859-1\nmergetag object {}\n type commit\n tag v1\n \n words\n\nmessage\n",
        name("1"),
        name("2"),
        name("3"),
        name("3")
    )
}

fn label(format: &str) -> &'static str {
    match format {
        "sha1" => "gpgsig",
        _ => "gpgsig-sha256",
    }
}

/// Whether a tray with this trust root takes these bytes for a commit.
fn is_followed(root: &Verified<TrustRoot>, raw: &[u8]) -> bool {
    Commit::parse(raw).is_ok_and(|commit| commit.verify(root, NONE).is_ok())
}

/// The good spelling of one commit in both object formats, by both kinds of key.
fn honest() -> [(Vec<u8>, &'static str); 2] {
    let pair = Keypair::new(1);
    let (sha1, sha256) = (full("sha1"), full("sha256"));
    let by_key = pair.sign("git", sha1.as_bytes());
    let by_token = pair.sign_as_token("git", sha256.as_bytes(), 1);
    [
        (with_signature(&sha1, &by_key, "gpgsig"), "sha1"),
        (
            with_signature(&sha256, &by_token, "gpgsig-sha256"),
            "sha256",
        ),
    ]
}

/// Every name of an object is another object to Git: who may respell a signed commit without its key splits the history.
#[test]
fn no_unsigned_byte_of_a_signed_commit_can_be_changed_added_or_removed() {
    // White space, what base64 and the armor are made of, what they never hold, and the neighbours of what is there.
    const BYTES: &[u8] = b"\0\t\n\r -=+/09AZaz\x7f\xff";
    let root = trust_root(1, roles(1, &[1]));
    for (raw, format) in honest() {
        assert!(is_followed(&root, &raw));
        let text = str::from_utf8(&raw).unwrap();
        let start = text.find(label(format)).unwrap();
        let end = text.find("\n\nmessage").unwrap() + 1;
        for at in start..=end {
            let near = [raw[at] ^ 1, raw[at] ^ 0x20];
            for &byte in BYTES.iter().chain(&near) {
                let mut longer = raw.clone();
                longer.insert(at, byte);
                assert!(
                    !is_followed(&root, &longer),
                    "{byte:#04x} added at {at}: {text}"
                );
                let mut changed = raw.clone();
                changed[at] = byte;
                assert!(
                    byte == raw[at] || !is_followed(&root, &changed),
                    "{byte:#04x} at {at}: {text}"
                );
            }
            let mut shorter = raw.clone();
            shorter.remove(at);
            assert!(!is_followed(&root, &shorter), "{at} removed: {text}");
        }
    }
}

#[test]
fn a_signed_commit_has_one_spelling() {
    let root = trust_root(1, roles(1, &[1]));
    let swap = |raw: &str, line: &str, before: &str| {
        raw.replacen(line, "", 1)
            .replacen(before, &format!("{line}{before}"), 1)
    };
    for (raw, format) in honest() {
        let text = str::from_utf8(&raw).unwrap();
        let signature =
            &text[text.find(label(format)).unwrap()..text.find("\n\nmessage").unwrap() + 1];
        let begin = "-----BEGIN SSH SIGNATURE-----";
        let end = " -----END SSH SIGNATURE-----\n";
        let base64: String = signature
            .lines()
            .filter(|l| !l.contains("---"))
            .map(str::trim)
            .collect();
        let lines_of = |width: usize| {
            let lines: String = base64
                .as_bytes()
                .chunks(width)
                .map(|line| format!(" {}\n", str::from_utf8(line).unwrap()))
                .collect();
            text.replacen(
                signature,
                &format!("{} {begin}\n{lines}{end}", label(format)),
                1,
            )
        };
        assert_eq!(lines_of(70), text);
        let other = match format {
            "sha1" => "gpgsig-sha256",
            _ => "gpgsig",
        };
        let respelt = [
            text.replacen(end, &format!("{end} \n"), 1),
            text.replacen(end, &format!("{end}  \n"), 1),
            text.replacen(begin, &format!("{begin}\r"), 1),
            text.replacen(begin, &format!("\n {begin}"), 1),
            text.replacen(end, " -----END SSH SIGNATURE-----\r\n", 1),
            text.replacen(end, &format!("\n{end}"), 1),
            text.replacen(signature, &signature.replace('\n', "\r\n"), 1),
            lines_of(64),
            lines_of(76),
            lines_of(4096),
            swap(text, signature, "mergetag "),
            swap(text, signature, "encoding "),
            swap(text, signature, "committer "),
            swap(text, signature, "author "),
            swap(text, signature, "parent "),
            swap(text, signature, "tree "),
            text.replacen(&format!("{} -", label(format)), &format!("{other} -"), 1),
            text.replacen(
                &format!("{} -", label(format)),
                &format!("{}  -", label(format)),
                1,
            ),
            text.replacen(signature, &format!("{signature}{signature}"), 1),
            text.replacen(signature, &format!("{signature}{other} x\n"), 1),
            text.replacen(signature, &format!("{signature}x y\n"), 1),
        ];
        for other in respelt {
            assert_ne!(other, text);
            assert!(!is_followed(&root, other.as_bytes()), "{other}");
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_refused_without_panic(bytes: Vec<u8>) {
        prop_assert!(Commit::parse(&bytes).is_err());
    }

    #[test]
    fn no_changed_byte_of_a_signed_commit_is_accepted(at: proptest::sample::Index, flip in 1u8..) {
        let mut raw = signed_commit(&unsigned(""), &Keypair::new(1), "gpgsig");
        let at = at.index(raw.len());
        raw[at] ^= flip;
        prop_assert!(!is_followed(&trust_root(1, roles(1, &[1])), &raw));
    }
}

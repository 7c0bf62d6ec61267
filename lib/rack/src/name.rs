// SPDX-License-Identifier: Apache-2.0
//! What names may look like, in one place: names become paths, host names, arguments and log lines.

/// A name that is not allowed, with the reason.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{what} name `{name}` must be 1 to 63 characters of a-z, 0-9 and -, beginning and ending with a letter or digit"
)]
pub struct BadName {
    what: &'static str,
    name: String,
}

/// Whether a text is an RFC 1123 label in lower case: objects' names become host names and folder names.
pub fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes
            .iter()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
        && bytes.first() != Some(&b'-')
        && bytes.last() != Some(&b'-')
}

/// Checks an object's name: a label ([`is_label`]).
pub fn check(what: &'static str, name: &str) -> Result<(), BadName> {
    if is_label(name) {
        Ok(())
    } else {
        Err(BadName {
            what,
            name: name.to_owned(),
        })
    }
}

/// Checks a board's name: as [`check`], with `_` allowed inside (`qemu-x86_64`).
pub fn check_board(name: &str) -> Result<(), BadName> {
    check("board", &name.replace('_', "-")).map_err(|_| BadName {
        what: "board",
        name: name.to_owned(),
    })
}

/// Whether a text is a branch name in the plain subset of what Git allows.
pub fn is_branch(text: &str) -> bool {
    let part = |p: &str| {
        !p.is_empty()
            && !p.starts_with(['.', '-'])
            && !p.ends_with('.')
            && !p.ends_with(".lock")
            && !p.contains("..")
            && p.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    text.len() <= 200 && text.split('/').all(part)
}

/// Whether a text can name a network interface (`IFNAMSIZ` is 16 with the NUL).
pub fn is_interface(text: &str) -> bool {
    (1..=15).contains(&text.len())
        && !text.starts_with('.')
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

/// Whether a text is an IP address or a host name.
pub fn is_host(text: &str) -> bool {
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    text.parse::<std::net::IpAddr>().is_ok()
        || (text.len() <= 253 && text.strip_suffix('.').unwrap_or(text).split('.').all(label))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_labels() {
        for good in ["a", "tray-1", "0", &"a".repeat(63)] {
            assert_eq!(check("tray", good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "-a",
            "a-",
            "A",
            "a_b",
            "a.b",
            "a/b",
            "..",
            "ä",
            &"a".repeat(64),
        ] {
            assert!(check("tray", bad).is_err(), "{bad}");
        }
        assert!(check_board("qemu-x86_64").is_ok());
        assert!(check_board("_x").is_err());
    }

    #[test]
    fn branches_cannot_be_options_paths_or_ranges() {
        for good in ["main", "payload/stable", "v1.2_x"] {
            assert!(is_branch(good), "{good}");
        }
        for bad in [
            "",
            "-x",
            "a..b",
            "/a",
            "a/",
            "a//b",
            ".a",
            "a.lock",
            "a b",
            "a~1",
            "refs/../x",
            "a\u{7f}",
        ] {
            assert!(!is_branch(bad), "{bad}");
        }
    }

    #[test]
    fn hosts_are_names_or_addresses() {
        for good in ["a", "pool.ntp.org", "ntp.example.", "10.0.2.2", "fe80::1"] {
            assert!(is_host(good), "{good}");
        }
        for bad in ["", ".", "a..b", "-a", "a b", "a:1", "[::1]"] {
            assert!(!is_host(bad), "{bad}");
        }
    }
}

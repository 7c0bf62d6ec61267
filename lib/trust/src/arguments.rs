// SPDX-License-Identifier: Apache-2.0
//! Which kernel command lines a board and a manifest may ask for.
//!
//! ```text
//!   line   one or more spaces between words, at most MAX bytes
//!   word   name, or name=value
//!   name   a-z 0-9 _ - .   first a letter or a digit, a letter among them, and not one that chooses what is started
//!   value  A-Z a-z 0-9 and _ - . , : ; / @ + = % * ^ ~ ! # $
//! ```
//!
//! The kernel joins the board's line and the manifest's and takes the whole apart again (`lib/cmdline.c`, `next_arg`): a quote in one
//! would swallow what follows it, and `--` hands all that follows to PID 1. Upper-case names are refused since the kernel has
//! none that matter here, and puts those that it does not know into PID 1's environment. Signatures decide who may say a line at all;
//! this makes sure that it says one thing, and that the first process is the one in the verified initramfs.

use alloc::string::String;

/// The longest line, in bytes: two of them fit into what the kernel takes on x86 (`COMMAND_LINE_SIZE`, 2048).
pub const MAX: usize = 1000;

/// Why a command line is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadArguments {
    /// Longer than [`MAX`].
    #[error("arguments are longer than {MAX} bytes")]
    TooLong,
    /// Not `name` or `name=value` of the characters that are allowed.
    #[error("argument {0:?} is not `name` or `name=value` (no quotes, no `--`, lower-case names)")]
    Form(String),
    /// A name that chooses what is started, or from where.
    #[error(
        "argument {0:?} chooses what the kernel starts; that is the verified initramfs, always"
    )]
    Start(String),
}

/// Names that choose the first process or the file system that it comes from, with `_` for `-`, which are one to the kernel.
/// (`Documentation/admin-guide/kernel-parameters.txt`, for Linux 6.12.)
const STARTS: &[&str] = &[
    "init",
    "rdinit",
    "initrd",
    "initrdmem",
    "noinitrd",
    "keepinitrd",
    "retain_initrd",
    "bootconfig",
    "ro",
    "rw",
    "nfsroot",
    "nfsrootdebug",
    "load_ramdisk",
    "prompt_ramdisk",
];
/// The same for families of names: `root`, `rootfstype`, `rootwait`, …
const START_FAMILIES: &[&str] = &["root", "ramdisk"];

/// Checks the words of one command line; an empty one is good.
///
/// # Errors
/// [`BadArguments`] with the first word that is refused.
pub fn check(line: &str) -> Result<(), BadArguments> {
    if line.len() > MAX {
        return Err(BadArguments::TooLong);
    }
    line.split(' ')
        .filter(|word| !word.is_empty())
        .try_for_each(check_word)
}

fn check_word(word: &str) -> Result<(), BadArguments> {
    let (name, value) = word.split_once('=').unwrap_or((word, ""));
    let in_name = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-.".contains(&b);
    let in_value = |b: u8| b.is_ascii_alphanumeric() || b"_-.,:;/@+=%*^~!#$".contains(&b);
    let good = name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().any(|byte| byte.is_ascii_lowercase())
        && name.bytes().all(in_name)
        && value.bytes().all(in_value);
    if !good {
        return Err(BadArguments::Form(word.chars().take(64).collect()));
    }
    let name = name.replace('-', "_");
    let starts = STARTS.contains(&&*name) || START_FAMILIES.iter().any(|f| name.starts_with(f));
    match starts {
        true => Err(BadArguments::Start(word.chars().take(64).collect())),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use proptest::prelude::*;

    #[test]
    fn what_boards_and_payloads_ask_for_is_allowed() {
        for line in [
            "",
            "quiet",
            "console=ttyS0,115200 panic=5 gpt no_timer_check",
            "console=ttyS0  idle=poll ",
            "earlycon=uart8250,mmio32,0xfe215040 8250.nr_uarts=1 video=HDMI-A-1:1920x1080@60",
            "isolcpus=1-3,^2 crashkernel=256M@64M memmap=4G$0x100000000 intel_idle.max_cstate=1 mitigations=auto,nosmt",
            "usbcore.quirks=152d:0578:u netconsole=@/eth0,6666@192.0.2.1/ iommu.passthrough=1 nr_cpus=",
        ] {
            assert_eq!(check(line), Ok(()), "{line}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_or_reach_pid_1_is_refused() {
        for word in [
            "--",
            "\"--\"",
            "-",
            "---",
            "--x",
            "x=\"",
            "\"x\"",
            "x=\"a",
            "x='",
            "x\\",
            "x=\\",
            "=",
            "=x",
            "a\tb",
            "a\nb",
            "a\u{a0}b",
            "\u{e4}",
            "x=\u{e4}",
            "x=`y`",
            "x={y}",
            "x=a&b",
            "3",
            "1=2",
            ".x",
            "_x",
            "PATH=/x",
            "LD_PRELOAD=/x",
            "S",
            "Init=/x",
        ] {
            assert!(matches!(check(word), Err(BadArguments::Form(_))), "{word}");
            assert!(check(&format!("quiet {word} panic=5")).is_err(), "{word}");
        }
    }

    #[test]
    fn nothing_but_the_verified_initramfs_can_be_started() {
        for word in [
            "init=/bin/sh",
            "init",
            "init=",
            "rdinit=/bin/sh",
            "root=/dev/sda2",
            "rootfstype=ext4",
            "root-wait",
            "rootflags=x",
            "ro",
            "rw",
            "initrd=/x",
            "noinitrd",
            "retain-initrd",
            "nfsroot=192.0.2.1:/x",
            "ramdisk_size=1",
            "load-ramdisk=1",
            "bootconfig",
        ] {
            assert!(matches!(check(word), Err(BadArguments::Start(_))), "{word}");
            assert!(check(&format!("quiet {word}")).is_err(), "{word}");
        }
        assert_eq!(check("initcall_debug rodata=on"), Ok(()));
    }

    #[test]
    fn two_lines_fit_into_the_kernels() {
        assert_eq!(check(&"a".repeat(MAX)), Ok(()));
        assert_eq!(check(&"a".repeat(MAX + 1)), Err(BadArguments::TooLong));
        const { assert!(MAX * 2 + 1 < 2048) }
    }

    proptest! {
        /// Joined with another good line, in either order, it takes nothing of that one away and adds nothing to it.
        #[test]
        fn good_lines_stay_apart_when_they_are_joined(line in "[ -~]{0,40}") {
            if check(&line).is_ok() {
                prop_assert!(!line.contains(['"', '\'', '\\']));
                prop_assert!(line.split(' ').all(|word| !word.starts_with('-')));
                prop_assert_eq!(check(&format!("{line} quiet")), Ok(()));
                prop_assert_eq!(check(&format!("quiet {line}")), Ok(()));
            }
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Programs that are run to their end, and how a failure of theirs is told.

use std::{ffi::OsStr, fs, path::Path, process::Command, process::Stdio};

use anyhow::{Context as _, Result, bail};

/// Runs `command` to its end and gives its standard output; fails with the command line and what it said.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let line = describe(command);
    let out = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("start: {line}"))?;
    if !out.status.success() {
        bail!(
            "{line}: {}\n{}{}",
            out.status,
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr).trim_end()
        );
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// The same command, which the kernel ends (SIGTERM) when the thread that starts it ends, however that comes about: whoever
/// ends us from outside ends the compilers, too. Ctrl-C at a terminal reaches all of us by itself.
pub(crate) fn bound_to_us(command: &Command) -> Command {
    let mut bound = Command::new("setpriv");
    bound
        .args(["--pdeathsig", "TERM", "--"])
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => bound.env(name, value),
            None => bound.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        bound.current_dir(folder);
    }
    bound
}

/// The command line as a person would type it.
pub(crate) fn describe(command: &Command) -> String {
    let quote = |word: &OsStr| {
        let word = word.to_string_lossy();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%~".contains(c);
        if !word.is_empty() && word.chars().all(plain) {
            word.into_owned()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    };
    let words: Vec<String> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(quote)
        .collect();
    words.join(" ")
}

/// The last `lines` lines of a file, indented, for error messages; says so when there are none.
pub(crate) fn tail(path: &Path, lines: usize) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    let last = &all[all.len().saturating_sub(lines)..];
    let body = match last {
        [] => "    (empty)".to_owned(),
        last => format!("    {}", last.join("\n    ")),
    };
    format!("  end of {}:\n{body}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{io::Read as _, os::unix::process::ExitStatusExt as _};

    #[test]
    fn a_failing_command_says_what_it_was_and_what_it_said() {
        let error = output(Command::new("sh").args(["-c", "echo oh no >&2; exit 3"])).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("sh -c 'echo oh no >&2; exit 3'"), "{text}");
        assert!(
            text.contains("exit status: 3") && text.ends_with("oh no"),
            "{text}"
        );
    }

    #[test]
    fn a_bound_command_is_the_same_command() {
        let mut command = Command::new("sh");
        command
            .args(["-c", "echo $A-$HOME-$PWD"])
            .env("A", "b c")
            .env_remove("HOME")
            .current_dir("/");
        assert_eq!(output(&mut bound_to_us(&command)).unwrap(), "b c--/\n");
    }

    #[test]
    fn a_bound_command_ends_with_the_thread_that_started_it() {
        let mut child = std::thread::spawn(|| {
            let mut child = bound_to_us(Command::new("sh").args(["-c", "echo up; exec sleep 600"]))
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            // Only then has it asked for the signal.
            let mut up = [0; 3];
            child.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
            child
        })
        .join()
        .unwrap();
        let status = child.wait().unwrap();
        assert_eq!(status.signal(), Some(15), "{status}");
    }
}

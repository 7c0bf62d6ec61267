// SPDX-License-Identifier: Apache-2.0
//! `racklet-vmm`: the microVM monitor from a shell, without a tray, a prepared folder or root.
//!
//! It makes a folder with the monitor's configuration, starts the monitor in a process of its own, and from then on speaks to it as
//! anybody would: over the control socket. It is itself not confined, and reads nothing of the guest but its console.

#![forbid(unsafe_code)]

mod ask;
mod connect;
mod disk;
mod document;
mod exec;
mod keys;
mod manual;
mod rate;
mod run;
mod snapshot;
mod terminal;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use racklet_tell::error::chain;

const EXAMPLES: &str = "\
A guest from a kernel alone, on this terminal; Ctrl-A x ends it:
  racklet-vmm run --kernel vmlinux --append 'root=/dev/vda ro' --disk root.erofs,ro
The same from one JSON document, whose fields `racklet-vmm schema` describes:
  racklet-vmm run --config guest.json
While it runs, with --folder vm:
  racklet-vmm ask vm pause
  racklet-vmm exec -t vm /bin/sh
  racklet-vmm connect vm 5000
  racklet-vmm metrics vm
  racklet-vmm rate vm disk0 --bytes 10000000
  racklet-vmm attach vm data.img --serial data
  racklet-vmm snapshot vm saved --end
And later, as often as is wanted:
  racklet-vmm run --restore saved --disk root.erofs,ro

Exit status of `run`: the guest's command's, where guest-init reported one (128 and the signal's number where one ended it, 127 where
it could not be started); 0 where the guest switched itself off or restarted; 10 where it crashed, 11 where it was ended by force,
12 where nothing was started, 13 where the monitor failed. 2 for wrong usage, 1 for anything else.";

/// Runs a Linux guest in a small confined monitor over KVM.
#[derive(Parser)]
#[command(name = "racklet-vmm", version, after_help = EXAMPLES, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(run::Run),
    Ask(ask::Ask),
    Attach(disk::Attach),
    Detach(disk::Detach),
    Connect(connect::Connect),
    Exec(exec::Exec),
    Metrics(ask::Metrics),
    Rate(rate::Rate),
    Snapshot(snapshot::Snapshot),
    /// Write the JSON Schema of what `run --config` reads
    Schema,
    /// Write the completion script for a shell
    Completion {
        /// For which shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages into a folder
    Man {
        /// The folder; it is made if needed
        directory: PathBuf,
    },
    /// The monitor itself: what `run` starts
    #[command(hide = true)]
    Monitor {
        /// With its `config.json`
        folder: PathBuf,
    },
}

fn main() -> ExitCode {
    match act(Cli::parse().command) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            // The reader of stderr may be gone; that is no reason for another end.
            let _ = writeln!(std::io::stderr(), "racklet-vmm: {}", chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn act(command: Command) -> anyhow::Result<u8> {
    match command {
        Command::Run(run) => return run.run(),
        Command::Exec(exec) => return exec.run(),
        Command::Ask(ask) => ask.run()?,
        Command::Attach(attach) => attach.run()?,
        Command::Detach(detach) => detach.run()?,
        Command::Connect(connect) => connect.run()?,
        Command::Metrics(metrics) => metrics.run()?,
        Command::Rate(rate) => rate.run()?,
        Command::Snapshot(snapshot) => snapshot.run()?,
        Command::Schema => print(&document::schema_text()?)?,
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "racklet-vmm", &mut script);
            print(&String::from_utf8(script)?)?;
        }
        Command::Man { directory } => manual::write(Cli::command(), &directory)?,
        Command::Monitor { folder } => {
            let status = racklet_vmm::run(&folder, racklet_vmm::Starter::Stays);
            return Ok(u8::try_from(status).unwrap_or(1));
        }
    }
    Ok(0)
}

/// On standard output, whose reader may have enough of it.
fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    const README: &str = include_str!("../../README.md");

    /// The text of the first block of this language.
    fn block(language: &str) -> &'static str {
        let (_, rest) = README
            .split_once(&format!("```{language}\n"))
            .expect("there is one");
        rest.split_once("```").expect("it ends").0
    }

    #[test]
    fn the_quick_start_is_what_this_program_takes() {
        let lines: Vec<_> = block("sh").lines().collect();
        assert!(lines.len() <= 5, "five lines");
        let own = lines
            .iter()
            .filter_map(|line| line.strip_prefix("target/release/"));
        let mut tried = 0;
        for line in own {
            // Every other piece is within quotes.
            let words = line
                .split('\'')
                .enumerate()
                .flat_map(|(n, piece)| match n % 2 {
                    0 => piece.split_whitespace().collect(),
                    _ => vec![piece],
                });
            if let Err(error) = Cli::try_parse_from(words) {
                panic!("{line}: {error}");
            }
            tried += 1;
        }
        assert_eq!(tried, 4);
        let document: document::Document = serde_json::from_str(block("json")).expect("a document");
        assert_eq!(document.disks.len(), 1);
    }
}

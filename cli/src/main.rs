// SPDX-License-Identifier: Apache-2.0
//! `racklet`: what a user runs to make a rack, sign what goes into it, build images and see what trays do.
//!
//! It decides nothing that a tray decides: it prepares files, has the user's own tools sign and push them (`ssh-keygen`,
//! `git`), and says beforehand, with the tray's own code, what a tray will say.

#![forbid(unsafe_code)]

mod answer;
mod authority;
mod command;
mod data;
mod git;
mod history;
mod identity;
mod interrupt;
mod lasting;
mod objects;
mod output;
mod rack;
mod remote;
mod ssh;
mod template;
mod time;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use output::Output;

const EXAMPLES: &str = "\
A rack in seven commands:
  racklet key generate           (only if you have no SSH key yet)
  racklet rack init home --tray tray-1 --board qemu-x86_64 \\
      --repository https://git.example/home.git
  cd home && git push -u origin main
  racklet image build --tray tray-1 -o tray-1.img
  racklet check                  (after an edit: what trays would say)
  racklet plan                   (what they would do)
  racklet status tray-1          (what the tray does now)

Exit status: 0 done, 1 refused or failed, 2 wrong usage, 130 interrupted.
With --json, standard output is one JSON value, also when something fails.";

/// Wrong usage, as shells and clap have it.
const USAGE: u8 = 2;

/// Racklet: a small, secure server rack that follows a signed Git repository.
#[derive(Parser)]
#[command(name = "racklet", version, after_help = EXAMPLES, disable_help_subcommand = true)]
struct Cli {
    /// Answer with one JSON value; `racklet schema --answers` says what is in it
    #[arg(long, global = true, help_heading = "Output")]
    json: bool,
    /// No progress, no remarks; errors are still said
    #[arg(long, short, global = true, help_heading = "Output")]
    quiet: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a rack repository
    #[command(subcommand)]
    Rack(command::rack::Rack),
    /// Your signing keys, and which of them the rack trusts
    #[command(subcommand)]
    Key(command::trust::key::Key),
    /// The rack's trust root: who may change what
    #[command(subcommand)]
    Trust(command::trust::Trust),
    /// Operating system releases
    #[command(subcommand)]
    Payload(command::package::Payload),
    /// Workload images
    #[command(subcommand)]
    Artifact(command::package::Artifact),
    /// What the boot partition starts first
    #[command(subcommand)]
    Bootstrap(command::package::Bootstrap),
    /// Images to write to a card
    #[command(subcommand)]
    Image(command::image::Image),
    Check(command::check::Check),
    Approve(command::approve::Approve),
    Plan(command::plan::Plan),
    Status(command::tray::status::Status),
    Logs(command::tray::logs::Logs),
    Sync(command::tray::sync::Sync),
    Console(command::console::Console),
    Schema(command::schema::Schema),
    /// Write the completion script for a shell
    Completion {
        /// For which shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages into a folder
    Man {
        /// The folder; it is made if needed
        directory: std::path::PathBuf,
    },
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return not_run(&error),
    };
    let output = Output::new(cli.json, cli.quiet);
    if let Err(error) = interrupt::install(move || output.interrupted()) {
        output.note(&format!("Ctrl-C may leave temporary files behind: {error}"));
    }
    let code = match run(cli.command, output) {
        Ok(code) => code,
        Err(_) if interrupt::asked() => {
            output.interrupted();
            output.note("interrupted; nothing was left half made");
            ExitCode::from(interrupt::STATUS)
        }
        Err(error) => {
            output.error(error.as_ref());
            match error.downcast_ref::<output::Usage>() {
                Some(_) => ExitCode::from(USAGE),
                None => ExitCode::FAILURE,
            }
        }
    };
    output.finish(code)
}

/// The command line is wrong, or asks for nothing but help or the version.
fn not_run(error: &clap::Error) -> ExitCode {
    // Not parsed, so looked for as a person would.
    let json = std::env::args_os()
        .skip(1)
        .take_while(|arg| arg != "--")
        .any(|arg| arg == "--json");
    let output = Output::new(json, false);
    if !json {
        // In colours, where there is a terminal.
        output.written(error.print());
        return output.finish(match error.use_stderr() {
            true => ExitCode::from(USAGE),
            false => ExitCode::SUCCESS,
        });
    }
    let text = error.render().to_string();
    if error.use_stderr() {
        let text = text.trim().trim_start_matches("error: ").to_owned();
        output.error(&output::Usage(text));
        return output.finish(ExitCode::from(USAGE));
    }
    output.value(&answer::Text { text });
    output.finish(ExitCode::SUCCESS)
}

fn run(command: Command, output: Output) -> anyhow::Result<ExitCode> {
    match command {
        Command::Rack(rack) => rack.run(output)?,
        Command::Key(key) => key.run(output)?,
        Command::Trust(trust) => trust.run(output)?,
        Command::Payload(payload) => payload.run(output)?,
        Command::Artifact(artifact) => artifact.run(output)?,
        Command::Bootstrap(bootstrap) => bootstrap.run(output)?,
        Command::Image(image) => image.run(output)?,
        Command::Check(check) => return check.run(output),
        Command::Approve(approve) => approve.run(output)?,
        Command::Plan(plan) => plan.run(output)?,
        Command::Status(status) => return status.run(output),
        Command::Logs(logs) => logs.run(output)?,
        Command::Sync(sync) => return sync.run(output),
        Command::Console(console) => console.run(output)?,
        Command::Schema(schema) => schema.run(output)?,
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "racklet", &mut script);
            let script = String::from_utf8(script)?;
            output.answer(&script.clone(), &answer::Completion { script });
        }
        Command::Man { directory } => {
            command::manual(&Cli::command(), &directory)?;
            output.value(&answer::Manual { directory });
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_a_schema_of_its_answer_and_no_other_has() {
        fn leaves(command: &clap::Command, path: &str, found: &mut Vec<String>) {
            for sub in command.get_subcommands() {
                let path = format!("{path} {}", sub.get_name()).trim_start().to_owned();
                match sub.has_subcommands() {
                    true => leaves(sub, &path, found),
                    false => found.push(path),
                }
            }
        }
        let mut commands = ["error", "--help", "--version"].map(str::to_owned).to_vec();
        leaves(&Cli::command(), "", &mut commands);
        commands.sort();
        let schema = answer::schema();
        let described = schema["properties"].as_object().unwrap().keys();
        let mut described: Vec<String> = described.cloned().collect();
        described.sort();
        assert_eq!(described, commands);
    }
}

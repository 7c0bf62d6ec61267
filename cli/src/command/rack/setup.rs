// SPDX-License-Identifier: Apache-2.0
//! `racklet rack setup` and `add-tray`: a clone that signs, and one more tray.

use std::io::{self, IsTerminal};

use anyhow::{Context, bail};
use clap::Args;
use racklet_trust::{Digest, Role, TrustRoot};

use super::refs;
use super::signing::{NAMELESS, nameless, set_allowed_signers, set_up_signing};
use crate::answer::{SetUp, TrayAdded};
use crate::output::Output;
use crate::rack::{self, CA_FILE, PIN, Rack, RackArgument};
use crate::{identity, template};

#[derive(Args)]
pub(crate) struct AddTray {
    /// The tray's name
    name: String,
    /// The board it is built on
    #[arg(long)]
    board: String,
    #[command(flatten)]
    rack: RackArgument,
}

#[derive(Args)]
pub(crate) struct Setup {
    /// Your key; the only one you have that may change the rack when left out
    #[arg(long)]
    key: Option<String>,
    // `--root` says without a question which trust root to keep.
    #[command(flatten)]
    rack: RackArgument,
}

impl AddTray {
    pub(super) fn run(self, output: Output) -> anyhow::Result<()> {
        let rack = self.rack.open()?;
        let board = racklet_boards::find(&self.board)?;
        super::warn(&board, output);
        racklet_rack::name::check("tray", &self.name)?;
        let file = format!("trays/{}.yaml", self.name);
        if rack.path(&file).exists() {
            bail!("{} exists already", rack.path(&file).display());
        }
        let root = rack.head()?.root.clone();
        let (public, path) = identity::make(&root.rack().to_string(), &self.name)?;
        rack::write(
            rack.repository.path(),
            &file,
            template::tray(&self.name, &board.name, &public).as_bytes(),
        )?;
        let text = format!(
            "wrote {file}\n  key  {}\n\nnext:\n  git add {file} && git commit -m 'trays: {}' && git push",
            path.display(),
            self.name
        );
        output.answer(
            &text,
            &TrayAdded {
                file,
                identity: path,
            },
        );
        Ok(())
    }
}

impl Setup {
    pub(super) fn run(self, output: Output) -> anyhow::Result<()> {
        let rack = self.rack.open()?;
        let pin = self.pin(&rack, output)?;
        rack.repository.set_config(PIN, &format!("sha256:{pin}"))?;
        let ca = rack.path(CA_FILE);
        if ca.exists()
            && let Ok(url) = rack.repository.text(["remote", "get-url", "origin"])
        {
            rack.repository
                .set_config(&format!("http.{url}.sslCAInfo"), &ca.display().to_string())?;
        }
        refs::configure(&rack.repository)?;
        refs::fetch(&rack, output);
        let root = rack.head()?.root.clone();
        let key = rack.key(self.key.as_deref(), &root, Role::Config)?;
        set_up_signing(&rack.repository, &key)?;
        set_allowed_signers(&rack.repository, &root)?;
        if nameless(&rack.repository) {
            output.note(NAMELESS);
        }
        let text = format!(
            "everything here is judged from root sha256:{pin}\ncommits are signed with {}",
            key.shown()
        );
        output.answer(
            &text,
            &SetUp {
                root: format!("sha256:{pin}"),
                key: key.public.fingerprint(),
            },
        );
        Ok(())
    }

    /// The trust root to believe from now on: the one named, the one pinned already, or the one here if the user says so.
    fn pin(&self, rack: &Rack, output: Output) -> anyhow::Result<Digest> {
        let files = rack.root_files()?;
        let first = files.first().context("no trust root")?;
        let found = Digest::of(&first.bytes);
        let known = match rack.named {
            Some(named) => Some(named),
            None => rack
                .repository
                .config(PIN)
                .map(|_| rack.pin())
                .transpose()?,
        };
        match known {
            Some(pin) if pin == found => return Ok(pin),
            Some(pin) => bail!(
                "trust/1/root.json is sha256:{found}, not sha256:{pin}: this is another rack, or somebody exchanged its keys"
            ),
            None => {}
        }
        let root = TrustRoot::parse(&first.bytes).context("trust/1/root.json")?;
        if !io::stdin().is_terminal() {
            bail!(
                "nobody is here to say whether trust/1/root.json, sha256:{found}, is the rack's: name its fingerprint with --root FINGERPRINT (`racklet trust show` prints it where the rack was made)"
            );
        }
        let keys: Vec<String> = root
            .role(Role::Root)
            .keys
            .iter()
            .map(|key| format!("  {}", key.fingerprint()))
            .collect();
        eprint!(
            "The rack's trust root here is\n  sha256:{found}\nwith the root keys\n{}\nWhoever made the rack sees the same fingerprint in `racklet trust show`. Ask them by another way than this repository.\nIs it the same (yes or no)? ",
            keys.join("\n")
        );
        let mut answer = String::new();
        io::stdin()
            .read_line(&mut answer)
            .context("read the answer")?;
        if answer.trim() != "yes" {
            bail!("not set up: without `yes` this trust root is not believed");
        }
        output.note("");
        Ok(found)
    }
}

// SPDX-License-Identifier: Apache-2.0
//! `racklet rack init`: an ordinary Git repository with a first signed commit.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use racklet_trust::digest::Hex;
use racklet_trust::root::{RoleKeys, Roles};
use racklet_trust::{Digest, Role, TrustRoot, namespace};

use super::refs;
use super::signing::{NAMELESS, nameless, set_allowed_signers, set_up_signing};
use crate::answer::RackMade;
use crate::command::trust::role::threshold;
use crate::git::Repository;
use crate::output::Output;
use crate::rack::{self, CA_FILE, PIN};
use crate::ssh::{self, Key};
use crate::{identity, template};

#[derive(Args)]
pub(crate) struct Init {
    /// The folder to make
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// A key that may do everything: a key file, the fingerprint of a key in the agent, or the public key itself; repeat
    /// for more. The only Ed25519 key you have when left out
    #[arg(long, value_name = "KEY")]
    key: Vec<String>,
    /// Instead of --key: may change who may do what
    #[arg(long, value_name = "KEY")]
    root_key: Vec<String>,
    /// Instead of --key: may change what runs
    #[arg(long, value_name = "KEY")]
    config_key: Vec<String>,
    /// Instead of --key: may release operating systems and workload images
    #[arg(long, value_name = "KEY")]
    payload_key: Vec<String>,
    /// Instead of --key: may release what boots first
    #[arg(long, value_name = "KEY")]
    firmware_key: Vec<String>,
    /// How many keys of a role have to agree, such as `root=2`; 1 when left out
    #[arg(long, value_name = "ROLE=N", value_parser = threshold)]
    threshold: Vec<(Role, u8)>,
    /// A tray of the rack; repeat for more
    #[arg(long, value_name = "NAME", required = true)]
    tray: Vec<String>,
    /// The board that the trays are built on
    #[arg(long, value_name = "BOARD")]
    board: String,
    /// Where trays will fetch the repository from
    #[arg(long, value_name = "URL")]
    repository: String,
    /// PEM certificates of the server's own authority; the public ones when left out
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The rack's name; the folder's when left out
    #[arg(long)]
    name: Option<String>,
    /// The branch that trays follow
    #[arg(long, default_value = "main")]
    branch: String,
    /// How often trays look for new commits
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=3600))]
    poll: u64,
    /// A built payload to pin as the release `stable`
    #[arg(long, value_name = "DIR")]
    payload: Option<PathBuf>,
    /// How Git names objects; sha1 for hosts that do not know sha256 yet
    #[arg(long, value_enum, default_value_t = ObjectFormat::Sha256)]
    object_format: ObjectFormat,
}

#[derive(Clone, Copy, ValueEnum)]
enum ObjectFormat {
    Sha256,
    Sha1,
}

impl Init {
    pub(super) fn run(self, output: Output) -> anyhow::Result<()> {
        let _guard = crate::interrupt::guard();
        if self.directory.exists() {
            bail!(
                "{} exists already; name another folder or remove it yourself",
                self.directory.display()
            );
        }
        let name = self.rack_name()?;
        let board = racklet_boards::find(&self.board)?;
        super::warn(&board, output);
        if let Err(error) = racklet_rack::url::Parts::parse(&self.repository) {
            bail!(
                "--repository {}: {error}; trays fetch over HTTPS only; write https://host/path without a user name",
                self.repository
            );
        }
        for tray in &self.tray {
            racklet_rack::name::check("tray", tray)?;
        }
        let ca = self.ca.as_deref().map(read_ca).transpose()?;
        let package = self
            .payload
            .as_deref()
            .map(racklet_image::package::Package::open)
            .transpose()?;
        let keys = self.keys()?;
        let id = Hex(identity::random::<16>()?);
        let document = TrustRoot::new(id, 1, self.roles(&keys)).context("make the trust root")?;
        let rack = id.to_string();

        // Everything is put together beside its place, so that a failure leaves nothing behind.
        let parent = match self.directory.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
        let work = tempfile::Builder::new()
            .prefix(".racklet-init-")
            .tempdir_in(parent)
            .with_context(|| format!("make a folder in {}", parent.display()))?;
        let repository = Repository::at(work.path());
        let format = match self.object_format {
            ObjectFormat::Sha256 => "--object-format=sha256",
            ObjectFormat::Sha1 => "--object-format=sha1",
        };
        repository.run([
            "init",
            "--quiet",
            format,
            &format!("--initial-branch={}", self.branch),
        ])?;

        let mut identities = Identities::default();
        let mut files = vec![
            (
                "rack.yaml".to_owned(),
                template::rack(&name, &rack, self.poll),
            ),
            ("networks/lan.yaml".to_owned(), template::NETWORK.to_owned()),
            (
                template::WORKLOAD_FILE.to_owned(),
                template::workload(&self.tray[0]),
            ),
            ("README.md".to_owned(), template::readme(&name)),
            (".gitignore".to_owned(), template::IGNORED.to_owned()),
        ];
        for tray in &self.tray {
            let (public, path) = identity::make(&rack, tray)?;
            files.push((
                format!("trays/{tray}.yaml"),
                template::tray(tray, &board.name, &public),
            ));
            identities.0.push(path);
        }
        if let Some(package) = &package {
            let text = template::release(
                "stable",
                &package.manifest().name,
                &package.digest().to_string(),
            );
            files.push(("releases/stable.yaml".to_owned(), text));
        }
        files.extend(ca.map(|text| (CA_FILE.to_owned(), text)));
        let bytes = document.to_canonical();
        files.push((
            "trust/1/root.json".to_owned(),
            String::from_utf8(bytes.clone())?,
        ));
        for (number, signature) in sign_first(&keys[0], &document, &bytes, output)?
            .into_iter()
            .enumerate()
        {
            files.push((
                format!("trust/1/signatures/{number}.sig"),
                String::from_utf8(signature)?,
            ));
        }
        for (path, contents) in &files {
            rack::write(work.path(), path, contents.as_bytes())?;
        }
        let objects: Vec<_> = files
            .into_iter()
            .filter(|(path, _)| racklet_rack::is_object_file(path))
            .map(|(path, contents)| (path, contents.into_bytes()))
            .collect();
        rack::parse(&objects).map_err(|problems| {
            anyhow::anyhow!("what was to be written is not valid:\n{problems}")
        })?;

        let signer = keys[1]
            .iter()
            .find(|key| key.path.is_some() || key.in_agent)
            .or(keys[1].first());
        set_up_signing(&repository, signer.context("no config key")?)?;
        repository.run(["remote", "add", "origin", &self.repository])?;
        refs::configure(&repository)?;
        let pin = format!("sha256:{}", Digest::of(&bytes));
        repository.set_config(PIN, &pin)?;
        if self.ca.is_some() {
            let place = std::path::absolute(self.directory.join(CA_FILE))?;
            repository.set_config(
                &format!("http.{}.sslCAInfo", self.repository),
                &place.display().to_string(),
            )?;
        }
        repository.run(["add", "--all"])?;
        output.note("signing the first commit");
        let message = format!("rack: {name}");
        let mut arguments = Vec::new();
        if nameless(&repository) {
            // For this one commit: what stands in the configuration would name every later one.
            arguments.extend([
                "-c",
                "user.name=racklet",
                "-c",
                "user.email=racklet@localhost",
            ]);
            output.note(&format!(
                "{NAMELESS}\nuntil then: the first commit is by racklet"
            ));
        }
        arguments.extend(["commit", "--quiet", "-S", "-m", &message]);
        repository.interactive(&arguments)?;
        let commit = repository.text(["rev-parse", "HEAD"])?;

        let made = work.keep();
        fs::set_permissions(&made, fs::Permissions::from_mode(0o755))?;
        fs::rename(&made, &self.directory)
            .with_context(|| format!("make {}", self.directory.display()))?;
        let identities = std::mem::take(&mut identities.0);
        set_allowed_signers(&Repository::at(&self.directory), &document)?;

        let keys: Vec<String> = identities
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        let text = format!(
            "made rack {name} in {directory}
  id      {rack}
  root    {pin}
  commit  {commit}, signed
  keys    {keys}

next:
  cd {directory}
  git push -u origin {branch}
then sign what {tray} boots and build its image: docs/guide/first-rack.md, from part 3",
            directory = self.directory.display(),
            keys = keys.join("\n          "),
            branch = self.branch,
            tray = self.tray[0],
        );
        output.answer(
            &text,
            &RackMade {
                directory: self.directory,
                rack,
                root: pin,
                commit,
                identities,
            },
        );
        Ok(())
    }

    fn rack_name(&self) -> anyhow::Result<String> {
        let name = match &self.name {
            Some(name) => name.clone(),
            None => {
                let path = std::path::absolute(&self.directory)?;
                path.file_name()
                    .map(|name| name.to_string_lossy().into_owned())
                    .unwrap_or_default()
            }
        };
        racklet_rack::name::check("rack", &name).context("choose a name with --name")?;
        Ok(name)
    }

    /// The keys of root, config, payload and firmware.
    fn keys(&self) -> anyhow::Result<[Vec<Key>; 4]> {
        let find = |names: &[String]| {
            names
                .iter()
                .map(|name| ssh::find(name))
                .collect::<Result<Vec<_>, _>>()
        };
        let named = [
            &self.root_key,
            &self.config_key,
            &self.payload_key,
            &self.firmware_key,
        ];
        let mut default = find(&self.key)?;
        if default.is_empty() && named.iter().any(|names| names.is_empty()) {
            default.push(ssh::default(|_| true)?);
        }
        let [root, config, payload, firmware] = named.map(|names| {
            if names.is_empty() {
                Ok(default.clone())
            } else {
                find(names)
            }
        });
        Ok([root?, config?, payload?, firmware?])
    }

    fn roles(&self, keys: &[Vec<Key>; 4]) -> Roles {
        let role = |role: Role, keys: &[Key]| RoleKeys {
            threshold: self
                .threshold
                .iter()
                .rev()
                .find(|(named, _)| *named == role)
                .map_or(1, |(_, count)| *count),
            keys: keys.iter().map(|key| key.public.clone()).collect(),
        };
        let [root, config, payload, firmware] = keys;
        Roles {
            root: role(Role::Root, root),
            config: role(Role::Config, config),
            payload: role(Role::Payload, payload),
            firmware: role(Role::Firmware, firmware),
        }
    }
}

/// Private keys of trays of a rack that is not made yet: without the rack they are nobody's, and go.
#[derive(Default)]
struct Identities(Vec<PathBuf>);

impl Drop for Identities {
    fn drop(&mut self) {
        for path in &self.0 {
            let _ = fs::remove_file(path);
            // The rack's own folder, unless something else is in it.
            let _ = path.parent().map(fs::remove_dir);
        }
    }
}

/// Version 1 is believed because it is in the image; signing it all the same shows that its keys work.
fn sign_first(
    keys: &[Key],
    document: &TrustRoot,
    bytes: &[u8],
    output: Output,
) -> anyhow::Result<Vec<Vec<u8>>> {
    let needed = usize::from(document.roles().root.threshold);
    let mut signatures = Vec::new();
    for key in keys {
        if signatures.len() == needed {
            break;
        }
        match ssh::sign(key, namespace::TRUST_ROOT, bytes) {
            Ok(signature) => signatures.push(signature),
            Err(error) if keys.len() > 1 => {
                output.note(&format!("not signed with {}: {error}", key.shown()))
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(signatures)
}

fn read_ca(path: &Path) -> anyhow::Result<String> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    if !text.contains("-----BEGIN CERTIFICATE-----") {
        bail!("{} holds no certificate in PEM", path.display());
    }
    if text.contains("PRIVATE KEY") {
        bail!(
            "{} holds a private key; only the certificate goes into the repository",
            path.display()
        );
    }
    Ok(text)
}

// SPDX-License-Identifier: Apache-2.0
//! `racklet image build`: everything a tray needs to find and believe its rack, in one file for a card.

mod repositories;

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use racklet_api::tray::{
    self, Cidr, ClientCertificate, NetworkConfig, Repository, Scheme, Secret, TrayConfig,
};
use racklet_boards::{Board, Stage};
use racklet_image::disk::{self, Netboot, Spec};
use racklet_image::package::Package;
use racklet_trust::Verified;
use racklet_trust::history::Head;
use racklet_trust::manifest::Kind;

use crate::answer::ImageBuilt;
use crate::objects::Objects;
use crate::output::{Output, size};
use crate::rack::{CA_FILE, Rack, RackArgument, parse};
use crate::{data, identity};

/// Images to write to a card.
#[derive(Subcommand)]
pub(crate) enum Image {
    /// Build the image of one tray
    ///
    /// The image holds the bootloader, a bootstrap, the rack's trust root, where the rack repository is, and the tray's
    /// private key; keep it as you keep a key. Building it twice from the same inputs gives the same bytes.
    Build(Box<Build>),
}

#[derive(Args)]
pub(crate) struct Build {
    /// The tray, as in trays/<name>.yaml
    #[arg(long, value_name = "NAME")]
    tray: String,
    /// The image to write
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// The board, when you want it checked against the tray's file
    #[arg(long, value_name = "BOARD")]
    board: Option<String>,
    /// A signed bootstrap; ~/.local/share/racklet/boards/<board>/bootstrap when left out
    #[arg(long, value_name = "DIR")]
    bootstrap: Option<PathBuf>,
    /// The bootloader; the one that `cargo xtask install` put in place when left out
    #[arg(long, value_name = "FILE")]
    bootloader: Option<PathBuf>,
    /// Size of the image in MiB; the state partition grows to the card on first boot
    #[arg(long, value_name = "MIB", default_value_t = disk::DEFAULT_SIZE >> 20)]
    size: u64,
    /// For a tray without a card: one file that its firmware gets over the network (UEFI HTTP Boot)
    #[arg(long, conflicts_with = "size")]
    netboot: bool,
    /// With --netboot: also the tray's private key and passwords, which whoever reaches the server can read then
    #[arg(long, requires = "netboot")]
    with_secrets: bool,
    /// Where the tray fetches the rack repository; `origin` when left out
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Where plain files lie beside the repository, which spare its server work (docs/guide/hosting.md)
    #[arg(long = "static", value_name = "URL")]
    plain: Option<String>,
    /// The branch it follows; the one checked out when left out
    #[arg(long)]
    branch: Option<String>,
    /// A file with the token that the server asks for
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The user name that goes with the token, where the server looks at it
    #[arg(long, value_name = "NAME", requires = "token_file")]
    user: Option<String>,
    /// Send the token as a bearer token, without a user name
    #[arg(long, requires = "token_file", conflicts_with = "user")]
    bearer: bool,
    /// A JSON file with further repositories: mirrors of the rack's, and credentials for those that pins name
    #[arg(long, value_name = "FILE")]
    repositories: Option<PathBuf>,
    /// A TLS client certificate that the server asks for (PEM), with --client-key
    #[arg(long, value_name = "FILE", requires = "client_key")]
    client_certificate: Option<PathBuf>,
    /// The key of --client-certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "client_certificate")]
    client_key: Option<PathBuf>,
    /// The network interface; the first one with a link when left out
    #[arg(long)]
    interface: Option<String>,
    /// A fixed address such as 192.0.2.7/24 instead of DHCP; repeat for more
    #[arg(long, value_name = "ADDRESS")]
    address: Vec<Cidr>,
    /// The gateway for --address; one for each family
    #[arg(long, value_name = "ADDRESS", requires = "address")]
    gateway: Vec<IpAddr>,
    /// A name server; repeat for more
    #[arg(long, value_name = "ADDRESS")]
    dns: Vec<IpAddr>,
    /// A time server; repeat for more
    #[arg(long, value_name = "HOST")]
    time_server: Vec<String>,
    #[command(flatten)]
    rack: RackArgument,
}

impl Image {
    pub(crate) fn run(self, output: Output) -> anyhow::Result<()> {
        match self {
            Image::Build(build) => build.run(output),
        }
    }
}

impl Build {
    fn run(self, output: Output) -> anyhow::Result<()> {
        let _guard = crate::interrupt::guard();
        let rack = self.rack.open()?;
        let head = signed(&rack, &self.tray)?;
        let root = head.root.clone();
        let files = rack.files_of(&head)?;
        let state = parse(&files)
            .map_err(|problems| anyhow::anyhow!("the rack repository is not valid:\n{problems}"))?;
        let Some((_, described)) = state
            .trays
            .iter()
            .find(|(name, _)| name.as_str() == self.tray)
        else {
            let known: Vec<&str> = state.trays.keys().map(|name| name.as_str()).collect();
            bail!(
                "there is no trays/{}.yaml; the rack's trays are: {}\nadd one with `racklet rack add-tray {0} --board BOARD`",
                self.tray,
                known.join(", ")
            );
        };
        if self
            .board
            .as_ref()
            .is_some_and(|board| *board != described.board)
        {
            bail!(
                "--board {}: trays/{}.yaml says {}",
                self.board.unwrap_or_default(),
                self.tray,
                described.board
            );
        }
        let board = racklet_boards::find(&described.board)?;
        if let Some(missing) = &board.no_images {
            bail!("no image is built for {} yet: {missing}", board.name);
        }
        let id = root.rack().to_string();

        let bootloader = self.bootloader(&board, output)?;
        let bootstrap_path = data::find(
            self.bootstrap.as_deref(),
            &board,
            "bootstrap",
            "--bootstrap DIR",
            output,
        )?;
        let bootstrap = super::package::judge::open(&bootstrap_path, Kind::Bootstrap)?;

        let config = TrayConfig {
            rack: id.clone(),
            tray: self.tray.clone(),
            board: board.name.clone(),
            built: built(&rack, &bootstrap)?,
            arguments: board.arguments(Stage::Payload),
            watchdog: (board.watchdog < tray::WATCHDOG_S).then_some(board.watchdog),
            repository: self.repository(&rack, &head)?,
            repositories: match &self.repositories {
                Some(path) => repositories::read(path)?,
                None => Vec::new(),
            },
            network: NetworkConfig {
                interface: self.interface.clone(),
                addresses: self.address.clone(),
                gateways: self.gateway.clone(),
                dns: self.dns.clone(),
            },
            time_servers: self.time_server.clone(),
            identity: match self.netboot && !self.with_secrets {
                true => None,
                false => identity_of(&id, &self.tray, described.identity.as_deref(), output)?,
            },
        };
        if self.netboot && !self.with_secrets && has_passwords(&config) {
            bail!(
                "what is fetched at a start can be read by whoever reaches the server, and this would hold what its repositories ask for \
                 (a token or a client key)\nhost the repository for anonymous reading, or say --with-secrets"
            );
        }
        let json = config.to_json();
        // What the tray cannot read must not be carried to it.
        TrayConfig::parse(&json).map_err(|error| {
            anyhow::anyhow!("tray.json: {}", racklet_tell::error::chain(&error))
        })?;

        let trust_root = root.to_canonical();
        output.note(&format!("writing {}", self.output.display()));
        let image = match self.netboot {
            true => disk::netboot(
                &Netboot {
                    board: &board,
                    bootloader: bootloader.as_deref(),
                    trust_root: &trust_root,
                    tray: &json,
                    bootstrap: &bootstrap,
                },
                &self.output,
            ),
            false => disk::build(
                &Spec {
                    board: &board,
                    bootloader: bootloader.as_deref(),
                    trust_root: &trust_root,
                    tray: &json,
                    slots: [Some(&bootstrap), Some(&bootstrap)],
                    size: self.size << 20,
                },
                &self.output,
            ),
        };
        let image = image.with_context(|| format!("build {}", self.output.display()))?;
        let place = self.output.display();
        let next = self.next();
        let pin = rack.pin()?;
        let text = format!(
            "built the image of {} in {place}
  board       {}
  root        sha256:{pin}, trust root version {}
  repository  {}
  bootstrap   {} version {}
  size        {}
  sha256      {}

{next}",
            self.tray,
            board.name,
            root.version(),
            config.repository.url,
            bootstrap.manifest().name,
            bootstrap.manifest().version,
            size(image.size),
            image.sha256,
        );
        output.answer(
            &text,
            &ImageBuilt {
                image: self.output,
                tray: self.tray,
                board: board.name,
                root: format!("sha256:{pin}"),
                trust_root: root.version(),
                size: image.size,
                sha256: image.sha256.to_string(),
            },
        );
        Ok(())
    }

    /// What lies before the slots, where the board has such a thing.
    fn bootloader(&self, board: &Board, output: Output) -> anyhow::Result<Option<Vec<u8>>> {
        let name = match &board.firmware {
            None => Some("bootloader.efi".to_owned()),
            Some(firmware) => firmware.rom.as_ref().map(|name| format!("firmware/{name}")),
        };
        let Some(name) = name else {
            return Ok(None);
        };
        let named = self.bootloader.as_deref();
        let path = data::find(named, board, &name, "--bootloader FILE", output)?;
        let bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        Ok(Some(bytes))
    }

    /// What its owner does with the image.
    fn next(&self) -> String {
        let place = self.output.display();
        match (self.netboot, self.with_secrets) {
            (false, _) => format!(
                "It holds the tray's private key: keep it as you keep a key.
next: write it to a card, such as: dd if={place} of=/dev/sdX bs=4M conv=fsync status=progress"
            ),
            (true, with_secrets) => format!(
                "{}
next: sign it for UEFI's Secure Boot, such as: sbsign --key KEY --cert CERT --output {place} {place}
      and put it where the tray's firmware looks (docs/guide/netboot.md)",
                match with_secrets {
                    true =>
                        "It holds the tray's private key and passwords: whoever reaches the server that it is put on has them.",
                    false =>
                        "It holds no secrets, so the tray has no API: it says what it does on its console.",
                }
            ),
        }
    }

    fn repository(&self, rack: &Rack, head: &Head) -> anyhow::Result<Repository> {
        let url = match &self.url {
            Some(url) => url.clone(),
            None => origin(rack)?,
        };
        let branch = match &self.branch {
            Some(branch) => branch.clone(),
            None => rack
                .repository
                .text(["symbolic-ref", "--short", "HEAD"])
                .context("name the branch with --branch")?,
        };
        let read = |path: &Path| {
            fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
        };
        // As it is signed: whoever could exchange it could show trays another server.
        let ca = Objects::open(&rack.repository)?.file(&head.tree.to_string(), CA_FILE)?;
        let ca = ca
            .map(String::from_utf8)
            .transpose()
            .with_context(|| format!("{CA_FILE} is not text"))?;
        let client = match (&self.client_certificate, &self.client_key) {
            (Some(certificate), Some(key)) => Some(ClientCertificate {
                certificate: read(certificate)?,
                key: Secret(read(key)?),
            }),
            _ => None,
        };
        Ok(Repository {
            url,
            branch,
            plain: self.plain.clone(),
            ca,
            token: self
                .token_file
                .as_deref()
                .map(read)
                .transpose()?
                .map(|token| Secret(token.trim().to_owned())),
            user: self.user.clone(),
            scheme: match self.bearer {
                true => Scheme::Bearer,
                false => Scheme::Basic,
            },
            client,
        })
    }
}

/// Whether a tray is told what a server wants to hear before it answers.
fn has_passwords(config: &TrayConfig) -> bool {
    let main = &config.repository;
    main.token.is_some()
        || main.client.is_some()
        || (config.repositories.iter()).any(|other| other.token.is_some() || other.client.is_some())
}

/// The address of `origin` over HTTPS: as it is written, or as Git rewrites it (`url.<base>.insteadOf`).
fn origin(rack: &Rack) -> anyhow::Result<String> {
    let written = rack.repository.config("remote.origin.url");
    let written = written
        .context("the rack repository has no remote `origin`; name its address with --url")?;
    let rewritten = rack.repository.text(["remote", "get-url", "origin"])?;
    [&written, &rewritten]
        .into_iter()
        .find(|url| url.starts_with("https://"))
        .cloned()
        .with_context(|| {
            format!(
                "trays fetch over HTTPS only, and origin is {written}; name the HTTPS address with --url"
            )
        })
}

/// What is checked out, when the rack's keys signed it. What goes into the image must not be different in the work tree: the image
/// would not be what the user sees.
fn signed(rack: &Rack, tray: &str) -> anyhow::Result<Verified<Head>> {
    let file = format!("trays/{tray}.yaml");
    let changes = rack.repository.text([
        "status",
        "--porcelain",
        "--",
        "trust",
        CA_FILE,
        file.as_str(),
    ])?;
    if !changes.is_empty() {
        bail!(
            "what goes into the image has changes that are not committed, so nobody signed them; commit or remove them first:\n{changes}"
        );
    }
    rack.head()
}

/// The newest time that the inputs have: the tray's clock will not be believed to be before it.
fn built(rack: &Rack, bootstrap: &Package) -> anyhow::Result<u64> {
    let head = rack
        .repository
        .text(["log", "-1", "--format=%ct", "HEAD"])?;
    Ok(bootstrap
        .manifest()
        .created
        .max(head.trim().parse().unwrap_or(0)))
}

/// The tray's private key, which must be the one that the repository announces.
fn identity_of(
    rack: &str,
    tray: &str,
    announced: Option<&str>,
    output: Output,
) -> anyhow::Result<Option<Secret>> {
    let path = identity::path(rack, tray)?;
    let Some(announced) = announced else {
        output.note(&format!(
            "trays/{tray}.yaml names no identity: the tray will have no API"
        ));
        return Ok(None);
    };
    if !path.exists() {
        bail!(
            "the private key of {tray} is not here ({})\ncopy it from where `racklet rack init` ran, or take `identity` out of trays/{tray}.yaml and add the tray anew",
            path.display()
        );
    }
    let public = identity::public_of(&path)?;
    let (announced, _) = crate::ssh::parse_line(announced)
        .with_context(|| format!("trays/{tray}.yaml: spec.identity"))?;
    if public != announced {
        bail!(
            "{} is {}, but trays/{tray}.yaml announces {}",
            path.display(),
            public.fingerprint(),
            announced.fingerprint()
        );
    }
    let pem = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    Ok(Some(Secret(pem)))
}

// SPDX-License-Identifier: Apache-2.0
//! What a tray is told when its image is made: who it is, where its rack repository lives and how to get there.
//!
//! `racklet image build` writes it, the bootloader carries it as opaque bytes covered by the bootloader's own signature,
//! and [`init`](crate::init) reads it as `/racklet/tray.json`. It holds secrets (token, client key, identity): they are
//! hidden from `Debug` and never belong in a log.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use racklet_trust::arguments::{self, BadArguments};
use serde::{Deserialize, Serialize};

use racklet_rack::RackId;
use racklet_rack::name::{self, BadName};
use racklet_rack::url::{Parts, UrlError};

mod repository;

use repository::BadAccess;
pub use repository::{Access, ClientCertificate, Elsewhere, MAX_REPOSITORIES, Repository, Scheme};

/// Longest `tray.json` anybody has to read, in bytes.
pub const MAX_TRAY_JSON: usize = 256 * 1024;

/// The longest time that a tray's PID 1 asks of a watchdog, in seconds.
pub const WATCHDOG_S: u32 = 120;

/// The parsed, checked tray configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Wire", into = "Wire")]
pub struct TrayConfig {
    /// The rack's id: 32 lower-case hex digits.
    pub rack: String,
    /// The tray's name, as in `trays/<name>.yaml`.
    pub tray: String,
    /// The board's folder name under `boards/trays/`.
    pub board: String,
    /// When the image was made, Unix seconds: the first time floor.
    pub built: u64,
    /// Kernel arguments of the board, said to the hypervisor OS's kernel.
    pub arguments: Vec<String>,
    /// The longest time that the board's watchdog counts right, in seconds, where that is less than [`WATCHDOG_S`]; 0 where none may be
    /// armed.
    pub watchdog: Option<u32>,
    /// Where the rack repository is.
    pub repository: Repository,
    /// Other repositories that the tray may ask, at most [`MAX_REPOSITORIES`]: mirrors of the rack's, and those that pins name.
    pub repositories: Vec<Elsewhere>,
    /// How the tray gets on the network.
    pub network: NetworkConfig,
    /// SNTP servers (`host` or address), in order of preference; DHCP's count only when there are none.
    pub time_servers: Vec<String>,
    /// The tray's own Ed25519 key (PKCS#8 PEM), if it has one.
    pub identity: Option<Secret>,
}

/// How the tray gets on the network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NetworkConfig {
    /// The interface to use; without it, the first Ethernet one with a carrier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// Fixed addresses; when empty, DHCPv4 and IPv6 router advertisements.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<Cidr>,
    /// Default gateways for fixed addresses, at most one of each family.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gateways: Vec<IpAddr>,
    /// Name servers, asked before those that DHCP or the router names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<IpAddr>,
}

/// An address with the length of its prefix, written `192.0.2.7/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    /// The address itself, host bits included.
    pub address: IpAddr,
    /// Bits of the prefix.
    pub prefix: u8,
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl From<Cidr> for String {
    fn from(cidr: Cidr) -> Self {
        cidr.to_string()
    }
}

/// A text that is not an address with a prefix.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not an address with a prefix length such as 192.0.2.7/24")]
pub struct BadCidr(String);

impl std::str::FromStr for Cidr {
    type Err = BadCidr;

    fn from_str(text: &str) -> Result<Self, BadCidr> {
        let parse = || {
            let (address, prefix) = text.split_once('/')?;
            let address: IpAddr = address.parse().ok()?;
            let prefix: u8 = racklet_tell::text::decimal(prefix)?;
            let longest = if address.is_ipv4() { 32 } else { 128 };
            (prefix <= longest).then_some(Self { address, prefix })
        };
        parse().ok_or_else(|| BadCidr(text.to_owned()))
    }
}

impl TryFrom<String> for Cidr {
    type Error = BadCidr;

    fn try_from(text: String) -> Result<Self, BadCidr> {
        text.parse()
    }
}

/// A text that must not be shown: `Debug` hides it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl Secret {
    /// The text itself, for the one place that uses it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Why a tray configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum TrayError {
    /// Larger than [`MAX_TRAY_JSON`].
    #[error("tray.json is {0} bytes, more than {MAX_TRAY_JSON}")]
    TooLarge(usize),
    /// Not the JSON it should be.
    #[error("tray.json does not parse")]
    Parse(#[from] serde_json::Error),
}

impl TrayConfig {
    /// What to ask of the watchdog for a wish of `seconds`: no more than the board's counts right. `None` where none may be armed.
    #[must_use]
    pub fn watchdog(&self, seconds: u32) -> Option<u32> {
        match self.watchdog {
            Some(longest) => Some(seconds.min(longest)).filter(|granted| *granted > 0),
            None => Some(seconds),
        }
    }

    /// Parses `tray.json`.
    // untrusted: tray_config
    pub fn parse(bytes: &[u8]) -> Result<Self, TrayError> {
        if bytes.len() > MAX_TRAY_JSON {
            return Err(TrayError::TooLarge(bytes.len()));
        }
        Ok(serde_json::from_slice(bytes)?)
    }

    /// Writes `tray.json`: no white space, one trailing newline, the same bytes for the same value.
    pub fn to_json(&self) -> Vec<u8> {
        let mut json = serde_json::to_vec(self).expect("strings and numbers always serialise");
        json.push(b'\n');
        json
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Wire {
    v: u32,
    rack: String,
    tray: String,
    board: String,
    built: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    arguments: Vec<String>,
    // Left out where it says nothing: systems from before it refuse a word that they do not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    watchdog: Option<u32>,
    repository: Repository,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    repositories: Vec<Elsewhere>,
    #[serde(default)]
    network: NetworkConfig,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    time_servers: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    identity: Option<Secret>,
}

/// What is wrong inside a `tray.json` that parses.
#[derive(Debug, thiserror::Error)]
enum Invalid {
    #[error("version {0} is not 1: this image is older than its configuration")]
    Version(u32),
    #[error("rack id `{0}` is not 32 lower-case hex digits")]
    Rack(String),
    #[error(transparent)]
    Name(#[from] BadName),
    #[error("kernel argument `{0}` is not one word")]
    Argument(String),
    #[error("kernel {0}")]
    Arguments(BadArguments),
    #[error("repository URL `{0}`: {1}")]
    Url(String, UrlError),
    #[error("address of plain files `{0}`: {1}")]
    Static(String, UrlError),
    #[error("repository URL `{0}`: {1}")]
    Access(String, BadAccess),
    #[error("{0} other repositories, more than {MAX_REPOSITORIES}")]
    Repositories(usize),
    #[error("branch `{0}` is not a plain branch name")]
    Branch(String),
    #[error("interface `{0}` is not an interface name")]
    Interface(String),
    #[error("gateways are only for fixed addresses, at most one per family")]
    Gateways,
    #[error("time server `{0}` is not a host name or an address")]
    TimeServer(String),
}

impl TryFrom<Wire> for TrayConfig {
    type Error = Invalid;

    fn try_from(wire: Wire) -> Result<Self, Invalid> {
        if wire.v != 1 {
            return Err(Invalid::Version(wire.v));
        }
        if wire.rack.parse::<RackId>().is_err() {
            return Err(Invalid::Rack(wire.rack));
        }
        name::check("tray", &wire.tray)?;
        name::check_board(&wire.board)?;
        for argument in &wire.arguments {
            if argument.is_empty() || argument.contains(' ') {
                return Err(Invalid::Argument(argument.clone()));
            }
        }
        arguments::check(&wire.arguments.join(" ")).map_err(Invalid::Arguments)?;
        let others = &wire.repositories;
        if others.len() > MAX_REPOSITORIES {
            return Err(Invalid::Repositories(others.len()));
        }
        let elsewhere = others.iter().map(|it| (&it.url, it.access()));
        let own = (&wire.repository.url, wire.repository.access());
        let plain = others.iter().map(|it| &it.plain);
        for url in plain.chain([&wire.repository.plain]).flatten() {
            Parts::parse(url).map_err(|error| Invalid::Static(url.clone(), error))?;
        }
        for (url, access) in elsewhere.chain([own]) {
            Parts::parse(url).map_err(|error| Invalid::Url(url.clone(), error))?;
            (access.check()).map_err(|error| Invalid::Access(url.clone(), error))?;
        }
        if !name::is_branch(&wire.repository.branch) {
            return Err(Invalid::Branch(wire.repository.branch));
        }
        if let Some(interface) = &wire.network.interface
            && !name::is_interface(interface)
        {
            return Err(Invalid::Interface(interface.clone()));
        }
        let families: BTreeSet<bool> = wire.network.gateways.iter().map(IpAddr::is_ipv4).collect();
        if families.len() != wire.network.gateways.len()
            || (wire.network.addresses.is_empty() && !wire.network.gateways.is_empty())
        {
            return Err(Invalid::Gateways);
        }
        for server in &wire.time_servers {
            if !name::is_host(server) {
                return Err(Invalid::TimeServer(server.clone()));
            }
        }
        Ok(Self {
            rack: wire.rack,
            tray: wire.tray,
            board: wire.board,
            built: wire.built,
            arguments: wire.arguments,
            watchdog: wire.watchdog,
            repository: wire.repository,
            repositories: wire.repositories,
            network: wire.network,
            time_servers: wire.time_servers,
            identity: wire.identity,
        })
    }
}

impl From<TrayConfig> for Wire {
    fn from(tray: TrayConfig) -> Self {
        Self {
            v: 1,
            rack: tray.rack,
            tray: tray.tray,
            board: tray.board,
            built: tray.built,
            arguments: tray.arguments,
            watchdog: tray.watchdog,
            repository: tray.repository,
            repositories: tray.repositories,
            network: tray.network,
            time_servers: tray.time_servers,
            identity: tray.identity,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALLEST: &str = r#"{"v":1,"rack":"00112233445566778899aabbccddeeff","tray":"tray-1","board":"qemu-x86_64",
        "built":1790000000,"repository":{"url":"https://git.example/rack.git"}}"#;

    fn with(from: &str, to: &str) -> Result<TrayConfig, TrayError> {
        assert!(SMALLEST.contains(from), "the test edits nothing: {from}");
        TrayConfig::parse(SMALLEST.replace(from, to).as_bytes())
    }

    #[test]
    fn the_smallest_configuration_gets_the_defaults() {
        let tray = TrayConfig::parse(SMALLEST.as_bytes()).expect("parses");
        assert_eq!(tray.repository.branch, "main");
        assert!(tray.network.addresses.is_empty() && tray.identity.is_none());
    }

    #[test]
    fn writing_and_parsing_give_the_same_value_and_the_same_bytes() {
        let mut tray = TrayConfig::parse(SMALLEST.as_bytes()).expect("parses");
        tray.repository.token = Some(Secret("hunter2".into()));
        tray.repository.user = Some("alice".into());
        tray.repository.plain = Some("https://files.example/home".into());
        let other =
            r#"{"url":"https://other.example/x","mirror":true,"scheme":"bearer","token":"t"}"#;
        tray.repositories = vec![serde_json::from_str(other).expect("parses")];
        tray.network.addresses = vec![
            "192.0.2.7/24".parse().expect("cidr"),
            "2001:db8::7/64".parse().expect("cidr"),
        ];
        tray.time_servers = vec!["ntp.example".into(), "2001:db8::1".into()];
        let json = tray.to_json();
        let again = TrayConfig::parse(&json).expect("parses");
        assert_eq!(again, tray);
        assert_eq!(again.to_json(), json);
    }

    #[test]
    fn a_watchdog_is_asked_for_no_more_than_the_board_counts_right() {
        let with = |board: &str| with(r#""built""#, &format!(r#"{board}"built""#)).expect("parses");
        assert_eq!(with("").watchdog(WATCHDOG_S), Some(120));
        assert_eq!(with(r#""watchdog":15,"#).watchdog(WATCHDOG_S), Some(15));
        assert_eq!(with(r#""watchdog":15,"#).watchdog(5), Some(5));
        assert_eq!(with(r#""watchdog":0,"#).watchdog(WATCHDOG_S), None);
        // Systems from before this word are told nothing where it says nothing.
        let json = with("").to_json();
        assert!(!String::from_utf8_lossy(&json).contains("watchdog"));
    }

    #[test]
    fn secrets_do_not_show_in_debug_output() {
        let mut tray = TrayConfig::parse(SMALLEST.as_bytes()).expect("parses");
        tray.repository.token = Some(Secret("hunter2".into()));
        tray.identity = Some(Secret("hunter2".into()));
        assert!(!format!("{tray:?}").contains("hunter2"));
    }

    #[test]
    fn wrong_values_are_refused() {
        for (from, to) in [
            (r#""v":1"#, r#""v":2"#),
            (
                "00112233445566778899aabbccddeeff",
                "00112233445566778899AABBCCDDEEFF",
            ),
            ("00112233445566778899aabbccddeeff", "0011"),
            ("tray-1", "../tray"),
            ("tray-1", ""),
            ("qemu-x86_64", "a/b"),
            ("https://git.example", "http://git.example"),
            ("https://git.example", "https://user@git.example"),
            ("https://git.example", "https://git.example/.."),
            ("https://git.example/rack.git", "https://"),
            (r#""built""#, r#""surprise":1,"built""#),
            (r#""url""#, r#""static":"http://x.example/y","url""#),
            (r#""url""#, r#""static":"https://x.example","url""#),
            (r#""url""#, r#""user":"alice","url""#),
            (r#""url""#, r#""scheme":"bearer","url""#),
            (r#""url""#, r#""scheme":"digest","token":"t","url""#),
            (r#""url""#, r#""user":"a:b","token":"t","url""#),
            (r#""url""#, r#""user":"","token":"t","url""#),
            (r#""url""#, r#""user":"a\n","token":"t","url""#),
            (r#""url""#, r#""token":"","url""#),
            (r#""url""#, r#""token":"t\r\nX: y","url""#),
            (r#""url""#, r#""token":"a b","scheme":"bearer","url""#),
            (
                r#""url""#,
                r#""user":"a","token":"t","scheme":"bearer","url""#,
            ),
            (
                r#""built""#,
                r#""repositories":[{"url":"http://x.example/y"}],"built""#,
            ),
            (
                r#""built""#,
                r#""repositories":[{"url":"https://x.example/y","user":"a"}],"built""#,
            ),
            (
                r#""built""#,
                r#""repositories":[{"url":"https://x.example/y","branch":"main"}],"built""#,
            ),
            (r#""url""#, r#""branch":"-x","url""#),
            (r#""url""#, r#""branch":"a..b","url""#),
            (r#""built""#, r#""arguments":["a b"],"built""#),
            (r#""built""#, r#""arguments":["panic=5",""],"built""#),
            (r#""built""#, r#""arguments":["panic=5","--"],"built""#),
            (r#""built""#, r#""arguments":["rdinit=/x"],"built""#),
            (
                r#""built""#,
                r#""network":{"gateways":["192.0.2.1"]},"built""#,
            ),
            (
                r#""built""#,
                r#""network":{"addresses":["192.0.2.1/33"]},"built""#,
            ),
            (
                r#""built""#,
                r#""network":{"interface":"eth0/../x"},"built""#,
            ),
            (r#""built""#, r#""timeServers":["a b"],"built""#),
        ] {
            assert!(with(from, to).is_err(), "{from} -> {to} was accepted");
        }
        let many = vec![r#"{"url":"https://x.example/y"}"#; MAX_REPOSITORIES + 1].join(",");
        let many = format!(r#""repositories":[{many}],"built""#);
        assert!(with(r#""built""#, &many).is_err());
    }
}

// SPDX-License-Identifier: Apache-2.0
//! A throw-away certificate authority, made with the real `openssl`, and the certificates a server may show a tray: a good
//! one, an expired one, one for another name.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::process::output;

/// Files of one certificate.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// PEM, leaf only.
    pub certificate: PathBuf,
    /// PEM.
    pub key: PathBuf,
}

/// The authority; its key is in the same folder and goes away with it.
#[derive(Debug, Clone)]
pub struct Authority {
    folder: PathBuf,
}

/// From when until when a certificate is good.
#[derive(Debug, Clone, Copy)]
pub enum Validity {
    /// From yesterday for a year.
    Current,
    /// All of the year 2020.
    Expired,
    /// From a month from now for a year: to a clock that is a month behind it is as one that was just made.
    Young,
}

const CONFIG: &str = "\
[req]
distinguished_name = name
prompt = no
[name]
CN = Racklet throw-away authority
[authority]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[ca]
default_ca = here
[here]
dir = .
database = ./index.txt
new_certs_dir = .
certificate = ./ca.pem
private_key = ./ca.key
rand_serial = yes
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
";

impl Authority {
    /// Makes a new authority in `folder`.
    ///
    /// # Errors
    /// When `openssl` is absent or fails.
    pub fn create(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).context("folder of the certificate authority")?;
        let this = Self {
            folder: folder.into(),
        };
        fs::write(folder.join("ca.cnf"), CONFIG)?;
        fs::write(folder.join("index.txt"), "")?;
        this.openssl(&[
            "req",
            "-x509",
            "-config",
            "ca.cnf",
            "-extensions",
            "authority",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-keyout",
            "ca.key",
            "-out",
            "ca.pem",
            "-days",
            "3650",
        ])?;
        Ok(this)
    }

    /// PEM of the authority itself: what goes into a tray.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// Issues a server certificate for `names` (`DNS:…`, `IP:…`, as openssl writes them).
    ///
    /// # Errors
    /// When `openssl` fails.
    pub fn issue(&self, file: &str, names: &str, validity: Validity) -> Result<Certificate> {
        let [key, request, certificate, extensions] =
            ["key", "csr", "pem", "ext"].map(|suffix| format!("{file}.{suffix}"));
        fs::write(
            self.folder.join(&extensions),
            format!(
                "basicConstraints = critical,CA:FALSE\nkeyUsage = critical,digitalSignature\n\
                 extendedKeyUsage = serverAuth\nsubjectAltName = {names}\n"
            ),
        )?;
        self.openssl(&[
            "req",
            "-new",
            "-config",
            "ca.cnf",
            "-subj",
            "/CN=racklet test server",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-keyout",
            &key,
            "-out",
            &request,
        ])?;
        let mut sign = vec![
            "ca",
            "-batch",
            "-notext",
            "-config",
            "ca.cnf",
            "-extfile",
            &extensions,
            "-in",
            &request,
            "-out",
            &certificate,
        ];
        let day =
            |when: &str| output(Command::new("date").args(["-u", "-d", when, "+%Y%m%d%H%M%SZ"]));
        let (yesterday, month, year) = (day("yesterday")?, day("1 month")?, day("13 months")?);
        match validity {
            Validity::Current => sign.extend(["-startdate", yesterday.trim(), "-days", "366"]),
            Validity::Young => sign.extend(["-startdate", month.trim(), "-enddate", year.trim()]),
            Validity::Expired => sign.extend([
                "-startdate",
                "20200101000000Z",
                "-enddate",
                "20201231000000Z",
            ]),
        }
        self.openssl(&sign)?;
        Ok(Certificate {
            certificate: self.folder.join(certificate),
            key: self.folder.join(key),
        })
    }

    fn openssl(&self, arguments: &[&str]) -> Result<()> {
        output(
            Command::new("openssl")
                .args(arguments)
                .current_dir(&self.folder),
        )?;
        Ok(())
    }
}

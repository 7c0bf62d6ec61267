// SPDX-License-Identifier: Apache-2.0
//! The rack's authority of the management plane: who may speak with its controllers, and by what they are known. Kept with the user,
//! never in the rack repository; a person's certificate and a controller's vault are made with it and go elsewhere.
//!
//! Certificates are Ed25519 (RFC 8410). They begin on a fixed day and not when they are made: a controller whose clock lost its power
//! would otherwise refuse what was made after the time that it knows. What ends them is their last day.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use jiff::{ToSpan, Zoned, civil::Date};
use racklet_wire::access::{Holder, Role};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ED25519, SanType, date_time_ymd,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::identity;

/// The day on which every certificate begins: before there were any.
const FIRST_DAY: (i32, u8, u8) = (2026, 1, 1);
/// Years that the authority and controllers' certificates last: to replace these a person has to go to each.
const YEARS: i64 = 20;

/// The key that signs certificates.
pub(crate) struct Authority {
    folder: PathBuf,
    rack: String,
    key: KeyPair,
}

/// A certificate and where it lies, its key beside it.
pub(crate) struct Issued {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    /// The last day on which it is good.
    pub(crate) until: Date,
}

/// Where the files of a rack's management plane are.
pub(crate) fn folder(rack: &str) -> anyhow::Result<PathBuf> {
    Ok(crate::data::home()?.join(rack).join("management"))
}

/// The authority's certificate, in PEM.
pub(crate) fn certificate(folder: &Path) -> PathBuf {
    folder.join("authority.pem")
}

/// Somebody's certificate, in PEM; the key has `.key` in place of `.pem`.
pub(crate) fn of(folder: &Path, name: &str) -> PathBuf {
    folder.join("people").join(format!("{name}.pem"))
}

impl Authority {
    /// The rack's; made, if there is none yet.
    pub(crate) fn open(rack: &str) -> anyhow::Result<Self> {
        let folder = folder(rack)?;
        fs::create_dir_all(folder.join("people"))
            .with_context(|| format!("make {}", folder.display()))?;
        let path = folder.join("authority.key");
        if !path.exists() {
            write_new(&path, identity::to_pem(&identity::random()?).as_bytes())?;
        }
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let key = KeyPair::from_pkcs8_pem_and_sign_algo(&text, &PKCS_ED25519)
            .with_context(|| format!("{} is no Ed25519 key", path.display()))?;
        let this = Self {
            folder,
            rack: rack.into(),
            key,
        };
        let certificate = certificate(&this.folder);
        if !certificate.exists() {
            let made = this.params()?.self_signed(&this.key)?;
            write_new(&certificate, made.pem().as_bytes())?;
        }
        Ok(this)
    }

    fn params(&self) -> anyhow::Result<CertificateParams> {
        let mut params = params(&format!("Racklet {}", self.rack), last_day(YEARS.years())?)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Ok(params)
    }

    fn sign(&self, mut params: CertificateParams, key: &KeyPair) -> anyhow::Result<Certificate> {
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        Ok(params.signed_by(key, &Issuer::from_params(&self.params()?, &self.key))?)
    }

    /// A certificate with which somebody is let in, for so many days from now on.
    pub(crate) fn issue(&self, holder: &Holder<'_>, days: u16) -> anyhow::Result<Issued> {
        let until = last_day(i64::from(days).days())?;
        let mut params = params(holder.name(), until)?;
        params.subject_alt_names = vec![SanType::URI(holder.to_string().try_into()?)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = of(&self.folder, holder.name());
        let key = certificate.with_extension("key");
        for path in [&certificate, &key] {
            if path.exists() {
                bail!(
                    "{} is there already: take another name, or remove it first",
                    path.display()
                );
            }
        }
        // PKCS #8 of version 1: what rcgen writes is version 2, which OpenSSL does not read.
        let pem = identity::to_pem(&identity::random()?);
        let pair = KeyPair::from_pkcs8_pem_and_sign_algo(&pem, &PKCS_ED25519)?;
        let made = self.sign(params, &pair)?;
        write_new(&key, pem.as_bytes())?;
        write_new(&certificate, made.pem().as_bytes())?;
        Ok(Issued {
            certificate,
            key,
            until,
        })
    }

    /// What a controller is given: a key of its own, a certificate in its name, this authority and the time, as a copy of its vault.
    pub(crate) fn vault(&self, name: &str, now: u64) -> anyhow::Result<Vec<u8>> {
        use racklet_firmware_core::vault::{LONGEST, Vault};
        let seed = identity::random()?;
        let pair = KeyPair::from_pkcs8_pem_and_sign_algo(&identity::to_pem(&seed), &PKCS_ED25519)?;
        let mut params = params(name, last_day(YEARS.years())?)?;
        params.subject_alt_names = vec![SanType::DnsName(name.to_owned().try_into()?)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = self.sign(params, &pair)?;
        let path = self.certificate();
        let authority = CertificateDer::from_pem_file(&path)
            .map_err(|error| anyhow::anyhow!("read {}: {error:?}", path.display()))?;
        let vault = Vault {
            key: &seed,
            certificate: certificate.der(),
            authority: &authority,
            name,
            floor: now,
        };
        let mut out = vec![0xff; LONGEST];
        vault.write(1, &mut out).context("the vault is too small")?;
        Ok(out)
    }

    /// Where its certificate is.
    pub(crate) fn certificate(&self) -> PathBuf {
        certificate(&self.folder)
    }
}

/// A role by its name, for the command line.
pub(crate) fn role_named(name: &str) -> Result<Role, String> {
    Role::named(name).ok_or_else(|| {
        let known = Role::ALL.map(Role::name).join(", ");
        format!("there is no role {name}; there are {known}")
    })
}

fn last_day(after: jiff::Span) -> anyhow::Result<Date> {
    Ok(Zoned::now().date().checked_add(after)?)
}

fn params(name: &str, until: Date) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let (year, month, day) = FIRST_DAY;
    params.not_before = date_time_ymd(year, month, day);
    let (month, day) = (until.month().try_into()?, until.day().try_into()?);
    params.not_after = date_time_ymd(until.year().into(), month, day);
    Ok(params)
}

/// A file that nobody else can read, and that was not there.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("write {}", path.display()))?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .with_context(|| format!("write {}", path.display()))
}

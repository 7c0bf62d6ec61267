// SPDX-License-Identifier: Apache-2.0
//! Whom TLS believes, as whom it speaks and by which clock.
//!
//! Certificate dates are always checked, against the caller's [`Clock`]. Sessions are never resumed: a resumed session skips the
//! certificate, and with it its dates. There is no switch that turns a check off.

use std::{fmt, sync::Arc};

use rustls::{ClientConfig, RootCertStore, client::Resumption, time_provider::TimeProvider};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject};

/// The time, in Unix seconds, that certificate dates are compared with: never before the time floor.
pub trait Clock: fmt::Debug + Send + Sync {
    /// Unix seconds.
    fn now(&self) -> u64;
}

/// A clock is also any fixed time.
impl Clock for u64 {
    fn now(&self) -> u64 {
        *self
    }
}

/// The operating system's clock, for programs that run where it is kept right.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> u64 {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |time| time.as_secs())
    }
}

/// Which certificate authorities may vouch for the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authorities {
    /// The public ones, as Mozilla lists them.
    Public,
    /// Only those in this PEM text.
    Pem(Vec<u8>),
}

/// As whom requests are made; both parts may be used together, or neither.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Credentials {
    /// Sent with every request.
    pub token: Option<Token>,
    /// Shown during the TLS handshake.
    pub certificate: Option<ClientCertificate>,
}

/// The `Authorization` of every request.
#[derive(Clone, PartialEq, Eq)]
pub enum Token {
    /// `Bearer`.
    Bearer(String),
    /// `Basic`, which is what most Git servers want tokens in.
    Basic {
        /// User name.
        user: String,
        /// Password or token.
        password: String,
    },
}

/// A TLS client certificate.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate and its intermediates, PEM.
    pub chain: Vec<u8>,
    /// Its private key, PEM.
    pub key: Vec<u8>,
}

/// Secrets stay out of logs.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("token", &self.token.is_some())
            .field("certificate", &self.certificate.is_some())
            .finish()
    }
}

/// Why TLS could not be set up with this configuration.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The authorities' PEM.
    #[error("the rack's certificate authority is not PEM: {0}")]
    AuthorityPem(rustls_pki_types::pem::Error),
    /// Authorities that rustls does not take.
    #[error("the rack's certificate authority cannot be used")]
    Authority(#[source] rustls::Error),
    /// PEM without a certificate.
    #[error("the rack's certificate authority file holds no certificate")]
    NoAuthority,
    /// Client certificate or key.
    #[error("the client certificate or its key is not PEM: {0}")]
    IdentityPem(rustls_pki_types::pem::Error),
    /// Client certificate and key do not go together, or are of an unknown kind.
    #[error("the client certificate cannot be used")]
    Identity(#[source] rustls::Error),
    /// A token with line breaks and the like.
    #[error("the token or user name holds characters that cannot stand in a request")]
    Token,
}

#[derive(Debug)]
struct Time(Arc<dyn Clock>);

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(
            self.0.now(),
        )))
    }
}

pub(crate) fn config(
    authorities: &Authorities,
    credentials: &Credentials,
    clock: Arc<dyn Clock>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore::empty();
    match authorities {
        Authorities::Public => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Authorities::Pem(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem) {
                roots
                    .add(certificate.map_err(TlsError::AuthorityPem)?)
                    .map_err(TlsError::Authority)?;
            }
            if roots.is_empty() {
                return Err(TlsError::NoAuthority);
            }
        }
    }
    let builder = ClientConfig::builder_with_details(
        Arc::new(rustls::crypto::ring::default_provider()),
        Arc::new(Time(clock)),
    )
    .with_safe_default_protocol_versions()
    .expect("ring provides TLS 1.2 and 1.3")
    .with_root_certificates(roots);
    let mut config = match &credentials.certificate {
        Some(ClientCertificate { chain, key }) => {
            let chain = CertificateDer::pem_slice_iter(chain)
                .collect::<Result<Vec<_>, _>>()
                .map_err(TlsError::IdentityPem)?;
            let key = PrivateKeyDer::from_pem_slice(key).map_err(TlsError::IdentityPem)?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(TlsError::Identity)?
        }
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The value of the `Authorization` header, if one is sent.
pub(crate) fn authorization(credentials: &Credentials) -> Result<Option<String>, TlsError> {
    use base64ct::{Base64, Encoding};
    match &credentials.token {
        None => Ok(None),
        Some(Token::Bearer(token))
            if !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic()) =>
        {
            Ok(Some(format!("Bearer {token}")))
        }
        Some(Token::Basic { user, password }) if !user.contains(':') => {
            let pair = format!("{user}:{password}");
            Ok(Some(format!(
                "Basic {}",
                Base64::encode_string(pair.as_bytes())
            )))
        }
        Some(_) => Err(TlsError::Token),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(token: Token) -> Credentials {
        Credentials {
            token: Some(token),
            certificate: None,
        }
    }

    #[test]
    fn a_token_cannot_smuggle_headers() {
        assert!(authorization(&with(Token::Bearer("a\r\nHost: b".into()))).is_err());
        assert!(
            authorization(&with(Token::Basic {
                user: "a:b".into(),
                password: String::new()
            }))
            .is_err()
        );
        let basic = with(Token::Basic {
            user: "Aladdin".into(),
            password: "open sesame".into(),
        });
        assert_eq!(
            authorization(&basic).unwrap().unwrap(),
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
        );
    }

    #[test]
    fn secrets_do_not_reach_logs() {
        assert!(!format!("{:?}", with(Token::Bearer("hunter2".into()))).contains("hunter2"));
    }

    #[test]
    fn an_authority_that_is_none_is_refused() {
        for pem in [
            &b""[..],
            b"hello",
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ] {
            assert!(
                config(
                    &Authorities::Pem(pem.to_vec()),
                    &Credentials::default(),
                    Arc::new(0)
                )
                .is_err()
            );
        }
        assert!(config(&Authorities::Public, &Credentials::default(), Arc::new(0)).is_ok());
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The tray's side of TLS: version 1.3 only, the identity key in a certificate that it signs itself. Clients recognise the
//! key (`spec.identity` of the tray), not the certificate, so its dates mean nothing.

use racklet_api::hypervisor::access;
use racklet_trust::PublicKey;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::NoServerSessionStorage;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::sync::Arc;

/// Why there is no HTTPS.
#[derive(Debug, thiserror::Error)]
pub(super) enum TlsError {
    #[error("the tray's identity key is not an Ed25519 key in PKCS#8 PEM: make the image again")]
    Key(#[source] rcgen::Error),
    #[error("the tray's identity key is refused: make the image again")]
    Weak(#[source] racklet_trust::key::KeyError),
    #[error("make the tray's certificate")]
    Certificate(#[source] rcgen::Error),
    #[error("set up TLS")]
    Rustls(#[from] rustls::Error),
}

/// What TLS needs, and the public half of the identity key.
pub(super) fn server_config(
    identity: &str,
    tray: &str,
) -> Result<(Arc<ServerConfig>, PublicKey), TlsError> {
    let key = rcgen::KeyPair::from_pkcs8_pem_and_sign_algo(identity, &rcgen::PKCS_ED25519)
        .map_err(TlsError::Key)?;
    let mut params =
        rcgen::CertificateParams::new(vec![tray.to_owned()]).map_err(TlsError::Certificate)?;
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, tray);
    let certificate = params.self_signed(&key).map_err(TlsError::Certificate)?;
    let public = access::ed25519(key.public_key_raw()).map_err(TlsError::Weak)?;
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)?;
    // Every connection proves the identity key anew, and strangers have nothing kept for them.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok((Arc::new(config), public))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ed25519_key_makes_a_server_and_another_key_does_not() {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
        assert!(server_config(&key.serialize_pem(), "tray-1").is_ok());
        let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
        assert!(matches!(
            server_config(&other.serialize_pem(), "tray-1"),
            Err(TlsError::Key(_))
        ));
        assert!(matches!(
            server_config("no key", "tray-1"),
            Err(TlsError::Key(_))
        ));
    }
}

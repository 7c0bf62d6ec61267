// SPDX-License-Identifier: Apache-2.0
//! TLS as a BMC serves it: 1.3 alone, and no session without a certificate of the rack's authority.
//!
//! rustls does the protocol; what it computes with is here, a file each: RustCrypto and dalek, small, without C and constant in time.

mod cipher;
mod digest;
mod exchange;
mod random;
mod signature;

use alloc::{boxed::Box, sync::Arc, vec};

use embassy_time::Instant;
use racklet_firmware_core::vault::Vault;
use racklet_wire::console::ALPN;
pub(crate) use random::Random;
use rustls::{
    Error, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, KeyProvider},
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime},
    server::WebPkiClientVerifier,
    sign::{CertifiedKey, SigningKey, SingleCertAndKey},
    time_provider::TimeProvider,
    version::TLS13,
};

/// The most bytes of a record that a BMC sends.
const RECORD: usize = 2048;

/// What all sessions share.
///
/// # Errors
/// rustls's, when the authority's certificate is none.
pub(crate) fn server(vault: &Vault<'_>, random: Random) -> Result<Arc<ServerConfig>, Error> {
    let own = |der: &[u8]| CertificateDer::from(der.to_vec());
    let provider = Arc::new(CryptoProvider {
        cipher_suites: vec![cipher::CHACHA20_POLY1305],
        kx_groups: vec![&exchange::X25519],
        signature_verification_algorithms: signature::KNOWN,
        secure_random: Box::leak(Box::new(random::Shared::new(random))),
        key_provider: &NoKeys,
    });
    let mut authorities = RootCertStore::empty();
    authorities.add(own(vault.authority))?;
    let clients =
        WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), Arc::clone(&provider))
            .build()
            .map_err(|_| Error::General("no authority".into()))?;
    let key = Arc::new(signature::Identity::new(vault.key));
    let certified = CertifiedKey::new(vec![own(vault.certificate)], key);
    let clock = Clock { floor: vault.floor };
    let mut config = ServerConfig::builder_with_details(provider, Arc::new(clock))
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.max_fragment_size = Some(RECORD);
    // Each session proves anew who it is.
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// Keys come out of the vault, and not out of PKCS #8.
#[derive(Debug)]
struct NoKeys;

impl KeyProvider for NoKeys {
    fn load_private_key(&self, _: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, Error> {
        Err(Error::General("keys come out of the vault".into()))
    }
}

/// The floor, and what went by since the start: this board has no clock, and nobody told it the time yet.
#[derive(Debug)]
struct Clock {
    /// Unix seconds.
    floor: u64,
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        let since = Instant::now().as_secs();
        Some(UnixTime::since_unix_epoch(core::time::Duration::from_secs(
            self.floor + since,
        )))
    }
}

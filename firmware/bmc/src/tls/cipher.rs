// SPDX-License-Identifier: Apache-2.0
//! Records under ChaCha20-Poly1305 (RFC 8446, 5.2; RFC 8439): constant in time without instructions for AES, which this processor
//! has not got.

use alloc::boxed::Box;

use chacha20poly1305::{
    AeadInOut as _, ChaCha20Poly1305, KeyInit as _, Tag, aead::inout::InOutBuf,
};
use rustls::{
    CipherSuite, ConnectionTrafficSecrets, ContentType, Error, ProtocolVersion,
    SupportedCipherSuite, Tls13CipherSuite,
    crypto::{
        CipherSuiteCommon,
        cipher::{
            AeadKey, InboundOpaqueMessage, InboundPlainMessage, Iv, MessageDecrypter,
            MessageEncrypter, Nonce, OutboundOpaqueMessage, OutboundPlainMessage, PrefixedPayload,
            Tls13AeadAlgorithm, UnsupportedOperationError, make_tls13_aad,
        },
        tls13::HkdfUsingHmac,
    },
};

use super::digest;

pub(super) const CHACHA20_POLY1305: SupportedCipherSuite =
    SupportedCipherSuite::Tls13(&Tls13CipherSuite {
        common: CipherSuiteCommon {
            suite: CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
            hash_provider: &digest::Sha,
            // RFC 8446, 5.5: record numbers end before its keys wear out.
            confidentiality_limit: u64::MAX,
        },
        hkdf_provider: &HkdfUsingHmac(&digest::ShaHmac),
        aead_alg: &Aead,
        quic: None,
    });

const TAG: usize = 16;
/// Of the content's kind, behind the content.
const KIND: usize = 1;

struct Aead;

struct Keyed {
    cipher: ChaCha20Poly1305,
    iv: Iv,
}

impl Keyed {
    fn new(key: &AeadKey, iv: Iv) -> Box<Self> {
        Box::new(Self {
            cipher: ChaCha20Poly1305::new_from_slice(key.as_ref())
                .expect("rustls makes keys of `key_len` bytes"),
            iv,
        })
    }
}

impl Tls13AeadAlgorithm for Aead {
    fn encrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageEncrypter> {
        Keyed::new(&key, iv)
    }

    fn decrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageDecrypter> {
        Keyed::new(&key, iv)
    }

    fn key_len(&self) -> usize {
        32
    }

    fn extract_keys(
        &self,
        key: AeadKey,
        iv: Iv,
    ) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        Ok(ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv })
    }
}

impl MessageEncrypter for Keyed {
    fn encrypt(
        &mut self,
        message: OutboundPlainMessage<'_>,
        number: u64,
    ) -> Result<OutboundOpaqueMessage, Error> {
        let total = self.encrypted_payload_len(message.payload.len());
        let mut payload = PrefixedPayload::with_capacity(total);
        payload.extend_from_chunks(&message.payload);
        payload.extend_from_slice(&message.typ.to_array());
        let nonce = Nonce::new(&self.iv, number).0.into();
        let tag = self
            .cipher
            .encrypt_inout_detached(
                &nonce,
                &make_tls13_aad(total),
                InOutBuf::from(payload.as_mut()),
            )
            .map_err(|_| Error::EncryptError)?;
        payload.extend_from_slice(&tag);
        Ok(OutboundOpaqueMessage::new(
            ContentType::ApplicationData,
            ProtocolVersion::TLSv1_2,
            payload,
        ))
    }

    fn encrypted_payload_len(&self, length: usize) -> usize {
        length + KIND + TAG
    }
}

impl MessageDecrypter for Keyed {
    fn decrypt<'a>(
        &mut self,
        mut message: InboundOpaqueMessage<'a>,
        number: u64,
    ) -> Result<InboundPlainMessage<'a>, Error> {
        let payload = &mut message.payload;
        let total = payload.len();
        let plain = total.checked_sub(TAG).ok_or(Error::DecryptError)?;
        let (text, tag) = payload.split_at_mut(plain);
        let tag = Tag::try_from(&*tag).map_err(|_| Error::DecryptError)?;
        let nonce = Nonce::new(&self.iv, number).0.into();
        self.cipher
            .decrypt_inout_detached(&nonce, &make_tls13_aad(total), InOutBuf::from(text), &tag)
            .map_err(|_| Error::DecryptError)?;
        payload.truncate(plain);
        message.into_tls13_unpadded_message()
    }
}

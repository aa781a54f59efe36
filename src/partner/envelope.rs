//! The envelope: how request bodies are sealed.
//!
//! AES-256 in CBC mode with PKCS#7 padding (NIST SP 800-38A, RFC 5652 section 6.3), written as
//! lower-case hexadecimal of `IV || ciphertext`. CBC carries no integrity, so an envelope that
//! opens need not be what was sealed, and every way in which opening can fail is one error that
//! says nothing about which.

use std::fmt;

use aes::Aes256;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// The size of a block and of an initialisation vector, in bytes.
const BLOCK: usize = 16;

/// The 32 bytes of the encryption key. Wiped on drop.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct EnvelopeKey([u8; 32]);

impl EnvelopeKey {
    /// Takes 64 hexadecimal digits of either case, and no `0x` in front of them.
    pub fn from_hex(digits: &str) -> Option<Self> {
        // On the way into `Self` at once, so that it is wiped whatever happens.
        let mut key = Self([0; 32]);
        decode(digits, &mut key.0).then_some(key)
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for EnvelopeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EnvelopeKey(\"...\")")
    }
}

/// Where the initialisation vector of a message comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Iv {
    /// `prefix`: drawn anew for every message, and sent in front of the ciphertext.
    Prefix,
    /// One that both sides know and that is not sent.
    Fixed([u8; BLOCK]),
}

/// Seals `plaintext`: the value of `data`, in lower-case hexadecimal.
///
/// # Errors
///
/// Only with [`Iv::Prefix`], if the system has no random bytes to give.
pub fn seal(key: &EnvelopeKey, iv: Iv, plaintext: &[u8]) -> Result<String, SealError> {
    match iv {
        Iv::Fixed(iv) => Ok(encrypt(key, &iv, false, plaintext)),
        Iv::Prefix => {
            let mut iv = [0; BLOCK];
            getrandom::fill(&mut iv).map_err(|_| SealError)?;
            Ok(encrypt(key, &iv, true, plaintext))
        }
    }
}

/// Opens `data`, hexadecimal of either case. The plaintext is wiped on drop.
///
/// # Errors
///
/// One for whatever is wrong: the digits, the length, the key, the padding.
pub fn open(key: &EnvelopeKey, iv: Iv, data: &str) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    let mut bytes = Zeroizing::new(vec![0; data.len() / 2]);
    if !decode(data, &mut bytes) {
        return Err(OpenError);
    }
    let (iv, start) = match iv {
        Iv::Fixed(iv) => (iv, 0),
        Iv::Prefix => (*bytes.first_chunk().ok_or(OpenError)?, BLOCK),
    };
    let ciphertext = &mut bytes[start..];
    let length = cbc::Decryptor::<Aes256>::new(key.bytes().into(), (&iv).into())
        .decrypt_padded::<Pkcs7>(ciphertext)
        .map_err(|_| OpenError)?
        .len();
    bytes.copy_within(start..start + length, 0);
    bytes.truncate(length);
    Ok(bytes)
}

/// The system has no random bytes to give, so nothing was sealed. Waiting may help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no random bytes to be had from the system")]
pub struct SealError;

/// The envelope does not open. It is not said why: what an attacker could learn from that breaks
/// CBC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the envelope does not open")]
pub struct OpenError;

/// Encrypts under a given `iv`, which goes in front of the ciphertext if `prefixed`.
fn encrypt(key: &EnvelopeKey, iv: &[u8; BLOCK], prefixed: bool, plaintext: &[u8]) -> String {
    let start = if prefixed { BLOCK } else { 0 };
    // PKCS#7 adds 1 to 16 bytes. Encrypted in place, so that no other copy of the plaintext is
    // made.
    let padded = (plaintext.len() / BLOCK + 1) * BLOCK;
    let mut bytes = vec![0; start + padded];
    bytes[..start].copy_from_slice(&iv[..start]);
    bytes[start..start + plaintext.len()].copy_from_slice(plaintext);
    #[expect(clippy::expect_used, reason = "the buffer was sized for the padding just above")]
    cbc::Encryptor::<Aes256>::new(key.bytes().into(), iv.into())
        .encrypt_padded::<Pkcs7>(&mut bytes[start..], plaintext.len())
        .expect("there is room for the padding");
    const_hex::encode(bytes)
}

/// Whether `digits` are exactly what fills `bytes`, which then holds them. The library would skip a
/// `0x`.
fn decode(digits: &str, bytes: &mut [u8]) -> bool {
    digits.len() == bytes.len() * 2
        && !digits.starts_with("0x")
        && const_hex::decode_to_slice(digits, bytes).is_ok()
}

#[cfg(test)]
mod tests;

//! The envelope, written a second time so that the partner does not share a mistake with bearerd.

use aes::Aes256;
use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockModeDecrypt as _, BlockModeEncrypt as _, KeyIvInit as _};

use super::secrets::ENVELOPE_KEY;

/// What the envelope `{"data": "<hex>"}` holds, or `None` if it does not open.
pub(crate) fn open(body: &[u8]) -> Option<serde_json::Value> {
    let outer: serde_json::Value = serde_json::from_slice(body).ok()?;
    let data = const_hex::decode(outer.as_object().filter(|o| o.len() == 1)?.get("data")?.as_str()?).ok()?;
    let (iv, sealed) = data.split_at_checked(16)?;
    let key = const_hex::decode(ENVELOPE_KEY).unwrap();
    let plain =
        cbc::Decryptor::<Aes256>::new_from_slices(&key, iv).ok()?.decrypt_padded_vec::<Pkcs7>(sealed).ok()?;
    serde_json::from_slice(&plain).ok()
}

/// `plain` as the hex of an envelope, with the initialisation vector in front.
pub(crate) fn seal(plain: &[u8], iv: [u8; 16]) -> String {
    let key = const_hex::decode(ENVELOPE_KEY).unwrap();
    let sealed =
        cbc::Encryptor::<Aes256>::new_from_slices(&key, &iv).unwrap().encrypt_padded_vec::<Pkcs7>(plain);
    const_hex::encode([&iv[..], &sealed].concat())
}

//! A record as bytes, and back.
//!
//! A record is one header line and a JSON body. Without a key the body is in clear and a SHA-256
//! covers everything but itself; with a key the body is sealed with AES-256-GCM and the header is
//! its associated data.
//!
//! ```text
//! bearerd-journal 1 sha256 <partner> <generation> <digest>\n<body>
//! bearerd-journal 1 aes-256-gcm <partner> <generation> <key id> <nonce>\n<sealed body><tag>
//! ```
//!
//! What always holds: a record that was cut anywhere, or in which any one bit was flipped, is
//! [`Fault::Damaged`] and nothing else. Digest and associated data are therefore compared over the
//! text as found, so that the two cases of a hexadecimal digit are two texts. And what says "an
//! operator must decide", a newer version or another key, is believed only if it is not the work of
//! a flipped bit: the record is checked once more with the value that this bearerd would have
//! written.
//!
//! Every later version begins with the same first word, its number and a space.

mod body;
#[cfg(test)]
mod tests;

use std::io;

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce, Tag};
use zeroize::Zeroizing;

use super::{Record, StoreKey};
use crate::token::{Digest, Generation};

/// The bytes of `record`: sealed if there is a key, else in clear with a digest.
///
/// Fails only if the system has no randomness to give.
pub(super) fn encode(
    record: &Record,
    partner: &str,
    key: Option<&StoreKey>,
) -> io::Result<Zeroizing<Vec<u8>>> {
    match key {
        Some(key) => seal(record, partner, key),
        None => Ok(digested(record, partner)),
    }
}

/// The record in `bytes`, if they are intact and `partner`'s. Any of `keys` may have sealed it.
///
/// A record in clear is taken although there are keys: that is how a store gets its first key. The
/// next save seals it.
pub(super) fn decode(bytes: &[u8], partner: &str, keys: &[&StoreKey]) -> Result<Record, Fault> {
    let (version, rest) = split_version(bytes).ok_or(Fault::Damaged)?;
    let opened = open(rest, keys);
    if version != VERSION {
        // What holds as a record of this version was one, until the number was damaged.
        return Err(if opened.is_ok() { Fault::Damaged } else { Fault::Newer(version) });
    }
    let opened = opened?;
    if opened.partner != partner {
        return Err(Fault::OtherPartner(opened.partner.to_owned()));
    }
    body::read(&opened.body, opened.generation).ok_or(Fault::Foreign)
}

/// Why bytes are not a record that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    /// Not what was written: torn, cut, empty or changed. An older record may stand in.
    #[error("damaged")]
    Damaged,
    /// By a later version of bearerd. Its refresh token may well be the only live one.
    #[error("written by a newer bearerd (record version {0})")]
    Newer(u64),
    /// Sealed, and no key is configured.
    #[error("sealed, and no store.key is configured")]
    Keyless,
    /// Sealed under a key that is not configured.
    #[error("sealed under another key, or damaged")]
    OtherKey,
    /// Intact, and the record of the partner named.
    #[error("the record of another partner, {0:?}")]
    OtherPartner(String),
    /// Intact, and what it says makes no sense to this bearerd.
    #[error("intact, but not a record that this bearerd understands")]
    Foreign,
}

/// What a record's header says and its body, once digest or tag have vouched for both.
struct Opened<'a> {
    partner: &'a str,
    generation: Generation,
    body: Zeroizing<Vec<u8>>,
}

fn digested(record: &Record, partner: &str) -> Zeroizing<Vec<u8>> {
    let covered = digested_header(partner, &record.generation.to_string());
    let mut out =
        Zeroizing::new(Vec::with_capacity(covered.len() + DIGEST_LEN + 1 + body::size_bound(record)));
    out.extend_from_slice(covered.as_bytes());
    out.extend_from_slice(&[b'0'; DIGEST_LEN]);
    out.push(b'\n');
    let body_at = out.len();
    body::write(record, &mut out);
    let digest = digest_text(&covered, &out[body_at..]);
    out[covered.len()..body_at - 1].copy_from_slice(digest.as_bytes());
    out
}

fn seal(record: &Record, partner: &str, key: &StoreKey) -> io::Result<Zeroizing<Vec<u8>>> {
    // Drawn anew for every record. At a record a second, 2^32 of them, which is how many one key
    // may seal with random nonces, take more than a hundred years.
    let mut nonce = [0; NONCE_LEN];
    getrandom::fill(&mut nonce).map_err(io::Error::other)?;
    let header =
        sealed_header(partner, &record.generation.to_string(), &key_id(key), &const_hex::encode(nonce));

    let mut out = Zeroizing::new(Vec::with_capacity(header.len() + body::size_bound(record) + TAG_LEN));
    out.extend_from_slice(header.as_bytes());
    body::write(record, &mut out);
    let tag = cipher(key)
        .encrypt_inout_detached(&Nonce::from(nonce), header.as_bytes(), (&mut out[header.len()..]).into())
        .map_err(|_| io::Error::other("a record is too long to seal"))?;
    out.extend_from_slice(&tag);
    Ok(out)
}

/// Takes the first word and the version off: the version and what follows its space.
fn split_version(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let rest = bytes.strip_prefix(MAGIC.as_bytes())?.strip_prefix(b" ")?;
    let space = rest.iter().take(10).position(|b| *b == b' ')?;
    let text = std::str::from_utf8(&rest[..space]).ok()?;
    let version = text.parse::<u64>().ok().filter(|v| *v >= VERSION && v.to_string() == text)?;
    Some((version, &rest[space + 1..]))
}

/// Checks what follows the version as a record of this version.
fn open<'a>(rest: &'a [u8], keys: &[&StoreKey]) -> Result<Opened<'a>, Fault> {
    let end = rest.iter().position(|b| *b == b'\n').ok_or(Fault::Damaged)?;
    let header = std::str::from_utf8(&rest[..end]).map_err(|_| Fault::Damaged)?;
    let body = &rest[end + 1..];
    let fields: Vec<&str> = header.split(' ').collect();
    let (partner, generation, body) = match fields[..] {
        [DIGESTED, partner, generation, digest] => {
            if digest_text(&digested_header(partner, generation), body) != digest {
                return Err(Fault::Damaged);
            }
            (partner, generation, Zeroizing::new(body.to_vec()))
        }
        [SEALED, partner, generation, id, nonce] => {
            (partner, generation, unseal(partner, generation, id, nonce, body, keys)?)
        }
        _ => return Err(Fault::Damaged),
    };
    let generation = generation.parse().map(Generation).map_err(|_| Fault::Damaged)?;
    Ok(Opened { partner, generation, body })
}

fn unseal(
    partner: &str,
    generation: &str,
    id: &str,
    nonce: &str,
    sealed: &[u8],
    keys: &[&StoreKey],
) -> Result<Zeroizing<Vec<u8>>, Fault> {
    let nonce_bytes = const_hex::decode_to_array::<_, NONCE_LEN>(nonce).map_err(|_| Fault::Damaged)?;
    let (body, tag) = sealed.split_last_chunk::<TAG_LEN>().ok_or(Fault::Damaged)?;
    if !is_key_id(id) {
        return Err(Fault::Damaged);
    }
    if keys.is_empty() {
        return Err(Fault::Keyless);
    }
    for key in keys {
        // With the id of the key that is tried, not the one found: a record that opens in this way
        // and names another key has had that name damaged.
        let header = sealed_header(partner, generation, &key_id(key), nonce);
        let mut buffer = Zeroizing::new(body.to_vec());
        let opened = cipher(key).decrypt_inout_detached(
            &Nonce::from(nonce_bytes),
            header.as_bytes(),
            buffer.as_mut_slice().into(),
            &Tag::from(*tag),
        );
        if opened.is_ok() {
            return if key_id(key) == id { Ok(buffer) } else { Err(Fault::Damaged) };
        }
    }
    let ours = keys.iter().any(|key| key_id(key) == id);
    Err(if ours { Fault::Damaged } else { Fault::OtherKey })
}

/// The header up to its digest. The algorithm comes before the partner because a partner's name may
/// begin with a digit: no flipped bit can join it to the version and make that a higher one.
fn digested_header(partner: &str, generation: &str) -> String {
    format!("{MAGIC} {VERSION} {DIGESTED} {partner} {generation} ")
}

fn sealed_header(partner: &str, generation: &str, key_id: &str, nonce: &str) -> String {
    format!("{MAGIC} {VERSION} {SEALED} {partner} {generation} {key_id} {nonce}\n")
}

fn digest_text(covered: &str, body: &[u8]) -> String {
    const_hex::encode(Digest::of(&[covered.as_bytes(), body]).0)
}

fn cipher(key: &StoreKey) -> Aes256Gcm {
    Aes256Gcm::new(key.bytes().into())
}

/// Tells keys apart without giving one away, so that a record under another key is not taken for a
/// damaged one and passed over.
fn key_id(key: &StoreKey) -> String {
    const_hex::encode(&Digest::of(&[b"bearerd store key", key.bytes()]).0[..KEY_ID_LEN / 2])
}

fn is_key_id(text: &str) -> bool {
    text.len() == KEY_ID_LEN && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

const MAGIC: &str = "bearerd-journal";
const VERSION: u64 = 1;
const DIGESTED: &str = "sha256";
const SEALED: &str = "aes-256-gcm";
/// Of a SHA-256 in hexadecimal.
const DIGEST_LEN: usize = 64;
/// Of a key's id in hexadecimal.
const KEY_ID_LEN: usize = 16;
const NONCE_LEN: usize = 12;
const TAG_LEN: usize = 16;

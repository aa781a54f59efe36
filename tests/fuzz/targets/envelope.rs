//! The envelope: what opens is what was sealed, and what does not open says nothing.
//!
//! The input is text, as an envelope is: the value of `data`. Its bytes serve as a plaintext too.
#![no_main]

use aes::Aes256;
use aes::cipher::{BlockCipherDecrypt, KeyInit};
use bearerd::partner::envelope::{EnvelopeKey, Iv, open, seal};
use libfuzzer_sys::fuzz_target;

const KEY: &str = "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4";
const IV: [u8; 16] = *b"0123456789abcdef";

fuzz_target!(|input: &[u8]| {
    let key = EnvelopeKey::from_hex(KEY).unwrap();
    if let Ok(text) = std::str::from_utf8(input) {
        opens_as_the_standard_says(&key, text);
        is_a_key_if_it_has_64_digits(text);
    }
    comes_back(&key, input);
});

fn opens_as_the_standard_says(key: &EnvelopeKey, text: &str) {
    for iv in [Iv::Prefix, Iv::Fixed(IV)] {
        match (open(key, iv, text), reference(iv, text)) {
            (Ok(opened), Some(plaintext)) => {
                assert_eq!(opened.as_slice(), plaintext);
                // The same vector gives the same digits again.
                let (fixed, digits) = match iv {
                    Iv::Fixed(iv) => (iv, text),
                    Iv::Prefix => (const_hex::decode_to_array(&text[..32]).unwrap(), &text[32..]),
                };
                let sealed = seal(key, Iv::Fixed(fixed), &opened).unwrap();
                assert_eq!(sealed, digits.to_ascii_lowercase());
            }
            (Err(error), None) => {
                // One error, whatever was wrong.
                assert_eq!(format!("{error} {error:?}"), "the envelope does not open OpenError");
            }
            (opened, plaintext) => panic!("{iv:?}: {opened:?}, and not {plaintext:?}"),
        }
    }
}

fn is_a_key_if_it_has_64_digits(text: &str) {
    let digits = text.get(..64).unwrap_or(text);
    let is_one = digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    assert_eq!(EnvelopeKey::from_hex(digits).is_some(), is_one);
}

fn comes_back(key: &EnvelopeKey, plaintext: &[u8]) {
    for iv in [Iv::Prefix, Iv::Fixed(IV)] {
        let sealed = seal(key, iv, plaintext).unwrap();
        assert_eq!(open(key, iv, &sealed).unwrap().as_slice(), plaintext);
        assert!(sealed.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')));
        // Another digit anywhere is another text, if it is one at all.
        let Some(at) = plaintext.first().map(|&at| usize::from(at) * 7 % sealed.len()) else { continue };
        let digit = if sealed.as_bytes()[at] == b'0' { "1" } else { "0" };
        let altered = format!("{}{digit}{}", &sealed[..at], &sealed[at + 1..]);
        assert!(open(key, iv, &altered).map_or(true, |opened| opened.as_slice() != plaintext));
    }
}

/// SP 800-38A section 6.2 and RFC 5652 section 6.3, block by block.
fn reference(iv: Iv, text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let bytes: Vec<u8> =
        text.as_bytes().chunks(2).map(|pair| (value(pair[0]) << 4) | value(pair[1])).collect();
    let mut blocks = bytes.chunks(16);
    let mut before: [u8; 16] = match iv {
        Iv::Fixed(iv) => iv,
        Iv::Prefix => blocks.next()?.try_into().ok()?,
    };
    let key: Vec<u8> = KEY.as_bytes().chunks(2).map(|pair| (value(pair[0]) << 4) | value(pair[1])).collect();
    let cipher = Aes256::new_from_slice(&key).unwrap();
    let mut plain = Vec::new();
    for block in blocks {
        let block: [u8; 16] = block.try_into().ok()?;
        let mut decrypted = block.into();
        cipher.decrypt_block(&mut decrypted);
        plain.extend(decrypted.iter().zip(before).map(|(byte, before)| byte ^ before));
        before = block;
    }
    let padding = usize::from(*plain.last()?);
    let length = plain.len().checked_sub(padding).filter(|_| (1..=16).contains(&padding))?;
    plain[length..].iter().all(|&byte| usize::from(byte) == padding).then(|| plain[..length].to_vec())
}

fn value(digit: u8) -> u8 {
    char::from(digit).to_digit(16).unwrap() as u8
}

use std::io::Write as _;
use std::process::{Command, Stdio};

use proptest::prelude::*;

use super::*;

const KEY: &str = "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4";
const IV: [u8; BLOCK] = *b"0123456789abcdef";

fn key() -> EnvelopeKey {
    EnvelopeKey::from_hex(KEY).unwrap()
}

#[derive(serde::Deserialize)]
struct Vectors {
    valid: Vec<Valid>,
    invalid: Vec<Invalid>,
}

#[derive(serde::Deserialize)]
struct Valid {
    name: String,
    key: String,
    iv: String,
    plaintext: String,
    data: String,
}

#[derive(serde::Deserialize)]
struct Invalid {
    name: String,
    key: String,
    data: String,
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("../../../tests/vectors/envelope.json")).unwrap()
}

#[test]
fn valid_vectors_open_and_are_sealed_again_byte_for_byte() {
    let vectors = vectors();
    assert_eq!(vectors.valid.len(), 6);
    for Valid { name, key, iv, plaintext, data } in vectors.valid {
        let key = EnvelopeKey::from_hex(&key).unwrap();
        let iv = const_hex::decode_to_array(&iv).unwrap();
        assert_eq!(open(&key, Iv::Prefix, &data).unwrap().as_slice(), plaintext.as_bytes(), "{name}");
        assert_eq!(encrypt(&key, &iv, true, plaintext.as_bytes()), data, "{name}");
        assert_eq!(seal(&key, Iv::Fixed(iv), plaintext.as_bytes()).unwrap(), data[32..], "{name}");
        assert_eq!(
            open(&key, Iv::Fixed(iv), &data[32..]).unwrap().as_slice(),
            plaintext.as_bytes(),
            "{name}"
        );
    }
}

#[test]
fn s40_invalid_vectors_are_refused() {
    let vectors = vectors();
    assert_eq!(vectors.invalid.len(), 6);
    for Invalid { name, key, data } in vectors.invalid {
        let key = EnvelopeKey::from_hex(&key).unwrap();
        assert_eq!(open(&key, Iv::Prefix, &data), Err(OpenError), "{name}");
    }
}

#[test]
fn every_length_opens_again() {
    let plaintext: Vec<u8> = (0..=4096u32).map(|i| (i * 31 % 251) as u8).collect();
    for length in 0..=4096 {
        let plaintext = &plaintext[..length];
        for iv in [Iv::Prefix, Iv::Fixed(IV)] {
            let sealed = seal(&key(), iv, plaintext).unwrap();
            assert_eq!(open(&key(), iv, &sealed).unwrap().as_slice(), plaintext, "{iv:?} {length}");
        }
    }
}

proptest! {
    #[test]
    fn whatever_is_sealed_opens(plaintext: Vec<u8>, secret: [u8; 32], fixed: Option<[u8; BLOCK]>) {
        let key = EnvelopeKey(secret);
        let iv = fixed.map_or(Iv::Prefix, Iv::Fixed);
        let sealed = seal(&key, iv, &plaintext).unwrap();
        prop_assert!(sealed.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')));
        for data in [sealed.to_uppercase(), sealed] {
            let opened = open(&key, iv, &data).unwrap();
            prop_assert_eq!(opened.as_slice(), plaintext.as_slice());
        }
    }

    #[test]
    fn s40_nonsense_never_panics(data: String, fixed: Option<[u8; BLOCK]>) {
        let _ = open(&key(), fixed.map_or(Iv::Prefix, Iv::Fixed), &data);
    }
}

#[test]
fn no_two_messages_share_an_iv() {
    let (one, other) = (seal(&key(), Iv::Prefix, b"a").unwrap(), seal(&key(), Iv::Prefix, b"a").unwrap());
    assert_ne!(one[..32], other[..32]);
    assert_ne!(one[32..], other[32..]);
}

#[test]
fn s40_every_truncation_is_the_same_error() {
    for iv in [Iv::Prefix, Iv::Fixed(IV)] {
        // Whole blocks of zeros: what a cut at a block's end leaves does not end in padding.
        let sealed = seal(&key(), iv, &[0; 64]).unwrap();
        for end in 0..sealed.len() {
            assert_eq!(open(&key(), iv, &sealed[..end]), Err(OpenError), "{iv:?} {end}");
        }
    }
}

/// CBC has no integrity: a changed bit may go unnoticed, but whatever is noticed is the one error.
#[test]
fn s40_every_mangled_bit_is_the_same_error_or_other_plaintext() {
    let plaintext = b"{\"refresh_token\":\"abc\"}";
    for iv in [Iv::Prefix, Iv::Fixed(IV)] {
        let sealed = const_hex::decode(seal(&key(), iv, plaintext).unwrap()).unwrap();
        let mut refused = 0;
        for bit in 0..sealed.len() * 8 {
            let mut mangled = sealed.clone();
            mangled[bit / 8] ^= 1 << (bit % 8);
            match open(&key(), iv, &const_hex::encode(mangled)) {
                Ok(opened) => assert_ne!(opened.as_slice(), plaintext, "bit {bit}"),
                Err(error) => {
                    assert_eq!(error.to_string(), "the envelope does not open");
                    refused += 1;
                }
            }
        }
        assert!(refused > 0);
    }
}

#[test]
fn digits_are_nothing_but_digits() {
    let sealed = seal(&key(), Iv::Prefix, b"a").unwrap();
    for bad in
        [format!("0x{sealed}"), format!("0x{}", &sealed[2..]), format!(" {sealed}"), format!("{sealed}\n")]
    {
        assert_eq!(open(&key(), Iv::Prefix, &bad), Err(OpenError), "{bad:?}");
    }
    assert!(EnvelopeKey::from_hex(&KEY.to_uppercase()).is_some());
    for bad in
        ["", &KEY[1..], &KEY[2..], &format!("0x{KEY}"), &format!("0x{}", &KEY[2..]), &format!("{KEY}00")]
    {
        assert!(EnvelopeKey::from_hex(bad).is_none(), "{bad}");
    }
}

#[test]
fn debug_shows_no_key() {
    assert_eq!(format!("{:?}", key()), "EnvelopeKey(\"...\")");
}

#[test]
fn openssl_opens_what_is_sealed_here_and_the_other_way_round() {
    for length in [0, 1, 15, 16, 17, 63, 64, 1000] {
        let plaintext: Vec<u8> = (0..length).map(|i| (i * 7 % 256) as u8).collect();

        let sealed = const_hex::decode(seal(&key(), Iv::Prefix, &plaintext).unwrap()).unwrap();
        let (iv, ciphertext) = sealed.split_at(BLOCK);
        assert_eq!(openssl("-d", iv, ciphertext), plaintext, "{length}");

        let theirs = const_hex::encode(openssl("-e", &IV, &plaintext));
        assert_eq!(open(&key(), Iv::Fixed(IV), &theirs).unwrap().as_slice(), plaintext, "{length}");
        let theirs = const_hex::encode(IV) + &theirs;
        assert_eq!(open(&key(), Iv::Prefix, &theirs).unwrap().as_slice(), plaintext, "{length}");
    }
}

fn openssl(direction: &str, iv: &[u8], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new("openssl")
        .args(["enc", "-aes-256-cbc", direction, "-K", KEY, "-iv", &const_hex::encode(iv)])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this test needs the openssl command");
    // A pipe holds more than these tests write, so writing everything first cannot block.
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    output.stdout
}

use proptest::prelude::*;

use super::*;
use crate::store::testing::{any_record, key, record, shown};
use crate::token::{AccessToken, MAX_TOKEN_LEN, RefreshToken};

fn encoded(generation: u64, key: Option<&StoreKey>) -> Zeroizing<Vec<u8>> {
    encode(&record(generation), "acme", key).unwrap()
}

/// A plain record of `acme`, generation 7, with this body and a digest that is right for it.
fn with_body(body: &str) -> Vec<u8> {
    let covered = digested_header("acme", "7");
    format!("{covered}{}\n{body}", digest_text(&covered, body.as_bytes())).into_bytes()
}

fn assert_every_bit_counts(bytes: &[u8], keys: &[&StoreKey]) {
    assert!(decode(bytes, "acme", keys).is_ok());
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(decode(&flipped, "acme", keys).err(), Some(Fault::Damaged), "bit {bit}");
    }
}

fn assert_every_byte_counts(bytes: &[u8], keys: &[&StoreKey]) {
    for len in 0..bytes.len() {
        assert_eq!(decode(&bytes[..len], "acme", keys).err(), Some(Fault::Damaged), "cut to {len}");
    }
    for extra in [0, b'\n', b' ', b'}'] {
        let longer = [bytes, &[extra]].concat();
        assert_eq!(decode(&longer, "acme", keys).err(), Some(Fault::Damaged), "with {extra} at the end");
    }
}

#[test]
fn s10_a_record_cut_at_any_byte_is_noticed() {
    assert_every_byte_counts(&encoded(7, None), &[]);
    assert_every_byte_counts(&encoded(7, None), &[&key(1)]);
    assert_every_byte_counts(&encoded(7, Some(&key(1))), &[&key(1)]);
}

#[test]
fn s10_any_flipped_bit_of_a_plain_record_is_damage() {
    assert_every_bit_counts(&encoded(7, None), &[]);
    assert_every_bit_counts(&encoded(7, None), &[&key(1), &key(2)]);
}

#[test]
fn s10_any_flipped_bit_of_a_sealed_record_is_damage() {
    assert_every_bit_counts(&encoded(7, Some(&key(1))), &[&key(1)]);
    assert_every_bit_counts(&encoded(7, Some(&key(1))), &[&key(2), &key(1)]);
}

#[test]
fn s10_no_flipped_bit_makes_a_partner_of_digits_a_version() {
    for keys in [&[][..], &[&key(1)][..]] {
        let bytes = encode(&record(7), "7", keys.first().copied()).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&flipped, "7", keys).err(), Some(Fault::Damaged), "bit {bit}");
        }
    }
}

#[test]
fn s12_a_sealed_record_needs_its_key() {
    let sealed = encoded(7, Some(&key(1)));
    assert_eq!(decode(&sealed, "acme", &[]).err(), Some(Fault::Keyless));
    assert_eq!(decode(&sealed, "acme", &[&key(2), &key(3)]).err(), Some(Fault::OtherKey));
    assert_eq!(shown(&decode(&sealed, "acme", &[&key(2), &key(1)]).unwrap()), shown(&record(7)));
}

#[test]
fn a_record_in_clear_is_read_although_there_is_a_key() {
    assert_eq!(shown(&decode(&encoded(7, None), "acme", &[&key(1)]).unwrap()), shown(&record(7)));
}

#[test]
fn a_sealed_record_shows_nothing_of_its_tokens_and_is_never_the_same_twice() {
    let (one, two) = (encoded(7, Some(&key(1))), encoded(7, Some(&key(1))));
    assert_ne!(one[..], two[..]);
    for token in [&b"refresh-7"[..], b"access-7"] {
        assert!(!one.windows(token.len()).any(|w| w == token));
        assert!(encoded(7, None).windows(token.len()).any(|w| w == token));
    }
}

#[test]
fn the_record_of_another_partner_is_not_taken() {
    for keys in [&[][..], &[&key(1)][..]] {
        let bytes = encode(&record(7), "other", keys.first().copied()).unwrap();
        assert_eq!(decode(&bytes, "acme", keys).err(), Some(Fault::OtherPartner("other".into())));
    }
}

#[test]
fn s27_a_record_of_a_newer_version_is_refused_and_not_called_damaged() {
    for version in [2, 3, 10, 4_000_000] {
        let header = format!("bearerd-journal {version} ");
        for rest in ["", "acme\n{}", "sha256 acme 7 00\n{}", "aes-256-gcm acme 7 0123456789abcdef 00\nx"] {
            let found = decode(format!("{header}{rest}").as_bytes(), "acme", &[&key(1)]);
            assert_eq!(found.err(), Some(Fault::Newer(version)));
        }
    }
    for header in ["bearerd-journal 0 ", "bearerd-journal 02 ", "bearerd-journal +2 ", "bearerd-journal 2"] {
        assert_eq!(decode(header.as_bytes(), "acme", &[]).err(), Some(Fault::Damaged), "{header:?}");
    }
}

#[test]
fn s27_unknown_fields_are_passed_over_and_optional_ones_may_be_missing() {
    let body = r#"{"generation":7,"standing":"unspent","refresh":"r","later":{"x":[1,"\n"]}}"#;
    let read = decode(&with_body(body), "acme", &[]).unwrap();
    assert_eq!(read.refresh.unwrap().expose(), "r");
    assert!(read.access.is_none() && read.intent.is_none() && read.seeds.is_empty());
}

#[test]
fn an_intact_record_that_makes_no_sense_is_not_called_damaged() {
    for body in [
        "",
        "{}",
        "null",
        r#"{"generation":8,"standing":"unspent"}"#,
        r#"{"generation":7}"#,
        r#"{"generation":7,"standing":"lent"}"#,
        r#"{"generation":7,"standing":"unspent","refresh":"not a token"}"#,
        r#"{"generation":7,"standing":"unspent","refresh":"a","refresh":"b"}"#,
        r#"{"generation":7,"standing":"unspent","login_refused":"00"}"#,
    ] {
        assert_eq!(decode(&with_body(body), "acme", &[]).err(), Some(Fault::Foreign), "{body}");
    }
}

#[test]
fn the_largest_record_does_not_outgrow_its_buffer() {
    let mut largest = record(u64::MAX);
    let token = "x".repeat(MAX_TOKEN_LEN);
    largest.access.as_mut().unwrap().token = AccessToken::parse(&token).unwrap();
    largest.access.as_mut().unwrap().obtained_at.0 = u64::MAX;
    largest.access.as_mut().unwrap().expires_at.0 = u64::MAX;
    largest.refresh = Some(RefreshToken::parse(&token).unwrap());
    largest.seeds = vec![Digest([0xff; 32]); Record::SEEDS];
    for keys in [&[][..], &[&key(1)][..]] {
        let bytes = encode(&largest, "acme", keys.first().copied()).unwrap();
        assert_eq!(shown(&decode(&bytes, "acme", keys).unwrap()), shown(&largest));
    }
}

proptest! {
    #[test]
    fn any_record_comes_back(record in any_record(), sealed: bool) {
        let key = key(1);
        let bytes = encode(&record, "acme", sealed.then_some(&key)).unwrap();
        prop_assert_eq!(shown(&decode(&bytes, "acme", &[&key]).unwrap()), shown(&record));
    }

    #[test]
    fn s10_no_bytes_make_the_reader_panic(bytes: Vec<u8>, body: Vec<u8>, version in 0_u64..3, sealed: bool) {
        let key = key(1);
        prop_assert!(decode(&bytes, "acme", &[&key]).is_err());
        let fields = if sealed { "aes-256-gcm acme 7 0123456789abcdef" } else { "sha256 acme 7" };
        for rest in [&bytes, &[&bytes[..], b"\n", &body].concat()] {
            let near = [format!("bearerd-journal {version} {fields} ").as_bytes(), rest].concat();
            prop_assert!(decode(&near, "acme", &[&key]).is_err());
        }
    }

    #[test]
    fn no_json_makes_the_body_panic(
        body in r#"\{"(generation|refresh|seeds)":[\[\]{}0-9a-z",:. ]{0,40}\}?"#
    ) {
        let _ = decode(&with_body(&body), "acme", &[]);
    }
}

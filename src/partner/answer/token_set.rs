//! The token set in an answer with status 200 (RFC 6749 section 5.1).

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use zeroize::Zeroizing;

use super::{Reader, read_object, whole_seconds};
use crate::clock::UnixMillis;
use crate::partner::envelope::open;
use crate::partner::{TokenSet, reason};
use crate::token::{AccessToken, RefreshToken};

/// Lifetimes are clamped between these: less than a second cannot be used, and nobody means more
/// than 30 days.
const LIFETIMES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30 * 24 * 3600));

/// Reads a token set from a body, or from the envelope that the body is; otherwise says why not, in
/// one word of [`reason`].
///
/// A set is taken whole or not at all: an access token beside a refresh token that cannot be used
/// would leave the old refresh token in place, which is spent.
pub(super) fn read(reader: &Reader<'_>, body: &[u8]) -> Result<TokenSet, &'static str> {
    let fields: Fields = read_object(body).ok_or(reason::MALFORMED)?;
    match (&fields.access_token, &fields.data) {
        (Text::Absent, Text::Given(data)) => {
            let opened = open(reader.key, reader.iv, data).map_err(|_| reason::ENVELOPE)?;
            // One opaque word for nonsense too: an envelope under another key may well open.
            let fields = read_object(&opened).ok_or(reason::ENVELOPE)?;
            token_set(&fields, reader.wall)
        }
        _ => token_set(&fields, reader.wall),
    }
}

fn token_set(fields: &Fields, wall: UnixMillis) -> Result<TokenSet, &'static str> {
    let Text::Given(access) = &fields.access_token else {
        return Err(reason::MALFORMED);
    };
    let refresh = match &fields.refresh_token {
        Text::Absent => None,
        Text::Given(token) => Some(RefreshToken::parse(token).map_err(|_| reason::MALFORMED)?),
        Text::Other => return Err(reason::MALFORMED),
    };
    match &fields.token_type {
        Text::Absent => {}
        Text::Given(name) if name.eq_ignore_ascii_case("bearer") => {}
        Text::Given(_) | Text::Other => return Err(reason::MALFORMED),
    }
    let seconds = fields.expires_in.0.or_else(|| seconds_of_jwt(access, wall));
    Ok(TokenSet {
        access: AccessToken::parse(access).map_err(|_| reason::MALFORMED)?,
        lifetime: seconds.map(|s| Duration::from_secs(s).clamp(LIFETIMES.0, LIFETIMES.1)),
        refresh,
    })
}

/// The lifetime that a JWT gives itself: `exp` minus `iat`, or minus now without one (RFC 7519
/// section 4.1). The signature is the partner's own business.
fn seconds_of_jwt(token: &str, wall: UnixMillis) -> Option<u64> {
    /// Numeric dates, which may have a fraction.
    #[derive(Deserialize)]
    struct Claims {
        exp: f64,
        iat: Option<f64>,
    }

    let mut parts = token.split('.');
    let (Some(_), Some(payload), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    let payload = Zeroizing::new(URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?);
    let claims: Claims = read_object(&payload)?;
    let lifetime = claims.exp - claims.iat.unwrap_or_else(|| wall.as_secs_f64());
    // A cast saturates; what is not above zero, or not a number, is no lifetime.
    (lifetime > 0.0).then_some(lifetime as u64)
}

/// The fields that matter. A field that comes twice is an error, because two readers would differ.
#[derive(Deserialize)]
struct Fields {
    #[serde(default)]
    access_token: Text,
    #[serde(default)]
    refresh_token: Text,
    #[serde(default)]
    token_type: Text,
    #[serde(default)]
    expires_in: Seconds,
    #[serde(default)]
    data: Text,
}

/// A field that should be a string. Wiped on drop.
#[derive(Default)]
enum Text {
    /// Missing or null.
    #[default]
    Absent,
    /// A string.
    Given(Zeroizing<String>),
    /// Anything else.
    Other,
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match deserializer.deserialize_any(ScalarVisitor)? {
            Scalar::Null => Ok(Self::Absent),
            Scalar::Text(text) => Ok(Self::Given(text)),
            Scalar::Integer(_) | Scalar::Other => Ok(Self::Other),
        }
    }
}

/// A number of seconds above zero, as an integer or as a string that is one; else nothing.
#[derive(Default)]
struct Seconds(Option<u64>);

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = match deserializer.deserialize_any(ScalarVisitor)? {
            Scalar::Integer(seconds) => Some(seconds),
            Scalar::Text(text) => whole_seconds(&text),
            Scalar::Null | Scalar::Other => None,
        };
        Ok(Self(seconds.filter(|&seconds| seconds > 0)))
    }
}

/// A JSON value, as far as it is looked at.
enum Scalar {
    Null,
    Integer(u64),
    Text(Zeroizing<String>),
    Other,
}

struct ScalarVisitor;

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Scalar, E> {
        Ok(Scalar::Null)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Scalar, E> {
        Ok(Scalar::Integer(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Scalar, E> {
        Ok(Scalar::Text(Zeroizing::new(value.to_owned())))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Scalar, E> {
        Ok(Scalar::Other)
    }

    /// Negative: JSON has no other way to come here.
    fn visit_i64<E: Error>(self, _: i64) -> Result<Scalar, E> {
        Ok(Scalar::Other)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Scalar, E> {
        Ok(Scalar::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Scalar, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Scalar, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other)
    }
}

//! What a partner gave to be reached with: the envelope's key, the first token, the login.

use super::secret;
use super::section::Section;
use super::value::shape;
use crate::partner::Login;
use crate::partner::envelope::{EnvelopeKey, Iv};
use crate::sandbox;
use crate::token::RefreshToken;

/// `encryption_key`.
pub(super) fn key(s: &mut Section<'_, '_>, builtin: bool) -> Option<EnvelopeKey> {
    let key = s.secret("encryption_key", secret::HEX_KEY, secret::envelope_key);
    if !builtin {
        s.require_secret("encryption_key", secret::HEX_KEY);
    } else if !s.given("encryption_key") {
        s.row("encryption_key", "\"...\"  (the sandbox's own)");
        return EnvelopeKey::from_hex(sandbox::ENCRYPTION_KEY);
    }
    key
}

/// `iv`.
pub(super) fn iv(s: &mut Section<'_, '_>) -> Iv {
    let expected = "\"prefix\" or 32 hex digits";
    let iv = s.text("iv", expected, |text| {
        let mut iv = [0; 16];
        if text == "prefix" {
            return Ok(Iv::Prefix);
        }
        if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(shape(text));
        }
        const_hex::decode_to_slice(text, &mut iv).map_err(|_| shape(text))?;
        Ok(Iv::Fixed(iv))
    });
    let iv = iv.unwrap_or(Iv::Prefix);
    s.row("iv", if iv == Iv::Prefix { "prefix" } else { "\"...\"  (fixed)" });
    iv
}

/// `refresh_token`. It may be missing, because the store may hold a credential already.
pub(super) fn seed(s: &mut Section<'_, '_>, builtin: bool) -> Option<RefreshToken> {
    let seed = s.secret("refresh_token", secret::TOKEN, secret::refresh_token);
    if builtin && !s.given("refresh_token") {
        s.row("refresh_token", "\"...\"  (the sandbox's own)");
        return Some(sandbox::seed());
    }
    seed
}

/// `[partner.login]`, which is whole or not there.
pub(super) fn login(s: &mut Section<'_, '_>) -> Option<Login> {
    let plain = |text: &str| match text.is_empty() || text.contains(char::is_control) {
        true => Err(shape(text)),
        false => Ok(text.to_owned()),
    };
    let username = s.text("username", secret::PASSWORD, plain);
    s.require("username", secret::PASSWORD);
    s.row("username", username.as_deref().unwrap_or_default());
    let password = s.secret("password", secret::PASSWORD, secret::password);
    s.require_secret("password", secret::PASSWORD);
    let client_id = s.text("client_id", secret::PASSWORD, plain);
    s.require("client_id", secret::PASSWORD);
    s.row("client_id", client_id.as_deref().unwrap_or_default());
    let client_secret = s.secret("client_secret", secret::PASSWORD, secret::password);
    s.require_secret("client_secret", secret::PASSWORD);
    Some(Login {
        username: username?,
        password: password?,
        client_id: client_id?,
        client_secret: client_secret?,
    })
}

/// What stands in for `[partner.login]` at the sandbox.
pub(super) fn sandbox_login() -> Login {
    Login {
        username: sandbox::USERNAME.to_owned(),
        password: sandbox::PASSWORD.into(),
        client_id: sandbox::CLIENT_ID.to_owned(),
        client_secret: sandbox::CLIENT_SECRET.into(),
    }
}

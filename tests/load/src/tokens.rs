//! Tokens as an app's back end signs them.

use std::time::{SystemTime, UNIX_EPOCH};

use hongyan_protocol::UserId;
use jsonwebtoken::{Algorithm, EncodingKey, Header};

/// How long a token is good, in seconds: longer than a run.
pub const TOKEN_SECONDS: u64 = 25 * 3_600;

/// Any claims, signed with a shared secret.
///
/// # Errors
/// When the algorithm is none of a shared secret.
pub fn sign(
    algorithm: Algorithm,
    key_id: Option<&str>,
    secret: &str,
    claims: &serde_json::Value,
) -> Result<String, String> {
    let mut header = Header::new(algorithm);
    header.kid = key_id.map(str::to_owned);
    jsonwebtoken::encode(&header, claims, &EncodingKey::from_secret(secret.as_bytes()))
        .map_err(|error| format!("The token could not be signed: {error}."))
}

/// A token that ends at this second since 1970.
///
/// # Errors
/// When it could not be signed.
pub fn token_until(key_id: &str, secret: &str, user: &UserId, exp: u64) -> Result<String, String> {
    sign(Algorithm::HS256, Some(key_id), secret, &serde_json::json!({ "sub": user.as_str(), "exp": exp }))
}

/// The second since 1970.
#[must_use]
pub fn seconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

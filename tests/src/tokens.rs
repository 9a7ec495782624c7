//! Tokens as an app's back end signs them.

use std::time::{SystemTime, UNIX_EPOCH};

use hongyan_protocol::UserId;
use jsonwebtoken::{Algorithm, EncodingKey, Header};

/// The key id under which test relays know [`SECRET`].
pub const KEY_ID: &str = "k1";
/// Chance enough for the relay's check of strength; used by nothing but tests.
pub const SECRET: &str = "pW8nZ3tYv6RkQ1xJ5sLd9MhFbG2uCe7TaX4oKyNi";

/// A token that is good for an hour.
#[must_use]
pub fn token(user: &UserId) -> String {
    token_until(user, seconds_now() + 3_600)
}

/// A token that ends at this second since 1970.
#[must_use]
pub fn token_until(user: &UserId, exp: u64) -> String {
    sign(Algorithm::HS256, Some(KEY_ID), SECRET, &serde_json::json!({ "sub": user.as_str(), "exp": exp }))
}

/// Any claims, signed with a shared secret.
///
/// # Panics
/// When the algorithm is none of a shared secret.
#[must_use]
pub fn sign(algorithm: Algorithm, key_id: Option<&str>, secret: &str, claims: &serde_json::Value) -> String {
    let mut header = Header::new(algorithm);
    header.kid = key_id.map(str::to_owned);
    jsonwebtoken::encode(&header, claims, &EncodingKey::from_secret(secret.as_bytes()))
        .expect("claims are signed")
}

/// The second since 1970.
#[must_use]
pub fn seconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

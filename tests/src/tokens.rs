//! Tokens of the tests' own key.

use hongyan_protocol::UserId;
use jsonwebtoken::Algorithm;

pub use hongyan_load::tokens::seconds_now;

/// The key id under which test relays know [`SECRET`].
pub const KEY_ID: &str = "k1";
/// Chance enough for the relay's check of strength; used by nothing but tests.
pub const SECRET: &str = "pW8nZ3tYv6RkQ1xJ5sLd9MhFbG2uCe7TaX4oKyNi";

/// A token that is good for an hour.
///
/// # Panics
/// When it can't be signed.
#[must_use]
pub fn token(user: &UserId) -> String {
    token_until(user, seconds_now() + 3_600)
}

/// A token that ends at this second since 1970.
///
/// # Panics
/// When it can't be signed.
#[must_use]
pub fn token_until(user: &UserId, exp: u64) -> String {
    hongyan_load::tokens::token_until(KEY_ID, SECRET, user, exp).expect("claims are signed")
}

/// Any claims, signed with a shared secret.
///
/// # Panics
/// When the algorithm is none of a shared secret.
#[must_use]
pub fn sign(algorithm: Algorithm, key_id: Option<&str>, secret: &str, claims: &serde_json::Value) -> String {
    hongyan_load::tokens::sign(algorithm, key_id, secret, claims).expect("claims are signed")
}

//! Tokens: JSON Web Tokens, signed with HS256 by a shared secret or with EdDSA by the app's own back end.
//!
//! *Invariant:* a key is used with its own algorithm only, whatever a token's header says.

use std::collections::HashSet;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind as IoErrorKind, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hongyan_protocol::limits::TOKEN_BYTES_MAX;
use hongyan_protocol::{Time, UserId};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode};
use serde::{Deserialize, Serialize};

use super::limits::SECRET_BYTES_MIN;
use super::secrets::{HOW, check_count, check_strength};
use super::settings::Settings;
use super::values::NamedKey;
use crate::core::io::{Identity, Verifier};

/// The file of the development mode's key, in the data folder.
const DEV_KEY_FILE: &str = "dev-key";
/// The development mode's key id.
const DEV_KEY_ID: &str = "dev";
/// The keys that may sign tokens.
pub struct Keyring {
    keys: Vec<VerifyingKey>,
    /// The first HS256 key.
    signer: Option<(String, EncodingKey)>,
    audience: Option<String>,
}

struct VerifyingKey {
    id: String,
    key: DecodingKey,
    /// Holds the one algorithm that goes with the key.
    validation: Validation,
    algorithm: Algorithm,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    /// Seconds since 1970; some libraries write fractions.
    exp: f64,
    /// The same; without it the token counts as issued before everything.
    iat: Option<f64>,
}

#[derive(Serialize)]
struct NewClaims<'a> {
    sub: &'a str,
    iat: u64,
    exp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
}

impl Keyring {
    /// Takes the configured keys.
    ///
    /// # Errors
    /// A sentence, when there are none, or one is weak or malformed.
    pub fn new(settings: &Settings) -> Result<Self, String> {
        let tokens = &settings.tokens;
        if tokens.hs256.is_empty() && tokens.eddsa.is_empty() {
            return Err(format!(
                "There is no key for tokens, so nobody could sign in: set `tokens.hs256` (or the environment variable \
                 HONGYAN_TOKENS_HS256) to \"key-id:secret\", or `tokens.eddsa`; {HOW}. To try the relay out, use --dev."
            ));
        }
        check_strength("tokens.hs256", &tokens.hs256)?;
        Self::of(settings, &tokens.hs256)
    }

    /// Takes the development mode's own key from the data folder, where it is made at first, so that a restart signs
    /// nobody out; and the configured ones, however weak.
    ///
    /// # Errors
    /// A sentence, when the folder can't be used or a key is malformed.
    pub(crate) fn for_development(settings: &Settings) -> Result<Self, String> {
        let mut hs256 = vec![NamedKey { id: DEV_KEY_ID.into(), key: development_key(&settings.data)? }];
        hs256.extend(settings.tokens.hs256.iter().cloned());
        Self::of(settings, &hs256)
    }

    fn of(settings: &Settings, hs256: &[NamedKey]) -> Result<Self, String> {
        let tokens = &settings.tokens;
        let audience = Some(tokens.audience.clone()).filter(|audience| !audience.is_empty());
        let leeway = Duration::from_millis(settings.core.token_leeway_ms).as_secs();
        let mut keys = Vec::new();
        for (name, list) in [("tokens.hs256", hs256), ("tokens.eddsa", &tokens.eddsa)] {
            check_count(name, list)?;
        }
        for secret in hs256 {
            let key = DecodingKey::from_secret(secret.key.as_bytes());
            keys.push(VerifyingKey::new(&secret.id, key, Algorithm::HS256, audience.as_deref(), leeway));
        }
        for public in &tokens.eddsa {
            let key = public_key(&public.key).ok_or_else(|| {
                format!(
                    "`tokens.eddsa` has under {} no Ed25519 public key: it must be PEM (-----BEGIN PUBLIC KEY-----) \
                     or the key's 32 bytes in base64.",
                    public.shown_id()
                )
            })?;
            keys.push(VerifyingKey::new(&public.id, key, Algorithm::EdDSA, audience.as_deref(), leeway));
        }
        let mut ids = HashSet::new();
        if let Some(twice) = keys.iter().find(|key| !ids.insert(key.id.as_str())) {
            return Err(format!("Two keys for tokens have the id {}; each needs its own.", twice.id));
        }
        let signer = hs256.first().map(|key| (key.id.clone(), EncodingKey::from_secret(key.key.as_bytes())));
        Ok(Self { keys, signer, audience })
    }

    /// Makes a token with the first HS256 key.
    ///
    /// # Errors
    /// A sentence, when there is no such key.
    pub(crate) fn sign(&self, user: &UserId, valid_for: Duration) -> Result<String, String> {
        let Some((id, key)) = &self.signer else {
            return Err(
                "Only an HS256 key can sign here: set `tokens.hs256`, or sign tokens where the EdDSA key's \
                        secret half is."
                    .into(),
            );
        };
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some(id.clone());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let exp = now.saturating_add(valid_for).as_secs();
        let claims = NewClaims { sub: user.as_str(), iat: now.as_secs(), exp, aud: self.audience.as_deref() };
        encode(&header, &claims, key).map_err(|error| format!("The token could not be signed: {error}."))
    }
}

impl VerifyingKey {
    fn new(id: &str, key: DecodingKey, algorithm: Algorithm, audience: Option<&str>, leeway: u64) -> Self {
        let mut validation = Validation::new(algorithm);
        // Whether it has expired is for the core to say, which also ends connections when it does.
        validation.validate_exp = false;
        validation.validate_nbf = true;
        validation.leeway = leeway;
        validation.set_required_spec_claims(&["exp", "sub"]);
        if let Some(audience) = audience {
            validation.set_required_spec_claims(&["exp", "sub", "aud"]);
            validation.set_audience(&[audience]);
        }
        Self { id: id.into(), key, validation, algorithm }
    }
}

impl Verifier for Arc<Keyring> {
    fn verify(&self, token: &str) -> Result<Identity, String> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(format!("The token is longer than {TOKEN_BYTES_MAX} bytes."));
        }
        let header = decode_header(token)
            .map_err(|_| "The token is no JSON Web Token signed with HS256 or EdDSA.".to_owned())?;
        if header.crit.is_some() {
            return Err("The token demands extensions that the relay does not know.".into());
        }
        let candidates: Vec<&VerifyingKey> = match &header.kid {
            Some(id) => self.keys.iter().filter(|key| key.id == *id).collect(),
            None => self.keys.iter().filter(|key| key.algorithm == header.alg).collect(),
        };
        let mut problem = match &header.kid {
            Some(_) => "The token names a key that the relay does not have.",
            None => "The token is signed with an algorithm for which the relay has no key.",
        };
        for key in candidates {
            match decode::<Claims>(token, &key.key, &key.validation) {
                Ok(data) => return identity(&data.claims),
                Err(error) => problem = sentence(error.kind()),
            }
        }
        Err(problem.into())
    }
}

fn identity(claims: &Claims) -> Result<Identity, String> {
    let user =
        UserId::new(&claims.sub).map_err(|error| format!("The token's `sub` is no user id: {error}."))?;
    let expires = time(claims.exp).ok_or("The token's `exp` is no time in seconds since 1970.")?;
    let issued = match claims.iat {
        Some(seconds) => Some(time(seconds).ok_or("The token's `iat` is no time in seconds since 1970.")?),
        None => None,
    };
    Ok(Identity { user, expires, issued })
}

/// Seconds since 1970.
fn time(seconds: f64) -> Option<Time> {
    if !(0.0..1e12).contains(&seconds) {
        return None;
    }
    let millis = Duration::from_secs_f64(seconds).as_millis();
    Some(Time(u64::try_from(millis).unwrap_or(u64::MAX)))
}

/// What is wrong, without any part of the token.
fn sentence(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidSignature => "The token's signature is not by a key that the relay has.",
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidKeyFormat => {
            "The token is signed with another algorithm than its key's."
        }
        ErrorKind::MissingRequiredClaim(claim) => match claim.as_str() {
            "exp" => "The token has no `exp`, or not a number.",
            "sub" => "The token has no `sub`, or not a string.",
            _ => "The token has no `aud`, which this relay demands.",
        },
        ErrorKind::InvalidAudience => "The token is for another audience.",
        ErrorKind::ImmatureSignature => "The token is not valid yet (`nbf`).",
        _ => "The token is malformed.",
    }
}

fn public_key(text: &str) -> Option<DecodingKey> {
    if text.contains("-----BEGIN") {
        return DecodingKey::from_ed_pem(text.as_bytes()).ok();
    }
    // Standard or URL-safe, padded or not: 32 bytes are 43 characters.
    let url_safe = text.trim().trim_end_matches('=').replace('+', "-").replace('/', "_");
    if url_safe.len() != 43 {
        return None;
    }
    DecodingKey::from_ed_components(&url_safe).ok()
}

fn development_key(data: &Path) -> Result<String, String> {
    let path = data.join(DEV_KEY_FILE);
    let failed = |error: &dyn std::fmt::Display| {
        format!("The development key {} can't be used: {error}.", path.display())
    };
    match fs::read_to_string(&path) {
        Ok(key) if key.trim().len() >= SECRET_BYTES_MIN => return Ok(key.trim().to_owned()),
        Ok(_) => return Err(failed(&"it is too short; delete it, and a new one is made")),
        Err(error) if error.kind() == IoErrorKind::NotFound => {}
        Err(error) => return Err(failed(&error)),
    }
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(|error| failed(&error))?;
    let key: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    fs::create_dir_all(data).map_err(|error| failed(&error))?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&path).map_err(|error| failed(&error))?;
    file.write_all(key.as_bytes()).and_then(|()| file.sync_all()).map_err(|error| failed(&error))?;
    Ok(key)
}

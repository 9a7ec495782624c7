//! Who may use the API: whoever has a secret of `api.keys`.

use std::collections::HashSet;

use axum::http::{HeaderMap, header};
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

use crate::server::secrets::{check_count, check_strength};
use crate::server::values::NamedKey;

/// The secrets, as hashes: so all are of one length, and none is kept.
pub(crate) struct ApiKeys {
    hashes: Vec<[u8; 32]>,
}

impl ApiKeys {
    /// Takes the configured keys; without any nobody may.
    ///
    /// # Errors
    /// A sentence, when one can be guessed, or two have one id.
    pub(crate) fn new(keys: &[NamedKey]) -> Result<Self, String> {
        check_strength("api.keys", keys)?;
        check_count("api.keys", keys)?;
        let mut ids = HashSet::new();
        if let Some(twice) = keys.iter().find(|key| !ids.insert(key.id.as_str())) {
            return Err(format!("Two keys in `api.keys` have the id {}; each needs its own.", twice.id));
        }
        Ok(Self { hashes: keys.iter().map(|key| Sha256::digest(&key.key).into()).collect() })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// Whether a request brings one of them. Each is compared to its end, so that the time tells nothing.
    pub(super) fn admit(&self, headers: &HeaderMap) -> bool {
        let Some(secret) = bearer(headers) else { return false };
        let given: [u8; 32] = Sha256::digest(secret).into();
        let none = Choice::from(0);
        self.hashes.iter().fold(none, |known, hash| known | hash[..].ct_eq(&given[..])).into()
    }
}

/// What stands after `Bearer` in the one header that there may be.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let (value, None) = (given.next()?.as_bytes(), given.next()) else { return None };
    let (scheme, secret) = value.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| secret.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "Qm7rX2vKc9LwZt4HsJ8yPn3BdGf6TqWeAu5MiRo1";
    const OTHER: &str = "b8nVqYx3TzRk7WpLd2FhGm9CsJtEu4Aa6BvNcMiQ";

    fn key(id: &str, key: &str) -> NamedKey {
        NamedKey { id: id.into(), key: key.into() }
    }

    #[test]
    fn a_secret_opens_and_nothing_else() {
        let keys = ApiKeys::new(&[key("one", SECRET), key("two", OTHER)]).unwrap();
        let admits = |values: &[String]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, value.parse().unwrap());
            }
            keys.admit(&headers)
        };
        for good in [format!("Bearer {SECRET}"), format!("bearer {OTHER}"), format!("Bearer  {SECRET} ")] {
            assert!(admits(std::slice::from_ref(&good)), "{good}");
        }
        for bad in [
            String::new(),
            "Bearer".into(),
            "Bearer ".into(),
            SECRET.into(),
            format!("Basic {SECRET}"),
            format!("Bearer one:{SECRET}"),
            format!("Bearer {SECRET}x"),
            format!("Bearer {}", &SECRET[1..]),
        ] {
            assert!(!admits(std::slice::from_ref(&bad)), "{bad}");
        }
        let twice = format!("Bearer {SECRET}");
        assert!(!admits(&[twice.clone(), twice]) && !admits(&[]));
        let none = ApiKeys::new(&[]).unwrap();
        assert!(none.is_empty() && !none.admit(&HeaderMap::new()));
    }

    #[test]
    fn weak_and_ambiguous_keys_are_refused() {
        for (keys, problem) in [
            (vec![key("one", "short")], "5 bytes"),
            (vec![key("one", &"ab".repeat(20))], "can be guessed"),
            (vec![key("one", SECRET), key("one", OTHER)], "have the id one"),
        ] {
            let sentence = ApiKeys::new(&keys).err().unwrap();
            assert!(sentence.contains(problem) && sentence.contains("`api.keys`"), "{sentence}");
        }
    }
}

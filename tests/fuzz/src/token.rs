//! Tokens: any text, and any header and claims under a good signature.

use std::sync::{Arc, OnceLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use hongyan_protocol::UserId;
use hongyan_protocol::limits::TOKEN_BYTES_MAX;
use hongyan_relay::core::io::{Identity, Verifier};
use hongyan_relay::server::settings::{Settings, TokenSettings};
use hongyan_relay::server::{Keyring, NamedKey};
use sha2::Sha256;

use crate::program::Program;

/// Of this test alone.
const SECRET: &str = "Wq3-fuzzing-only-9bd1c0e7a2f84561";
/// The public half of the first key pair of RFC 8032, section 7.1.
const PUBLIC: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

/// Tokens, verified by a relay with two keys, with and without an audience.
pub fn token(data: &[u8]) {
    static KEYRINGS: OnceLock<[Arc<Keyring>; 2]> = OnceLock::new();
    let keyrings = KEYRINGS.get_or_init(|| ["", "chat"].map(keyring));
    let mut program = Program::new(data);
    let odd = program.byte();
    let keyring = &keyrings[usize::from(odd & 1)];
    if odd & 2 == 0 {
        // Nobody but the key's owner can make one that is taken.
        let token = String::from_utf8_lossy(data.get(1..).unwrap_or_default());
        let refused = verify(keyring, &token);
        return assert!(refused.is_none(), "a token without a signature is taken");
    }
    let (header, claims) = (header(&mut program), claims(&mut program));
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("a key of any length");
    mac.update(signed.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
    verify(keyring, &format!("{signed}.{signature}"));
    // One character less, and it is nobody's.
    let at = usize::from(program.byte()) % signed.len();
    let cut = format!("{}{}.{signature}", &signed[..at], &signed[at + 1..]);
    assert!(verify(keyring, &cut).is_none(), "a changed token is taken");
}

/// What the relay makes of it; a refusal holds nothing of the token.
fn verify(keyring: &Arc<Keyring>, token: &str) -> Option<Identity> {
    match keyring.verify(token) {
        Ok(identity) => {
            assert!(token.len() <= TOKEN_BYTES_MAX && UserId::new(identity.user.as_str()).is_ok());
            Some(identity)
        }
        Err(sentence) => {
            assert!(sentence.ends_with('.') && !sentence.contains('\n'), "{sentence}");
            // Longer than any word of the sentences.
            let mut parts = token.split('.').filter(|part| part.len() > 12 && !part.contains(' '));
            assert!(parts.all(|part| !sentence.contains(part)), "a refusal quotes the token");
            None
        }
    }
}

fn header(program: &mut Program<'_>) -> String {
    match program.below(4) {
        0 => program.text(&[r#"{"alg":"EdDSA"}"#, r#"{"alg":"none"}"#, r#"{"alg":"HS512"}"#]),
        1 => program.text(&[
            r#"{"alg":"HS256","kid":"public"}"#,
            r#"{"alg":"HS256","kid":"nobody's"}"#,
            r#"{"alg":"HS256","crit":["exp"]}"#,
        ]),
        _ => r#"{"alg":"HS256","kid":"secret"}"#.into(),
    }
}

fn claims(program: &mut Program<'_>) -> String {
    if program.below(4) == 0 {
        return String::from_utf8_lossy(program.bytes()).into_owned();
    }
    let sub = program.text(&[r#""alice""#, r#""""#, "7", r#""a\u0000""#, "null"]);
    let exp =
        program.text(&["1700000000", "1.7e9", "-1", "1e999", "1e12", "999999999999.9", r#""17""#, "NaN"]);
    let aud = program.text(&[r#""chat""#, r#"["chat","x"]"#, r#""other""#, "{}", "[]"]);
    let nbf = program.text(&["0", "1e18", "-1", "18446744073709551615"]);
    match program.below(3) {
        0 => format!(r#"{{"sub":{sub},"exp":{exp}}}"#),
        1 => format!(r#"{{"sub":{sub},"exp":{exp},"aud":{aud}}}"#),
        _ => format!(r#"{{"sub":{sub},"exp":{exp},"aud":{aud},"nbf":{nbf},"sub":{sub}}}"#),
    }
}

fn keyring(audience: &str) -> Arc<Keyring> {
    let key = |id: &str, key: &str| NamedKey { id: id.into(), key: key.into() };
    let tokens = TokenSettings {
        audience: audience.into(),
        hs256: vec![key("secret", SECRET)],
        eddsa: vec![key("public", PUBLIC)],
    };
    Arc::new(Keyring::new(&Settings { tokens, ..Settings::default() }).expect("good keys"))
}

//! The demo at `/demo/`, embedded when the program was built with the feature `demo`.

use std::sync::Arc;

use axum::Router;
use axum::response::Redirect;
use axum::routing::get;

use super::http::Front;

/// Whether this program has it.
pub(crate) const EMBEDDED: bool = cfg!(feature = "demo");

pub(crate) fn routes() -> Router<Arc<Front>> {
    let to_demo = get(|| async { Redirect::temporary("/demo/") });
    Router::new()
        .route("/", to_demo.clone())
        .route("/demo", to_demo)
        .route("/demo/", get(pages::page))
        .route("/demo/{*path}", get(pages::page))
}

#[cfg(not(feature = "demo"))]
mod pages {
    use axum::http::StatusCode;
    use axum::response::Response;

    pub(super) async fn page() -> Response {
        crate::server::http::plain(
            StatusCode::NOT_FOUND,
            "This relay was built without the demo. `npm run build` builds it with it, `npm start` runs it.",
        )
    }
}

#[cfg(feature = "demo")]
mod pages {
    use axum::extract::Request;
    use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
    use axum::response::{IntoResponse, Response};
    use rust_embed::{EmbeddedFile, RustEmbed};

    use crate::server::http::plain;

    #[derive(RustEmbed)]
    #[folder = "../web-demo/dist"]
    struct Assets;

    pub(super) async fn page(request: Request) -> Response {
        let path = request.uri().path().trim_start_matches("/demo/");
        let path = if path.is_empty() { "index.html" } else { path };
        match Assets::get(path) {
            Some(file) => serve(path, file, request.headers()),
            None => plain(StatusCode::NOT_FOUND, "The demo has no such page."),
        }
    }

    fn serve(path: &str, file: EmbeddedFile, headers: &HeaderMap) -> Response {
        let tag: String =
            file.metadata.sha256_hash().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        let tag = format!("\"{tag}\"");
        // The bundler puts the content's hash into these names, so what a name means never changes.
        let caching =
            if path.starts_with("assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
        let known = headers
            .get(header::IF_NONE_MATCH)
            .and_then(|tags| tags.to_str().ok())
            .is_some_and(|tags| tags.split(',').any(|t| t.trim().trim_start_matches("W/") == tag));
        let mut response = if known {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            ([(header::CONTENT_TYPE, mime(path))], file.data).into_response()
        };
        let out = response.headers_mut();
        out.insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
        for (name, value) in [(header::ETAG, tag), (header::CONTENT_SECURITY_POLICY, policy(headers))] {
            if let Ok(value) = HeaderValue::from_str(&value) {
                out.insert(name, value);
            }
        }
        response
    }

    /// Everything from here, nothing from elsewhere, no inline script. Some engines do not let `'self'` cover
    /// WebSockets, so the own host is named too, when the request names one that can't break out of the header.
    fn policy(headers: &HeaderMap) -> String {
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let sockets = match host {
            Some(host)
                if !host.is_empty()
                    && host.len() <= 255
                    && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:[]".contains(&b)) =>
            {
                format!(" ws://{host} wss://{host}")
            }
            _ => String::new(),
        };
        format!(
            "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; \
             connect-src 'self'{sockets}; img-src 'self' data:; font-src 'self'; manifest-src 'self'; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
    }

    fn mime(path: &str) -> &'static str {
        match path.rsplit_once('.').map_or("", |(_, ending)| ending) {
            "html" => "text/html; charset=utf-8",
            "js" | "mjs" => "text/javascript; charset=utf-8",
            "css" => "text/css; charset=utf-8",
            "wasm" => "application/wasm",
            "json" | "map" => "application/json",
            "webmanifest" => "application/manifest+json",
            "svg" => "image/svg+xml",
            "png" => "image/png",
            "ico" => "image/x-icon",
            "webp" => "image/webp",
            "woff2" => "font/woff2",
            "txt" => "text/plain; charset=utf-8",
            _ => "application/octet-stream",
        }
    }
}

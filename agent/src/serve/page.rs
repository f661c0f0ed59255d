//! `GET /` on the admin address: the view as one page that needs nothing else and runs nothing else (its script and
//! its style are allowed by their hashes, Content Security Policy Level 3, <https://www.w3.org/TR/CSP3/>).

use std::sync::LazyLock;

use axum::http::header;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

const TEMPLATE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

/// The page and its policy, made when the first one asks.
static PAGE: LazyLock<(String, String)> = LazyLock::new(|| {
    let page = TEMPLATE.replacen("STYLE", STYLE, 1).replacen("SCRIPT", SCRIPT, 1);
    let hash = |text: &str| STANDARD.encode(ring::digest::digest(&ring::digest::SHA256, text.as_bytes()));
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash(SCRIPT),
        hash(STYLE)
    );
    (page, policy)
});

pub(super) async fn page() -> Response {
    let (page, policy) = &*PAGE;
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CONTENT_SECURITY_POLICY, policy),
    ];
    (headers, page.as_str()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_whole_and_asks_for_nothing_from_elsewhere() {
        let (page, policy) = &*PAGE;
        assert!(page.contains("EventSource('/events')") && page.contains("prefers-color-scheme: dark"));
        assert!(!page.contains(">STYLE<") && !page.contains(">SCRIPT<"));
        for outside in ["https://", "src=", "@import", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
        // The namespace of SVG is a name, and not asked for.
        assert_eq!(page.matches("http://").count(), 1);
        assert!(policy.starts_with("default-src 'none'; script-src 'sha256-"), "{policy}");
        // Everything that comes is written as text.
        for markup in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
            assert!(!page.contains(markup), "{markup}");
        }
    }
}

//! The web page, embedded in the binary.

use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{Html, IntoResponse, Response};
use rust_embed::RustEmbed;

use crate::error::ApiError;

/// What `./dev build` made of `ui/`; empty when only the Rust part was built.
#[derive(RustEmbed)]
#[folder = "../../ui/dist"]
#[allow_missing = true]
struct Files;

const NOT_BUILT: &str = "<!doctype html><title>Sonde</title><p>The page is not in this build: \
    run <code>./dev build</code>. The API is under <code>/api/v1</code>, described by \
    <a href=\"/api/v1/openapi.json\">openapi.json</a>.";

/// Files whose names carry a hash of what is in them never change.
const FOREVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
/// All others are asked for again, and mostly not sent again.
const ASK_AGAIN: HeaderValue = HeaderValue::from_static("no-cache");

/// A file of the page. Paths of the page itself, which the browser's address bar shows, are all
/// answered with `index.html`.
pub(crate) async fn serve(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let path = uri.path().trim_start_matches('/');
    if !matches!(method, Method::GET | Method::HEAD)
        || path.starts_with("api/")
        || path.starts_with("v1/")
    {
        let message = "cannot find this path; /api/v1/openapi.json lists them all";
        return ApiError::new(StatusCode::NOT_FOUND, message).into_response();
    }
    let hashed = path.starts_with("assets/");
    let file = Files::get(path).filter(|_| !path.is_empty());
    let name = if file.is_some() { path } else { "index.html" };
    if file.is_none() && (hashed || path.rsplit('/').next().is_some_and(|name| name.contains('.')))
    {
        let message = "cannot find this file; reload the page";
        return ApiError::new(StatusCode::NOT_FOUND, message).into_response();
    }
    let Some(file) = file.or_else(|| Files::get("index.html")) else {
        return Html(NOT_BUILT).into_response();
    };
    let caching = if hashed { FOREVER } else { ASK_AGAIN };
    let hash = file.metadata.sha256_hash();
    let tag =
        hash[..16].iter().fold(String::from("\""), |tag, byte| format!("{tag}{byte:02x}")) + "\"";
    let known = headers.get(header::IF_NONE_MATCH).and_then(|tags| tags.to_str().ok());
    if known
        .is_some_and(|known| known.split(',').any(|one| one.trim().trim_start_matches("W/") == tag))
    {
        return (StatusCode::NOT_MODIFIED, [(header::CACHE_CONTROL, caching)]).into_response();
    }
    let mut response = file.data.into_owned().into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type(name)));
    headers.insert(header::CACHE_CONTROL, caching);
    if let Ok(tag) = tag.parse() {
        headers.insert(header::ETAG, tag);
    }
    response
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("json" | "webmanifest") => "application/json",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("ico") => "image/x-icon",
        Some("woff2") => "font/woff2",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::{Files, serve};
    use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
    use http_body_util::BodyExt;
    use std::path::Path;
    use std::process::Command;

    /// Fails when the page that was built is not the one at `/`, read from this directory.
    #[tokio::test]
    async fn the_root_is_the_built_page() {
        let index = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ui/dist/index.html");
        let built = index.exists();
        let root = serve(Method::GET, Uri::from_static("/"), HeaderMap::new()).await;
        assert_eq!(root.status(), StatusCode::OK);
        let body = root.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8(body.to_vec()).unwrap();
        let has_root = text.contains("id=\"root\"");
        assert_eq!(has_root, built, "built: {built}, served: {text}");
    }

    /// An embedded page needs no directory; one that a debug build reads has its path in full.
    #[test]
    fn the_page_is_there_from_any_working_directory() {
        let elsewhere = tempfile::tempdir().unwrap();
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "page::tests::the_root_is_the_built_page"])
            .current_dir(elsewhere.path())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
    }

    /// Where the page was not built there is nothing to keep.
    #[tokio::test]
    async fn a_file_of_the_page_is_kept_by_browsers_and_known_by_its_tag() {
        let Some(name) = Files::iter().find(|name| name.starts_with("assets/")) else { return };
        let get = |headers| serve(Method::GET, format!("/{name}").parse::<Uri>().unwrap(), headers);
        let first = get(HeaderMap::new()).await;
        assert_eq!(first.status(), StatusCode::OK);
        assert!(first.headers()[header::CACHE_CONTROL].to_str().unwrap().contains("immutable"));
        let tag = first.headers()[header::ETAG].clone();
        let again = get([(header::IF_NONE_MATCH, tag)].into_iter().collect()).await;
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
    }
}

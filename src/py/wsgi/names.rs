//! The keys of request headers in `environ`.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyString;

/// Headers that clients, browsers and proxies send. Each has its key made once, with its hash.
const KNOWN: [&str; 56] = [
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "access-control-request-headers",
    "access-control-request-method",
    "authorization",
    "cache-control",
    "cdn-loop",
    "cf-connecting-ip",
    "cf-ipcountry",
    "cf-ray",
    "cf-visitor",
    "connection",
    "content-encoding",
    "content-language",
    "cookie",
    "date",
    "dnt",
    "expect",
    "forwarded",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "max-forwards",
    "origin",
    "pragma",
    "priority",
    "proxy-authorization",
    "range",
    "referer",
    "sec-ch-ua",
    "sec-ch-ua-mobile",
    "sec-ch-ua-platform",
    "sec-fetch-dest",
    "sec-fetch-mode",
    "sec-fetch-site",
    "sec-fetch-user",
    "te",
    "traceparent",
    "tracestate",
    "upgrade",
    "upgrade-insecure-requests",
    "user-agent",
    "via",
    "x-csrftoken",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
    "x-requested-with",
];

static NAMES: PyOnceLock<Names> = PyOnceLock::new();

/// The keys of known headers.
pub(super) struct Names {
    /// By the length of the header's name.
    buckets: Vec<Vec<(&'static str, Py<PyString>)>>,
}

impl Names {
    /// The table, made at the first call.
    pub(super) fn get(py: Python<'_>) -> &'static Self {
        NAMES.get_or_init(py, || {
            let mut buckets: Vec<Vec<_>> = Vec::new();
            for name in KNOWN {
                if buckets.len() <= name.len() {
                    buckets.resize_with(name.len() + 1, Vec::new);
                }
                let key = PyString::intern(py, &key_of(name.as_bytes())).unbind();
                buckets[name.len()].push((name, key));
            }
            Self { buckets }
        })
    }

    /// The key of a header: `HTTP_` and its name in upper case, with `_` for `-`.
    pub(super) fn key<'py>(&self, py: Python<'py>, name: &[u8]) -> Bound<'py, PyString> {
        let bucket = self.buckets.get(name.len()).map(Vec::as_slice).unwrap_or_default();
        let known = bucket.iter().find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(name));
        known.map_or_else(|| PyString::new(py, &key_of(name)), |(_, key)| key.bind(py).clone())
    }
}

fn key_of(name: &[u8]) -> String {
    let upper = name.iter().map(|byte| match byte {
        b'-' => '_',
        byte => char::from(byte.to_ascii_uppercase()),
    });
    "HTTP_".chars().chain(upper).collect()
}

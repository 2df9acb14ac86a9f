//! The layers of the crate: Python only in `src/py`, no runtime and no sockets in the pure parts.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its sources has failed")]

use std::path::{Path, PathBuf};

fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// Files whose path below `src` begins with none of `allowed` and whose code names `word`.
fn trespassers(word: &str, allowed: &[&str]) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    for path in sources(&root) {
        let name = path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
        if allowed.iter().any(|prefix| name.starts_with(prefix)) {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        if code.into_iter().any(|line| line.contains(word)) {
            found.push(name);
        }
    }
    found
}

#[test]
fn only_src_py_knows_python() {
    assert_eq!(trespassers("pyo3", &["py.rs", "py/"]), Vec::<String>::new());
}

#[test]
fn the_pure_parts_know_no_runtime() {
    assert_eq!(trespassers("tokio", &["server.rs", "server/", "net.rs"]), Vec::<String>::new());
}

#[test]
fn user_code_is_reached_through_the_seam_alone() {
    assert_eq!(trespassers("crate::py", &["py.rs", "py/"]), Vec::<String>::new());
}

/// A thread that comes back to an interpreter that is ending must not be unwound, which `calling` sees to: user code may be
/// behind each of these. `visit` is the collector's.
#[test]
fn user_code_is_called_in_one_place() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/py");
    let ways = [
        ".call(",
        ".call0(",
        ".call1(",
        ".call_method",
        ".getattr",
        ".hasattr(",
        ".is_truthy(",
        ".try_iter(",
        ".str()",
        ".repr()",
        ".len()?",
        ".write_unraisable(",
    ];
    let mut found = Vec::new();
    for path in sources(&root).into_iter().filter(|path| !path.ends_with("calling.rs")) {
        let text = std::fs::read_to_string(&path).unwrap();
        let code = text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"));
        for (number, line) in code {
            let line = line.replace("visit.call(", "");
            found.extend(
                ways.iter()
                    .filter(|way| line.contains(*way))
                    .map(|way| format!("{}:{}: {way}", path.display(), number + 1)),
            );
        }
    }
    assert_eq!(found, Vec::<String>::new());
}

/// Bytes in, values out: the socket, the clock and the user's code stay outside.
#[test]
fn websocket_frames_are_pure() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/websocket");
    for path in sources(&root).into_iter().chain([root.with_extension("rs")]) {
        let text = std::fs::read_to_string(&path).unwrap();
        let code = || text.lines().filter(|line| !line.trim_start().starts_with("//"));
        for word in ["pyo3", "tokio", "std::io", "std::net", "std::time", "crate::server", "crate::net"] {
            assert!(!code().any(|line| line.contains(word)), "{} names {word}", path.display());
        }
    }
}

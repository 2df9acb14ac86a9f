//! The headers of a scope: a list of `(name, value)`, both bytes, the names in lower case.
//!
//! A client sends mostly the same lines with each request, so the tuples of short ones are kept. Not those that may be secrets.

use std::hash::{BuildHasher, RandomState};

use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};

use crate::http::head::HeaderLines;
use crate::server::Exchange;

/// Tuples that are kept.
const SLOTS: usize = 256;
/// Longer lines are not kept: they hardly come twice.
const LONGEST: usize = 256;
/// Headers that carry secrets, which must not stay in memory.
const SECRET: [&[u8]; 4] = [b"cookie", b"authorization", b"proxy-authorization", b"sec-websocket-key"];

/// The tuples of the lines that came last, by their bytes.
#[derive(Default)]
pub(super) struct HeaderCache {
    hasher: RandomState,
    slots: Mutex<Vec<Option<Kept>>>,
}

struct Kept {
    name: Box<[u8]>,
    value: Box<[u8]>,
    pair: Py<PyTuple>,
}

impl HeaderCache {
    /// The list for a scope.
    pub(super) fn list<'py>(&self, py: Python<'py>, exchange: &Exchange) -> PyResult<Bound<'py, PyList>> {
        let list = PyList::empty(py);
        // An absolute target replaces the Host header (RFC 9112 section 3.2.2).
        let replaced = is_absolute(exchange.target()).then(|| exchange.authority()).flatten();
        if let Some(host) = replaced {
            list.append(pair(py, b"host", host)?)?;
        }
        for (name, value) in HeaderLines::new(exchange.header_block()) {
            if replaced.is_some() && name.eq_ignore_ascii_case(b"host") {
                continue;
            }
            list.append(self.pair(py, name, value)?)?;
        }
        Ok(list)
    }

    fn pair<'py>(&self, py: Python<'py>, name: &[u8], value: &[u8]) -> PyResult<Bound<'py, PyTuple>> {
        if name.len() + value.len() > LONGEST || SECRET.iter().any(|secret| name.eq_ignore_ascii_case(secret))
        {
            return pair(py, name, value);
        }
        #[expect(clippy::cast_possible_truncation, reason = "any bits of it do")]
        let slot = self.hasher.hash_one((name, value)) as usize % SLOTS;
        if let Some(Some(kept)) = self.slots.lock().get(slot)
            && *kept.name == *name
            && *kept.value == *value
        {
            return Ok(kept.pair.bind(py).clone());
        }
        // Made and dropped without the lock: either may collect garbage, which runs user code.
        let made = pair(py, name, value)?;
        let kept = Kept { name: name.into(), value: value.into(), pair: made.clone().unbind() };
        let old = {
            let mut slots = self.slots.lock();
            if slots.is_empty() {
                slots.resize_with(SLOTS, || None);
            }
            slots.get_mut(slot).and_then(|place| place.replace(kept))
        };
        drop(old);
        Ok(made)
    }
}

fn pair<'py>(py: Python<'py>, name: &[u8], value: &[u8]) -> PyResult<Bound<'py, PyTuple>> {
    let lower = PyBytes::new_with(py, name.len(), |into| {
        into.copy_from_slice(name);
        into.make_ascii_lowercase();
        Ok(())
    })?;
    PyTuple::new(py, [lower, PyBytes::new(py, value)])
}

/// Whether a target has a scheme and an authority.
pub(super) fn is_absolute(target: &[u8]) -> bool {
    !matches!(target.first(), None | Some(b'/' | b'*'))
}

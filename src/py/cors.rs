//! `CorsPolicy`: a policy of cross-origin resource sharing, as `socketify.cors` has checked it.

use std::sync::Arc;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::http::cors::{Policy, Wildcard};

/// Which origins may read responses, and send which requests.
#[pyclass(frozen, module = "socketify._core")]
pub(crate) struct CorsPolicy {
    pub(super) policy: Arc<Policy>,
}

#[pymethods]
impl CorsPolicy {
    /// Takes the values that `socketify.cors` has checked.
    #[new]
    fn new(options: &Bound<'_, PyDict>) -> PyResult<Self> {
        let get = |name: &str| {
            options.get_item(name)?.ok_or_else(|| PyValueError::new_err(format!("{name} is missing")))
        };
        let bytes = |text: String| Box::<[u8]>::from(text.into_bytes());
        let texts = |name: &str| Ok::<_, PyErr>(get(name)?.extract::<Vec<String>>()?.into_iter().map(bytes));
        let wildcards: Vec<(String, String)> = get("wildcards")?.extract()?;
        let policy = Policy {
            any: get("any")?.extract()?,
            origins: texts("origins")?.collect(),
            wildcards: wildcards
                .into_iter()
                .map(|(before, after)| Wildcard { before: bytes(before), after: bytes(after) })
                .collect(),
            methods: texts("methods")?.collect(),
            headers: get("headers")?.extract::<Option<String>>()?.map(bytes),
            expose: bytes(get("expose")?.extract()?),
            credentials: get("credentials")?.extract()?,
            max_age: get("max_age")?.extract()?,
            private_network: get("private_network")?.extract()?,
        };
        Ok(Self { policy: Arc::new(policy) })
    }
}

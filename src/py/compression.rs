//! The settings of response compression, as the package passes them.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::http::encoding::{Coding, CodingLevel, Compression, TypePattern};
use crate::py::options::option;

/// The checks of `socketify.Compression` are repeated: this module is reachable without it.
pub(super) fn compression(options: &Bound<'_, PyDict>) -> PyResult<Option<Compression>> {
    let given = option::<(Vec<(String, u32)>, usize, Vec<String>)>(options, "compression")?;
    let Some((encodings, minimum_size, types)) = given else { return Ok(None) };
    let offer = |(name, level): (String, u32)| {
        let coding = Coding::named(&name).ok_or_else(|| {
            PyValueError::new_err(format!(
                "compression: {name:?} is no encoding: expected 'br', 'zstd' or 'gzip'"
            ))
        })?;
        let levels = coding.levels();
        if !levels.contains(&level) {
            return Err(PyValueError::new_err(format!(
                "compression: the level of {name} must be from {} to {}, not {level}",
                levels.start(),
                levels.end()
            )));
        }
        Ok(CodingLevel { coding, level })
    };
    let pattern = |text: String| {
        TypePattern::parse(&text).ok_or_else(|| {
            PyValueError::new_err(format!(
                "compression: {text:?} is no media type: expected one such as 'application/json', 'text/*' or '*+xml'"
            ))
        })
    };
    Ok(Some(Compression {
        offers: encodings.into_iter().map(offer).collect::<PyResult<_>>()?,
        minimum_size,
        types: types.into_iter().map(pattern).collect::<PyResult<_>>()?,
    }))
}

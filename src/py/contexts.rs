//! Contexts (of `contextvars`) in which user code runs: no other code sees its values.

use pyo3::ffi;
use pyo3::prelude::*;

use crate::py::calling::report;

/// A copy of the context (of `contextvars`) that runs now.
pub(crate) fn current_context(py: Python<'_>) -> PyResult<Py<PyAny>> {
    #[expect(unsafe_code, reason = "PyO3 has no contexts")]
    // SAFETY: the thread is attached; the result is a new reference, or null with an exception set.
    unsafe {
        Bound::from_owned_ptr_or_err(py, ffi::PyContext_CopyCurrent()).map(Bound::unbind)
    }
}

/// Values that user code sets in its context while this lives end with it.
pub(crate) struct Scope<'py>(Bound<'py, PyAny>);

impl<'py> Scope<'py> {
    /// A copy of `context`, entered; of an empty one if there is none. A copy costs as much as an empty one:
    /// they share their contents.
    pub(crate) fn of(py: Python<'py>, context: Option<&Py<PyAny>>) -> PyResult<Self> {
        #[expect(unsafe_code, reason = "PyO3 has no contexts")]
        // SAFETY: the thread is attached, and `context` is one. The copy is a new reference, or null with an
        // exception set; there is no other reference, so it has not been entered.
        unsafe {
            let made = match context {
                Some(context) => ffi::PyContext_Copy(context.as_ptr()),
                None => ffi::PyContext_New(),
            };
            let scope = Bound::from_owned_ptr_or_err(py, made)?;
            if ffi::PyContext_Enter(scope.as_ptr()) < 0 {
                return Err(PyErr::fetch(py));
            }
            Ok(Self(scope))
        }
    }
}

impl Drop for Scope<'_> {
    fn drop(&mut self) {
        #[expect(unsafe_code, reason = "PyO3 has no contexts")]
        // SAFETY: the thread is attached, since there is a bound reference, and the context has been entered.
        let left = unsafe { ffi::PyContext_Exit(self.0.as_ptr()) };
        if left < 0 {
            // User code has switched contexts by other means, and not back.
            report(self.0.py(), PyErr::fetch(self.0.py()), Some(&self.0));
        }
    }
}

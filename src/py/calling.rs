//! How user code is called: in a context of its own, and so that the end of the interpreter cannot take the process along.

use std::hint::black_box;
use std::thread;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

#[expect(unsafe_code, reason = "PyO3 declares these as functions that never unwind")]
unsafe extern "C-unwind" {
    fn PyObject_VectorcallDict(
        callable: *mut ffi::PyObject,
        arguments: *const *mut ffi::PyObject,
        count: usize,
        names: *mut ffi::PyObject,
    ) -> *mut ffi::PyObject;
    fn PyObject_Call(
        callable: *mut ffi::PyObject,
        arguments: *mut ffi::PyObject,
        names: *mut ffi::PyObject,
    ) -> *mut ffi::PyObject;
}

type VectorcallDict = unsafe extern "C-unwind" fn(
    *mut ffi::PyObject,
    *const *mut ffi::PyObject,
    usize,
    *mut ffi::PyObject,
) -> *mut ffi::PyObject;
type Call = unsafe extern "C-unwind" fn(
    *mut ffi::PyObject,
    *mut ffi::PyObject,
    *mut ffi::PyObject,
) -> *mut ffi::PyObject;

/// The most arguments of [`call`].
const MOST: usize = 6;

/// Stops the thread for ever when it is dropped.
///
/// A thread that comes back to an interpreter that is ending is ended by `pthread_exit`, up to Python 3.13: that unwinds its
/// stack, which has Rust's frames in it, and Rust aborts the process. The first of them to be reached holds the thread instead,
/// as Python 3.14 does by itself. What the thread has is the process's, which is about to end.
struct Hang;

impl Drop for Hang {
    fn drop(&mut self) {
        loop {
            thread::park();
        }
    }
}

/// Calls something that may run user code.
pub(crate) fn call<'py, const N: usize>(
    callable: &Bound<'py, PyAny>,
    arguments: [&Bound<'py, PyAny>; N],
) -> PyResult<Bound<'py, PyAny>> {
    const { assert!(N <= MOST) };
    // The first place is Python's to write to, which spares it a copy of the others where it calls a method.
    let mut places = [std::ptr::null_mut(); MOST + 1];
    for (place, argument) in places[1..].iter_mut().zip(arguments) {
        *place = argument.as_ptr();
    }
    let hang = Hang;
    #[expect(unsafe_code, reason = "PyO3's own way does not survive the end of the interpreter")]
    // SAFETY: the thread is attached, since there are bound references, which keep callable and arguments alive. `N` of
    // `places` behind the first are set. The result is a new reference, or null with an exception set.
    let result = unsafe {
        // Called by its address: an optimizer that sees PyO3's declaration of it as well takes that one's word for it.
        let made = black_box(PyObject_VectorcallDict as VectorcallDict)(
            callable.as_ptr(),
            places.as_ptr().add(1),
            N | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET,
            std::ptr::null_mut(),
        );
        Bound::from_owned_ptr_or_err(callable.py(), made)
    };
    std::mem::forget(hang);
    result
}

/// The same, of arguments in a tuple.
pub(crate) fn call_with<'py>(
    callable: &Bound<'py, PyAny>,
    arguments: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyAny>> {
    let hang = Hang;
    #[expect(unsafe_code, reason = "PyO3's own way does not survive the end of the interpreter")]
    // SAFETY: as above, with the arguments in a tuple.
    let result = unsafe {
        let made =
            black_box(PyObject_Call as Call)(callable.as_ptr(), arguments.as_ptr(), std::ptr::null_mut());
        Bound::from_owned_ptr_or_err(callable.py(), made)
    };
    std::mem::forget(hang);
    result
}

/// A copy of the context (of `contextvars`) that runs now.
pub(crate) fn current_context(py: Python<'_>) -> PyResult<Py<PyAny>> {
    #[expect(unsafe_code, reason = "PyO3 has no contexts")]
    // SAFETY: the thread is attached; the result is a new reference, or null with an exception set.
    unsafe {
        Bound::from_owned_ptr_or_err(py, ffi::PyContext_CopyCurrent()).map(Bound::unbind)
    }
}

/// What user code sets in its context while this lives ends with it.
pub(crate) struct Scope<'py>(Bound<'py, PyAny>);

impl<'py> Scope<'py> {
    /// A copy of `context`, entered; of an empty one where there is none. A copy costs as much as an empty one: they share what
    /// they hold.
    pub(crate) fn of(py: Python<'py>, context: Option<&Py<PyAny>>) -> PyResult<Self> {
        #[expect(unsafe_code, reason = "PyO3 has no contexts")]
        // SAFETY: the thread is attached, and `context` is one. The copy is a new reference, or null with an exception set;
        // nobody else has it, so it has not been entered.
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
            // User code has switched contexts by other means than contextvars, and not back.
            PyErr::fetch(self.0.py()).write_unraisable(self.0.py(), Some(&self.0));
        }
    }
}

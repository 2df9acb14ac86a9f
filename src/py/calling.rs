//! Calls of Python code that may be user code, made so that the end of the interpreter cannot kill the
//! process.
//!
//! User code is not only what handlers do. An attribute may be a property, and an object's truth, its text, the next item of
//! an iterable and what an error is reported to may be anything. All of it is asked for here; `tests/core/layering.rs` looks for
//! other ways. What runs without being asked for, such as a finalizer, is the business of `threads`.

use std::hint::black_box;
use std::thread;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};
use pyo3::{BoundObject, ffi};

#[expect(unsafe_code, reason = "PyO3 declares these as functions that never unwind")]
unsafe extern "C-unwind" {
    fn PyObject_VectorcallDict(
        callable: *mut ffi::PyObject,
        arguments: *const *mut ffi::PyObject,
        count: usize,
        names: *mut ffi::PyObject,
    ) -> *mut ffi::PyObject;
    fn PyObject_VectorcallMethod(
        name: *mut ffi::PyObject,
        arguments: *const *mut ffi::PyObject,
        count: usize,
        names: *mut ffi::PyObject,
    ) -> *mut ffi::PyObject;
    fn PyObject_Call(
        callable: *mut ffi::PyObject,
        arguments: *mut ffi::PyObject,
        names: *mut ffi::PyObject,
    ) -> *mut ffi::PyObject;
    fn PyObject_GetAttr(object: *mut ffi::PyObject, name: *mut ffi::PyObject) -> *mut ffi::PyObject;
    fn PyObject_GetIter(object: *mut ffi::PyObject) -> *mut ffi::PyObject;
    fn PyIter_Next(iterator: *mut ffi::PyObject) -> *mut ffi::PyObject;
    fn PyObject_IsTrue(object: *mut ffi::PyObject) -> std::ffi::c_int;
    fn PyObject_Str(object: *mut ffi::PyObject) -> *mut ffi::PyObject;
    fn PyObject_Repr(object: *mut ffi::PyObject) -> *mut ffi::PyObject;
    fn PyNumber_Index(object: *mut ffi::PyObject) -> *mut ffi::PyObject;
    fn PyErr_WriteUnraisable(object: *mut ffi::PyObject);
}

type Object = *mut ffi::PyObject;
type Vectorcall = unsafe extern "C-unwind" fn(Object, *const Object, usize, Object) -> Object;
type Call = unsafe extern "C-unwind" fn(Object, Object, Object) -> Object;
type Binary = unsafe extern "C-unwind" fn(Object, Object) -> Object;
type Unary = unsafe extern "C-unwind" fn(Object) -> Object;
type Truth = unsafe extern "C-unwind" fn(Object) -> std::ffi::c_int;
type Report = unsafe extern "C-unwind" fn(Object);

/// The most arguments of [`call`] and [`method`].
const MOST: usize = 6;

/// Stops the thread for ever when it is dropped.
struct Hang;

impl Drop for Hang {
    fn drop(&mut self) {
        loop {
            thread::park();
        }
    }
}

/// Runs `act`, which may not return.
///
/// Up to Python 3.13, `pthread_exit` ends a thread that returns to an ending interpreter. That unwinds its
/// stack, which has Rust's frames in it, and Rust aborts the process. The first such frame stops the thread
/// instead, as Python 3.14 does itself. The thread's resources belong to the process, which is about to end.
///
/// `act` calls functions of Python by their address: an optimizer that sees the declaration in `pyo3` as well
/// would assume that the function never unwinds.
fn surviving<T>(act: impl FnOnce() -> T) -> T {
    let hang = Hang;
    let result = act();
    std::mem::forget(hang);
    result
}

/// Calls something that may run user code.
pub(crate) fn call<'py, const N: usize>(
    callable: &Bound<'py, PyAny>,
    arguments: [&Bound<'py, PyAny>; N],
) -> PyResult<Bound<'py, PyAny>> {
    const { assert!(N <= MOST) };
    // Python may write to the first place, which saves a copy of the others when it calls a method.
    let mut places = [std::ptr::null_mut(); MOST + 1];
    for (place, argument) in places[1..].iter_mut().zip(arguments) {
        *place = argument.as_ptr();
    }
    let places = places.as_mut_ptr();
    #[expect(unsafe_code, reason = "PyO3's own way does not survive the end of the interpreter")]
    // SAFETY: the thread is attached, since there are bound references, which keep callable and arguments alive. `N` of
    // `places` behind the first are set. The result is a new reference, or null with an exception set.
    unsafe {
        let made = surviving(|| {
            black_box(PyObject_VectorcallDict as Vectorcall)(
                callable.as_ptr(),
                places.add(1),
                N | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET,
                std::ptr::null_mut(),
            )
        });
        Bound::from_owned_ptr_or_err(callable.py(), made)
    }
}

/// The same, with arguments that become a tuple.
pub(crate) fn call_with<'py, A>(callable: &Bound<'py, PyAny>, arguments: A) -> PyResult<Bound<'py, PyAny>>
where
    A: IntoPyObject<'py, Target = PyTuple>,
{
    call_named(callable, arguments, None)
}

/// The same, with arguments by name.
pub(crate) fn call_named<'py, A>(
    callable: &Bound<'py, PyAny>,
    arguments: A,
    named: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>>
where
    A: IntoPyObject<'py, Target = PyTuple>,
{
    let arguments = arguments.into_pyobject(callable.py()).map_err(Into::into)?.into_bound();
    let named = named.map_or(std::ptr::null_mut(), Bound::as_ptr);
    #[expect(unsafe_code, reason = "PyO3's own way does not survive the end of the interpreter")]
    // SAFETY: as above, with the arguments in a tuple, and in a dict or null.
    unsafe {
        let made =
            surviving(|| black_box(PyObject_Call as Call)(callable.as_ptr(), arguments.as_ptr(), named));
        Bound::from_owned_ptr_or_err(callable.py(), made)
    }
}

/// Calls a method.
pub(crate) fn method<'py, const N: usize>(
    object: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
    arguments: [&Bound<'py, PyAny>; N],
) -> PyResult<Bound<'py, PyAny>> {
    const { assert!(N < MOST) };
    let mut places = [std::ptr::null_mut(); MOST + 1];
    places[1] = object.as_ptr();
    for (place, argument) in places[2..].iter_mut().zip(arguments) {
        *place = argument.as_ptr();
    }
    let places = places.as_mut_ptr();
    #[expect(unsafe_code, reason = "PyO3's own way does not survive the end of the interpreter")]
    // SAFETY: as for `call`, with the object as the first argument.
    unsafe {
        let made = surviving(|| {
            black_box(PyObject_VectorcallMethod as Vectorcall)(
                name.as_ptr(),
                places.add(1),
                (N + 1) | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET,
                std::ptr::null_mut(),
            )
        });
        Bound::from_owned_ptr_or_err(object.py(), made)
    }
}

/// Reads an attribute.
pub(crate) fn attribute<'py>(
    object: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
) -> PyResult<Bound<'py, PyAny>> {
    #[expect(unsafe_code, reason = "PyO3's own way does not survive the end of the interpreter")]
    // SAFETY: the thread is attached, and both are alive. The result is a new reference, or null with an exception set.
    unsafe {
        let made = surviving(|| black_box(PyObject_GetAttr as Binary)(object.as_ptr(), name.as_ptr()));
        Bound::from_owned_ptr_or_err(object.py(), made)
    }
}

/// Whether an object can be awaited: its class decides, as for `await` itself, so no attribute is read.
pub(crate) fn is_awaitable(value: &Bound<'_, PyAny>) -> bool {
    #[expect(unsafe_code, reason = "PyO3 has no safe way to ask")]
    // SAFETY: the thread is attached, so that the class of a living object is one, and its slots are set or null.
    unsafe {
        let slots = (*ffi::Py_TYPE(value.as_ptr())).tp_as_async;
        !slots.is_null() && (*slots).am_await.is_some()
    }
}

/// A flag: the truth of any object.
pub(crate) fn truth(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    #[expect(unsafe_code, reason = "PyO3's own way does not survive the end of the interpreter")]
    // SAFETY: the thread is attached, and the object is alive. The result is negative with an exception set.
    let result = unsafe { surviving(|| black_box(PyObject_IsTrue as Truth)(value.as_ptr())) };
    if result < 0 { Err(PyErr::fetch(value.py())) } else { Ok(result > 0) }
}

/// The items of an iterable.
pub(crate) fn items<'py>(iterable: &Bound<'py, PyAny>) -> PyResult<Items<'py>> {
    #[expect(unsafe_code, reason = "PyO3's own way does not survive the end of the interpreter")]
    // SAFETY: the thread is attached, and the object is alive. The result is a new reference, or null with an exception set.
    unsafe {
        let made = surviving(|| black_box(PyObject_GetIter as Unary)(iterable.as_ptr()));
        Bound::from_owned_ptr_or_err(iterable.py(), made).map(Items)
    }
}

/// See [`items`].
pub(crate) struct Items<'py>(Bound<'py, PyAny>);

impl<'py> Iterator for Items<'py> {
    type Item = PyResult<Bound<'py, PyAny>>;

    fn next(&mut self) -> Option<Self::Item> {
        let py = self.0.py();
        #[expect(unsafe_code, reason = "PyO3's own way does not survive the end of the interpreter")]
        // SAFETY: the thread is attached, and the object is an iterator. The result is a new reference, or null at the end,
        // and then, if it failed, with an exception set.
        let next = unsafe {
            let made = surviving(|| black_box(PyIter_Next as Unary)(self.0.as_ptr()));
            Bound::from_owned_ptr_or_opt(py, made)
        };
        next.map_or_else(|| PyErr::take(py).map(Err), |item| Some(Ok(item)))
    }
}

/// A number as Python's `int`, by its own conversion.
pub(crate) fn whole<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    #[expect(unsafe_code, reason = "PyO3's own way does not survive the end of the interpreter")]
    // SAFETY: the thread is attached, and the object is alive. The result is a new reference, or null with an exception set.
    unsafe {
        let made = surviving(|| black_box(PyNumber_Index as Unary)(value.as_ptr()));
        Bound::from_owned_ptr_or_err(value.py(), made)
    }
}

/// An object as `str` gives it, for messages.
pub(crate) fn shown(value: &Bound<'_, PyAny>) -> String {
    text(value, PyObject_Str)
}

/// An object as `repr` gives it, for messages.
pub(crate) fn represented(value: &Bound<'_, PyAny>) -> String {
    text(value, PyObject_Repr)
}

fn text(value: &Bound<'_, PyAny>, form: Unary) -> String {
    #[expect(unsafe_code, reason = "PyO3's own way does not survive the end of the interpreter")]
    // SAFETY: the thread is attached, and the object is alive. The result is a new reference, or null with an exception set.
    let text = unsafe {
        let made = surviving(|| black_box(form)(value.as_ptr()));
        Bound::from_owned_ptr_or_err(value.py(), made)
    };
    let text = text.and_then(|text| Ok(text.cast::<PyString>()?.to_string_lossy().into_owned()));
    text.unwrap_or_else(|_| format!("<unprintable {}>", type_name(value)))
}

/// The name of an object's class.
pub(crate) fn type_name(value: &Bound<'_, PyAny>) -> String {
    value.get_type().name().map_or_else(|_| "?".into(), |name| name.to_string())
}

/// Reports an error without a receiver to `sys.unraisablehook`.
pub(crate) fn report(py: Python<'_>, error: PyErr, source: Option<&Bound<'_, PyAny>>) {
    error.restore(py);
    let source = source.map_or(std::ptr::null_mut(), Bound::as_ptr);
    #[expect(unsafe_code, reason = "PyO3's own way does not survive the end of the interpreter")]
    // SAFETY: the thread is attached, an exception is set, and the object is alive or null.
    unsafe {
        surviving(|| black_box(PyErr_WriteUnraisable as Report)(source));
    }
}

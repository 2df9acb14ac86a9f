//! `wsgi.file_wrapper`: a file as an iterable (PEP 3333, Optional Platform-Specific File Handling).

use std::os::fd::{BorrowedFd, OwnedFd, RawFd};

use parking_lot::Mutex;
use pyo3::exceptions::PyOSError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;

use crate::py::calling::{attribute, call, method, truth};
use crate::py::door::door;

/// A file as the result of an application. Returned as it is, a real file is sent by the core; else it is read in blocks.
#[pyclass(frozen, dict, weakref, subclass, module = "socketify._core")]
pub(crate) struct FileWrapper {
    /// Empty after the garbage collector has been here.
    file: Mutex<Option<Py<PyAny>>>,
    size: usize,
}

impl FileWrapper {
    fn get<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.file.lock().as_ref().map(|file| file.bind(py).clone())
    }

    /// A descriptor of the file and the position in it, if the bytes behind the descriptor are those that reading gives.
    pub(super) fn real(slf: &Bound<'_, Self>) -> PyResult<Option<(OwnedFd, u64)>> {
        let py = slf.py();
        let Some(file) = slf.get().get(py) else { return Ok(None) };
        let found = call(door(py).files_of_wsgi.get(py)?.real_file.bind(py), [&file])?;
        if found.is_none() {
            return Ok(None);
        }
        let (descriptor, position): (RawFd, u64) = found.extract()?;
        if descriptor < 0 {
            return Ok(None);
        }
        #[expect(unsafe_code, reason = "a descriptor comes from Python as a number")]
        // SAFETY: the file has just given it, and is alive. Another thread that closes it makes the duplication fail.
        let descriptor = unsafe { BorrowedFd::borrow_raw(descriptor) };
        let own = descriptor.try_clone_to_owned().map_err(|error| PyOSError::new_err(error.to_string()))?;
        Ok(Some((own, position)))
    }
}

#[pymethods]
impl FileWrapper {
    #[new]
    #[pyo3(signature = (filelike, block_size = 8192))]
    fn new(filelike: Py<PyAny>, block_size: usize) -> Self {
        Self { file: Mutex::new(Some(filelike)), size: block_size }
    }

    /// The file.
    #[getter]
    fn filelike(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.get(py).map(Bound::unbind)
    }

    /// Bytes of a block.
    #[getter]
    fn block_size(&self) -> usize {
        self.size
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(file) = self.get(py) else { return Ok(None) };
        let size = self.size.into_pyobject(py)?;
        let block = method(&file, intern!(py, "read"), [size.as_any()])?;
        Ok(truth(&block)?.then_some(block))
    }

    /// Closes the file, if it can be closed.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let Some(file) = self.get(py) else { return Ok(()) };
        match attribute(&file, intern!(py, "close")) {
            Ok(close) => call(&close, []).map(drop),
            Err(error) if error.is_instance_of::<pyo3::exceptions::PyAttributeError>(py) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.file.try_lock() {
            Some(file) => visit.call(file.as_ref()),
            None => Ok(()),
        }
    }

    fn __clear__(&self) {
        let file = self.file.lock().take();
        drop(file);
    }
}

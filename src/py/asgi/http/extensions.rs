//! Messages of extensions: a file in place of a body, links before the response, trailers behind it.

use std::fs::OpenOptions;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;

use pyo3::exceptions::{PyOSError, PyRuntimeError};
use pyo3::intern;
use pyo3::prelude::*;
use rustix::fs::OFlags;

use crate::http::response::ResponseHead;
use crate::py::asgi::awaitable::Done;
use crate::py::asgi::http::{Http, HttpCall, Stage};
use crate::py::asgi::message::Message;

impl HttpCall {
    /// The body is a file, which the core sends.
    pub(super) fn file<'py>(
        &self,
        py: Python<'py>,
        http: &Http,
        message: &Message<'_, 'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if self.expect(http, "http.response.pathsend", |stage| matches!(stage, Stage::Kept(_)))? {
            return Self::unheard(py, http);
        }
        let path = message.path()?;
        let (descriptor, size) = py.detach(|| {
            // A pipe would be waited for until another opens it.
            let flags = OFlags::NONBLOCK.bits().cast_signed();
            let file = OpenOptions::new().read(true).custom_flags(flags).open(&path)?;
            let size = file.metadata()?.len();
            Ok::<_, std::io::Error>((OwnedFd::from(file), size))
        })?;
        let head = {
            let mut inner = http.inner.lock();
            let Stage::Kept(kept) = &mut inner.stage else { return Done::get(py) };
            if let Some(declared) = kept.head.declared_length().filter(|declared| *declared != size) {
                return Err(PyRuntimeError::new_err(format!(
                    "{} has {size} bytes, and the Content-Length of the response is {declared}",
                    path.display()
                )));
            }
            std::mem::take(&mut kept.head)
        };
        let sent = py.detach(|| self.exchange.respond_with_file(head, &descriptor, 0));
        if let Err(head) = sent {
            let mut inner = http.inner.lock();
            if let Stage::Kept(kept) = &mut inner.stage {
                kept.head = head;
            }
            return Err(PyOSError::new_err(format!("{} is not a regular file", path.display())));
        }
        http.set(Stage::Complete);
        self.tell_end(py, http);
        Done::get(py)
    }

    /// Sends links before the response (RFC 8297). Once that has begun they are too late, and ignored.
    pub(super) fn early_hints<'py>(
        &self,
        py: Python<'py>,
        http: &Http,
        message: &Message<'_, 'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let hints = message.links(&self.exchange)?;
        if matches!(http.inner.lock().stage, Stage::Fresh | Stage::Kept(_)) {
            self.exchange.write_early_hints(&hints);
        }
        Done::get(py)
    }

    pub(super) fn trailers<'py>(
        &self,
        py: Python<'py>,
        http: &Http,
        message: &Message<'_, 'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if self.expect(http, "http.response.trailers", |stage| matches!(stage, Stage::Trailers(_)))? {
            return Self::unheard(py, http);
        }
        let mut added = ResponseHead::default();
        message.add_trailers(&self.exchange, &mut added)?;
        let more = message.flag(intern!(py, "more_trailers"))?;
        let all = {
            let mut inner = http.inner.lock();
            match &mut inner.stage {
                Stage::Trailers(trailers) => {
                    trailers.append_lines(&added.into_lines());
                    if more { None } else { Some(std::mem::take(&mut **trailers)) }
                }
                _ => None,
            }
        };
        let Some(all) = all else { return Done::get(py) };
        http.set(Stage::Complete);
        let sent = self.exchange.end_with_trailers(all);
        self.tell_end(py, http);
        if sent { Done::get(py) } else { Self::unheard(py, http) }
    }
}

//! The iterable that the application returns becomes the response.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};
use smallvec::SmallVec;

use crate::py::calling::{call_with, items, report};
use crate::py::door::door;
use crate::py::wsgi::file_wrapper::FileWrapper;
use crate::py::wsgi::start_response::{Goes, StartResponse, block};
use crate::server::Exchange;

/// Blocks of a list that together are at most so long leave in one write.
const TOGETHER: usize = 64 * 1024;
/// A response in one piece of at least so many bytes is copied to the kernel without the GIL.
const SLOW_TO_SEND: usize = 256 * 1024;
/// The same if it is compressed.
const SLOW_TO_ENCODE: usize = 1024;

type Blocks<'py> = SmallVec<[Bound<'py, PyBytes>; 4]>;

/// Sends what `result` gives, and completes the response. An error is the application's.
pub(super) fn send<'py>(
    py: Python<'py>,
    exchange: &Arc<Exchange>,
    start_response: &StartResponse,
    result: &Bound<'py, PyAny>,
) -> PyResult<()> {
    if !start_response.is_sent() {
        if let Some(blocks) = known_blocks(result) {
            return send_known(py, exchange, start_response, &blocks);
        }
        if let Ok(wrapper) = result.cast_exact::<FileWrapper>()
            && send_file(py, exchange, start_response, wrapper)?
        {
            return Ok(());
        }
    }
    let mut blocks = items(result)?;
    loop {
        // The client has gone: nobody asks for the next block.
        if exchange.is_over() {
            return Ok(());
        }
        let Some(next) = blocks.next() else { break };
        let next = block(next?)?;
        start_response.check_called()?;
        if !start_response.has_body() && !start_response.is_sent() {
            exchange.prepare(start_response.take_head()?);
            exchange.end_pieces_unseen();
            return Ok(());
        }
        let bytes = next.as_bytes();
        if !bytes.is_empty() && start_response.send(py, bytes)? == Goes::NoFurther {
            break;
        }
    }
    finish(py, exchange, start_response)
}

/// The blocks of a list or tuple of bytes. A class of the application's own may do anything when it is iterated.
fn known_blocks<'py>(result: &Bound<'py, PyAny>) -> Option<Blocks<'py>> {
    let bytes = |item: Bound<'py, PyAny>| item.cast_into::<PyBytes>().ok();
    if let Ok(list) = result.cast_exact::<PyList>() {
        list.iter().map(bytes).collect()
    } else if let Ok(tuple) = result.cast_exact::<PyTuple>() {
        tuple.iter().map(bytes).collect()
    } else {
        None
    }
}

/// Sends blocks that are all there: their length is known.
fn send_known(
    py: Python<'_>,
    exchange: &Arc<Exchange>,
    start_response: &StartResponse,
    blocks: &Blocks<'_>,
) -> PyResult<()> {
    let total: usize = blocks.iter().map(|block| block.as_bytes().len()).sum();
    if blocks.is_empty() {
        return finish(py, exchange, start_response);
    }
    let has_body = start_response.has_body();
    let (declared, _) = start_response.lengths();
    if let [block] = &blocks[..] {
        let (head, bytes) = (start_response.take_head()?, block.as_bytes());
        if bytes.len() > if exchange.compresses() { SLOW_TO_ENCODE } else { SLOW_TO_SEND } {
            py.detach(|| exchange.respond(head, bytes));
        } else {
            exchange.respond(head, bytes);
        }
        if has_body {
            check_length(py, exchange, declared, total as u64);
        }
        return Ok(());
    }
    // Their sum would not be the length of the compressed body.
    if declared.is_none() && !exchange.compresses() {
        start_response.declare(total as u64)?;
    }
    if !has_body {
        exchange.respond(start_response.take_head()?, b"");
        return Ok(());
    }
    if total > TOGETHER {
        for block in blocks {
            let bytes = block.as_bytes();
            if !bytes.is_empty() && start_response.send(py, bytes)? == Goes::NoFurther {
                break;
            }
        }
        return finish(py, exchange, start_response);
    }
    exchange.cork();
    exchange.prepare(start_response.take_head()?);
    for block in blocks {
        exchange.write(block.as_bytes());
    }
    exchange.end(b"", false);
    exchange.uncork();
    check_length(py, exchange, declared, total as u64);
    Ok(())
}

/// Leaves the response to the file, if it is a real one. False if it is to be iterated.
fn send_file(
    py: Python<'_>,
    exchange: &Arc<Exchange>,
    start_response: &StartResponse,
    wrapper: &Bound<'_, FileWrapper>,
) -> PyResult<bool> {
    let Some((descriptor, position)) = FileWrapper::real(wrapper)? else { return Ok(false) };
    let head = start_response.take_head()?;
    match py.detach(|| exchange.respond_with_file(head, &descriptor, position)) {
        Ok(()) => Ok(true),
        Err(head) => {
            start_response.give_back(head);
            Ok(false)
        }
    }
}

/// The body is complete.
fn finish(py: Python<'_>, exchange: &Arc<Exchange>, start_response: &StartResponse) -> PyResult<()> {
    let has_body = start_response.has_body();
    let (declared, given) = start_response.lengths();
    if start_response.is_sent() {
        exchange.end(b"", false);
    } else {
        let head = start_response.take_head()?;
        if !has_body && declared.is_none() {
            // The length of GET's body is not known.
            exchange.respond_without_body(head);
        } else {
            exchange.respond(head, b"");
        }
    }
    if has_body && exchange.method() != b"HEAD" {
        check_length(py, exchange, declared, given);
    }
    Ok(())
}

/// Logs a body of another length than its head declared. What is beyond has not been sent; if something is missing, the
/// connection is cut.
fn check_length(py: Python<'_>, exchange: &Exchange, declared: Option<u64>, given: u64) {
    let Some(declared) = declared.filter(|declared| *declared != given) else { return };
    if exchange.is_gone() {
        return;
    }
    let path = crate::py::convert::text(py, exchange.path());
    if let Err(error) = call_with(door(py).log_length.bind(py), (path, declared, given)) {
        report(py, error, None);
    }
}

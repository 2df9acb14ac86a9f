//! What the event loop asks of a server, and is asked.

use pyo3::prelude::*;

use crate::py::server::Server;

#[pymethods]
impl Server {
    /// Sets the function that makes the loop call `flush` soon, for a loop that does not poll before it
    /// blocks.
    fn set_flusher(&self, flusher: Option<Py<PyAny>>) {
        self.app.set_flusher(flusher);
    }

    /// Sends the output that the loop's iteration has held back.
    fn flush(&self, py: Python<'_>) {
        self.app.send_kept_heads(true);
        self.app.flush_sent(py);
    }

    /// The loop has stopped.
    fn leave_loop(&self, py: Python<'_>) {
        self.app.leave_loop(py);
    }

    /// Sets the loop of the futures, before the server starts.
    fn set_event_loop(&self, event_loop: Option<Py<PyAny>>) {
        self.app.set_event_loop(event_loop);
    }

    /// Runs the jobs posted to the loop's thread; true if there were any.
    fn poll(&self, py: Python<'_>) -> bool {
        self.app.poll(py)
    }

    /// Announces that the loop will block; false if it must not.
    fn arm(&self, py: Python<'_>) -> bool {
        self.app.arm(py)
    }

    /// The loop is awake.
    fn disarm(&self) {
        self.app.disarm();
    }

    /// File descriptor that becomes readable when the loop has to wake.
    fn wake_descriptor(&self) -> i32 {
        self.app.wake_descriptor()
    }

    /// Empties the wake-up pipe.
    fn clear_wake(&self) {
        self.app.clear_wake();
    }
}

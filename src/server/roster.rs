//! The connections of a server: who is on the list, who is counted, and who is told of its end.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::OwnedSemaphorePermit;

use crate::server::Server;
use crate::server::connection::Connection;
use crate::server::overload::Seat;
use crate::server::preface::ProxiedFor;
use crate::server::stream::{Peer, Writing};
use crate::server::tls::Secure;

impl Server {
    /// The number of open connections. A stream of HTTP/2 is none.
    pub fn connection_count(&self) -> usize {
        let connections = self.connections.lock();
        connections.len() - self.streams.load(Ordering::Relaxed)
    }

    /// The number of requests in progress, including those that wait for their handler.
    pub fn request_count(&self) -> u64 {
        self.load.requests()
    }

    /// The number of open HTTP/2 streams that did not get their response at once.
    pub fn stream_count(&self) -> usize {
        let _counted = self.connections.lock();
        self.streams.load(Ordering::Relaxed)
    }

    /// Whether neither is open.
    pub(super) fn is_empty(&self) -> bool {
        self.connections.lock().is_empty()
    }

    pub(super) fn snapshot(&self) -> Vec<Arc<Connection>> {
        self.connections.lock().values().cloned().collect()
    }

    pub(super) fn retire(&self, force: bool) {
        for connection in self.snapshot() {
            connection.retire(force);
        }
    }

    pub(super) fn register(
        self: &Arc<Self>,
        peer: Peer,
        told: ProxiedFor,
        secure: Option<Arc<Secure>>,
        writing: Writing,
        permit: OwnedSemaphorePermit,
    ) -> Arc<Connection> {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let seat = Some(Seat::new(permit));
        let connection = Connection::new(Arc::clone(self), number, peer, told, secure, writing, seat);
        self.connections.lock().insert(number, Arc::clone(&connection));
        connection
    }

    /// A connection for a stream of `parent`, which is not registered before [`Server::enrol`].
    pub(super) fn adopt(self: &Arc<Self>, parent: &Connection, writing: Writing) -> Arc<Connection> {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        Connection::new(
            Arc::clone(self),
            number,
            parent.peer.clone(),
            parent.told.clone(),
            parent.secure.clone(),
            writing,
            parent.seat(),
        )
    }

    /// Registers a stream for timeouts and the end of the server.
    pub(super) fn enrol(&self, connection: &Arc<Connection>) {
        let mut connections = self.connections.lock();
        connections.insert(connection.id, Arc::clone(connection));
        self.streams.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn forget(&self, number: u64) {
        let mut connections = self.connections.lock();
        let connection = connections.remove(&number);
        if connection.as_ref().is_some_and(|connection| connection.is_stream()) {
            self.streams.fetch_sub(1, Ordering::Relaxed);
        }
        drop(connections);
        drop(connection);
        if self.is_closing() {
            self.ended.notify_one();
        }
    }
}

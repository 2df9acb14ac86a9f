//! The tasks of the server itself: accepting, sweeping timeouts, and draining on close.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep, timeout_at};

use crate::net::{Accepted, Acceptor, BACKLOG};
use crate::server::Server;
use crate::server::deadlines::NEVER;
use crate::server::drive::Drive;
use crate::server::preface::{self, Greeting, PrefaceFailure, Wanted};
use crate::server::stream::{Loose, split};
use crate::server::tls;

/// How long a task that has panicked rests before it begins anew, so that one that always panics does not
/// spin.
const REST: Duration = Duration::from_millis(100);

/// Runs a task that the server cannot do without, and begins it anew when it panics; the hook has reported
/// that.
pub(super) async fn keep_up<T>(mut begin: impl FnMut() -> T)
where
    T: Future<Output = ()> + Send + 'static,
{
    while tokio::spawn(begin()).await.is_err_and(|error| error.is_panic()) {
        sleep(REST).await;
    }
}

/// An accepted client without a connection: the server does not end before it has one, or is gone.
pub(super) struct Arriving(Arc<Server>);

impl Arriving {
    fn new(server: &Arc<Server>) -> Self {
        server.arriving.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(server))
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        self.0.arriving.fetch_sub(1, Ordering::SeqCst);
        if self.0.is_closing() {
            self.0.ended.notify_one();
        }
    }
}

/// The right of a new client to have a socket open, and the count that makes the server wait for it.
pub(super) struct Newcomer {
    pub(super) permit: OwnedSemaphorePermit,
    pub(super) arriving: Arriving,
}

/// Accepts until the server closes, and then takes the backlog.
pub(super) async fn serve(server: Arc<Server>, acceptor: Acceptor) {
    let arriving = Arriving::new(&server);
    let acceptor = Arc::new(acceptor);
    keep_up(|| accept(Arc::clone(&server), Arc::clone(&acceptor))).await;
    if let Some(acceptor) = Arc::into_inner(acceptor) {
        take_waiting(&server, acceptor);
    }
    drop(arriving);
}

/// Accepts until the server closes.
async fn accept(server: Arc<Server>, acceptor: Arc<Acceptor>) {
    let mut pause = Duration::from_millis(1);
    loop {
        let stop = server.stop_accepting.notified();
        if server.is_closing() {
            return;
        }
        let accepted = tokio::select! {
            () = stop => return,
            accepted = acceptor.accept() => accepted,
        };
        let Ok(stream) = accepted else {
            // Out of file descriptors, or the client has already gone: wait a little, at most a second,
            // instead of spinning.
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
            continue;
        };
        pause = Duration::from_millis(1);
        // At the limit this client waits unread, and later ones in the kernel's backlog, not in our memory.
        // If the server closes meanwhile, others end and make room.
        let Ok(permit) = Arc::clone(&server.permits).acquire_owned().await else { return };
        admit(&server, stream, permit);
    }
}

/// Takes the clients that wait in the kernel's backlog: to them they are connected, and with the socket they would be cut. Those
/// for whom there is no room are left to the processes that share the socket.
fn take_waiting(server: &Arc<Server>, acceptor: Acceptor) {
    let Ok(listener) = acceptor.into_listener() else { return };
    // Others may come as fast as they are accepted.
    for _ in 0..BACKLOG {
        let Ok(permit) = Arc::clone(&server.permits).try_acquire_owned() else { return };
        match listener.take() {
            Ok(Some(stream)) => admit(server, stream, permit),
            Ok(None) => return,
            // It has already gone. Or no descriptor is left, and the loop ends soon.
            Err(_) => {}
        }
    }
}

/// Gives a new connection to a shard.
fn admit(server: &Arc<Server>, stream: Accepted, permit: OwnedSemaphorePermit) {
    let newcomer = Newcomer { permit, arriving: Arriving::new(server) };
    let wanted = preface::wanted(server, stream.peer());
    if wanted == Wanted::Refused {
        preface::note(server, stream.peer(), PrefaceFailure::Untrusted);
        return;
    }
    let (runtime, same) = server.threads.pick();
    if same {
        let _inside = runtime.enter();
        begin(server, stream, wanted, newcomer);
        return;
    }
    let Ok(loose) = Loose::new(stream) else { return };
    let server = Arc::clone(server);
    runtime.spawn(async move {
        if let Ok(stream) = loose.attach() {
            begin(&server, stream, wanted, newcomer);
        }
    });
}

/// Starts the task of a new connection on the present runtime.
fn begin(server: &Arc<Server>, stream: Accepted, wanted: Wanted, newcomer: Newcomer) {
    if wanted == Wanted::None {
        go_on(server, stream, Greeting::default(), newcomer);
        return;
    }
    let server = Arc::clone(server);
    // A task of its own, which ends with the preface, so that the connection's task is no larger.
    tokio::spawn(async move {
        match preface::read(&server, &stream, wanted).await {
            Ok(greeting) => go_on(&server, stream, greeting, newcomer),
            Err(failure) => preface::note(&server, stream.peer(), failure),
        }
    });
}

/// Starts the protocol after the preface.
fn go_on(server: &Arc<Server>, stream: Accepted, greeting: Greeting, newcomer: Newcomer) {
    match &server.config.certificates {
        Some(certificates) => {
            let (server, certificates) = (Arc::clone(server), Arc::clone(certificates));
            drop(tokio::spawn(tls::shake(server, certificates, stream, greeting, newcomer)));
        }
        None => drop(tokio::spawn(converse(server, stream, greeting, newcomer))),
    }
}

/// The task of a new connection: nothing but the connection, since there are many idle ones.
fn converse(server: &Arc<Server>, stream: Accepted, greeting: Greeting, newcomer: Newcomer) -> Drive {
    let (reading, writing, peer) = split(stream);
    let connection = server.register(peer, greeting.told, None, writing, newcomer.permit);
    connection.lock().input.put_back(greeting.rest);
    Drive::new(connection, reading)
}

/// Ends connections whose deadline has passed.
pub(super) async fn sweep(server: Weak<Server>) {
    let mut next = NEVER;
    loop {
        {
            let Some(server) = server.upgrade() else { return };
            server.deadlines.wait(next).await;
        }
        let Some(server) = server.upgrade() else { return };
        server.deadlines.begin_sweep();
        next = NEVER;
        let now = server.deadlines.now();
        for connection in server.snapshot() {
            let mut due = connection.deadline.load(Ordering::SeqCst);
            if due <= now {
                connection.expire();
                due = connection.deadline.load(Ordering::SeqCst);
            }
            next = next.min(due);
        }
    }
}

/// Lets requests in progress finish, then ends the rest and reports it.
pub(super) async fn drain(server: Arc<Server>, grace: Duration) {
    server.retire(false);
    let deadline = Instant::now() + grace;
    while !server.is_empty() || server.arriving.load(Ordering::SeqCst) > 0 {
        if timeout_at(deadline, server.ended.notified()).await.is_err() {
            break;
        }
    }
    server.retire(true);
    // User code hears of what was aborted before the application does; unless user code keeps the turn to itself.
    let patience = Instant::now() + Duration::from_secs(1);
    while !server.turn.is_idle() && Instant::now() < patience {
        sleep(Duration::from_millis(1)).await;
    }
    server.app.drained();
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn a_task_that_panics_begins_anew() {
        let begun = Arc::new(AtomicUsize::new(0));
        let task = || {
            let begun = Arc::clone(&begun);
            async move { assert!(begun.fetch_add(1, Ordering::SeqCst) >= 2, "as planned") }
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(keep_up(task));
        assert_eq!(begun.load(Ordering::SeqCst), 3);
    }
}

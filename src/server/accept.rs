//! The tasks of the server itself: accepting, sweeping timeouts, and draining on close.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep, timeout_at};

use crate::net::{Accepted, Acceptor};
use crate::server::Server;
use crate::server::connection::NEVER;
use crate::server::drive::Drive;
use crate::server::preface::{self, Failure, Greeting, Wanted};
use crate::server::stream::{Loose, split};
use crate::server::tls;

/// How long a task that has panicked rests before it begins anew, so that one that always does spins nowhere.
const REST: Duration = Duration::from_millis(100);

/// Runs a task that the server cannot do without, and begins it anew when it panics; the hook has told of that.
pub(super) async fn keep_up<T>(mut begin: impl FnMut() -> T)
where
    T: Future<Output = ()> + Send + 'static,
{
    while tokio::spawn(begin()).await.is_err_and(|error| error.is_panic()) {
        sleep(REST).await;
    }
}

/// Accepts until the server closes.
pub(super) async fn serve(server: Arc<Server>, acceptor: Arc<Acceptor>) {
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
            // Out of file descriptors, or the client was gone before we came: wait a little, at most a second, rather
            // than spin.
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
            continue;
        };
        pause = Duration::from_millis(1);
        // At the limit this client waits unread, and those behind it in the kernel's backlog, not in our memory.
        let stop = server.stop_accepting.notified();
        let permit = tokio::select! {
            () = stop => return,
            permit = Arc::clone(&server.permits).acquire_owned() => permit,
        };
        let Ok(permit) = permit else { return };
        admit(&server, stream, permit);
    }
}

/// Gives a new connection to a shard.
fn admit(server: &Arc<Server>, stream: Accepted, permit: OwnedSemaphorePermit) {
    let wanted = preface::wanted(server, stream.peer());
    if wanted == Wanted::Refused {
        preface::note(server, stream.peer(), Failure::Untrusted);
        return;
    }
    let (runtime, same) = server.threads.pick();
    if same {
        let _inside = runtime.enter();
        begin(server, stream, wanted, permit);
        return;
    }
    let Ok(loose) = Loose::new(stream) else { return };
    let server = Arc::clone(server);
    runtime.spawn(async move {
        if let Ok(stream) = loose.attach() {
            begin(&server, stream, wanted, permit);
        }
    });
}

/// Starts the task of a new connection on the present runtime.
fn begin(server: &Arc<Server>, stream: Accepted, wanted: Wanted, permit: OwnedSemaphorePermit) {
    if wanted == Wanted::None {
        go_on(server, stream, Greeting::default(), permit);
        return;
    }
    let server = Arc::clone(server);
    // A task of its own, which ends with the preface: that of the connection is no larger for it.
    tokio::spawn(async move {
        match preface::read(&server, &stream, wanted).await {
            Ok(greeting) => go_on(&server, stream, greeting, permit),
            Err(failure) => preface::note(&server, stream.peer(), failure),
        }
    });
}

/// Starts what follows the preface.
fn go_on(server: &Arc<Server>, stream: Accepted, greeting: Greeting, permit: OwnedSemaphorePermit) {
    match &server.config.certificates {
        Some(certificates) => {
            let (server, certificates) = (Arc::clone(server), Arc::clone(certificates));
            drop(tokio::spawn(tls::shake(server, certificates, stream, greeting, permit)));
        }
        None => drop(tokio::spawn(converse(server, stream, greeting, permit))),
    }
}

/// The task of a new connection: nothing but the connection, since there are many that are idle.
fn converse(
    server: &Arc<Server>,
    stream: Accepted,
    greeting: Greeting,
    permit: OwnedSemaphorePermit,
) -> Drive {
    let (reading, writing, peer) = split(stream);
    let connection = server.register(peer, greeting.told, None, writing, permit);
    connection.state.lock().input = greeting.rest;
    if server.is_closing() {
        connection.retire(true);
    }
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

/// Lets requests in progress finish, then ends the rest and says so.
pub(super) async fn drain(server: Arc<Server>, grace: Duration) {
    server.retire(false);
    let deadline = Instant::now() + grace;
    while !server.is_empty() {
        if timeout_at(deadline, server.ended.notified()).await.is_err() {
            break;
        }
    }
    server.retire(true);
    // Whoever was cut hears of it before the application does; unless user code keeps the turn to itself.
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

//! The floor in the shape of this project: tokio on one thread, a task a connection.

use std::cell::RefCell;
use std::future::{Future as _, poll_fn};
use std::io;
use std::net::TcpListener as StdListener;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead as _, AsyncReadExt as _, ReadBuf};
use tokio::net::TcpListener;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::{LocalSet, spawn_local};

use crate::session::{READ, Session};

struct Connection {
    output: OwnedWriteHalf,
    state: RefCell<State>,
}

struct State {
    session: Session,
    /// Wakes the connection's task when another task has queued output for it.
    waker: Option<Waker>,
    broken: bool,
}

/// The state that all connections share.
struct Shared {
    subscribers: Vec<Rc<Connection>>,
    scratch: Box<[u8]>,
    answers: Vec<u8>,
    topic: Vec<u8>,
}

pub fn serve(listener: StdListener) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    LocalSet::new().block_on(&runtime, accept(listener))
}

async fn accept(listener: StdListener) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let shared = Rc::new(RefCell::new(Shared {
        subscribers: Vec::new(),
        scratch: vec![0; READ].into_boxed_slice(),
        answers: Vec::new(),
        topic: Vec::new(),
    }));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            // The client has already gone: the listener is fine.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => return Err(error),
        };
        stream.set_nodelay(true)?;
        let state = RefCell::new(State { session: Session::new(), waker: None, broken: false });
        let (mut input, output) = stream.into_split();
        let connection = Rc::new(Connection { output, state });
        let shared = Rc::clone(&shared);
        spawn_local(async move {
            poll_fn(|context| connection.turn(context, &mut input, &shared)).await;
            shared.borrow_mut().subscribers.retain(|other| !Rc::ptr_eq(other, &connection));
        });
    }
}

impl Connection {
    /// Reads and writes the ready socket, and is ready itself when the connection has ended.
    fn turn(
        self: &Rc<Self>,
        context: &mut Context<'_>,
        input: &mut OwnedReadHalf,
        shared: &RefCell<Shared>,
    ) -> Poll<()> {
        // Ends when the socket can neither read nor write.
        loop {
            let reading = self.read(context, input, &mut shared.borrow_mut());
            if let Poll::Ready(Ok(0) | Err(_)) = reading {
                return Poll::Ready(());
            }
            let state = &mut *self.state.borrow_mut();
            while state.session.has_unsent() && self.output.as_ref().poll_write_ready(context).is_ready() {
                state.broken |= state.session.send_rest(|bytes| self.output.try_write(bytes)).is_err();
            }
            if state.broken || (state.session.ending && !state.session.has_unsent()) {
                return Poll::Ready(());
            }
            if reading.is_pending() {
                if !state.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
                    state.waker = Some(context.waker().clone());
                }
                return Poll::Pending;
            }
        }
    }

    fn read(
        self: &Rc<Self>,
        context: &mut Context<'_>,
        input: &mut OwnedReadHalf,
        shared: &mut Shared,
    ) -> Poll<io::Result<usize>> {
        let Shared { subscribers, scratch, answers, topic } = shared;
        let mut state = self.state.borrow_mut();
        let session = &mut state.session;
        let was_subscribed = session.is_subscribed();
        // `poll_read` knows after a short read that there is no more; `try_read` would have to ask.
        let received = if session.rest.is_empty() {
            let mut buffer = ReadBuf::new(scratch);
            ready!(Pin::new(input).poll_read(context, &mut buffer))?;
            session.receive(buffer.filled(), answers, topic);
            buffer.filled().len()
        } else {
            session.rest.reserve(READ);
            let received = ready!(pin!(input.read_buf(&mut session.rest)).poll(context))?;
            session.receive_rest(answers, topic);
            received
        };
        let sent = session.send(answers, |bytes| self.output.try_write(bytes));
        answers.clear();
        if session.is_subscribed() && !was_subscribed {
            subscribers.push(Rc::clone(self));
        }
        drop(state);
        sent?;
        if !topic.is_empty() {
            for subscriber in subscribers {
                subscriber.deliver(topic);
            }
            topic.clear();
        }
        Poll::Ready(Ok(received))
    }

    /// The task with the message sends it; this connection's own task is woken only for the rest.
    fn deliver(&self, bytes: &[u8]) {
        let state = &mut *self.state.borrow_mut();
        state.broken |= state.session.send(bytes, |bytes| self.output.try_write(bytes)).is_err();
        if (state.broken || state.session.has_unsent())
            && let Some(waker) = state.waker.take()
        {
            waker.wake();
        }
    }
}

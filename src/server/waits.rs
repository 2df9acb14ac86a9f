//! The waits of each part, and their wakers. This file has only these tables.
//!
//! A wait without a waker is a hang that only a timeout breaks, in one of ten thousand requests. So a change
//! that adds a condition to one of the lists adds the line with its waker, and a change that makes a
//! condition true checks these tables.
//!
//! Those of the turn, of the leaders, of the standby and of what a batch leaves to be woken are checked under many orders of
//! their steps by `models.rs`.
//!
//! # The task of a connection, and that of a stream ([`drive`](super::drive), `http2/task.rs`)
//!
//! It looks at the state again whenever [`Connection::wake`](super::connection::Connection::wake) is called. The waker is registered
//! before the state is looked at, so a change in between is seen.
//!
//! | it waits for | who wakes |
//! |---|---|
//! | bytes, or the end, of the client | the kernel; `h2` for a stream |
//! | room in the kernel (`blocked`) | the kernel, or `h2`; what sets `blocked` wakes the task so that it asks (`transmit`, `write_through`, `file_progressed`, `after_last`) |
//! | less output than `HIGH_WATER` before the next request (`held_up`) | `after_flush` of the thread that writes; where it is blocked, the line above |
//! | the answer in progress, while requests wait in `input` or the client sends no more | `complete` |
//! | the answer in progress, with `PIPELINE_BOUND` in `input` | `complete` |
//! | room for more of a body (`body_buffer`, or reading is paused) | `read`, `take_body`, `pull`, `reconsider`, `set_paused` of the exchange; `complete` and an answer from a file, which throw the rest away |
//! | a file to go on: others had their turn | itself, at once (`Sent::Share`) |
//! | a file to go on: the disk | the blocking thread that has read ahead (`Sent::Cold`) |
//! | a file to go on: a cork, or another thread that writes | nobody has to: `uncork`, or that thread, sends it (`transmit` looks for one before it ends) |
//! | listeners of a socket to deal with what came (`paused`) | `finish_event`, at half of the bound |
//! | pongs to leave | `socket_has_room`, from `after_flush` |
//! | a handshake to be over, with frames behind it in `input` | `open_socket` |
//! | the client to hang up, after our end | the kernel; the deadline |
//! | the client to go, while nothing is read of it (`watch`) | the kernel (`stream/departure.rs`) |
//! | its own end (`Phase::Over`) | `abort`, `after_last` |
//!
//! The task of a connection that speaks HTTP/2 waits for these besides:
//!
//! | it waits for | who wakes |
//! |---|---|
//! | frames, and room for them | the kernel |
//! | answers to be written | `h2`, through a waker that waits for the end of a batch (`batch::wake_later`); the batch, or the leader of the thread (`wake_left`) |
//! | a stream that has no task yet to need one | the stream: until it has a task, its waker is this one |
//! | the last stream that somebody may answer | `Alive`, when it is dropped |
//! | that it has been silent for too long, or the server closes | `expire`, `retire`, and `note` with the last stream |
//!
//! # User code
//!
//! | it waits for | who tells it |
//! |---|---|
//! | a piece of a body, or its end (`Signal::Readable`) | `receive_body` and `end_of_stream`; the one that asks, where it has come before; `resume_body`, `set_paused` and `reconsider` |
//! | room (`Signal::Writable`) | `after_flush`, also behind `write_through`; an answer that is over, the end of its exchange |
//! | a file to leave (`Signal::Sent`) | `complete_file` and `abort_file`; `find_file` when the client has gone; `proceed` when the core has answered |
//! | that the client has gone (`Signal::Aborted`) | `abort_exchange`, from `abort`, `fail_body` and `expire`; `end_of_input` |
//! | room on a socket (`Event::Room`, `Event::Drain`) | `socket_has_room`, from `after_flush`; the end of the socket |
//! | its turn, on an I/O thread | `Server::push`, where nobody has the turn; else its holder, which looks again when it leads, or wakes a leader when it does not any more |
//! | its turn, on the event loop | `App::posted`, once for a burst (`announce_posts`) |
//! | what a batch holds back | the end of the batch; `Turn::hurry` every two milliseconds while a job is slow |
//!
//! # Threads and tasks of the server
//!
//! | who | waits for | who wakes |
//! |---|---|---|
//! | a leader, in its runtime | jobs for the turn | `Leaders::wake`; it registers first and looks then |
//! | the standby, ticking | a leader that is out for two ticks | its own clock |
//! | the standby, asleep | a leader that steps out | `step_out`, which counts before it looks at `dormant`; the standby looks at the counts once more behind that |
//! | a thread that user code stays on | its place, which the standby has | `lead` of the standby, which looks for `recalled`; `stop` |
//! | `Threads::join` | the threads to end | `End` of each |
//! | an acceptor | clients, or the close of the server | the kernel, `stop_accepting`; `is_closing` is asked behind the registration |
//! | an acceptor at `max_connections` | a permit, or the close | `release` of a connection; each of them ends with the server |
//! | the sweeper | the earliest deadline, or one before it | its clock, `Deadlines::set`: it plans before it reads the deadlines, so one of the two sees the other |
//! | the drain | the last connection, or the deadline | `forget`, whose permit is kept if nobody waits yet |
//! | a preface, a handshake of TLS | the client | the kernel; their own deadline |
//! | a handshake of TLS | user code that is asked for a server name | the question, when it is dropped; its own deadline |
//! | the writer of the access log | entries | `AccessQueue::push` if it sleeps, `AccessQueue::close` |

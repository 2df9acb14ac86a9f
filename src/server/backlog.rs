//! A queue of jobs for user code, which drops obsolete jobs.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use crate::app::Job;
use crate::server::exchange::Exchange;

/// Entries of a queue below which obsolete ones are not searched.
const SWEEP: usize = 1024;

/// A queue of jobs, which drops obsolete ones.
#[derive(Default)]
pub struct Backlog {
    queue: VecDeque<QueuedJob>,
    /// The number of jobs at the last search.
    swept: usize,
}

impl std::fmt::Debug for Backlog {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Backlog").field("length", &self.queue.len()).finish_non_exhaustive()
    }
}

enum QueuedJob {
    /// Its connection holds it, while there is a client.
    Request(Weak<Exchange>),
    Job(Job),
}

impl QueuedJob {
    fn is_moot(&self) -> bool {
        match self {
            Self::Request(exchange) => exchange.strong_count() == 0,
            Self::Job(Job::ServerName(asked)) => asked.is_moot(),
            Self::Job(_) => false,
        }
    }
}

impl Backlog {
    /// Queues a job.
    pub fn push(&mut self, job: Job) {
        if self.queue.len() >= SWEEP.max(2 * self.swept) {
            self.queue.retain(|waiting| !waiting.is_moot());
            self.swept = self.queue.len();
        }
        self.queue.push_back(match job {
            Job::Request(exchange) => QueuedJob::Request(Arc::downgrade(&exchange)),
            job => QueuedJob::Job(job),
        });
    }

    /// Takes the first job that is not obsolete.
    pub fn pop(&mut self) -> Option<Job> {
        loop {
            let Some(waiting) = self.queue.pop_front() else {
                // A burst is over: its memory is freed.
                if self.queue.capacity() > SWEEP {
                    *self = Self::default();
                }
                return None;
            };
            match waiting {
                QueuedJob::Request(exchange) => {
                    if let Some(exchange) = exchange.upgrade() {
                        return Some(Job::Request(exchange));
                    }
                }
                QueuedJob::Job(job) if matches!(&job, Job::ServerName(asked) if asked.is_moot()) => {}
                QueuedJob::Job(job) => return Some(job),
            }
        }
    }

    /// Whether nothing is queued.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Takes all jobs that are not obsolete.
    pub fn take(&mut self) -> Vec<Job> {
        std::iter::from_fn(|| self.pop()).collect()
    }
}

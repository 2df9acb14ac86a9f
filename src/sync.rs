//! Locks, atomics and threads for the protocols by which threads wake each other.
//!
//! A build has those of the system. In the tests of `models.rs` a scheduler stands in for them: it chooses whose step is next,
//! and finds the order in which somebody waits for ever.

#[cfg(not(all(test, feature = "models")))]
mod real {
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    pub(crate) use std::{thread, thread_local};

    pub(crate) use atomic_waker::AtomicWaker;
    pub(crate) use parking_lot::Mutex;
}

#[cfg(all(test, feature = "models"))]
mod model {
    use std::sync::PoisonError;
    use std::task::Waker;

    pub(crate) use shuttle::sync::MutexGuard;
    pub(crate) use shuttle::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    pub(crate) use shuttle::thread_local;

    /// As that of `parking_lot`, which knows no poison.
    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(shuttle::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    /// What `atomic_waker` promises: a waker that was registered before the call is woken by it, or by one that ran meanwhile.
    #[derive(Debug, Default)]
    pub(crate) struct AtomicWaker(Mutex<Option<Waker>>);

    impl AtomicWaker {
        pub(crate) fn new() -> Self {
            Self::default()
        }

        pub(crate) fn register(&self, waker: &Waker) {
            *self.0.lock() = Some(waker.clone());
        }

        pub(crate) fn wake(&self) {
            let waker = self.0.lock().take();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    pub(crate) mod thread {
        use std::sync::{Arc, PoisonError};
        use std::time::Duration;

        use shuttle::sync::{Condvar, Mutex};

        shuttle::thread_local! {
            static CURRENT: Thread = Thread(Arc::default());
        }

        /// One that wakes for no reason would hide that nobody wakes it, as those of the scheduler do.
        #[derive(Clone)]
        pub(crate) struct Thread(Arc<(Mutex<bool>, Condvar)>);

        impl Thread {
            pub(crate) fn unpark(&self) {
                *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
                self.0.1.notify_one();
            }
        }

        pub(crate) fn current() -> Thread {
            CURRENT.with(Thread::clone)
        }

        pub(crate) fn park() {
            let thread = current();
            let mut token = thread.0.0.lock().unwrap_or_else(PoisonError::into_inner);
            while !*token {
                token = thread.0.1.wait(token).unwrap_or_else(PoisonError::into_inner);
            }
            *token = false;
        }

        /// The scheduler has no clock: the time may be over at any step.
        pub(crate) fn park_timeout(_: Duration) {
            shuttle::thread::yield_now();
        }
    }
}

#[cfg(all(test, feature = "models"))]
pub(crate) use model::*;
#[cfg(not(all(test, feature = "models")))]
pub(crate) use real::*;

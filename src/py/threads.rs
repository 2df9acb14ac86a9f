//! Stops a thread of the core that an ending interpreter ends, anywhere in Python.
//!
//! [`calling`](crate::py::calling) describes the effect of such an end on Rust, and stops a thread where it
//! calls user code. But user code also runs without a call: a finalizer with the last reference, the garbage
//! collector when an object is made. For that the thread has a clean-up handler of POSIX threads, which never
//! returns.
//!
//! Only glibc unwinds the stack of a thread that ends. Before each frame it calls the handlers of that frame,
//! which it recognizes by the address of a handler's record. A record that is not on the stack belongs to the
//! first one, so that its handler is called before any frame of Rust is unwound.

#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) use glibc::held;

/// Runs `body`, which may attach to Python.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn held<T>(body: impl FnOnce() -> T) -> T {
    body()
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod glibc {
    use std::ffi::{c_int, c_void};
    use std::ptr::null_mut;
    use std::thread;

    /// `struct _pthread_cleanup_buffer` of `pthread.h`.
    #[repr(C)]
    struct Record {
        routine: Option<Handler>,
        argument: *mut c_void,
        kind: c_int,
        previous: *mut Record,
    }

    type Handler = extern "C" fn(*mut c_void);

    #[expect(
        unsafe_code,
        reason = "the functions behind the macros pthread_cleanup_push and pthread_cleanup_pop"
    )]
    unsafe extern "C" {
        fn _pthread_cleanup_push(record: *mut Record, routine: Handler, argument: *mut c_void);
        fn _pthread_cleanup_pop(record: *mut Record, execute: c_int);
    }

    extern "C" fn hang(_: *mut c_void) {
        loop {
            thread::park();
        }
    }

    /// A registered handler.
    struct Registered(*mut Record);

    impl Drop for Registered {
        fn drop(&mut self) {
            #[expect(unsafe_code, reason = "see the module")]
            // SAFETY: the record is the one that this thread has registered last, since each frame removes
            // its own. It came from a box, and there is no other reference from now on.
            unsafe {
                _pthread_cleanup_pop(self.0, 0);
                drop(Box::from_raw(self.0));
            }
        }
    }

    /// Runs `body`, which may attach to Python.
    pub(crate) fn held<T>(body: impl FnOnce() -> T) -> T {
        let record = Record { routine: None, argument: null_mut(), kind: 0, previous: null_mut() };
        let registered = Registered(Box::into_raw(Box::new(record)));
        #[expect(unsafe_code, reason = "see the module")]
        // SAFETY: the record does not move, and it is removed before it is freed.
        unsafe {
            _pthread_cleanup_push(registered.0, hang, null_mut());
        }
        body()
    }
}

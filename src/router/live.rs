//! A table that is changed rarely and read all the time.

use std::fmt;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;

/// Two equal copies of a table. One is read without a lock, and the next change is made to the other. Then
/// they change places, and the change is made to the other copy too.
///
/// So a change is made twice, and no table is copied; the replaced value is freed at the end. Only if a
/// reader still holds the old copy, that copy is left to the reader, and a new one is made.
///
/// ```
/// use socketify::router::Live;
///
/// let names = Live::from(vec!["ann"]);
/// names.change(|names| names.push("bob"));
/// assert_eq!(**names.load(), ["ann", "bob"]);
/// ```
pub struct Live<T> {
    shown: ArcSwap<T>,
    /// `None` only while a change is made.
    spare: Mutex<Option<Arc<T>>>,
}

impl<T: Clone> Live<T> {
    /// Changes the table. Readers that begin after the return see the change. `change` is called twice, must
    /// do the same each time, and must not change or read the table through this. Returns the first result.
    pub fn change<R>(&self, change: impl Fn(&mut T) -> R) -> R {
        let mut spare = self.spare.lock();
        // A change that panicked left `None`.
        let mut next = spare.take().unwrap_or_else(|| Arc::new(T::clone(&self.shown.load())));
        let result = change(Arc::make_mut(&mut next));
        let mut last = self.shown.swap(next);
        change(Arc::make_mut(&mut last));
        *spare = Some(last);
        result
    }

    /// The table.
    pub fn load(&self) -> Guard<Arc<T>> {
        self.shown.load()
    }
}

impl<T: Clone> From<T> for Live<T> {
    fn from(table: T) -> Self {
        Self { spare: Mutex::new(Some(Arc::new(table.clone()))), shown: ArcSwap::from_pointee(table) }
    }
}

impl<T: Clone + Default> Default for Live<T> {
    fn default() -> Self {
        Self::from(T::default())
    }
}

impl<T: fmt::Debug> fmt::Debug for Live<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Live").field(&self.shown.load()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts how often it is copied.
    #[derive(Default)]
    struct Counted {
        value: Arc<()>,
        copies: Arc<Mutex<usize>>,
    }

    impl Clone for Counted {
        fn clone(&self) -> Self {
            *self.copies.lock() += 1;
            Self { value: Arc::clone(&self.value), copies: Arc::clone(&self.copies) }
        }
    }

    #[test]
    fn a_change_copies_nothing() {
        let live = Live::<Counted>::default();
        let copies = Arc::clone(&live.load().copies);
        let before = *copies.lock();
        for _ in 0..100 {
            live.change(|_| ());
            drop(live.load());
        }
        assert_eq!(*copies.lock(), before);
    }

    #[test]
    fn what_is_replaced_is_gone_when_the_change_is_over() {
        let live = Live::<Counted>::default();
        for _ in 0..3 {
            let replaced = Arc::downgrade(&live.load().value);
            let value = Arc::default();
            drop(live.change(|table| std::mem::replace(&mut table.value, Arc::clone(&value))));
            assert!(replaced.upgrade().is_none());
            assert!(Arc::ptr_eq(&live.load().value, &value));
        }
    }

    #[test]
    fn who_still_reads_keeps_what_he_reads() {
        let live = Live::from(vec![1]);
        let first = live.load();
        live.change(|table| table.push(2));
        let second = live.load();
        live.change(|table| table.push(3));
        assert_eq!((&**first, &**second, &**live.load()), (&vec![1], &vec![1, 2], &vec![1, 2, 3]));
        drop((first, second));
        live.change(|table| table.push(4));
        assert_eq!(**live.load(), [1, 2, 3, 4]);
    }

    #[test]
    fn a_change_that_panics_is_not_half_made() {
        let live = Live::from(vec![1]);
        let panics = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            live.change(|table| {
                table.push(2);
                assert!(table.is_empty(), "on purpose");
            });
        }));
        assert!(panics.is_err());
        assert_eq!(**live.load(), [1]);
        live.change(|table| table.push(3));
        assert_eq!(**live.load(), [1, 3]);
    }

    #[test]
    fn readers_see_each_change_that_was_made_before() {
        let live = Live::from(0_u32);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..1000 {
                    let made = live.change(|number| {
                        *number += 1;
                        *number
                    });
                    assert!(**live.load() >= made);
                }
            });
            scope.spawn(|| {
                let mut last = 0;
                while last < 1000 {
                    let seen = **live.load();
                    assert!(seen >= last);
                    last = seen;
                }
            });
        });
    }
}

//! Notes of what went wrong on connections before there was a request, for those who look for the cause.
//!
//! Clients cause them, and slow user code delays them, so only a limited number wait; the next one gives the
//! number of dropped ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The limit of waiting notes.
pub(crate) const MOST: usize = 256;

/// The notes of one server.
#[derive(Default)]
pub(crate) struct Notes {
    pending: AtomicUsize,
    dropped: AtomicUsize,
}

/// One note, which waits until this is dropped.
#[derive(Debug)]
pub struct Note {
    text: Box<str>,
    of: Arc<Notes>,
}

impl Notes {
    /// A note with the text of `write`; `None`, without calling it, if there are too many.
    pub(crate) fn take(self: &Arc<Self>, write: impl FnOnce() -> String) -> Option<Note> {
        if self.pending.fetch_add(1, Ordering::SeqCst) >= MOST {
            self.pending.fetch_sub(1, Ordering::SeqCst);
            self.dropped.fetch_add(1, Ordering::SeqCst);
            return None;
        }
        let text = write();
        let text = match self.dropped.swap(0, Ordering::SeqCst) {
            0 => text,
            dropped => format!("{text} ({dropped} more before this one were too many to be told)"),
        };
        Some(Note { text: text.into(), of: Arc::clone(self) })
    }
}

impl std::fmt::Debug for Notes {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Notes").field("pending", &self.pending).finish_non_exhaustive()
    }
}

impl Note {
    /// The text of the note.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        self.of.pending.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_wait() {
        let notes = Arc::new(Notes::default());
        let mut waiting: Vec<Note> =
            (0..MOST + 3).filter_map(|number| notes.take(|| number.to_string())).collect();
        assert_eq!(waiting.len(), MOST);
        waiting.pop();
        let next = notes.take(|| "next".to_owned()).unwrap();
        assert_eq!(next.text(), "next (3 more before this one were too many to be told)");
        drop(next);
        assert_eq!(notes.take(|| "last".to_owned()).unwrap().text(), "last");
        waiting.clear();
        assert_eq!(notes.pending.load(Ordering::SeqCst), 0);
    }
}

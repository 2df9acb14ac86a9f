//! The result of a search: the route, and the values of its parameters.
//!
//! [`Params`] keeps positions, not text: it owns nothing of the path, so it can travel to another thread
//! beside the buffer that does. A search builds it at its end, and the handler of the request reads it.

use std::ops::Range;
use std::sync::Arc;

use smallvec::SmallVec;

use super::Kind;
use super::tree::{Route, Search};

/// Captured `start..end` offsets in path order. Patterns with more than four parameters are rare enough to
/// pay for an allocation; `u32` halves the size and the search refuses longer paths.
pub(super) type Captures = SmallVec<[(u32, u32); 4]>;

/// The parameter names of one pattern, shared by all its matches. `None` for a pattern without parameters, so
/// that a static hit touches no reference count that other threads are also writing to.
pub(super) type Names = Option<Arc<[Box<str>]>>;

/// One candidate for a request. Borrows from the router, not from the path.
///
/// ```
/// use socketify::router::{Kind, Router};
///
/// let mut router = Router::new();
/// router.insert(Kind::any(), "users/:id", 1)?;
/// let found = router.find(b"GET", b"/users/7").unwrap();
/// assert_eq!((*found.value, found.pattern, found.params.by_name("id")), (1, "/users/:id", Some(7..8)));
/// assert_eq!(*found.kind, Kind::any());
/// # Ok::<(), socketify::router::PatternError>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Match<'r, T> {
    /// What was registered with the route.
    pub value: &'r T,
    /// Where the parameters of this candidate lie in the path.
    pub params: Params,
    /// The kind of the route; for a `HEAD` request that fell back this is `GET`.
    pub kind: &'r Kind,
    /// The pattern of the route, with its leading `/`.
    pub pattern: &'r str,
}

impl<'r, T> Match<'r, T> {
    /// Ties the route that a search found to what it captured on the way.
    pub(super) fn new(route: &'r Route<T>, search: Search<'_>) -> Self {
        let params = Params::new(route.names.clone(), search.into_captures());
        Self { value: &route.value, params, kind: &route.kind, pattern: &route.pattern }
    }
}

/// The parameters of one match: byte ranges into the path that was searched, by position and by name.
///
/// ```
/// use socketify::router::{Kind, Router};
///
/// let mut router = Router::new();
/// router.insert(Kind::any(), "/users/:user/posts/:post", ())?;
///
/// let path = b"/users/ada/posts/42";
/// let params = router.find(b"GET", path).expect("registered above").params;
/// assert_eq!(params.len(), 2);
/// assert_eq!(&path[params.get(0).unwrap()], b"ada");
/// assert_eq!(&path[params.by_name("post").unwrap()], b"42");
/// # Ok::<(), socketify::router::PatternError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Params {
    /// Names of the pattern that matched, in the order of `ranges`.
    names: Names,
    /// One range for each `:name` segment, first to last.
    ranges: Captures,
}

impl Params {
    /// Pairs the names of a pattern with what the search captured for it: one range a name.
    fn new(names: Names, ranges: Captures) -> Self {
        debug_assert_eq!(names.as_ref().map_or(0, |names| names.len()), ranges.len());
        Self { names, ranges }
    }

    /// The number of `:name` segments in the pattern. A wildcard is not counted: its text is no parameter.
    ///
    /// ```
    /// # use socketify::router::{Kind, Router};
    /// # let mut router = Router::new();
    /// router.insert(Kind::any(), "/:bucket/*", ())?;
    /// assert_eq!(router.find(b"GET", b"/photos/2024/cat.png").unwrap().params.len(), 1);
    /// # Ok::<(), socketify::router::PatternError>(())
    /// ```
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Whether the pattern has no `:name` segment.
    ///
    /// ```
    /// assert!(socketify::router::Params::default().is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Where parameter number `index` lies in the path, counted from 0. The range is never empty.
    ///
    /// ```
    /// # use socketify::router::{Kind, Router};
    /// # let mut router = Router::new();
    /// router.insert(Kind::any(), "/:id", ())?;
    /// let params = router.find(b"GET", b"/42").unwrap().params;
    /// assert_eq!(params.get(0), Some(1..3));
    /// assert_eq!(params.get(1), None);
    /// # Ok::<(), socketify::router::PatternError>(())
    /// ```
    pub fn get(&self, index: usize) -> Option<Range<usize>> {
        self.ranges.get(index).copied().map(widen)
    }

    /// Where the parameter called `name` in the matched pattern lies in the path.
    ///
    /// ```
    /// # use socketify::router::{Kind, Router};
    /// # let mut router = Router::new();
    /// router.insert(Kind::any(), "/:id", ())?;
    /// let params = router.find(b"GET", b"/42").unwrap().params;
    /// assert_eq!(params.by_name("id"), Some(1..3));
    /// assert_eq!(params.by_name("ID"), None);
    /// # Ok::<(), socketify::router::PatternError>(())
    /// ```
    pub fn by_name(&self, name: &str) -> Option<Range<usize>> {
        self.iter().find_map(|(own, range)| (own == name).then_some(range))
    }

    /// Every parameter in path order, with its name.
    ///
    /// ```
    /// # use socketify::router::{Kind, Router};
    /// # let mut router = Router::new();
    /// router.insert(Kind::any(), "/:x/:y", ())?;
    /// let params = router.find(b"GET", b"/1/2").unwrap().params;
    /// assert_eq!(params.iter().collect::<Vec<_>>(), [("x", 1..2), ("y", 3..4)]);
    /// # Ok::<(), socketify::router::PatternError>(())
    /// ```
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, Range<usize>)> {
        let names = self.names.as_deref().unwrap_or_default();
        names.iter().map(|name| &**name).zip(self.ranges.iter().copied().map(widen))
    }
}

/// Back from storage size to what slices are indexed with.
fn widen((start, end): (u32, u32)) -> Range<usize> {
    start as usize..end as usize
}

//! Which routes a request goes to, in which order.
//!
//! [`Router`] maps patterns to values of any type and finds the values for a method and a path. It owns the
//! rules of matching and nothing else: it does not decode paths, run handlers or know the network. The server
//! calls [`Router::find`] on every request and [`Router::nth`] when a handler passes the request on.
//!
//! # Patterns
//!
//! Patterns and paths are split at slashes. Each segment of a pattern is one of three kinds:
//!
//! | segment | matches |
//! |---|---|
//! | `users` | the same bytes: case counts, nothing is decoded, and an empty segment is a segment |
//! | `:name` | exactly one segment that is not empty, captured under that name |
//! | `*` | the rest of the path, at least one segment, which may be empty; captures nothing |
//!
//! ```
//! use socketify::router::{Kind, Router};
//!
//! let mut router = Router::new();
//! router.insert(Kind::method("GET"), "/", "home")?;
//! router.insert(Kind::method("GET"), "/users/:id", "user")?;
//! router.insert(Kind::any(), "/files/*", "files")?;
//!
//! let find = |method: &str, path: &str| Some(*router.find(method.as_bytes(), path.as_bytes())?.value);
//! assert_eq!(find("GET", "/"), Some("home"));
//! assert_eq!(find("GET", "/users/7"), Some("user"));
//! assert_eq!(find("GET", "/users/"), None); // a parameter is never empty
//! assert_eq!(find("GET", "/users/7/"), None); // a trailing slash is a segment more
//! assert_eq!(find("PROPFIND", "/files/"), Some("files")); // any method, and an empty rest
//! assert_eq!(find("GET", "/files"), None);
//! assert_eq!(find("get", "/"), None); // methods are case-sensitive
//! # Ok::<(), socketify::router::PatternError>(())
//! ```
//!
//! A missing leading `/` is added. Text after the `*` in its segment is ignored; segments after it can never
//! match, which [`Pattern::is_reachable`] tells. Mistakes are a [`PatternError`]. A path of more than
//! [`MAX_SEGMENTS`] segments matches nothing.
//!
//! # Order
//!
//! Several routes may match one request. They are tried in this order, depth first with backtracking:
//!
//! 1. `WebSocket` routes before all others.
//! 2. At each segment from the left: equal text, then parameters, then wildcards.
//! 3. Parameters of different names at the same place: in the order of registration. The same holds for `*`
//!    texts.
//! 4. Within one pattern: the route for files, then the route for the method, then the route for any method,
//!    and for `HEAD` finally the route for `GET`, since a `HEAD` response has the headers of `GET` (RFC 9110
//!    section 9.3.2).
//!
//! ```
//! use socketify::router::{Kind, Router};
//!
//! let mut router = Router::new();
//! for pattern in ["/candy/:kind/*", "/candy/lollipop/*", "/candy/:kind/:action", "/candy/lollipop/eat"] {
//!     router.insert(Kind::method("GET"), pattern, pattern)?;
//! }
//! let tries = router.all(b"GET", b"/candy/lollipop/eat").map(|found| *found.value);
//! assert!(tries.eq(["/candy/lollipop/eat", "/candy/lollipop/*", "/candy/:kind/:action", "/candy/:kind/*"]));
//! # Ok::<(), socketify::router::PatternError>(())
//! ```
//!
//! Routes for files get `GET` and `HEAD` requests, and may have no such file:
//!
//! ```
//! use socketify::router::{Kind, Router};
//!
//! let mut router = Router::new();
//! router.insert(Kind::any(), "/*", "any")?;
//! router.insert(Kind::method("GET"), "/*", "get")?;
//! router.insert(Kind::Files, "/*", "files")?;
//! router.insert(Kind::method("GET"), "/page", "page")?;
//! let tries = |method: &'static [u8]| router.all(method, b"/page").map(|found| *found.value);
//! assert!(tries(b"GET").eq(["page", "files", "get", "any"]));
//! assert!(tries(b"HEAD").eq(["page", "files", "any", "get"]));
//! assert!(tries(b"POST").eq(["any"]));
//! # Ok::<(), socketify::router::PatternError>(())
//! ```
//!
//! [`Domains`] has a router for each domain. The host of a request selects it before any of the above.

mod domains;
mod hosts;
mod live;
mod params;
mod pattern;
mod tree;

pub use self::domains::Domains;
pub use self::hosts::{HostError, Hosts, names_an_address};
pub use self::live::Live;
pub use self::params::{Match, Params};
pub use self::pattern::{MAX_SEGMENTS, Pattern, PatternError};

use self::tree::{Node, Route, Search};

/// The methods of an HTTP route.
///
/// ```
/// use socketify::router::{Kind, Methods};
///
/// assert_eq!(Kind::any(), Kind::Http(Methods::Any));
/// assert_eq!(Kind::method("GET"), Kind::Http(Methods::Only("GET".into())));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Methods {
    /// Every method, whether the server knows it or not.
    Any,
    /// Exactly this method, in this case.
    Only(Box<str>),
}

/// The kind of requests that a route gets. Two routes with the same kind and the same pattern are the same
/// route.
///
/// ```
/// use socketify::router::{Kind, Router};
///
/// let mut router = Router::new();
/// router.insert(Kind::method("GET"), "/chat", "page")?;
/// router.insert(Kind::WebSocket, "/chat", "socket")?;
/// assert_eq!(*router.find(b"GET", b"/chat").unwrap().value, "page");
/// assert_eq!(*router.find_websocket(b"/chat").unwrap().value, "socket");
/// # Ok::<(), socketify::router::PatternError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A request by method.
    Http(Methods),
    /// A file, requested with `GET` or `HEAD`. Comes before the other HTTP routes of its pattern, which get
    /// the request if there is no such file.
    Files,
    /// A WebSocket handshake. Comes before every HTTP route.
    WebSocket,
}

impl Kind {
    /// An HTTP route for every method.
    ///
    /// ```
    /// # use socketify::router::{Kind, Router};
    /// # let mut router = Router::new();
    /// router.insert(Kind::any(), "/", ())?;
    /// assert!(router.find(b"BREW", b"/").is_some());
    /// # Ok::<(), socketify::router::PatternError>(())
    /// ```
    pub fn any() -> Self {
        Self::Http(Methods::Any)
    }

    /// An HTTP route for `method` alone.
    ///
    /// ```
    /// # use socketify::router::{Kind, Router};
    /// # let mut router = Router::new();
    /// router.insert(Kind::method("PUT"), "/", ())?;
    /// assert!(router.find(b"POST", b"/").is_none());
    /// # Ok::<(), socketify::router::PatternError>(())
    /// ```
    pub fn method(method: &str) -> Self {
        Self::Http(Methods::Only(method.into()))
    }

    /// The place among the routes of one pattern.
    fn rank(&self) -> u8 {
        match self {
            Self::WebSocket | Self::Files => 0,
            Self::Http(Methods::Only(_)) => 1,
            Self::Http(Methods::Any) => 2,
        }
    }

    /// Whether it is the route for `GET`.
    fn is_of_get(&self) -> bool {
        matches!(self, Self::Http(Methods::Only(own)) if **own == *"GET")
    }

    /// Handshakes have a tree of their own, so the method does not select them.
    fn accepts(&self, method: &[u8]) -> bool {
        match self {
            Self::Http(Methods::Only(own)) => own.as_bytes() == method,
            Self::Files => matches!(method, b"GET" | b"HEAD"),
            Self::Http(Methods::Any) | Self::WebSocket => true,
        }
    }
}

/// A table of routes. See the [module](self) for what matches and in which order.
///
/// ```
/// use socketify::router::{Kind, Router};
///
/// let mut router = Router::new();
/// assert_eq!(router.insert(Kind::any(), "/", "old")?, None);
/// assert_eq!(router.insert(Kind::any(), "/", "new")?, Some("old"));
/// assert_eq!(router.len(), 1);
/// # Ok::<(), socketify::router::PatternError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Router<T> {
    /// Routes by method.
    http: Node<T>,
    /// Routes for handshakes. They come first at every segment, and all routes below one of their nodes are
    /// theirs too, so a tree that is searched first gives the same order.
    websocket: Node<T>,
    /// How many routes both trees hold.
    len: usize,
}

impl<T> Default for Router<T> {
    fn default() -> Self {
        Self { http: Node::default(), websocket: Node::default(), len: 0 }
    }
}

impl<T> Router<T> {
    /// A router without routes.
    ///
    /// ```
    /// # use socketify::router::Router;
    /// assert!(Router::<u32>::new().find(b"GET", b"/").is_none());
    /// ```
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers a route. It replaces one with the same kind and pattern in its place, and returns the old
    /// value.
    ///
    /// ```
    /// # use socketify::router::{Kind, Router};
    /// # let mut router = Router::new();
    /// router.insert(Kind::method("GET"), "/:id", 1)?;
    /// assert_eq!(router.insert(Kind::method("GET"), "/:id", 2)?, Some(1));
    /// assert_eq!(router.insert(Kind::method("GET"), "/:name", 3)?, None); // another pattern, tried after the first
    /// assert!(router.all(b"GET", b"/x").map(|found| *found.value).eq([2, 3]));
    /// # Ok::<(), socketify::router::PatternError>(())
    /// ```
    pub fn insert(&mut self, kind: Kind, pattern: &str, value: T) -> Result<Option<T>, PatternError> {
        let parsed = Pattern::parse(pattern)?;
        let tree = self.tree_mut(&kind);
        let segments = parsed.segments().to_vec();
        let (pattern, names) = parsed.into_parts();
        let replaced = tree.insert(&segments, Route { kind, pattern, names, value });
        self.len += usize::from(replaced.is_none());
        Ok(replaced)
    }

    /// Takes a route out again and returns its value; `None` if there was none.
    ///
    /// ```
    /// # use socketify::router::{Kind, Router};
    /// # let mut router = Router::new();
    /// router.insert(Kind::any(), "/:id", 1)?;
    /// assert_eq!(router.remove(&Kind::method("GET"), "/:id"), None);
    /// assert_eq!(router.remove(&Kind::any(), "/:name"), None);
    /// assert_eq!(router.remove(&Kind::any(), "/:id"), Some(1));
    /// assert!(router.is_empty());
    /// # Ok::<(), socketify::router::PatternError>(())
    /// ```
    pub fn remove(&mut self, kind: &Kind, pattern: &str) -> Option<T> {
        let parsed = Pattern::parse(pattern).ok()?;
        let removed = self.tree_mut(kind).remove(parsed.segments(), kind)?;
        self.len -= 1;
        Some(removed)
    }

    /// How many routes are registered.
    ///
    /// ```
    /// # use socketify::router::{Kind, Router};
    /// # let mut router = Router::new();
    /// router.insert(Kind::any(), "/", ())?;
    /// router.insert(Kind::WebSocket, "/", ())?;
    /// assert_eq!(router.len(), 2);
    /// # Ok::<(), socketify::router::PatternError>(())
    /// ```
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no route is registered.
    ///
    /// ```
    /// # use socketify::router::Router;
    /// assert!(Router::<u32>::new().is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The first HTTP route for a request; `path` is as received, without the query. Allocates nothing unless
    /// the pattern has more than four parameters.
    ///
    /// ```
    /// # use socketify::router::{Kind, Router};
    /// # let mut router = Router::new();
    /// router.insert(Kind::method("GET"), "/:id", "get")?;
    /// assert_eq!(*router.find(b"GET", b"/7").unwrap().value, "get");
    /// assert_eq!(*router.find(b"HEAD", b"/7").unwrap().value, "get"); // nothing better for HEAD
    /// assert!(router.find(b"POST", b"/7").is_none());
    /// # Ok::<(), socketify::router::PatternError>(())
    /// ```
    pub fn find(&self, method: &[u8], path: &[u8]) -> Option<Match<'_, T>> {
        self.nth(method, path, 0)
    }

    /// The first `WebSocket` route for a handshake. The caller has checked that the request is one.
    ///
    /// ```
    /// # use socketify::router::{Kind, Router};
    /// # let mut router = Router::new();
    /// router.insert(Kind::any(), "/*", "http")?;
    /// assert!(router.find_websocket(b"/chat").is_none());
    /// router.insert(Kind::WebSocket, "/:room", "ws")?;
    /// assert_eq!(*router.find_websocket(b"/chat").unwrap().value, "ws");
    /// # Ok::<(), socketify::router::PatternError>(())
    /// ```
    pub fn find_websocket(&self, path: &[u8]) -> Option<Match<'_, T>> {
        self.nth_websocket(path, 0)
    }

    /// The HTTP route after the first `skip` of them: the next route of a request that `skip` handlers have
    /// passed on. Searches from the start each time, which is cheap beside the handlers in between.
    ///
    /// ```
    /// # use socketify::router::{Kind, Router};
    /// # let mut router = Router::new();
    /// router.insert(Kind::any(), "/*", "rest")?;
    /// router.insert(Kind::method("GET"), "/:id", "get")?;
    /// assert_eq!(*router.nth(b"GET", b"/7", 1).unwrap().value, "rest");
    /// assert!(router.nth(b"GET", b"/7", 2).is_none());
    /// # Ok::<(), socketify::router::PatternError>(())
    /// ```
    pub fn nth(&self, method: &[u8], path: &[u8], skip: usize) -> Option<Match<'_, T>> {
        let mut search = Search::new(method, path, skip)?;
        search.run(&self.http).map(|route| Match::new(route, search))
    }

    /// The `WebSocket` route after the first `skip` of them. If none is left, a handshake goes on
    /// with [`nth`](Router::nth) from 0, as an ordinary request.
    ///
    /// ```
    /// # use socketify::router::{Kind, Router};
    /// # let mut router = Router::new();
    /// router.insert(Kind::WebSocket, "/*", "all")?;
    /// router.insert(Kind::WebSocket, "/chat", "chat")?;
    /// assert_eq!(*router.nth_websocket(b"/chat", 1).unwrap().value, "all");
    /// # Ok::<(), socketify::router::PatternError>(())
    /// ```
    pub fn nth_websocket(&self, path: &[u8], skip: usize) -> Option<Match<'_, T>> {
        let mut search = Search::new(b"GET", path, skip)?;
        search.run(&self.websocket).map(|route| Match::new(route, search))
    }

    /// Every candidate in order, `WebSocket` routes first: the routes of a handshake if each handler passes
    /// it on. Those are left out unless the method is `GET`, the only one that can open a `WebSocket` (RFC
    /// 6455 §4.1).
    ///
    /// ```
    /// # use socketify::router::{Kind, Router};
    /// # let mut router = Router::new();
    /// router.insert(Kind::any(), "/static", "any")?;
    /// router.insert(Kind::WebSocket, "/*", "ws")?;
    /// assert!(router.all(b"GET", b"/static").map(|found| *found.value).eq(["ws", "any"]));
    /// assert!(router.all(b"PUT", b"/static").map(|found| *found.value).eq(["any"]));
    /// # Ok::<(), socketify::router::PatternError>(())
    /// ```
    pub fn all<'r>(&'r self, method: &'r [u8], path: &'r [u8]) -> impl Iterator<Item = Match<'r, T>> {
        let handshakes =
            (0..).map_while(move |skip| if method == b"GET" { self.nth_websocket(path, skip) } else { None });
        handshakes.chain((0..).map_while(move |skip| self.nth(method, path, skip)))
    }

    fn tree_mut(&mut self, kind: &Kind) -> &mut Node<T> {
        match kind {
            Kind::Http(_) | Kind::Files => &mut self.http,
            Kind::WebSocket => &mut self.websocket,
        }
    }
}

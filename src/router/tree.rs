//! The tree of segments and the search through it.
//!
//! A node is one segment of one or more patterns, and a pattern is one path from the root to a node, so a
//! node holds the routes of exactly one pattern. Sibling parameters with different names are different nodes,
//! tried in the order they were first registered. The search visits a node at most once for a path: the
//! number of routes bounds its cost for every request.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use memchr::{memchr, memchr_iter};

use super::Kind;
use super::params::{Captures, Names};
use super::pattern::{MAX_SEGMENTS, Segment};

/// One registered route.
#[derive(Clone, Debug)]
pub(super) struct Route<T> {
    /// The kind of its requests.
    pub(super) kind: Kind,
    /// The pattern with its leading `/`.
    pub(super) pattern: Box<str>,
    /// The parameter names of `pattern`.
    pub(super) names: Names,
    /// The caller's value.
    pub(super) value: T,
}

/// Children with different texts that match the same segments, in order of first registration.
type Siblings<T> = Vec<(Box<str>, Node<T>)>;

/// Up to this many static children are compared one by one, which is faster than hashing the segment.
const FEW: usize = 4;

/// One segment of the patterns that share it and everything before it.
#[derive(Clone, Debug)]
pub(super) struct Node<T> {
    /// Children for equal segments, keyed by their text; at most one of them can match.
    statics: Siblings<T>,
    /// Where the text of each static child is in `statics`, once there are more than [`FEW`]; empty until
    /// then.
    index: HashMap<Box<[u8]>, usize, BuildHasherDefault<SegmentHasher>>,
    /// `:name` children, keyed by name.
    params: Siblings<T>,
    /// `*` children, keyed by their text. What lies below them is stored but never searched.
    wildcards: Siblings<T>,
    /// Routes whose pattern ends here, by rank. At most one a kind.
    routes: Vec<Route<T>>,
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self {
            statics: Vec::new(),
            index: HashMap::default(),
            params: Vec::new(),
            wildcards: Vec::new(),
            routes: Vec::new(),
        }
    }
}

impl<T> Node<T> {
    /// Stores `route` under `segments`. A route of the same kind and pattern is replaced and
    /// returned.
    pub(super) fn insert(&mut self, segments: &[Segment], route: Route<T>) -> Option<T> {
        let mut node = self;
        for segment in segments {
            node = match segment {
                Segment::Static(text) => node.static_child(text),
                Segment::Param(name) => sibling(&mut node.params, name),
                Segment::Wildcard(text) => sibling(&mut node.wildcards, text),
            };
        }
        if let Some(present) = node.routes.iter_mut().find(|present| present.kind == route.kind) {
            return Some(std::mem::replace(present, route).value);
        }
        let place = node.routes.partition_point(|present| present.kind.rank() <= route.kind.rank());
        node.routes.insert(place, route);
        None
    }

    /// Removes the route of that kind from under `segments`, with the nodes that only it needed: a name that
    /// is registered again later goes after its siblings.
    pub(super) fn remove(&mut self, segments: &[Segment], kind: &Kind) -> Option<T> {
        let Some((segment, rest)) = segments.split_first() else {
            let place = self.routes.iter().position(|route| route.kind == *kind)?;
            return Some(self.routes.remove(place).value);
        };
        match segment {
            Segment::Static(text) => {
                let before = self.statics.len();
                let removed = remove_below(&mut self.statics, text, rest, kind);
                if self.statics.len() != before {
                    self.index.clear();
                    self.index_statics();
                }
                removed
            }
            Segment::Param(name) => remove_below(&mut self.params, name, rest, kind),
            Segment::Wildcard(text) => remove_below(&mut self.wildcards, text, rest, kind),
        }
    }

    /// The static child for `text`, made if there is none.
    fn static_child(&mut self, text: &str) -> &mut Self {
        if let Some(place) = self.index.get(text.as_bytes()) {
            return &mut self.statics[*place].1;
        }
        sibling(&mut self.statics, text);
        self.index_statics();
        sibling(&mut self.statics, text)
    }

    /// Adds the static children that `index` lacks, those at the end, if there are enough for an index.
    fn index_statics(&mut self) {
        if self.statics.len() > FEW {
            for (place, (text, _)) in self.statics.iter().enumerate().skip(self.index.len()) {
                self.index.insert(text.as_bytes().into(), place);
            }
        }
    }

    /// The static child for the first segment of `rest`, and the length of that segment.
    fn literal(&self, rest: &[u8]) -> Option<(&Self, usize)> {
        if self.index.is_empty() {
            let (text, child) = self.statics.iter().find(|(text, _)| leads(rest, text.as_bytes()))?;
            return Some((child, text.len()));
        }
        let length = segment_length(rest);
        let place = self.index.get(&rest[..length])?;
        Some((&self.statics[*place].1, length))
    }

    fn is_empty(&self) -> bool {
        self.routes.is_empty()
            && self.statics.is_empty()
            && self.params.is_empty()
            && self.wildcards.is_empty()
    }
}

/// Whether `text` is the first segment of `rest`. Saves the search for its end.
fn leads(rest: &[u8], text: &[u8]) -> bool {
    rest.starts_with(text) && matches!(rest.get(text.len()), None | Some(b'/'))
}

/// How many bytes of `rest` come before its first slash.
fn segment_length(rest: &[u8]) -> usize {
    memchr(b'/', rest).unwrap_or(rest.len())
}

/// The child called `text`, made at the end if there is none.
fn sibling<'c, T>(children: &'c mut Siblings<T>, text: &str) -> &'c mut Node<T> {
    let place = children.iter().position(|(own, _)| **own == *text).unwrap_or_else(|| {
        children.push((text.into(), Node::default()));
        children.len() - 1
    });
    &mut children[place].1
}

/// [`Node::remove`] through the child called `text`.
fn remove_below<T>(children: &mut Siblings<T>, text: &str, rest: &[Segment], kind: &Kind) -> Option<T> {
    let place = children.iter().position(|(own, _)| **own == *text)?;
    let child = &mut children[place].1;
    let removed = child.remove(rest, kind)?;
    if child.is_empty() {
        children.remove(place);
    }
    Some(removed)
}

/// One walk through a tree, in priority order, to the candidate after the first `skip`.
pub(super) struct Search<'p> {
    /// The request path; without the query.
    path: &'p [u8],
    /// Compared byte by byte with the method of each route.
    method: &'p [u8],
    /// Candidates still to pass over.
    skip: usize,
    /// Whether routes for `GET` match too, after the others of their pattern.
    head: bool,
    /// The values of the parameters between the root and the current node; grows and shrinks with the walk.
    captures: Captures,
}

impl<'p> Search<'p> {
    /// `None` if the path exceeds the limits: no route matches it.
    pub(super) fn new(method: &'p [u8], path: &'p [u8], skip: usize) -> Option<Self> {
        // Every segment but the first costs a slash, and a first one without it costs a byte more, so a short
        // path need not be counted. `u32` is the range of `Captures`.
        if path.len() > MAX_SEGMENTS {
            let slashes = memchr_iter(b'/', path).count();
            if slashes + usize::from(path[0] != b'/') > MAX_SEGMENTS || u32::try_from(path.len()).is_err() {
                return None;
            }
        }
        Some(Self { path, method, skip, head: method == b"HEAD", captures: Captures::new() })
    }

    /// The candidate, or `None` if there are no more than `skip`.
    pub(super) fn run<'r, T>(&mut self, root: &'r Node<T>) -> Option<&'r Route<T>> {
        let start = usize::from(self.path.first() == Some(&b'/'));
        self.descend(root, start)
    }

    /// The values of the parameters of the route that [`Search::run`] found.
    pub(super) fn into_captures(self) -> Captures {
        self.captures
    }

    /// Tries the children of `node` on the segment at `start`: equal text, then parameters, then wildcards.
    /// Recursion is bounded by the depth of the tree, at most [`MAX_SEGMENTS`].
    fn descend<'r, T>(&mut self, mut node: &'r Node<T>, mut start: usize) -> Option<&'r Route<T>> {
        // While equal text is the only choice there is no alternative to come back to, so the walk need not
        // remember the way.
        while node.params.is_empty() && node.wildcards.is_empty() {
            let (child, length) = node.literal(&self.path[start..])?;
            let end = start + length;
            if end == self.path.len() {
                return self.pick(child);
            }
            (node, start) = (child, end + 1);
        }

        let rest = &self.path[start..];
        if let Some((child, length)) = node.literal(rest) {
            let found = self.enter(child, start + length);
            if found.is_some() {
                return found;
            }
        }
        if !node.params.is_empty() {
            let found = self.capture(&node.params, start, start + segment_length(rest));
            if found.is_some() {
                return found;
            }
        }
        node.wildcards.iter().find_map(|(_, child)| self.pick(child))
    }

    /// Goes on through `params` in turn with the segment from `start` to `end`, unless it is empty.
    fn capture<'r, T>(&mut self, params: &'r Siblings<T>, start: usize, end: usize) -> Option<&'r Route<T>> {
        if start == end {
            return None;
        }
        for (_, child) in params {
            self.captures.push((narrow(start), narrow(end)));
            let found = self.enter(child, end);
            if found.is_some() {
                return found;
            }
            self.captures.pop();
        }
        None
    }

    /// Goes on after the segment that `node` has taken: to the next one, or to its routes if that was the
    /// last.
    fn enter<'r, T>(&mut self, node: &'r Node<T>, end: usize) -> Option<&'r Route<T>> {
        if end == self.path.len() { self.pick(node) } else { self.descend(node, end + 1) }
    }

    /// The routes of `node` itself, by rank.
    fn pick<'r, T>(&mut self, node: &'r Node<T>) -> Option<&'r Route<T>> {
        let own = node.routes.iter().filter(|route| route.kind.accepts(self.method));
        let of_get = node.routes.iter().filter(|route| self.head && route.kind.is_of_get());
        for route in own.chain(of_get) {
            if self.skip == 0 {
                return Some(route);
            }
            self.skip -= 1;
        }
        None
    }
}

/// To storage size. Lossless: [`Search::new`] has refused paths that are too long for it.
fn narrow(offset: usize) -> u32 {
    u32::try_from(offset).unwrap_or(u32::MAX)
}

/// A folded multiplication over eight bytes at a time; the last word overlaps the one before it, and the
/// length, which a slice hashes first, tells such segments apart. A keyed hash would protect nothing here:
/// the keys are the patterns of the application, and a request can only look them up.
#[derive(Clone, Default)]
struct SegmentHasher(u64);

impl SegmentHasher {
    /// Both halves of the product: names with a number at the end differ in the highest bits of a word, which
    /// the lower half alone would lose.
    fn mix(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        #[expect(clippy::cast_possible_truncation, reason = "the halves of the product")]
        let halves = (product as u64, (product >> 64) as u64);
        self.0 = halves.0 ^ halves.1;
    }
}

impl Hasher for SegmentHasher {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(last) = bytes.last_chunk::<8>() {
            for word in bytes.as_chunks::<8>().0 {
                self.mix(u64::from_le_bytes(*word));
            }
            self.mix(u64::from_le_bytes(*last));
        } else if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
            self.mix(u64::from(u32::from_le_bytes(*first)) << 32 | u64::from(u32::from_le_bytes(*last)));
        } else {
            self.mix(bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)));
        }
    }

    fn write_usize(&mut self, length: usize) {
        self.mix(length as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

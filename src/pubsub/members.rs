//! The members of one topic: a single one without an allocation, more of them in a row.

use std::hash::{BuildHasher, RandomState};
use std::mem;
use std::slice;

use hashbrown::HashTable;

use super::shrink;

/// Up to this many members, comparing their ids one by one is as fast as an index.
const SCANNED: usize = 32;

/// One subscriber of one topic.
#[derive(Debug)]
pub(super) struct Member<S> {
    /// The subscriber's id.
    pub(super) id: u64,
    /// The subscriber's handle.
    pub(super) subscriber: S,
}

/// At least one member. If a server has a topic for each user, most topics have exactly one, and are then no
/// larger than it (see the test below).
#[derive(Debug)]
pub(super) enum Members<S> {
    One(Member<S>),
    /// Two or more.
    Crowd(Box<Crowd<S>>),
}

/// The result of a removal.
#[derive(Debug)]
pub(super) enum Removed<S> {
    /// The id was no member.
    Absent,
    /// It was, and others remain.
    Taken(S),
    /// It is the only member, and still there: the caller has to remove the topic with it.
    IsLast,
}

impl<S> Members<S> {
    /// All members, side by side.
    pub(super) fn as_slice(&self) -> &[Member<S>] {
        match self {
            Self::One(member) => slice::from_ref(member),
            Self::Crowd(crowd) => &crowd.members,
        }
    }

    pub(super) fn contains(&self, id: u64, keys: &RandomState) -> bool {
        match self {
            Self::One(member) => member.id == id,
            Self::Crowd(crowd) => crowd.place(id, keys).is_some(),
        }
    }

    /// Adds a member with a new id.
    pub(super) fn push(&mut self, member: Member<S>, keys: &RandomState) {
        if let Self::Crowd(crowd) = self {
            crowd.push(member, keys);
            return;
        }
        let crowd = Crowd { members: Vec::with_capacity(2), places: None };
        let first = mem::replace(self, Self::Crowd(Box::new(crowd)));
        if let (Self::Crowd(crowd), Self::One(first)) = (self, first) {
            crowd.members.extend([first, member]);
        }
    }

    pub(super) fn remove(&mut self, id: u64, keys: &RandomState) -> Removed<S> {
        let crowd = match self {
            Self::One(member) if member.id == id => return Removed::IsLast,
            Self::One(_) => return Removed::Absent,
            Self::Crowd(crowd) => crowd,
        };
        let Some(removed) = crowd.remove(id, keys) else { return Removed::Absent };
        if crowd.members.len() == 1
            && let Some(last) = crowd.members.pop()
        {
            *self = Self::One(last);
        }
        Removed::Taken(removed.subscriber)
    }

    /// The handle of the only member.
    pub(super) fn into_one(self) -> Option<S> {
        match self {
            Self::One(member) => Some(member.subscriber),
            Self::Crowd(_) => None,
        }
    }
}

/// Members in a row, with an index once there are too many to scan.
#[derive(Debug)]
pub(super) struct Crowd<S> {
    members: Vec<Member<S>>,
    /// Every member's place in `members`, by the hash of its id. Made above [`SCANNED`] members, and dropped
    /// below half of that, so that changes at the limit do not make it each time.
    places: Option<HashTable<u32>>,
}

impl<S> Crowd<S> {
    fn place(&self, id: u64, keys: &RandomState) -> Option<usize> {
        match &self.places {
            None => self.members.iter().position(|member| member.id == id),
            Some(places) => {
                let found = places.find(keys.hash_one(id), |place| self.members[*place as usize].id == id);
                found.map(|place| *place as usize)
            }
        }
    }

    fn push(&mut self, member: Member<S>, keys: &RandomState) {
        self.members.push(member);
        let members = &self.members;
        let hash = |place: &u32| keys.hash_one(members[*place as usize].id);
        if let Some(places) = &mut self.places {
            let place = narrow(members.len() - 1);
            places.insert_unique(hash(&place), place, hash);
        } else if members.len() > SCANNED {
            let mut places = HashTable::with_capacity(members.len());
            for place in 0..narrow(members.len()) {
                places.insert_unique(hash(&place), place, hash);
            }
            self.places = Some(places);
        }
    }

    fn remove(&mut self, id: u64, keys: &RandomState) -> Option<Member<S>> {
        let place = self.place(id, keys)?;
        if let Some(places) = &mut self.places {
            let members = &self.members;
            let last = members.len() - 1;
            if let Ok(entry) = places.find_entry(keys.hash_one(id), |found| *found as usize == place) {
                entry.remove();
            }
            // The last member is about to be moved into the gap.
            let moved = keys.hash_one(members[last].id);
            if let Some(found) = places.find_mut(moved, |found| *found as usize == last) {
                *found = narrow(place);
            }
        }
        let removed = self.members.swap_remove(place);
        self.shrink(keys);
        Some(removed)
    }

    /// Frees memory once most of it is unused.
    fn shrink(&mut self, keys: &RandomState) {
        let Self { members, places } = self;
        if members.len() < SCANNED / 2 {
            *places = None;
        }
        if let Some(places) = places {
            shrink(places, |place| keys.hash_one(members[*place as usize].id));
        }
        if members.capacity() > 8 && members.len() * 4 < members.capacity() {
            members.shrink_to(members.len() * 2);
        }
    }
}

/// Half of the index's size. A process has fewer sockets than this has places.
fn narrow(place: usize) -> u32 {
    u32::try_from(place).expect("invariant: a process has fewer than 2^32 sockets")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn members_are_as_large_as_one_of_them() {
        assert_eq!(size_of::<Members<Arc<()>>>(), size_of::<Member<Arc<()>>>());
        assert_eq!(size_of::<Member<Arc<()>>>(), 16);
    }

    #[test]
    fn memory_follows_the_number_of_members_up_and_down() {
        let keys = RandomState::new();
        let mut members = Members::One(Member { id: 0, subscriber: () });
        for id in 1..10_000 {
            members.push(Member { id, subscriber: () }, &keys);
        }
        for id in 0..10_000 {
            let Members::Crowd(crowd) = &members else {
                assert_eq!(id, 9_999);
                break;
            };
            let len = crowd.members.len();
            assert!(crowd.members.capacity() <= (len * 4).max(8), "{len}");
            assert_eq!(crowd.places.is_some(), len >= SCANNED / 2, "{len}");
            if let Some(places) = &crowd.places {
                assert_eq!(places.len(), len);
                assert!(places.num_buckets() <= (len * 8).max(64), "{len}");
            }
            assert!(matches!(members.remove(id, &keys), Removed::Taken(())), "{id}");
        }
        assert!(matches!(members.remove(9_999, &keys), Removed::IsLast));
        assert!(matches!(members.remove(0, &keys), Removed::Absent));
    }
}

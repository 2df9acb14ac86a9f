//! The hub against a map of maps: every result, every delivery and every count after any operations.
#![no_main]

use std::collections::BTreeMap;
use std::sync::Arc;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use socketify::pubsub::{Hub, Subscribed, Topic};

#[derive(Arbitrary, Debug)]
enum Operation {
    Subscribe {
        topic: u8,
        id: u8,
    },
    Refuse {
        topic: u8,
        id: u8,
    },
    Unsubscribe {
        topic: u8,
        id: u8,
    },
    Publish {
        topic: u8,
    },
    /// The topics may repeat, and may be others than those of `id`.
    RemoveAll {
        topics: [u8; 3],
        id: u8,
    },
    /// So many ids from this one on, for topics with an index.
    Crowd {
        topic: u8,
        id: u8,
        count: u8,
        leave: bool,
    },
    /// So many topics from this one on, to grow and shrink tables.
    Spread {
        topic: u8,
        id: u8,
        count: u8,
        leave: bool,
    },
}

/// The subscribers of each topic by their ids, each with its handle. Its tables are never empty.
type Model = BTreeMap<Vec<u8>, BTreeMap<u64, u64>>;

/// The empty name, and names that are prefixes of each other.
fn name(topic: u8) -> Vec<u8> {
    vec![b'#'; usize::from(topic % 16)].into_iter().chain((topic >= 16).then_some(topic)).collect()
}

#[derive(Default)]
struct Both {
    hub: Hub<Arc<u64>>,
    model: Model,
    /// Each subscription has a handle of its own.
    next: u64,
}

impl Both {
    fn subscribe(&mut self, topic: u8, id: u64, admit: bool) {
        let name = name(topic);
        self.next += 1;
        let handle = Arc::new(self.next);
        let mut asked = false;
        let result = self.hub.subscribe(&name, id, Arc::clone(&handle), |topic| {
            assert_eq!(**topic, *name);
            asked = true;
            admit
        });
        let is_member = self.model.get(&name).is_some_and(|members| members.contains_key(&id));
        assert_eq!(asked, !is_member);
        let expected = if is_member {
            Subscribed::Already
        } else if admit {
            let members = self.model.entry(name).or_default();
            members.insert(id, self.next);
            Subscribed::New { count: members.len() }
        } else {
            Subscribed::Refused
        };
        assert_eq!(result, expected);
        let is_kept = matches!(result, Subscribed::New { .. });
        assert_eq!(Arc::strong_count(&handle), 1 + usize::from(is_kept));
    }

    fn expect_removed(&mut self, name: &[u8], id: u64) -> Option<usize> {
        let members = self.model.get_mut(name)?;
        members.remove(&id)?;
        let remaining = members.len();
        if remaining == 0 {
            self.model.remove(name);
        }
        Some(remaining)
    }

    fn unsubscribe(&mut self, topic: u8, id: u64) {
        let name = name(topic);
        assert_eq!(self.hub.unsubscribe(&name, id), self.expect_removed(&name, id));
    }

    fn remove_all(&mut self, topics: &[u8], id: u64) {
        let names: Vec<Topic> = topics.iter().map(|&topic| name(topic).into()).collect();
        let mut removed = Vec::new();
        self.hub.remove_all(names.iter().cloned(), id, |topic, remaining| removed.push((topic, remaining)));
        let mut expected = Vec::new();
        for name in names {
            if let Some(remaining) = self.expect_removed(&name, id) {
                expected.push((name, remaining));
            }
        }
        assert_eq!(removed, expected);
    }

    fn publish(&self, name: &[u8]) {
        let mut delivered = Vec::new();
        let count = self.hub.publish(name, |handle| delivered.push(**handle));
        delivered.sort_unstable();
        let mut expected: Vec<u64> =
            self.model.get(name).into_iter().flat_map(BTreeMap::values).copied().collect();
        expected.sort_unstable();
        assert_eq!(delivered, expected);
        assert_eq!(count, expected.len());
        assert_eq!(self.hub.count(name), expected.len());
    }

    fn apply(&mut self, operation: &Operation) {
        match *operation {
            Operation::Subscribe { topic, id } => self.subscribe(topic, id.into(), true),
            Operation::Refuse { topic, id } => self.subscribe(topic, id.into(), false),
            Operation::Unsubscribe { topic, id } => self.unsubscribe(topic, id.into()),
            Operation::Publish { topic } => self.publish(&name(topic)),
            Operation::RemoveAll { topics, id } => self.remove_all(&topics, id.into()),
            Operation::Crowd { topic, id, count, leave } => {
                for id in (u64::from(id)..).take(count.into()) {
                    if leave {
                        self.unsubscribe(topic, id);
                    } else {
                        self.subscribe(topic, id, true);
                    }
                }
            }
            Operation::Spread { topic, id, count, leave } => {
                for step in 0..count {
                    let topic = topic.wrapping_add(step);
                    if leave {
                        self.unsubscribe(topic, id.into());
                    } else {
                        self.subscribe(topic, id.into(), true);
                    }
                }
            }
        }
        assert_eq!(self.hub.topic_count(), self.model.len());
    }
}

fuzz_target!(|operations: Vec<Operation>| {
    let mut both = Both::default();
    for operation in operations.iter().take(64) {
        both.apply(operation);
    }
    for name in both.model.keys() {
        both.publish(name);
    }
});

//! Header lines for every response: also an error in place of a handler's response, a refusal, a file.

use std::borrow::Cow;

use super::ResponseHead;

/// Lines that survive a reset of the head. Empty, and without an allocation, until the first call.
#[derive(Debug, Default)]
pub struct Lasting {
    groups: Vec<Group>,
}

#[derive(Debug)]
struct Group {
    /// The header that the lines replace.
    name: Cow<'static, [u8]>,
    /// Each with its CRLF.
    lines: Box<[u8]>,
}

impl Lasting {
    /// Adds `lines`, which are known to be valid, to the response, in place of earlier ones for the header
    /// `name`.
    pub fn set(&mut self, name: impl Into<Cow<'static, [u8]>>, lines: Box<[u8]>) {
        let name = name.into();
        match self.groups.iter_mut().find(|group| group.name.eq_ignore_ascii_case(&name)) {
            Some(group) => group.lines = lines,
            None => self.groups.push(Group { name, lines }),
        }
    }

    /// Appends the lines to the head. Lines of a header that the user wrote are left out: the user's header
    /// wins.
    pub fn complete(&mut self, head: &mut ResponseHead) {
        for Group { name, lines } in std::mem::take(&mut self.groups) {
            if !head.has(&name) {
                head.append_lines(&lines);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_go_with_whatever_the_head_is() {
        let mut lasting = Lasting::default();
        lasting.set(&b"X-Id"[..], Box::from(&b"X-Id: 1\r\n"[..]));
        lasting.set(&b"x-id"[..], Box::from(&b"X-Id: 2\r\n"[..]));
        lasting.set(&b"X-Own"[..], Box::from(&b"X-Own: 1\r\nVary: X-Own\r\n"[..]));
        let mut head = ResponseHead::default();
        assert_eq!(head.header(b"X-Lost", b"1"), Ok(()));
        head.clear();
        assert_eq!(head.header(b"x-own", b"2"), Ok(()));
        lasting.complete(&mut head);
        assert_eq!(head.fields, b"x-own: 2\r\nX-Id: 2\r\n");
        lasting.complete(&mut head);
        assert_eq!(head.fields, b"x-own: 2\r\nX-Id: 2\r\n");
    }
}

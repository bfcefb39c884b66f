//! The window of one direction of a stream: how much of it may be between its two ends.
//!
//! Both ends keep one and change it alike: what is sent takes room, what was read gives it back. The
//! reader gives back before the writer learns of it, so a writer that keeps to its own window never
//! goes beyond the reader's.

/// So many messages of a stream may be unread, each way.
pub const STREAM_MESSAGES: u32 = 32;
/// So many bytes of them; a message larger than this goes alone.
pub const STREAM_BYTES: u64 = 256 * 1024;

/// What is out, or owed: messages and their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Amount {
    pub(crate) messages: u32,
    pub(crate) bytes: u64,
}

impl Amount {
    pub(crate) const fn add(&mut self, bytes: usize) {
        self.messages += 1;
        self.bytes += bytes as u64;
    }

    pub(crate) const fn is_none(self) -> bool {
        self.messages == 0
    }

    /// Whether a reader says so at once, rather than when it waits for more.
    pub(crate) const fn is_much(self) -> bool {
        self.messages >= STREAM_MESSAGES / 2 || self.bytes >= STREAM_BYTES / 2
    }
}

/// How much of one direction is unread.
#[derive(Debug, Clone, Default)]
pub(crate) struct Window {
    out: Amount,
}

impl Window {
    /// Whether a message of so many bytes may go now.
    pub(crate) const fn fits(&self, bytes: usize) -> bool {
        let room = self.out.bytes.saturating_add(bytes as u64) <= STREAM_BYTES;
        self.out.messages == 0 || (self.out.messages < STREAM_MESSAGES && room)
    }

    /// One goes, if it may.
    pub(crate) const fn take(&mut self, bytes: usize) -> bool {
        let fits = self.fits(bytes);
        if fits {
            self.out.add(bytes);
        }
        fits
    }

    /// So much was read. False: that is more than there was.
    pub(crate) const fn give(&mut self, read: Amount) -> bool {
        let known = read.messages > 0
            && read.messages <= self.out.messages
            && read.bytes <= self.out.bytes
            && (read.messages < self.out.messages || read.bytes == self.out.bytes);
        if known {
            self.out.messages -= read.messages;
            self.out.bytes -= read.bytes;
        }
        known
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_message_larger_than_the_window_goes_alone() {
        let mut window = Window::default();
        let large = STREAM_BYTES as usize + 1;
        assert!(window.take(large) && !window.take(0));
        let read = Amount {
            messages: 1,
            bytes: large as u64,
        };
        assert!(window.give(read) && window.take(0) && !window.take(large));
    }

    #[test]
    fn more_than_was_sent_is_not_given_back() {
        let mut window = Window::default();
        assert!(window.take(10) && window.take(20));
        for (messages, bytes) in [(3, 30), (1, 31), (2, 29), (0, 1), (u32::MAX, u64::MAX)] {
            assert!(!window.give(Amount { messages, bytes }));
        }
        let (messages, bytes) = (2, 30);
        assert!(window.give(Amount { messages, bytes }));
        assert_eq!(window.out, Amount::default());
    }

    proptest! {
        /// A writer and a reader with a wire between them that takes any time.
        #[test]
        fn the_reader_never_holds_more_than_a_window_and_a_writer_is_never_stuck(
            sizes in prop::collection::vec(prop_oneof![
                0usize..2_000, 0usize..200_000, Just(STREAM_BYTES as usize), 0usize..400_000,
            ], 1..120),
            steps in prop::collection::vec(0u8..4, 0..800),
        ) {
            let (mut writer, mut reader) = (Window::default(), Window::default());
            let (mut wire, mut unread, mut credits) =
                (VecDeque::new(), VecDeque::new(), VecDeque::new());
            let (mut owed, mut sent, mut read) = (Amount::default(), 0, 0);
            // After the random part all four go on in turn: it has to end.
            for step in steps.into_iter().chain((0..4).cycle().take(4 * 8 * 120)) {
                match step {
                    0 => if let Some(size) = sizes.get(sent) && writer.take(*size) {
                        wire.push_back(*size);
                        sent += 1;
                    },
                    1 => if let Some(size) = wire.pop_front() {
                        prop_assert!(reader.take(size), "within the window there too");
                        unread.push_back(size);
                    },
                    2 => {
                        if let Some(size) = unread.pop_front() {
                            owed.add(size);
                            read += 1;
                        }
                        if owed.is_much() || (unread.is_empty() && !owed.is_none()) {
                            prop_assert!(reader.give(owed));
                            credits.push_back(std::mem::take(&mut owed));
                        }
                    }
                    _ => if let Some(credit) = credits.pop_front() {
                        prop_assert!(writer.give(credit));
                    },
                }
                let held: usize = unread.iter().sum();
                prop_assert!(unread.len() <= STREAM_MESSAGES as usize);
                prop_assert!(held as u64 <= STREAM_BYTES || unread.len() == 1);
            }
            prop_assert_eq!(read, sizes.len());
        }
    }
}

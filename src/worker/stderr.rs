//! What a worker says on stderr: line by line into the log, the last of it kept for errors.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio::time::timeout;

/// Bytes of one line of the log; a longer line is cut, and nothing of it lost.
const LINE: usize = 64 * 1024;
/// Lines that are kept.
const KEPT: usize = 5;
/// Bytes that are kept of each.
const SHORT: usize = 400;
/// How long the last words may take behind the end of the process.
const LAST: Duration = Duration::from_millis(100);

/// The stderr of one worker.
#[derive(Debug)]
pub(super) struct Stderr {
    kept: Arc<Mutex<VecDeque<String>>>,
    ended: watch::Receiver<bool>,
}

impl Stderr {
    /// Reads until the last holder of the other end is gone.
    ///
    /// # Errors
    /// The descriptor can't be watched.
    pub(super) fn follow(fd: OwnedFd, pool: Arc<str>, pid: u32) -> io::Result<Self> {
        let mut input = pipe::Receiver::from_owned_fd(fd)?;
        let kept = Arc::new(Mutex::new(VecDeque::new()));
        let (end, ended) = watch::channel(false);
        let keep = Arc::clone(&kept);
        tokio::spawn(async move {
            let mut lines = Lines::default();
            let mut chunk = vec![0; 8 * 1024];
            let say = |line: &[u8]| {
                let line = String::from_utf8_lossy(line);
                tracing::info!(target: "centripeta::worker", pool = &*pool, pid, "{line}");
                let mut kept = keep.lock().unwrap_or_else(PoisonError::into_inner);
                if kept.len() == KEPT {
                    kept.pop_front();
                }
                kept.push_back(line.chars().take(SHORT).collect());
            };
            while let Ok(read @ 1..) = input.read(&mut chunk).await {
                lines.push(&chunk[..read], &say);
            }
            lines.end(&say);
            end.send_replace(true);
        });
        Ok(Self { kept, ended })
    }

    /// The last lines, once all have been read, or what there is of them a moment later.
    pub(super) async fn last_words(&self) -> String {
        let mut ended = self.ended.clone();
        // Children of the worker may hold the other end for longer.
        drop(timeout(LAST, ended.wait_for(|ended| *ended)).await);
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let lines: Vec<&str> = kept.iter().map(String::as_str).collect();
        lines.join(" | ")
    }
}

/// Bytes as lines.
#[derive(Debug, Default)]
struct Lines(Vec<u8>);

impl Lines {
    fn push(&mut self, mut bytes: &[u8], say: &impl Fn(&[u8])) {
        while let Some(at) = bytes.iter().position(|byte| *byte == b'\n') {
            self.take(&bytes[..at], say);
            self.end(say);
            bytes = &bytes[at + 1..];
        }
        self.take(bytes, say);
    }

    fn take(&mut self, mut bytes: &[u8], say: &impl Fn(&[u8])) {
        while self.0.len() + bytes.len() > LINE {
            let (now, later) = bytes.split_at(LINE - self.0.len());
            self.0.extend_from_slice(now);
            self.end(say);
            bytes = later;
        }
        self.0.extend_from_slice(bytes);
    }

    /// The line is complete; empty ones are passed over.
    fn end(&mut self, say: &impl Fn(&[u8])) {
        let line = self.0.strip_suffix(b"\r").unwrap_or(&self.0);
        if !line.is_empty() {
            say(line);
        }
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn w28_lines_come_whole_whatever_the_pieces_and_long_ones_in_parts() {
        let said = RefCell::new(Vec::new());
        let say = |line: &[u8]| said.borrow_mut().push(line.to_vec());
        let mut lines = Lines::default();
        lines.push(b"one\r\ntw", &say);
        lines.push(b"o\n\n", &say);
        let long = vec![b'x'; LINE + 7];
        lines.push(&long, &say);
        lines.push(b"\nlast", &say);
        lines.end(&say);
        let said = said.into_inner();
        assert_eq!(said[..2], [b"one".to_vec(), b"two".to_vec()]);
        assert_eq!((said[2].len(), said[3].len()), (LINE, 7));
        assert_eq!(said[4..], [b"last".to_vec()]);
    }
}

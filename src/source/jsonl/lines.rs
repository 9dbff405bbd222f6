//! `LineSplitter`: whole lines of a file or a pipe, of bounded length, with where they end.

use std::io::{self, Read};

/// Bytes that are read at once.
const CHUNK: usize = 256 << 10;

/// Cuts what is read into lines. What stands behind the last line break waits for the next one.
#[derive(Debug)]
pub(super) struct LineSplitter {
    buffer: Vec<u8>,
    /// Start of the line under construction in the buffer, and end of the part that is known to
    /// have no line break.
    start: usize,
    scanned: usize,
    /// Start of that line in the file.
    offset: u64,
    /// Lines before it.
    lines: u64,
    /// Longest line that is kept.
    max: usize,
    /// The line is longer than that, and was not kept. So many bytes of it are gone.
    dropped: u64,
}

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Without its line break; None if it is longer than a line may be.
    pub(super) bytes: Option<Vec<u8>>,
    /// Start of the next line in the file, in bytes.
    pub(super) end: u64,
    /// Its number, from 1.
    pub(super) number: u64,
}

impl LineSplitter {
    /// Goes on at `offset`, behind so many `lines`.
    pub(super) fn new(offset: u64, lines: u64, max: usize) -> Self {
        Self { buffer: Vec::new(), start: 0, scanned: 0, offset, lines, max, dropped: 0 }
    }

    /// Reads what is there, and answers how many bytes that was. To be called when there is no
    /// whole line.
    pub(super) fn feed(&mut self, input: &mut impl Read) -> io::Result<usize> {
        self.buffer.drain(..self.start);
        self.scanned -= self.start;
        self.start = 0;
        if self.buffer.len() > self.max {
            self.dropped += self.buffer.len() as u64;
            self.buffer.clear();
            self.scanned = 0;
        }
        let before = self.buffer.len();
        self.buffer.resize(before + CHUNK, 0);
        let read = input.read(self.buffer.get_mut(before..).unwrap_or_default());
        self.buffer.truncate(before + read.as_ref().map_or(0, |read| *read));
        read
    }

    /// The next whole line.
    pub(super) fn next(&mut self) -> Option<Line> {
        let rest = self.buffer.get(self.scanned..).unwrap_or_default();
        let Some(found) = rest.iter().position(|byte| *byte == b'\n') else {
            self.scanned = self.buffer.len();
            return None;
        };
        let end = self.scanned + found;
        Some(self.cut(end, end + 1))
    }

    /// Tells if something stands behind the last line break.
    pub(super) fn has_rest(&self) -> bool {
        self.buffer.len() > self.start || self.dropped > 0
    }

    /// Returns the rest behind the last line break, as a line: no more comes.
    pub(super) fn rest(&mut self) -> Option<Line> {
        self.has_rest().then(|| self.cut(self.buffer.len(), self.buffer.len()))
    }

    /// Up to where the file was read.
    pub(super) fn read(&self) -> u64 {
        self.offset + self.dropped + (self.buffer.len() - self.start) as u64
    }

    fn cut(&mut self, end: usize, next: usize) -> Line {
        let bytes = self.buffer.get(self.start..end).unwrap_or_default();
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        let fits = self.dropped == 0 && bytes.len() <= self.max;
        let bytes = fits.then(|| bytes.to_vec());
        self.offset += self.dropped + (next - self.start) as u64;
        self.lines += 1;
        (self.dropped, self.start, self.scanned) = (0, next, next);
        Line { bytes, end: self.offset, number: self.lines }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts(splitter: &mut LineSplitter) -> Vec<(Option<String>, u64, u64)> {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        std::iter::from_fn(|| splitter.next()).map(|line| (line.bytes.map(text), line.end, line.number)).collect()
    }

    #[test]
    fn half_a_line_waits_for_its_end_and_a_long_one_is_not_kept() {
        let mut splitter = LineSplitter::new(10, 3, 4);
        splitter.feed(&mut &b"ab\r\ncd"[..]).unwrap();
        assert_eq!(texts(&mut splitter), [(Some("ab".into()), 14, 4)]);
        assert!(splitter.has_rest());
        splitter.feed(&mut &b"e\n12345\n"[..]).unwrap();
        assert_eq!(texts(&mut splitter), [(Some("cde".into()), 18, 5), (None, 24, 6)]);
        for _ in 0..3 {
            splitter.feed(&mut &b"123456"[..]).unwrap();
            assert!(splitter.next().is_none() && splitter.buffer.len() <= 12);
        }
        splitter.feed(&mut &b"\nok"[..]).unwrap();
        assert_eq!(texts(&mut splitter), [(None, 43, 7)]);
        assert_eq!(splitter.rest().unwrap().bytes, Some(b"ok".to_vec()));
        assert_eq!((splitter.rest(), splitter.read()), (None, 45));
    }

    proptest! {
        #[test]
        fn lines_are_the_same_however_they_arrive(text in "[ab\n]{0,40}", cuts in prop::collection::vec(0usize..5, 0..20)) {
            let mut splitter = LineSplitter::new(0, 0, 100);
            let (mut rest, mut lines) = (text.as_bytes(), Vec::new());
            for cut in cuts.into_iter().chain([100]) {
                let (head, tail) = rest.split_at(cut.min(rest.len()));
                splitter.feed(&mut &head[..]).unwrap();
                lines.extend(texts(&mut splitter));
                rest = tail;
            }
            let whole: Vec<String> = text.split_inclusive('\n').filter(|line| line.ends_with('\n'))
                .map(|line| line.trim_end_matches('\n').to_owned()).collect();
            prop_assert_eq!(lines.into_iter().map(|(text, ..)| text.unwrap()).collect::<Vec<_>>(), whole);
        }
    }
}

//! `Reader`: the bytes of one message, read front to back with every length checked.

use crate::event::{Arena, Cell, Kind, Place};

/// Why bytes could not be read. Says what is wrong with their form, never what they hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// The bytes are not what they should be.
    Bad(&'static str),
    /// The value came in binary, and the binary form of its type is not known here.
    BinaryOnly,
}

pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The body of a message. What it reads is addressed from the message's first byte.
    pub(super) fn after_tag(message: &'a [u8]) -> Self {
        Self { bytes: message, at: 1.min(message.len()) }
    }

    pub(super) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub(super) fn u8(&mut self) -> Result<u8, Flaw> {
        self.fixed::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Flaw> {
        self.fixed().map(u16::from_be_bytes)
    }

    pub(super) fn i16(&mut self) -> Result<i16, Flaw> {
        self.fixed().map(i16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Flaw> {
        self.fixed().map(u32::from_be_bytes)
    }

    pub(super) fn i32(&mut self) -> Result<i32, Flaw> {
        self.fixed().map(i32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Flaw> {
        self.fixed().map(u64::from_be_bytes)
    }

    pub(super) fn i64(&mut self) -> Result<i64, Flaw> {
        self.fixed().map(i64::from_be_bytes)
    }

    pub(super) fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Flaw> {
        let bytes = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<N>()).ok_or(SHORT)?;
        self.at += N;
        Ok(*bytes)
    }

    /// A text that ends with a zero byte.
    pub(super) fn cstr(&mut self) -> Result<&'a str, Flaw> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let len = rest.iter().position(|&byte| byte == 0).ok_or(Flaw::Bad("a name without an end"))?;
        self.at += len + 1;
        utf8(&rest[..len])
    }

    /// Bytes preceded by their length.
    pub(super) fn sized(&mut self) -> Result<Field<'a>, Flaw> {
        let len = self.i32()?;
        self.take(len)
    }

    /// Bytes preceded by their length, as a DataRow has them; none for a null.
    pub(super) fn nullable(&mut self) -> Result<Option<Field<'a>>, Flaw> {
        match self.i32()? {
            -1 => Ok(None),
            len => self.take(len).map(Some),
        }
    }

    /// `len` bytes, a length that the server gave.
    pub(super) fn take(&mut self, len: i32) -> Result<Field<'a>, Flaw> {
        let len = usize::try_from(len).map_err(|_| Flaw::Bad("a negative length"))?;
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let bytes = rest.get(..len).ok_or(SHORT)?;
        let at = u32::try_from(self.at).map_err(|_| TOO_LONG)?;
        self.at += len;
        Ok(Field { bytes, at })
    }

    /// That nothing is left: what is not understood must not be skipped.
    pub(super) fn end(&self) -> Result<(), Flaw> {
        if self.left() == 0 { Ok(()) } else { Err(Flaw::Bad("bytes after its end")) }
    }
}

const SHORT: Flaw = Flaw::Bad("it ends too early");
const TOO_LONG: Flaw = Flaw::Bad("more bytes than a batch can address");

/// The bytes of one value, and where they stand in the message.
#[derive(Clone, Copy)]
pub(super) struct Field<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: u32,
}

impl<'a> Field<'a> {
    /// The bytes as they stand, without the first `skip`.
    pub(super) fn slice(self, kind: Kind, skip: u32, cell: &mut Cell) -> Result<(), Flaw> {
        let len = (self.bytes.len() as u32).saturating_sub(skip);
        *cell = Cell::Slice { kind, place: Place::Frame, start: self.at.saturating_add(skip), len };
        Ok(())
    }

    /// The bytes as text, as they stand. Most are ASCII and short, which is seen sooner than that they are UTF-8.
    pub(super) fn text(self, kind: Kind, cell: &mut Cell) -> Result<(), Flaw> {
        if !self.bytes.is_ascii() {
            utf8(self.bytes)?;
        }
        self.slice(kind, 0, cell)
    }

    pub(super) fn reader(self) -> Reader<'a> {
        Reader::new(self.bytes)
    }
}

/// What was appended to `arena.derived` from `start` on.
pub(super) fn derived(kind: Kind, start: usize, arena: &Arena, cell: &mut Cell) -> Result<(), Flaw> {
    let (start, len) = extent(start, arena.derived.len())?;
    *cell = Cell::Slice { kind, place: Place::Derived, start, len };
    Ok(())
}

/// What was appended to `arena.floats` from `start` on.
pub(super) fn vector(start: usize, arena: &Arena, cell: &mut Cell) -> Result<(), Flaw> {
    let (start, len) = extent(start, arena.floats.len())?;
    *cell = Cell::Vector { start, len };
    Ok(())
}

fn extent(start: usize, end: usize) -> Result<(u32, u32), Flaw> {
    let end = u32::try_from(end).map_err(|_| TOO_LONG)?;
    let start = u32::try_from(start).map_err(|_| TOO_LONG)?;
    Ok((start, end.saturating_sub(start)))
}

pub(super) fn utf8(bytes: &[u8]) -> Result<&str, Flaw> {
    simdutf8::basic::from_utf8(bytes).map_err(|_| Flaw::Bad("text that is not UTF-8"))
}

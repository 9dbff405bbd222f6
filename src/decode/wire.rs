//! `Reader`: the bytes of one message, read front to back with every length checked.

use crate::event::{self, Arena, Cell, Kind, Place};

/// The reason why bytes could not be read. Says what is wrong with their form, never what they
/// hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// The bytes are not what they should be.
    Bad(&'static str),
    /// The value came in binary, and the binary form of its type is not known here.
    BinaryOnly,
}

#[derive(Clone)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    /// Number of bytes that there were, from which the present place is told.
    whole: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, whole: bytes.len() }
    }

    /// The body of a message. What it reads is addressed from the message's first byte.
    pub(super) fn after_tag(message: &'a [u8]) -> Self {
        Self { rest: message.get(1..).unwrap_or_default(), whole: message.len() }
    }

    pub(super) fn left(&self) -> usize {
        self.rest.len()
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
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(SHORT)?;
        self.rest = rest;
        Ok(*bytes)
    }

    /// A text that ends with a zero byte.
    pub(super) fn cstr(&mut self) -> Result<&'a str, Flaw> {
        let len = self.rest.iter().position(|&byte| byte == 0).ok_or(Flaw::Bad("a name without an end"))?;
        let (text, rest) = self.rest.split_at(len);
        self.rest = &rest[1..];
        utf8(text)
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
        let at = self.whole - self.rest.len();
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(SHORT)?;
        self.rest = rest;
        Ok(Field { bytes, at })
    }

    /// Checks that nothing is left: bytes that are not understood must not be skipped.
    pub(super) fn end(&self) -> Result<(), Flaw> {
        if self.left() == 0 { Ok(()) } else { Err(LONG) }
    }
}

const SHORT: Flaw = Flaw::Bad("it ends too early");
const LONG: Flaw = Flaw::Bad("bytes after its end");
const NOT_UTF8: Flaw = Flaw::Bad("text that is not UTF-8");
const TOO_LONG: Flaw = Flaw::Bad("more bytes than a batch can address");

/// The bytes of one value, and where they stand in the message.
#[derive(Clone, Copy)]
pub(super) struct Field<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Field<'a> {
    /// The bytes as they stand, without the first `skip`.
    #[inline]
    pub(super) fn slice(self, kind: Kind, skip: usize, cell: &mut Cell) -> Result<(), Flaw> {
        let start = u32::try_from(self.at + skip).map_err(|_| TOO_LONG)?;
        let len = self.bytes.len().saturating_sub(skip) as u32;
        *cell = Cell::Slice { kind, place: Place::Frame, start, len };
        Ok(())
    }

    /// The bytes as text, as they stand; as bytes if they are none, which a database without an
    /// encoding (SQL_ASCII) may hold: what is no text must not stop all that follows.
    #[inline]
    pub(super) fn text(self, kind: Kind, cell: &mut Cell) -> Result<(), Flaw> {
        let kind = if event::is_utf8(self.bytes) { kind } else { Kind::Bytes };
        self.slice(kind, 0, cell)
    }

    /// All of its bytes, of a value that is always as long.
    pub(super) fn fixed<const N: usize>(self) -> Result<[u8; N], Flaw> {
        <[u8; N]>::try_from(self.bytes).map_err(|_| if self.bytes.len() < N { SHORT } else { LONG })
    }

    pub(super) fn reader(self) -> Reader<'a> {
        Reader::new(self.bytes)
    }
}

/// Lets `cell` point to the bytes that were appended to `arena.derived` from `start` on.
pub(super) fn derived(kind: Kind, start: usize, arena: &Arena, cell: &mut Cell) -> Result<(), Flaw> {
    let (start, len) = extent(start, arena.derived.len())?;
    *cell = Cell::Slice { kind, place: Place::Derived, start, len };
    Ok(())
}

/// Lets `cell` point to the numbers that were appended to `arena.floats` from `start` on.
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
    event::utf8(bytes).ok_or(NOT_UTF8)
}

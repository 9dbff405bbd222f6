//! Arrays, in text and in binary format, as JSON arrays. Lower bounds other than 1 are not shown.

use super::codec::{Codec, Elements};
use super::wire::{Field, Flaw, Reader, derived, utf8};
use super::{binary, json, text};
use crate::event::{Arena, Cell, Kind};

/// Postgres' `MAXDIM`.
const MAX_DIMENSIONS: usize = 6;

/// Postgres' `MaxAllocSize`: the longest text it makes itself. A few bytes of binary numeric are
/// many digits.
const MAX_JSON: usize = 0x3FFF_FFFF;

/// The place where one element is made before it becomes JSON; kept, so that arrays cost no
/// allocation each.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    element: Vec<u8>,
    arena: Arena,
}

/// Reads `{1,NULL,"a \"b\""}`, nested or behind bounds as in `[0:1]={1,2}`.
pub(super) fn text(
    codec: Codec,
    elements: Elements,
    field: Field<'_>,
    arena: &mut Arena,
    scratch: &mut Scratch,
    cell: &mut Cell,
) -> Result<(), Flaw> {
    utf8(field.bytes)?;
    let start = arena.derived.len();
    let mut rest = without_bounds(field.bytes)?;
    let mut depth = 0;
    loop {
        if let Some(inner) = rest.strip_prefix(b"{") {
            depth += 1;
            if depth > MAX_DIMENSIONS {
                return Err(Flaw::Bad("an array of too many dimensions"));
            }
            arena.derived.push(b'[');
            rest = inner;
            if rest.first() != Some(&b'}') {
                continue;
            }
        } else if depth > 0 {
            rest = text_element(codec, elements, rest, arena, scratch)?;
            within_limit(start, arena)?;
        }
        loop {
            match rest.split_first() {
                Some((b'}', behind)) if depth > 0 => {
                    depth -= 1;
                    arena.derived.push(b']');
                    rest = behind;
                    if depth > 0 {
                        continue;
                    }
                    if !rest.is_empty() {
                        return Err(Flaw::Bad("bytes after the array's end"));
                    }
                    return derived(Kind::Json, start, arena, cell);
                }
                Some((&byte, behind)) if depth > 0 && byte == elements.delimiter => {
                    arena.derived.push(b',');
                    rest = behind;
                    break;
                }
                _ => return Err(Flaw::Bad("not an array")),
            }
        }
    }
}

fn without_bounds(bytes: &[u8]) -> Result<&[u8], Flaw> {
    if bytes.first() != Some(&b'[') {
        return Ok(bytes);
    }
    let end = bytes.iter().position(|&byte| byte == b'=');
    let (bounds, array) =
        end.and_then(|end| bytes.split_at_checked(end)).ok_or(Flaw::Bad("bounds without an array"))?;
    if bounds.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'[' | b']' | b':' | b'-' | b'+')) {
        Ok(array.get(1..).unwrap_or_default())
    } else {
        Err(Flaw::Bad("malformed bounds"))
    }
}

/// Appends the element at the front of `bytes` as JSON; returns what stands behind it.
fn text_element<'a>(
    codec: Codec,
    elements: Elements,
    bytes: &'a [u8],
    arena: &mut Arena,
    scratch: &mut Scratch,
) -> Result<&'a [u8], Flaw> {
    let (element, behind) = match bytes.strip_prefix(b"\"") {
        Some(quoted) => unquote(quoted, &mut scratch.element)?,
        None => {
            let end = bytes.iter().position(|&byte| byte == elements.delimiter || byte == b'}');
            let (element, behind) = end.and_then(|end| bytes.split_at_checked(end)).ok_or(UNENDED)?;
            if element.is_empty() || element.iter().any(|byte| matches!(byte, b'"' | b'\\' | b'{')) {
                return Err(Flaw::Bad("an element without quotes that needs them"));
            }
            if element == b"NULL" {
                arena.derived.extend_from_slice(b"null");
                return Ok(behind);
            }
            (element, behind)
        }
    };
    scratch.arena.derived.clear();
    scratch.arena.floats.clear();
    let mut cell = Cell::Null;
    text::cell(codec, Field { bytes: element, at: 0 }, &mut scratch.arena, &mut cell)?;
    json::write(codec, cell, element, &scratch.arena, &mut arena.derived);
    Ok(behind)
}

const UNENDED: Flaw = Flaw::Bad("an array without an end");

/// The element up to its closing quote, and what stands behind the quote. Copied only if there are
/// escapes.
fn unquote<'a, 'b>(quoted: &'a [u8], copy: &'b mut Vec<u8>) -> Result<(&'b [u8], &'a [u8]), Flaw>
where
    'a: 'b,
{
    let special = |bytes: &[u8]| bytes.iter().position(|byte| matches!(byte, b'"' | b'\\'));
    let split = |bytes: &'a [u8]| special(bytes).and_then(|at| bytes.split_at_checked(at)).ok_or(UNENDED);
    let (plain, mut rest) = split(quoted)?;
    if let Some(behind) = rest.strip_prefix(b"\"") {
        return Ok((plain, behind));
    }
    copy.clear();
    copy.extend_from_slice(plain);
    loop {
        match rest {
            [b'"', behind @ ..] => return Ok((copy, behind)),
            [b'\\', escaped, behind @ ..] => {
                copy.push(*escaped);
                let (plain, next) = split(behind)?;
                copy.extend_from_slice(plain);
                rest = next;
            }
            _ => return Err(UNENDED),
        }
    }
}

/// Reads the form of `array_send`.
pub(super) fn binary(
    codec: Codec,
    elements: Elements,
    field: Field<'_>,
    arena: &mut Arena,
    scratch: &mut Scratch,
    cell: &mut Cell,
) -> Result<(), Flaw> {
    let mut reader = field.reader();
    let count = usize::try_from(reader.i32()?).ok().filter(|&count| count <= MAX_DIMENSIONS);
    let count = count.ok_or(Flaw::Bad("an array of too many dimensions"))?;
    if !matches!(reader.i32()?, 0 | 1) || reader.u32()? != elements.oid {
        return Err(Flaw::Bad("an array of other elements"));
    }
    let mut lengths = [0; MAX_DIMENSIONS];
    for length in lengths.iter_mut().take(count) {
        *length =
            usize::try_from(reader.i32()?).ok().filter(|&length| length > 0).ok_or(Flaw::Bad("an empty dimension"))?;
        let _lower_bound = reader.i32()?;
    }
    let start = arena.derived.len();
    if count == 0 {
        arena.derived.extend_from_slice(b"[]");
    } else {
        let mut elements = BinaryElements { codec, reader: &mut reader, arena, scratch, start };
        elements.dimension(lengths.get(..count).unwrap_or_default())?;
    }
    reader.end()?;
    derived(Kind::Json, start, arena, cell)
}

struct BinaryElements<'a, 'f> {
    codec: Codec,
    reader: &'a mut Reader<'f>,
    arena: &'a mut Arena,
    scratch: &'a mut Scratch,
    start: usize,
}

impl BinaryElements<'_, '_> {
    /// Ends at the first element that is announced and not there: nothing is made for announced
    /// ones.
    fn dimension(&mut self, lengths: &[usize]) -> Result<(), Flaw> {
        let Some((&length, inner)) = lengths.split_first() else {
            return self.element();
        };
        for index in 0..length {
            self.arena.derived.push(if index == 0 { b'[' } else { b',' });
            self.dimension(inner)?;
        }
        self.arena.derived.push(b']');
        Ok(())
    }

    fn element(&mut self) -> Result<(), Flaw> {
        let length = self.reader.i32()?;
        if length == -1 {
            self.arena.derived.extend_from_slice(b"null");
            return Ok(());
        }
        let element = Field { at: 0, ..self.reader.take(length)? };
        self.scratch.arena.derived.clear();
        self.scratch.arena.floats.clear();
        let mut cell = Cell::Null;
        binary::cell(self.codec, element, &mut self.scratch.arena, &mut cell)?;
        json::write(self.codec, cell, element.bytes, &self.scratch.arena, &mut self.arena.derived);
        within_limit(self.start, self.arena)
    }
}

fn within_limit(start: usize, arena: &Arena) -> Result<(), Flaw> {
    if arena.derived.len() - start > MAX_JSON { Err(Flaw::Bad("an array longer than 1 GiB as JSON")) } else { Ok(()) }
}

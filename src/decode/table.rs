//! `Table`: a relation of the stream with the plan of its columns; reads rows into a batch.

use std::ops::Range;
use std::sync::Arc;

use super::array::{self, Scratch};
use super::catalog::Catalog;
use super::codec::Plan;
use super::error::DecodeError;
use super::wire::{Field, Flaw, Reader, derived};
use super::{binary, text};
use crate::event::{Arena, Batch, BatchBuilder, Cell, Place, Relation, Value};
use crate::sabotage::Breakage;

#[derive(Debug)]
pub(super) struct Table {
    pub(super) relation: Arc<Relation>,
    plans: Box<[Plan]>,
}

impl Table {
    pub(super) fn new(relation: Arc<Relation>, catalog: &Catalog) -> Self {
        let plans = relation.columns.iter().map(|column| catalog.plan(column.type_oid)).collect();
        Self { relation, plans }
    }

    /// Reads a row of the stream; returns where its cells lie.
    pub(super) fn row(
        &self,
        message: &'static str,
        reader: &mut Reader<'_>,
        out: &mut BatchBuilder,
        scratch: &mut Scratch,
    ) -> Result<Range<u32>, DecodeError> {
        let malformed = |flaw| malformed(message, flaw);
        let start = self.begin_row(message, reader, out)?;
        let (cells, arena) = out.next_cells(self.plans.len());
        // A reader that nobody else can see stays in registers, as long as what is rare is called and not part of the loop.
        let mut columns = reader.clone();
        for (index, (plan, cell)) in self.plans.iter().zip(cells).enumerate() {
            match columns.u8().map_err(malformed)? {
                b'b' => {
                    let field = columns.sized().map_err(malformed)?;
                    plan.binary(field, arena, scratch, cell).map_err(|flaw| self.explain(index, flaw))?
                }
                b't' => {
                    let field = columns.sized().map_err(malformed)?;
                    plan.text(field, arena, scratch, cell).map_err(|flaw| self.explain(index, flaw))?
                }
                format => *cell = absent(format).map_err(malformed)?,
            }
        }
        *reader = columns;
        self.end_row(message, start)
    }

    /// Reads a row that a query answered in text format; returns where its cells lie.
    pub(super) fn data_row(
        &self,
        message: &'static str,
        reader: &mut Reader<'_>,
        out: &mut BatchBuilder,
        scratch: &mut Scratch,
    ) -> Result<Range<u32>, DecodeError> {
        let malformed = |flaw| malformed(message, flaw);
        let start = self.begin_row(message, reader, out)?;
        let (cells, arena) = out.next_cells(self.plans.len());
        for (index, (plan, cell)) in self.plans.iter().zip(cells).enumerate() {
            if let Some(field) = reader.nullable().map_err(malformed)? {
                plan.text(field, arena, scratch, cell).map_err(|flaw| self.explain(index, flaw))?;
            }
        }
        self.end_row(message, start)
    }

    /// Copies values of a row that a query answered, after its first `skip`, into the gaps of an
    /// event's row.
    pub(super) fn fill(
        &self,
        message: &'static str,
        data_row: &[u8],
        skip: usize,
        batch: &mut Batch,
        event: usize,
    ) -> Result<(), DecodeError> {
        let malformed = |flaw| malformed(message, flaw);
        let (mut reader, mut scratch) = (Reader::new(data_row), Scratch::default());
        reader.i16().map_err(malformed)?;
        for _ in 0..skip {
            reader.nullable().map_err(malformed)?;
        }
        for (index, plan) in self.plans.iter().enumerate() {
            let field = reader.nullable().map_err(malformed)?;
            let Some((gap, arena)) = batch.gap(event, index) else { continue };
            let mut cell = Cell::Null;
            if let Some(field) = field {
                plan.text(field, arena, &mut scratch, &mut cell).map_err(|flaw| self.explain(index, flaw))?;
            }
            *gap = kept(cell, data_row, arena).map_err(malformed)?;
        }
        reader.end().map_err(malformed)
    }

    fn begin_row(
        &self,
        message: &'static str,
        reader: &mut Reader<'_>,
        out: &BatchBuilder,
    ) -> Result<u32, DecodeError> {
        let count = reader.i16().map_err(|flaw| malformed(message, flaw))?;
        if usize::try_from(count) != Ok(self.plans.len()) {
            let (relation, expected) = (self.relation.to_string(), self.plans.len());
            return Err(DecodeError::ColumnCount { relation, expected, found: count });
        }
        Ok(out.row_start())
    }

    fn end_row(&self, message: &'static str, start: u32) -> Result<Range<u32>, DecodeError> {
        u32::try_from(u64::from(start) + self.plans.len() as u64)
            .map(|end| start..end)
            .map_err(|_| malformed(message, Flaw::Bad("more cells than a batch can address")))
    }

    /// Puts what the old row knows into the new one's place where the server left a column out: all
    /// of a full old row, the key's columns of a key.
    pub(super) fn fill_unchanged(&self, old: &Range<u32>, new: &Range<u32>, full: bool, out: &mut BatchBuilder) {
        let cells = out.cells_mut(old.start..new.end);
        let Some((old, new)) = cells.split_at_mut_checked(self.plans.len()) else { return };
        for ((old, new), column) in old.iter().zip(new).zip(&self.relation.columns) {
            if *new == Cell::Unchanged && (full || column.key) {
                *new = *old;
            }
        }
    }

    /// Tells if two rows, in the frame pushed last, have the same key.
    pub(super) fn same_key(&self, old: &Range<u32>, new: &Range<u32>, out: &BatchBuilder) -> bool {
        let pairs = out.row(old.clone()).iter().zip(out.row(new.clone()).iter());
        pairs.zip(&self.relation.columns).all(|((old, new), column)| !column.key || same(old, new))
    }

    #[cold]
    fn explain(&self, index: usize, flaw: Flaw) -> DecodeError {
        let relation = self.relation.to_string();
        let column = self.relation.columns.get(index);
        let (column, type_name) =
            column.map(|column| (column.name.clone(), column.type_name.clone())).unwrap_or_default();
        match flaw {
            Flaw::Bad(flaw) => DecodeError::Value { relation, column, type_name, flaw },
            Flaw::BinaryOnly => DecodeError::BinaryOnly { relation, column, type_name },
        }
    }
}

/// The cell of a column without a value.
#[inline(never)]
fn absent(format: u8) -> Result<Cell, Flaw> {
    match format {
        b'n' => Ok(Cell::Null),
        b'u' if Breakage::UnchangedAsNull.is_on() => Ok(Cell::Null),
        b'u' => Ok(Cell::Unchanged),
        _ => Err(Flaw::Bad("a column of an unknown format")),
    }
}

impl Plan {
    /// Reads a value in binary format.
    #[inline(always)]
    fn binary(self, field: Field<'_>, arena: &mut Arena, scratch: &mut Scratch, cell: &mut Cell) -> Result<(), Flaw> {
        match self.array {
            None => binary::cell(self.codec, field, arena, cell),
            Some(elements) => array::binary(self.codec, elements, field, arena, scratch, cell),
        }
    }

    /// Reads a value in text format.
    #[inline(never)]
    fn text(self, field: Field<'_>, arena: &mut Arena, scratch: &mut Scratch, cell: &mut Cell) -> Result<(), Flaw> {
        match self.array {
            None => text::cell(self.codec, field, arena, cell),
            Some(elements) => array::text(self.codec, elements, field, arena, scratch, cell),
        }
    }
}

/// The cell without the frame that it points into.
fn kept(cell: Cell, frame: &[u8], arena: &mut Arena) -> Result<Cell, Flaw> {
    let Cell::Slice { kind, place: Place::Frame, start, len } = cell else { return Ok(cell) };
    let bytes = frame.get(start as usize..).and_then(|rest| rest.get(..len as usize)).unwrap_or_default();
    let (at, mut kept) = (arena.derived.len(), Cell::Null);
    arena.derived.extend_from_slice(bytes);
    derived(kind, at, arena, &mut kept)?;
    Ok(kept)
}

/// Equal as parts of a key: NaN is equal to itself, as it is in Postgres' indexes.
fn same(old: Value<'_>, new: Value<'_>) -> bool {
    match (old, new) {
        (Value::Float(old), Value::Float(new)) => old == new || (old.is_nan() && new.is_nan()),
        _ => old == new,
    }
}

#[cold]
pub(super) fn malformed(message: &'static str, flaw: Flaw) -> DecodeError {
    let flaw = match flaw {
        Flaw::Bad(flaw) => flaw,
        Flaw::BinaryOnly => "a binary value",
    };
    DecodeError::Malformed { message, flaw }
}

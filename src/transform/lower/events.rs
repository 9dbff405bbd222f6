//! The events of a batch, on their way into a guest: straight from the batch's cells, each row in
//! one stroke.
//!
//! The code that `derive(Lower)` writes would look the guest's memory up anew for each number in a
//! row, and would want the rows as lists first.

use std::mem::MaybeUninit;

use wasmtime::component::__internal::wasmtime_environ::component::StringEncoding;
use wasmtime::component::__internal::{CanonicalAbiInfo, InstanceType, InterfaceType, LowerContext};
use wasmtime::component::{ComponentType, Lower};
use wasmtime::{Result, ValRaw, format_err};

use crate::event::{Batch, Event, Operation, Row, Value};
use crate::transform::bindings::pgstream::host::types as wit;

/// Bytes of a `value`: its case, and from the eighth byte on what it holds.
const VALUE: usize = 16;

/// Bytes of an `event`.
const EVENT: usize = 64;

const _: () = assert!(<wit::Value<'_> as ComponentType>::SIZE32 == VALUE && wit::Event::<'_>::SIZE32 == EVENT);

/// The `list<event>` of a batch.
pub(in crate::transform) struct Events<'a> {
    pub(super) batch: &'a Batch,
    /// The columns that cross, of each relation.
    pub(super) kept: &'a [Vec<u32>],
}

// SAFETY: what the trait says of a list is said of this one, and it is checked as a list of the events that the WIT has.
#[allow(unsafe_code)]
unsafe impl ComponentType for Events<'_> {
    type Lower = [ValRaw; 2];

    const ABI: CanonicalAbiInfo = CanonicalAbiInfo::POINTER_PAIR;

    fn typecheck(ty: &InterfaceType, types: &InstanceType<'_>) -> Result<()> {
        <[wit::Event<'_>] as ComponentType>::typecheck(ty, types)
    }
}

// SAFETY: both functions write all of what a list is, its place and its length. The guest's memory is only written through
// slices of it, whose bounds are checked.
#[allow(unsafe_code)]
unsafe impl Lower for Events<'_> {
    fn linear_lower_to_flat<T>(
        &self,
        cx: &mut LowerContext<'_, T>,
        ty: InterfaceType,
        dst: &mut MaybeUninit<[ValRaw; 2]>,
    ) -> Result<()> {
        let at = self.lower(cx, ty)?;
        dst.write([ValRaw::i64(at as i64), ValRaw::i64(self.batch.events().len() as i64)]);
        Ok(())
    }

    fn linear_lower_to_memory<T>(&self, cx: &mut LowerContext<'_, T>, ty: InterfaceType, offset: usize) -> Result<()> {
        let at = self.lower(cx, ty)?;
        *cx.get(offset) = list(at, self.batch.events().len())?;
        Ok(())
    }
}

impl Events<'_> {
    /// Writes the events into memory that the guest gives for them; answers where they lie.
    fn lower<T>(&self, cx: &mut LowerContext<'_, T>, ty: InterfaceType) -> Result<usize> {
        let types = Types::of(cx, ty)?;
        let events = self.batch.events();
        let at = cx.realloc(0, 0, wit::Event::ALIGN32, events.len() * EVENT)?;
        let (mut image, mut row) = (Vec::with_capacity(events.len() * EVENT), Vec::new());
        for event in events {
            let kept = self.kept.get(event.relation as usize).map_or(&[][..], Vec::as_slice);
            let new = types.row(cx, self.batch.row(event), kept, &mut row)?;
            let old = self.batch.old_row(event).map(|old| types.row(cx, old, kept, &mut row)).transpose()?;
            image.extend_from_slice(&written(event, new, old));
        }
        cx.as_slice_mut()[at..][..image.len()].copy_from_slice(&image);
        Ok(at)
    }
}

/// An `event`, with its rows where they lie.
fn written(event: &Event, row: [u8; 8], old_row: Option<[u8; 8]>) -> [u8; EVENT] {
    let mut image = [0; EVENT];
    image[0] = match event.operation {
        Operation::Insert => 0,
        Operation::Update => 1,
        Operation::Delete => 2,
        Operation::Truncate => 3,
    };
    image[4..8].copy_from_slice(&event.relation.to_le_bytes());
    image[8..16].copy_from_slice(&row);
    if let Some(old_row) = old_row {
        image[16] = 1;
        image[20..28].copy_from_slice(&old_row);
    }
    image[32..40].copy_from_slice(&event.position.lsn.0.to_le_bytes());
    image[40..44].copy_from_slice(&event.position.ordinal.to_le_bytes());
    image[48..56].copy_from_slice(&event.commit_time.to_le_bytes());
    image[56..60].copy_from_slice(&event.xid.to_le_bytes());
    image[60] = event.snapshot.into();
    image
}

/// A list as it stands in memory.
fn list(at: usize, len: usize) -> Result<[u8; 8]> {
    let (at, len) = (u32::try_from(at)?, u32::try_from(len)?);
    Ok((u64::from(len) << 32 | u64::from(at)).to_le_bytes())
}

/// The guest's encoding of texts, and its types for the bytes and vectors in a row.
struct Types {
    utf8: bool,
    bytes: InterfaceType,
    vector: InterfaceType,
}

impl Types {
    fn of<T>(cx: &LowerContext<'_, T>, events: InterfaceType) -> Result<Self> {
        let found = || {
            let InterfaceType::List(events) = events else { return None };
            let InterfaceType::Record(event) = cx.types[events].element else { return None };
            let InterfaceType::List(row) = cx.types[event].fields.iter().find(|field| field.name == "row")?.ty else {
                return None;
            };
            let InterfaceType::Variant(value) = cx.types[row].element else { return None };
            let holds = |case| cx.types[value].cases.get(case).copied().flatten();
            let utf8 = matches!(cx.options().string_encoding, StringEncoding::Utf8);
            Some(Self { utf8, bytes: holds("bytes")?, vector: holds("vector")? })
        };
        found().ok_or_else(|| format_err!("the type of `handle` is not the one that was checked"))
    }

    /// Writes those columns of a row that are kept; `image` is where it is put together. A truncate
    /// has no row.
    fn row<T>(&self, cx: &mut LowerContext<'_, T>, row: Row<'_>, kept: &[u32], image: &mut Vec<u8>) -> Result<[u8; 8]> {
        let kept = if row.is_empty() { &[] } else { kept };
        let at = cx.realloc(0, 0, wit::Value::ALIGN32, kept.len() * VALUE)?;
        image.clear();
        for &index in kept {
            let value = row.get(index as usize).unwrap_or(Value::Null);
            let (case, held) = self.value(cx, value, at + image.len() + VALUE / 2)?;
            image.extend_from_slice(&u64::from(case).to_le_bytes());
            image.extend_from_slice(&held);
        }
        cx.as_slice_mut()[at..][..image.len()].copy_from_slice(image);
        list(at, kept.len())
    }

    /// The case of a value and what it holds, which will lie at `slot`.
    fn value<T>(&self, cx: &mut LowerContext<'_, T>, value: Value<'_>, slot: usize) -> Result<(u8, [u8; 8])> {
        Ok(match value {
            Value::Null => (0, [0; 8]),
            Value::Unchanged => (1, [0; 8]),
            Value::Bool(value) => (2, u64::from(value).to_le_bytes()),
            Value::Int(value) => (3, value.to_le_bytes()),
            Value::Float(value) => (4, value.to_le_bytes()),
            Value::Numeric(text) => (5, self.text(cx, text, slot)?),
            Value::Text(text) => (6, self.text(cx, text, slot)?),
            Value::Bytes(bytes) => (7, lowered(cx, bytes, self.bytes, slot)?),
            Value::Timestamp(micros) => (8, micros.to_le_bytes()),
            Value::Date(days) => (9, i64::from(days).to_le_bytes()),
            Value::Time(micros) => (10, micros.to_le_bytes()),
            Value::Uuid(text) => (11, self.text(cx, text, slot)?),
            Value::Json(text) => (12, self.text(cx, text, slot)?),
            Value::Vector(numbers) => (13, lowered(cx, numbers, self.vector, slot)?),
            Value::Other(text) => (14, self.text(cx, text, slot)?),
        })
    }

    fn text<T>(&self, cx: &mut LowerContext<'_, T>, text: &str, slot: usize) -> Result<[u8; 8]> {
        if !self.utf8 || i32::try_from(text.len()).is_err() {
            return lowered(cx, text, InterfaceType::String, slot);
        }
        let at = cx.realloc(0, 0, 1, text.len())?;
        cx.as_slice_mut()[at..][..text.len()].copy_from_slice(text.as_bytes());
        list(at, text.len())
    }
}

/// A list that the engine lowers itself, as it then stands at `slot`.
fn lowered<T, L>(cx: &mut LowerContext<'_, T>, value: &L, ty: InterfaceType, slot: usize) -> Result<[u8; 8]>
where
    L: Lower + ?Sized,
{
    value.linear_lower_to_memory(cx, ty, slot)?;
    Ok(*cx.get(slot))
}

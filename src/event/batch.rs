//! `Batch`: events with the bytes that their values point into, and the position at which the batch
//! ends.

mod gaps;

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::{Arena, BadLine, Cell, EventHead, Operation, Relation, Value};
use crate::lsn::{Lsn, Position};

/// One committed change of a row. Its values are read through [`Batch::row`].
#[derive(Clone, Debug)]
pub struct Event {
    /// The kind of change.
    pub operation: Operation,
    /// Index into [`Batch::relations`].
    pub relation: u32,
    /// Place of the event in the stream.
    pub position: Position,
    /// Time of the transaction's commit, in µs since 1970-01-01 UTC.
    pub commit_time: i64,
    /// The transaction's id.
    pub xid: u32,
    /// Read by a copy of the table rather than streamed.
    pub snapshot: bool,
    /// Read by a copy that was asked for because an earlier event of the row was set aside.
    pub replayed: bool,
    frame: u32,
    row: Range<u32>,
    old_row: Option<Range<u32>>,
}

/// Events in commit order, and how far the stream may be confirmed once all of them are durable.
///
/// Values are not copied out of the server's messages: a cell points into its event's frame. What
/// had to be converted lies in two arenas, so that a batch costs a handful of allocations however
/// many columns it has. A batch without events only carries progress: it is how a keepalive travels
/// in the same queue as the rows.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    body: Arc<Body>,
    /// The part of the body's events that is the batch's own.
    range: Range<usize>,
    ends_at: Option<Lsn>,
    begins_anew: bool,
    /// None, or some.
    bad_lines: Option<Arc<[BadLine]>>,
}

/// Data that a batch and its parts share.
#[derive(Debug, Default)]
struct Body {
    relations: Vec<Arc<Relation>>,
    events: Vec<Event>,
    cells: Vec<Cell>,
    frames: Vec<Bytes>,
    arena: Arena,
    frame_bytes: usize,
}

impl Batch {
    /// A batch without events: everything before it in the queue may be confirmed up to `ends_at`.
    pub fn marker(ends_at: Lsn) -> Self {
        Self { ends_at: Some(ends_at), ..Self::default() }
    }

    /// The relations that the events refer to by index.
    pub fn relations(&self) -> &[Arc<Relation>] {
        &self.body.relations
    }

    /// The events, in commit order.
    pub fn events(&self) -> &[Event] {
        self.body.events.get(self.range.clone()).unwrap_or_default()
    }

    /// The events `range` of this batch as a batch of their own, over the same messages and cells.
    /// It ends nowhere: nothing is confirmed by it.
    pub fn part(&self, range: Range<usize>) -> Self {
        let index = |index: usize| self.range.start.saturating_add(index).min(self.range.end);
        Self { body: Arc::clone(&self.body), range: index(range.start)..index(range.end), ..Self::default() }
    }

    /// The relation of `event`.
    pub fn relation(&self, event: &Event) -> &Arc<Relation> {
        self.body.relation(event)
    }

    /// The new row; for a delete what the replica identity gives of the old one. Empty for a
    /// truncate.
    pub fn row(&self, event: &Event) -> Row<'_> {
        self.body.view(event, &event.row)
    }

    /// The old row as far as the replica identity gives it; columns that it does not give are null.
    pub fn old_row(&self, event: &Event) -> Option<Row<'_>> {
        event.old_row.as_ref().map(|range| self.body.view(event, range))
    }

    /// End LSN of the last whole transaction in the batch, or a keepalive's position: what may be
    /// confirmed once this batch and all before it are durable. None if the batch ends inside its
    /// first transaction.
    pub fn ends_at(&self) -> Option<Lsn> {
        self.ends_at
    }

    /// The same batch, as the first of a stream that begins anew.
    pub fn beginning_anew(self) -> Self {
        Self { begins_anew: true, ..self }
    }

    /// Tells if the stream begins anew with this batch: unconfirmed events come again, and the ends
    /// of earlier batches say nothing any more of what may be confirmed.
    pub fn begins_anew(&self) -> bool {
        self.begins_anew
    }

    /// The same batch, with lines of its source beside its events that could not be read, in their
    /// order.
    pub fn with_bad_lines(self, lines: Vec<BadLine>) -> Self {
        Self { bad_lines: (!lines.is_empty()).then(|| lines.into()), ..self }
    }

    /// Returns the lines that the source could not read as events.
    pub fn bad_lines(&self) -> &[BadLine] {
        self.bad_lines.as_deref().unwrap_or_default()
    }

    /// Tells if nothing in the batch needs a handler or a sink: it has neither an event nor a bad
    /// line.
    pub fn is_marker(&self) -> bool {
        self.events().is_empty() && self.bad_lines.is_none()
    }

    /// The same batch, up to `lsn`.
    pub fn ending_at(self, lsn: Lsn) -> Self {
        Self { ends_at: Some(lsn), ..self }
    }

    /// Roughly the memory that the batch keeps alive, in bytes.
    pub fn bytes(&self) -> usize {
        self.body.bytes() + self.bad_lines().iter().map(|line| line.text.len()).sum::<usize>()
    }
}

impl Body {
    fn relation(&self, event: &Event) -> &Arc<Relation> {
        &self.relations[event.relation as usize]
    }

    fn view(&self, event: &Event, range: &Range<u32>) -> Row<'_> {
        Row {
            arena: &self.arena,
            frame: self.frames.get(event.frame as usize).map_or(&[], |frame| frame),
            cells: &self.cells[range.start as usize..range.end as usize],
        }
    }

    /// Nothing, with room for what there is here: a stream of rows is much the same for a while,
    /// and growing step by step would copy every cell once more.
    fn room(&self) -> Self {
        Self {
            relations: Vec::with_capacity(self.relations.len()),
            events: Vec::with_capacity(self.events.len()),
            cells: Vec::with_capacity(self.cells.len()),
            frames: Vec::with_capacity(self.frames.len()),
            ..Self::default()
        }
    }

    fn bytes(&self) -> usize {
        self.frame_bytes
            + self.arena.derived.len()
            + size_of_val(self.arena.floats.as_slice())
            + size_of_val(self.cells.as_slice())
            + size_of_val(self.events.as_slice())
    }
}

/// The values of one row, in the order of its relation's columns.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    arena: &'a Arena,
    frame: &'a [u8],
    cells: &'a [Cell],
}

impl<'a> Row<'a> {
    /// Returns the number of columns in the row.
    pub fn len(&self) -> usize {
        self.cells.len()
    }

    /// Tells if there is no row at all, as for a truncate.
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// The value of the column at `index`.
    pub fn get(&self, index: usize) -> Option<Value<'a>> {
        self.cells.get(index).map(|cell| self.resolve(cell))
    }

    /// All values, in the order of the columns.
    #[inline]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Value<'a>> + use<'a> {
        let row = *self;
        self.cells.iter().map(move |cell| row.resolve(cell))
    }

    #[inline]
    fn resolve(&self, cell: &Cell) -> Value<'a> {
        cell.resolve(self.frame, self.arena)
    }
}

/// Fills a [`Batch`]. One event is built at a time: `begin_row`, cells, `push_event`.
#[derive(Debug, Default)]
pub struct BatchBuilder {
    body: Body,
    ends_at: Option<Lsn>,
}

impl BatchBuilder {
    /// Adds the server's message that the following events' `Place::Frame` cells point into.
    pub fn push_frame(&mut self, frame: Bytes) {
        self.body.frame_bytes += frame.len();
        self.body.frames.push(frame);
    }

    /// Returns the index among the cells at which the next row starts.
    pub fn row_start(&self) -> u32 {
        self.body.cells.len() as u32
    }

    /// Appends a cell to the row under construction.
    pub fn push_cell(&mut self, cell: Cell) {
        self.body.cells.push(cell);
    }

    /// Appends nulls as the row under construction, to be written in place, and says where what
    /// they need may go.
    pub fn next_cells(&mut self, count: usize) -> (&mut [Cell], &mut Arena) {
        let start = self.body.cells.len();
        self.body.cells.resize(start + count, Cell::Null);
        (&mut self.body.cells[start..], &mut self.body.arena)
    }

    /// The cells from `start` on, to merge an old row into a new one.
    pub fn cells_mut(&mut self, range: Range<u32>) -> &mut [Cell] {
        &mut self.body.cells[range.start as usize..range.end as usize]
    }

    /// The values of the cells `range`, in the frame pushed last.
    pub fn row(&self, range: Range<u32>) -> Row<'_> {
        Row {
            arena: &self.body.arena,
            frame: self.body.frames.last().map_or(&[], |frame| frame),
            cells: &self.body.cells[range.start as usize..range.end as usize],
        }
    }

    /// Returns the arena for made bytes and numbers of vectors; a cell points to what is appended
    /// here.
    pub fn arena(&mut self) -> &mut Arena {
        &mut self.body.arena
    }

    /// Bytes that were made rather than received; a cell points to what is appended here.
    pub fn derived(&mut self) -> &mut Vec<u8> {
        &mut self.body.arena.derived
    }

    /// Numbers of vectors.
    pub fn floats(&mut self) -> &mut Vec<f32> {
        &mut self.body.arena.floats
    }

    /// Returns the present sizes of the batch, for [`rollback`](Self::rollback).
    pub fn mark(&self) -> Mark {
        Mark {
            relations: self.body.relations.len(),
            events: self.body.events.len(),
            cells: self.body.cells.len(),
            frames: self.body.frames.len(),
            derived: self.body.arena.derived.len(),
            floats: self.body.arena.floats.len(),
            frame_bytes: self.body.frame_bytes,
            ends_at: self.ends_at,
        }
    }

    /// Forgets everything since `mark`, for instance of a message that turned out to be malformed.
    pub fn rollback(&mut self, mark: Mark) {
        self.body.relations.truncate(mark.relations);
        self.body.events.truncate(mark.events);
        self.body.cells.truncate(mark.cells);
        self.body.frames.truncate(mark.frames);
        self.body.arena.derived.truncate(mark.derived);
        self.body.arena.floats.truncate(mark.floats);
        self.body.frame_bytes = mark.frame_bytes;
        self.ends_at = mark.ends_at;
    }

    /// Appends an event whose rows are the cells `row` and `old_row`, in the frame pushed last.
    pub fn push_event(
        &mut self,
        relation: &Arc<Relation>,
        head: EventHead,
        row: Range<u32>,
        old_row: Option<Range<u32>>,
    ) {
        let relation = self.intern(relation);
        self.body.events.push(Event {
            operation: head.operation,
            relation,
            position: head.position,
            commit_time: head.commit_time,
            xid: head.xid,
            snapshot: head.snapshot,
            replayed: head.replayed,
            frame: self.body.frames.len().saturating_sub(1) as u32,
            row,
            old_row,
        });
    }

    /// Everything so far may be confirmed up to `lsn` once durable: the end LSN of a commit, or a
    /// keepalive's.
    pub fn end_at(&mut self, lsn: Lsn) {
        self.ends_at = Some(lsn);
    }

    /// The last `count` events, each with its rows.
    pub fn last(&self, count: usize) -> impl Iterator<Item = (&Event, &Relation, Row<'_>)> {
        let body = &self.body;
        let from = body.events.len().saturating_sub(count);
        let added = body.events.get(from..).unwrap_or_default();
        added.iter().map(|event| (event, &**body.relation(event), body.view(event, &event.row)))
    }

    /// Returns the number of events.
    pub fn len(&self) -> usize {
        self.body.events.len()
    }

    /// Tells if there is neither an event nor progress to report.
    pub fn is_empty(&self) -> bool {
        self.body.events.is_empty() && self.ends_at.is_none()
    }

    /// Roughly the memory that the batch keeps alive, in bytes.
    pub fn bytes(&self) -> usize {
        self.body.bytes()
    }

    /// The batch; the builder starts anew, with room for as much again.
    pub fn take(&mut self) -> Batch {
        let room = self.body.room();
        let body = std::mem::replace(&mut self.body, room);
        let range = 0..body.events.len();
        Batch { range, body: Arc::new(body), ends_at: self.ends_at.take(), begins_anew: false, bad_lines: None }
    }

    /// Relations are few per batch and most events repeat the last one, so a scan from the back
    /// beats a map.
    fn intern(&mut self, relation: &Arc<Relation>) -> u32 {
        let relations = &mut self.body.relations;
        let known = relations.iter().rposition(|known| Arc::ptr_eq(known, relation));
        known.unwrap_or_else(|| {
            relations.push(Arc::clone(relation));
            relations.len() - 1
        }) as u32
    }
}

/// A state of a [`BatchBuilder`] to return to. Means nothing after `take`.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    relations: usize,
    events: usize,
    cells: usize,
    frames: usize,
    derived: usize,
    floats: usize,
    frame_bytes: usize,
    ends_at: Option<Lsn>,
}

#[cfg(test)]
mod tests {
    use super::super::{Kind, Naming, Place, ReplicaIdentity};
    use super::*;

    fn relation(id: u32) -> Arc<Relation> {
        Arc::new(Relation {
            id,
            schema: "public".into(),
            table: "t".into(),
            replica_identity: ReplicaIdentity::Default,
            columns: Vec::new(),
            naming: Naming::Alone,
        })
    }

    fn head(ordinal: u32) -> EventHead {
        let position = Position { lsn: Lsn(1), ordinal };
        EventHead { operation: Operation::Insert, position, commit_time: 0, xid: 1, snapshot: false, replayed: false }
    }

    fn slice(place: Place, start: u32, len: u32) -> Cell {
        Cell::Slice { kind: Kind::Text, place, start, len }
    }

    /// A message, a row of `cells` and its event.
    fn add(out: &mut BatchBuilder, relation: &Arc<Relation>, frame: &'static [u8], cells: &[Cell]) {
        let start = out.row_start();
        cells.iter().for_each(|cell| out.push_cell(*cell));
        out.push_frame(Bytes::from_static(frame));
        out.push_event(relation, head(0), start..out.row_start(), None);
    }

    #[test]
    fn cells_point_into_their_own_event_s_frame_and_into_the_arena() {
        let (mut out, relation) = (BatchBuilder::default(), relation(1));
        out.derived().extend_from_slice(b"made");
        out.floats().extend_from_slice(&[1.0, 2.0, 3.0]);
        add(&mut out, &relation, b"first", &[slice(Place::Frame, 0, 3), slice(Place::Derived, 1, 3)]);
        add(&mut out, &relation, b"second", &[slice(Place::Frame, 0, 3), Cell::Vector { start: 1, len: 2 }]);
        let batch = out.take();
        let rows: Vec<Vec<_>> = batch.events().iter().map(|event| batch.row(event).iter().collect()).collect();
        assert_eq!(rows[0], [Value::Text("fir"), Value::Text("ade")]);
        assert_eq!(rows[1], [Value::Text("sec"), Value::Vector(&[2.0, 3.0])]);
        assert!(out.is_empty(), "the builder starts anew");
    }

    #[test]
    fn a_cell_that_points_nowhere_is_empty() {
        let (mut out, relation) = (BatchBuilder::default(), relation(1));
        let nowhere =
            [slice(Place::Frame, 3, 9), slice(Place::Derived, 0, 1), Cell::Vector { start: 0, len: u32::MAX }];
        add(&mut out, &relation, b"short", &nowhere);
        let batch = out.take();
        let row: Vec<_> = batch.row(&batch.events()[0]).iter().collect();
        assert_eq!(row, [Value::Text(""), Value::Text(""), Value::Vector(&[])]);
    }

    #[test]
    fn a_rollback_leaves_what_was_there_before() {
        let (mut out, relation) = (BatchBuilder::default(), relation(1));
        add(&mut out, &relation, b"kept", &[slice(Place::Frame, 0, 4)]);
        let (mark, bytes) = (out.mark(), out.bytes());
        add(&mut out, &self::relation(2), b"forgotten", &[Cell::Null]);
        out.derived().extend_from_slice(b"forgotten");
        out.floats().push(1.0);
        out.end_at(Lsn(9));
        out.rollback(mark);
        assert_eq!((out.len(), out.bytes()), (1, bytes));
        let batch = out.take();
        assert_eq!((batch.relations().len(), batch.ends_at()), (1, None));
        assert_eq!(batch.row(&batch.events()[0]).get(0), Some(Value::Text("kept")));
    }

    #[test]
    fn a_part_shows_its_own_events_and_copies_nothing() {
        let (mut out, relation) = (BatchBuilder::default(), relation(1));
        for frame in [&b"a"[..], b"b", b"c", b"d"] {
            add(&mut out, &relation, frame, &[slice(Place::Frame, 0, 1)]);
        }
        out.end_at(Lsn(9));
        let batch = out.take();
        let texts = |part: &Batch| {
            part.events().iter().filter_map(|event| part.row(event).get(0)).map(|text| format!("{text:?}")).collect()
        };
        let (rear, middle): (Vec<String>, Vec<String>) =
            (texts(&batch.part(2..4)), texts(&batch.part(1..4).part(0..2)));
        assert_eq!(rear, [r#"Text("c")"#, r#"Text("d")"#]);
        assert_eq!(middle, [r#"Text("b")"#, r#"Text("c")"#]);
        let part = batch.part(1..2);
        assert_eq!(part.ends_at(), None, "a part confirms nothing");
        assert!(std::ptr::eq(part.events().as_ptr(), &raw const batch.events()[1]));
        assert!(batch.part(3..9).events().len() == 1 && batch.part(7..9).events().is_empty());
    }

    #[test]
    fn a_relation_is_listed_once_and_a_marker_has_only_its_end() {
        let (mut out, one, two) = (BatchBuilder::default(), relation(1), relation(2));
        for relation in [&one, &two, &one, &two] {
            add(&mut out, relation, b"", &[]);
        }
        let batch = out.take();
        assert_eq!(batch.relations().len(), 2);
        assert_eq!(batch.relation(&batch.events()[2]).id, 1);
        let marker = Batch::marker(Lsn(7));
        assert_eq!((marker.events().len(), marker.ends_at(), marker.bytes()), (0, Some(Lsn(7)), 0));
    }
}

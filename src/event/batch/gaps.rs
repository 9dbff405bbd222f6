//! The gaps of a batch: values that the server did not send, and how they are filled before anybody
//! else has the batch.

use std::sync::Arc;

use super::super::Cell;
use super::{Arena, Batch, Event, Operation};

impl Batch {
    /// Indices of the events whose row lacks a value that the server did not send.
    pub fn incomplete(&self) -> Vec<usize> {
        let lacks = |event: &Event| {
            let row = event.row.start as usize..event.row.end as usize;
            self.body.cells.get(row).is_some_and(|cells| cells.contains(&Cell::Unchanged))
        };
        self.events().iter().enumerate().filter(|(_, event)| lacks(event)).map(|(index, _)| index).collect()
    }

    /// The cell of a column of an event's row, if the server did not send its value, and where what
    /// it needs may go. None, too, if the batch was parted or shared: what others read does not
    /// change.
    pub fn gap(&mut self, event: usize, column: usize) -> Option<(&mut Cell, &mut Arena)> {
        let body = Arc::get_mut(&mut self.body)?;
        let row = &body.events.get(self.range.start.checked_add(event)?)?.row;
        let cell = (row.start as usize).checked_add(column).filter(|cell| *cell < row.end as usize)?;
        let cell = body.cells.get_mut(cell).filter(|cell| **cell == Cell::Unchanged)?;
        Some((cell, &mut body.arena))
    }

    /// Makes something else of an event, unless the batch was parted or shared.
    pub fn set_operation(&mut self, event: usize, operation: Operation) {
        let event = self.range.start.checked_add(event);
        if let Some(event) = event.zip(Arc::get_mut(&mut self.body)).and_then(|(at, body)| body.events.get_mut(at)) {
            event.operation = operation;
        }
    }
}

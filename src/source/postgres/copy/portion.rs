//! `Portion`: how many rows one query asks for, so that what it answers is not more than wanted
//! however wide they are.

/// Rows that are asked for as long as nothing is known of them.
const FIRST: usize = 8;
/// Rows that are asked for at most.
const MOST: usize = 500;

/// Learns from each answer how many rows the next query may ask for.
#[derive(Debug, Default)]
pub(super) struct Portion {
    /// Rows and bytes of the answer before.
    before: Option<(usize, usize)>,
}

impl Portion {
    /// Returns the number of rows to ask for where `room` bytes are left: as many as fit if they
    /// are like those before, but never more than twice as many as came then, because wide rows may
    /// stand behind narrow ones. `FIRST` and `MOST` bound it, too.
    pub(super) fn next(&self, room: usize) -> usize {
        let Some((rows, bytes)) = self.before else { return FIRST };
        let fit = room.saturating_mul(rows) / bytes.max(1);
        fit.min(rows.saturating_mul(2)).clamp(1, MOST)
    }

    /// So many rows came, with so many bytes.
    pub(super) fn came(&mut self, rows: usize, bytes: usize) {
        self.before = Some((rows, bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portions_double_as_long_as_rows_fit() {
        let mut portion = Portion::default();
        let mut asked = Vec::new();
        for _ in 0..9 {
            let rows = portion.next(1 << 20);
            asked.push(rows);
            portion.came(rows, rows * 100);
        }
        assert_eq!(asked, [8, 16, 32, 64, 128, 256, 500, 500, 500]);
        assert_eq!(portion.next(1_000), 10, "at the end of the room");
        assert_eq!(portion.next(0), 1);
    }

    #[test]
    fn wide_rows_are_asked_for_one_by_one() {
        let mut portion = Portion::default();
        portion.came(8, 8 << 20);
        assert_eq!(portion.next(4 << 20), 4);
        portion.came(1, 64 << 20);
        assert_eq!(portion.next(4 << 20), 1);
        portion.came(8, 0);
        assert_eq!(portion.next(4 << 20), 16, "rows that are gone");
        portion.came(0, 0);
        assert_eq!(portion.next(4 << 20), 1);
    }
}

//! Runs of items that are small enough to send at once, and to hold in memory.

/// The items in their order, in runs of no more than `max_items` and `max_bytes`. Each comes with
/// its bytes; one that is larger than the limit makes a run of its own.
pub(super) fn chunks<T>(
    items: impl IntoIterator<Item = (T, usize)>,
    max_items: usize,
    max_bytes: usize,
) -> impl Iterator<Item = Vec<T>> {
    let mut items = items.into_iter().peekable();
    std::iter::from_fn(move || {
        let (first, mut bytes) = items.next()?;
        let mut chunk = vec![first];
        while chunk.len() < max_items
            && let Some((item, more)) = items.next_if(|(_, more)| bytes.saturating_add(*more) <= max_bytes)
        {
            bytes += more;
            chunk.push(item);
        }
        Some(chunk)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_ends_at_its_last_item_or_byte() {
        let of = |sizes: &[usize]| chunks(sizes.iter().map(|&size| (size, size)), 3, 10).collect::<Vec<_>>();
        assert_eq!(of(&[]), [[0; 0]; 0]);
        assert_eq!(of(&[1, 1, 1, 1]), [vec![1, 1, 1], vec![1]]);
        assert_eq!(of(&[5, 5, 1]), [vec![5, 5], vec![1]]);
        assert_eq!(of(&[1, 99, 1, usize::MAX, 2]), [vec![1], vec![99], vec![1], vec![usize::MAX], vec![2]]);
    }
}

//! Describing a set of cells of a grid by few boxes.

/// A box: for each axis the values it spans.
pub(super) type Spanned = Vec<Vec<usize>>;

/// A grid of cells, the last axis running fastest.
#[derive(Debug)]
pub(super) struct Grid {
    /// How many values each axis has.
    pub sizes: Vec<usize>,
    /// What each cell holds.
    pub cells: Vec<u32>,
}

impl Grid {
    /// The values of each axis in whose slice some cell is not `idle`.
    pub fn busy(&self, idle: impl Fn(u32) -> bool) -> Spanned {
        let mut busy: Vec<Vec<bool>> = self.sizes.iter().map(|size| vec![false; *size]).collect();
        let mut at = vec![0_usize; self.sizes.len()];
        for cell in &self.cells {
            if !idle(*cell) {
                for (axis, value) in busy.iter_mut().zip(&at) {
                    if let Some(flag) = axis.get_mut(*value) {
                        *flag = true;
                    }
                }
            }
            advance(&mut at, &self.sizes);
        }
        let values = |flags: Vec<bool>| {
            (0..)
                .zip(flags)
                .filter(|(_, flag)| *flag)
                .map(|(value, _)| value)
                .collect()
        };
        busy.into_iter().map(values).collect()
    }

    /// Disjoint boxes that hold every cell that is [`Cell::Wanted`] and no other, among the cells whose values are all listed in
    /// `among`. Of the last axis a box names apart which values are free besides, all over the box.
    pub fn boxes(&self, among: &Spanned, judge: impl Fn(u32) -> Cell) -> Vec<Found> {
        let sizes: Vec<usize> = among.iter().map(Vec::len).collect();
        if sizes.contains(&0) {
            return Vec::new();
        }
        let mut chosen = Vec::with_capacity(sizes.iter().product());
        let mut at = vec![0_usize; sizes.len()];
        loop {
            let values = at
                .iter()
                .zip(among)
                .map(|(at, values)| values.get(*at).copied().unwrap_or(0));
            let index = values
                .zip(&self.sizes)
                .fold(0, |index, (value, size)| index * size + value);
            chosen.push(self.cells.get(index).map_or(Cell::Not, |cell| judge(*cell)));
            if !advance(&mut at, &sizes) {
                break;
            }
        }
        let mut found = split(&chosen, &sizes);
        let value = |values: &mut Vec<usize>, among: &Vec<usize>| {
            values
                .iter_mut()
                .for_each(|value| *value = among.get(*value).copied().unwrap_or(*value));
        };
        for one in &mut found {
            one.spanned
                .iter_mut()
                .zip(among)
                .for_each(|(values, among)| value(values, among));
            if let Some(last) = among.last() {
                value(&mut one.free, last);
            }
        }
        found
    }
}

/// What a box has to do with a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cell {
    /// It must be in one.
    Wanted,
    /// It must not be, but saying so would say nothing wrong.
    Free,
    /// It must not be.
    Not,
}

/// A box that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub spanned: Spanned,
    /// Values of the last axis that make no difference.
    pub free: Vec<usize>,
}

/// Steps to the next cell; false after the last one.
pub(super) fn advance(at: &mut [usize], sizes: &[usize]) -> bool {
    for (value, size) in at.iter_mut().zip(sizes).rev() {
        *value += 1;
        if *value < *size {
            return true;
        }
        *value = 0;
    }
    false
}

/// Values of the first axis whose slices agree go together.
fn split(chosen: &[Cell], sizes: &[usize]) -> Vec<Found> {
    let values_of = |cell: Cell| -> Vec<usize> {
        let all = (0..).zip(chosen).filter(|(_, own)| **own == cell);
        all.map(|(value, _)| value).collect()
    };
    let Some((size, rest)) = sizes.split_first().filter(|(_, rest)| !rest.is_empty()) else {
        let (wanted, free) = (values_of(Cell::Wanted), values_of(Cell::Free));
        return match wanted.is_empty() {
            true => Vec::new(),
            false => vec![Found {
                spanned: vec![wanted],
                free,
            }],
        };
    };
    let length = chosen.len() / (*size).max(1);
    let mut groups: Vec<(Vec<Cell>, Vec<usize>)> = Vec::new();
    for (value, slice) in chosen.chunks(length.max(1)).enumerate() {
        // What is free for some and wanted for others parts them: who is named has to be meant.
        let agrees = |known: &[Cell]| {
            let mut cells = known.iter().zip(slice);
            cells.all(|(one, other)| (*one == Cell::Wanted) == (*other == Cell::Wanted))
        };
        match groups.iter_mut().find(|(known, _)| agrees(known)) {
            Some((known, values)) => {
                for (one, _) in known.iter_mut().zip(slice).filter(|(_, other)| **other == Cell::Not) {
                    *one = Cell::Not;
                }
                values.push(value);
            }
            None => groups.push((slice.to_vec(), vec![value])),
        }
    }
    let mut boxes = Vec::new();
    for (slice, values) in groups {
        for mut found in split(&slice, rest) {
            found.spanned.insert(0, values.clone());
            boxes.push(found);
        }
    }
    boxes
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn judge(cell: u32) -> Cell {
        match cell {
            0 => Cell::Free,
            1 => Cell::Not,
            _ => Cell::Wanted,
        }
    }

    #[test]
    fn values_whose_slices_agree_go_together() {
        let grid = Grid {
            sizes: vec![4, 2, 2],
            cells: vec![
                0, 7, 0, 1, /* */ 0, 7, 1, 0, /* */ 0, 0, 0, 0, /* */ 0, 0, 7, 0,
            ],
        };
        assert_eq!(grid.busy(|cell| cell == 0), [vec![0, 1, 3], vec![0, 1], vec![0, 1]]);
        let found = |first: &[usize], second: usize, last: usize| Found {
            spanned: vec![first.to_vec(), vec![second], vec![last]],
            free: vec![1 - last],
        };
        // What is free for the one and wanted for the other does not join them.
        let both = [found(&[0, 1], 0, 1), found(&[3], 1, 0)];
        assert_eq!(grid.boxes(&grid.busy(|cell| cell == 0), judge), both);
        assert_eq!(grid.boxes(&vec![vec![], vec![0], vec![0]], judge), []);
    }

    #[test]
    fn boxes_hold_what_is_wanted_once_and_nothing_that_is_not() {
        let sizes = vec![3, 4, 2];
        for seed in 0_u32..2000 {
            let cell = |at: u32| {
                (seed
                    .wrapping_mul(2_654_435_761)
                    .wrapping_add(at * 40_503)
                    .wrapping_mul(2_246_822_519)
                    >> 13)
                    % 3
            };
            let grid = Grid {
                sizes: sizes.clone(),
                cells: (0..24).map(cell).collect(),
            };
            let whole: Spanned = sizes.iter().map(|size| (0..*size).collect()).collect();
            let boxes = grid.boxes(&whole, judge);
            let mut at = vec![0_usize; 3];
            for cell in &grid.cells {
                let holds = |found: &&Found| found.spanned.iter().zip(&at).all(|(values, at)| values.contains(at));
                let count = boxes.iter().filter(holds).count();
                match judge(*cell) {
                    Cell::Wanted => assert_eq!(count, 1, "{seed} {at:?}"),
                    Cell::Free | Cell::Not => assert_eq!(count, 0, "{seed} {at:?}"),
                }
                let last = at.last().unwrap();
                let is_free = |found: &&Found| {
                    let mut before = found.spanned.iter().zip(&at).take(2);
                    found.free.contains(last) && before.all(|(values, at)| values.contains(at))
                };
                if boxes.iter().any(|found| is_free(&found)) {
                    assert_eq!(judge(*cell), Cell::Free, "{seed} {at:?}");
                }
                advance(&mut at, &sizes);
            }
        }
    }
}

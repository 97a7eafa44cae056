//! The numbers that kernels for GPUs are shaped by: one table, a row a kind of device.

/// A tile of a matrix product that a work-group computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tile {
    /// Output channels, a multiple of 16.
    pub rows: usize,
    /// Pixels.
    pub columns: usize,
    /// Output channels of a work-item, a multiple of 4.
    pub item_rows: usize,
    /// Pixels of a work-item, a multiple of 4.
    pub item_columns: usize,
    /// Percent of the multiply-adds of the best tile that it does in a given time: small tiles
    /// load more for each product.
    pub efficiency: usize,
}

impl Tile {
    /// Work-items of the group: a multiple of 64, of `columns`, and of 16.
    pub fn items(&self) -> usize {
        (self.rows / self.item_rows) * (self.columns / self.item_columns)
    }

    const fn new(rows: usize, columns: usize, item: [usize; 2], efficiency: usize) -> Tile {
        Tile { rows, columns, item_rows: item[0], item_columns: item[1], efficiency }
    }
}

/// How kernels for a device are shaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Parameters {
    /// Tiles to choose from.
    pub tiles: &'static [Tile],
    /// Work-groups that run at the same time. Fewer than these leave part of the device idle; then
    /// sums are split among groups.
    pub resident_groups: usize,
    /// Most parts that a sum is split into.
    pub most_splits: usize,
    /// Fewest steps, of [`DEPTH`] products each, in a part.
    pub least_steps: usize,
    /// Work-items of a group that multiplies a matrix with one vector, a multiple of 64 up to 256.
    pub vector_items: usize,
    /// Loads of weights that each of them has under way.
    pub vector_unroll: usize,
    /// Work-items of a group where each works by itself.
    pub single_items: usize,
}

/// Products that a tile adds up between two barriers.
pub const DEPTH: usize = 16;

const TILES: &[Tile] = &[
    Tile::new(128, 128, [8, 8], 100),
    Tile::new(128, 64, [8, 8], 90),
    Tile::new(64, 64, [8, 4], 75),
    Tile::new(32, 64, [4, 4], 55),
    Tile::new(32, 32, [4, 4], 45),
];

/// For a GPU of a few dozen processors.
const SMALL: Parameters = Parameters { resident_groups: 48, ..LARGE };
const LARGE: Parameters = Parameters::LARGE;

/// Parts of device names with their parameters; the first that fits counts.
pub const TABLE: &[(&str, Parameters)] = &[
    ("H100", LARGE),
    ("H200", LARGE),
    ("A100", Parameters { resident_groups: 216, ..LARGE }),
    ("RTX 40", Parameters { resident_groups: 160, ..LARGE }),
    ("RTX 30", Parameters { resident_groups: 120, ..LARGE }),
    ("Intel", SMALL),
    ("gfx", Parameters { resident_groups: 160, ..LARGE }),
];

impl Parameters {
    /// For a large GPU: 132 processors, two groups each.
    pub const LARGE: Parameters = Parameters {
        tiles: TILES,
        resident_groups: 264,
        most_splits: 16,
        least_steps: 8,
        vector_items: 256,
        vector_unroll: 8,
        single_items: 128,
    };

    /// Others that may suit a device better, with names; these first.
    pub fn candidates(self) -> Vec<(String, Parameters)> {
        let mut all = vec![("as in the table".to_owned(), self)];
        for (factor, divisor) in [(1, 4), (1, 2), (2, 1), (4, 1)] {
            let resident_groups = (self.resident_groups * factor / divisor).max(1);
            let name = format!("{resident_groups} resident groups");
            all.push((name, Parameters { resident_groups, ..self }));
        }
        let small = self.tiles.get(2..).filter(|tiles| !tiles.is_empty());
        all.extend(small.map(|tiles| ("small tiles".to_owned(), Parameters { tiles, ..self })));
        for (vector_items, vector_unroll) in [(128, 8), (256, 4), (64, 16)] {
            let name = format!("{vector_items} items on a vector, {vector_unroll} loads each");
            all.push((name, Parameters { vector_items, vector_unroll, ..self }));
        }
        all
    }

    /// For a device that no row of the table names, by its number of compute units.
    pub fn unknown(compute_units: usize) -> Parameters {
        Parameters { resident_groups: 2 * compute_units.max(1), ..LARGE }
    }

    /// For a device.
    pub fn of(name: &str, compute_units: usize) -> Parameters {
        let row = TABLE.iter().find(|(part, _)| name.contains(part));
        row.map_or_else(|| Parameters::unknown(compute_units), |(_, parameters)| *parameters)
    }
}

impl Default for Parameters {
    fn default() -> Self {
        LARGE
    }
}

#[cfg(test)]
mod tests {
    use super::{DEPTH, Parameters, TABLE, TILES};

    #[test]
    fn tiles_can_be_loaded_evenly() {
        for tile in TILES {
            let items = tile.items();
            assert!(items.is_multiple_of(64) && items <= 256, "{tile:?}");
            assert!(items.is_multiple_of(tile.columns), "{tile:?}");
            assert!((tile.rows / 16).is_multiple_of(items / 64), "{tile:?}");
            assert!((DEPTH * tile.columns).is_multiple_of(items), "{tile:?}");
            assert!(tile.rows.is_multiple_of(16) && tile.item_rows.is_multiple_of(4), "{tile:?}");
            assert!(tile.item_columns.is_multiple_of(4), "{tile:?}");
        }
    }

    #[test]
    fn devices_are_found_by_a_part_of_their_name() {
        assert_eq!(Parameters::of("NVIDIA H100 80GB HBM3", 132), TABLE[0].1);
        assert_eq!(Parameters::of("a new one", 20).resident_groups, 40);
    }
}

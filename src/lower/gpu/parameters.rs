//! The numbers that kernels for GPUs are shaped by: one table, a row a kind of device.

use alexc_codegen::ir::Mma;

/// A tile of a matrix product that a work-group computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tile {
    /// Output channels, a multiple of 16.
    pub rows: usize,
    /// Pixels.
    pub columns: usize,
    /// Output channels of a work-item, a multiple of 4; of 2 where warps multiply.
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
    /// How warps multiply matrices, where the user allows it and the device can.
    pub mma: Option<Mma>,
    /// Tiles to choose from where they do. A warp has eight times the rows of an item and 32
    /// columns.
    pub tensor_tiles: &'static [Tile],
    /// Multiply-adds that a processor does in a nanosecond then.
    pub tensor_products_per_ns: usize,
    /// Processors (OpenCL's compute units). Fewer groups than these leave part of the device idle;
    /// then sums are split among groups.
    pub processors: usize,
    /// Multiply-adds that a processor does in a nanosecond with the best tile.
    pub products_per_ns: usize,
    /// Bytes between memory and one of all processors at work, in a microsecond.
    pub bytes_per_us: usize,
    /// Nanoseconds of a step of a group that is alone on its processor: loads from memory to
    /// registers, and two barriers.
    pub step_ns: usize,
    /// Nanoseconds that one more kernel costs between others.
    pub kernel_ns: usize,
    /// Winograd's method is used where its estimated time is less than this percentage of that of
    /// the definition; 0: nowhere.
    pub winograd_percent: usize,
    /// Bytes of points of that method that lie in memory at a time, or else those of one image: so
    /// many that a kernel which moves them takes much longer than to start it.
    pub points_bytes: usize,
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
    /// Two such devices share each kernel's work by channels.
    pub halves: bool,
}

/// Products that a tile adds up between two barriers.
pub const DEPTH: usize = 16;

/// Steps' time that a group takes to begin and to store.
pub const AROUND: usize = 2;

const TILES: &[Tile] = &[
    Tile::new(128, 128, [8, 8], 100),
    Tile::new(128, 64, [8, 8], 90),
    Tile::new(64, 64, [8, 4], 75),
    Tile::new(32, 64, [4, 4], 55),
    Tile::new(32, 32, [4, 4], 45),
];

/// 64, 32 or 16 rows a warp.
const TENSOR_TILES: &[Tile] = &[
    Tile::new(128, 128, [8, 8], 100),
    Tile::new(128, 64, [4, 8], 85),
    Tile::new(64, 64, [4, 8], 80),
    Tile::new(32, 64, [4, 8], 65),
    Tile::new(32, 32, [2, 8], 50),
];

const LARGE: Parameters = Parameters::LARGE;

/// Parts of device names with their parameters, except for the number of processors; the first
/// that fits counts. Rates are about four fifths of what data sheets say.
pub const TABLE: &[(&str, Parameters)] = &[
    ("H100", LARGE),
    ("H200", Parameters { bytes_per_us: 30_000, ..LARGE }),
    (
        "A100",
        Parameters {
            products_per_ns: 72,
            bytes_per_us: 12_000,
            tensor_products_per_ns: 400,
            ..LARGE
        },
    ),
    (
        "RTX 40",
        Parameters {
            products_per_ns: 250,
            bytes_per_us: 7_000,
            tensor_products_per_ns: 250,
            ..LARGE
        },
    ),
    (
        "RTX 30",
        Parameters {
            products_per_ns: 170,
            bytes_per_us: 9_000,
            tensor_products_per_ns: 170,
            ..LARGE
        },
    ),
    ("Intel", Parameters { products_per_ns: 8, bytes_per_us: 600, kernel_ns: 5_000, ..LARGE }),
    ("gfx", Parameters { products_per_ns: 100, bytes_per_us: 9_000, kernel_ns: 5_000, ..LARGE }),
];

impl Parameters {
    /// For a large GPU of 132 processors.
    pub const LARGE: Parameters = Parameters {
        tiles: TILES,
        mma: None,
        tensor_tiles: TENSOR_TILES,
        tensor_products_per_ns: 700,
        processors: 132,
        products_per_ns: 180,
        bytes_per_us: 20_000,
        step_ns: 350,
        kernel_ns: 2_000,
        winograd_percent: 100,
        points_bytes: 256 << 20,
        most_splits: 16,
        least_steps: 8,
        vector_items: 256,
        vector_unroll: 8,
        single_items: 128,
        halves: false,
    };

    /// Others that may suit a device better, with names; these first.
    pub fn candidates(self) -> Vec<(String, Parameters)> {
        let mut all = vec![("as in the table".to_owned(), self)];
        for (factor, divisor) in [(1, 4), (1, 2), (2, 1), (4, 1)] {
            let processors = (self.processors * factor / divisor).max(1);
            let name = format!("as for {processors} processors");
            all.push((name, Parameters { processors, ..self }));
        }
        for (name, winograd_percent) in
            [("without Winograd", 0), ("Winograd at any cost", usize::MAX)]
        {
            all.push((name.to_owned(), Parameters { winograd_percent, ..self }));
        }
        let points_bytes = self.points_bytes.min(24 << 20);
        let name = format!("{} MiB of points at a time", points_bytes >> 20);
        all.push((name, Parameters { points_bytes, ..self }));
        let small = self.tiles.get(2..).filter(|tiles| !tiles.is_empty());
        all.extend(small.map(|tiles| ("small tiles".to_owned(), Parameters { tiles, ..self })));
        for (vector_items, vector_unroll) in [(128, 8), (256, 4), (64, 16)] {
            let name = format!("{vector_items} items on a vector, {vector_unroll} loads each");
            all.push((name, Parameters { vector_items, vector_unroll, ..self }));
        }
        all
    }

    /// For two such devices that share each kernel's work.
    pub fn of_two(self) -> Parameters {
        Parameters { processors: 2 * self.processors, halves: true, ..self }
    }

    /// For a device.
    pub fn of(name: &str, compute_units: usize) -> Parameters {
        let row = TABLE.iter().find(|(part, _)| name.contains(part));
        let parameters = row.map_or(LARGE, |(_, parameters)| *parameters);
        Parameters { processors: compute_units.max(1), ..parameters }
    }
}

impl Default for Parameters {
    fn default() -> Self {
        LARGE
    }
}

#[cfg(test)]
mod tests {
    use super::{DEPTH, LARGE, Parameters, TABLE, TENSOR_TILES, TILES};

    #[test]
    fn tiles_can_be_loaded_evenly() {
        for tile in TILES {
            let items = tile.items();
            assert!(items.is_multiple_of(64) && items <= 256, "{tile:?}");
            assert!(items.is_multiple_of(tile.columns), "{tile:?}");
            assert!((tile.rows / 16).is_multiple_of(items / 64), "{tile:?}");
            assert!((DEPTH * tile.columns / 4).is_multiple_of(items), "{tile:?}");
            assert!(tile.rows.is_multiple_of(16) && tile.item_rows.is_multiple_of(4), "{tile:?}");
            assert!(tile.item_columns.is_multiple_of(4), "{tile:?}");
        }
    }

    #[test]
    fn warps_share_tiles_evenly() {
        for tile in TENSOR_TILES {
            let items = tile.items();
            assert!(items.is_multiple_of(64) && items <= 256, "{tile:?}");
            assert!(items.is_multiple_of(tile.columns), "{tile:?}");
            // An item loads inputs of rows that lie four apart.
            assert!([1, 2, 4].contains(&(items / tile.columns)), "{tile:?}");
            assert!((tile.rows / 16).is_multiple_of(items / 64), "{tile:?}");
            assert!((DEPTH * tile.columns).is_multiple_of(items), "{tile:?}");
            assert_eq!(tile.item_columns, 8, "{tile:?}");
            assert!(tile.item_rows.is_multiple_of(2), "{tile:?}");
            assert!(tile.rows.is_multiple_of(8 * tile.item_rows), "{tile:?}");
            assert!(tile.columns.is_multiple_of(32), "{tile:?}");
        }
    }

    #[test]
    fn devices_are_found_by_a_part_of_their_name() {
        assert_eq!(Parameters::of("NVIDIA H100 80GB HBM3", 132), TABLE[0].1);
        let a100 = Parameters::of("NVIDIA A100-SXM4-40GB", 108);
        assert_eq!((a100.processors, a100.products_per_ns), (108, 72));
        assert_eq!(Parameters::of("a new one", 20), Parameters { processors: 20, ..LARGE });
    }
}

//! `NET_preprocess`: a picture becomes the input of the net, by the same arithmetic as where
//! `alexc run` reads a picture (bilinear with antialiasing in the fixed point of Pillow), to the
//! last bit. A pixel of the input is computed at a time from the pixels of the picture that it
//! sees, so that no memory is needed but a few weights on the stack; the columns of each row that
//! it sees are summed again for every pixel below, which costs at most twice as much in all.

use super::control::{Control, begin, finish};
use super::entry::{NULL_POINTER, OK, returns_int};
use super::floats::Settings;
use super::stack_slot;
use crate::target::Target;
use alexc_runtime::preprocess::{Color, Preprocess, Resize};
use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{
    AbiParam, FuncRef, Function, InstBuilder, MemFlagsData, Signature, Value, types,
};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext, Variable};

/// The picture has no size, is too large, or does not become the input without a crop.
pub(super) const BAD_PICTURE: i64 = 10;
/// How many times as large as the scaled picture a picture may be.
pub(super) const MOST_SHRINKING: i64 = 1000;
/// Bytes of the weights of one position: it sees twice the scale, and a bit on either side.
const WEIGHTS_BYTES: u32 = 4 * (2 * MOST_SHRINKING as u32 + 4);
/// Fractional bits of a weight.
const PRECISION_BITS: i64 = 22;
/// Red, green and blue, of 65536 parts of luminance.
const LUMINANCE: [i64; 3] = [19595, 38470, 7471];

/// Whether `preprocess` can make images of such an input from pictures of a suitable size.
pub(super) fn fits(preprocess: &Preprocess, input_dims: &[usize]) -> bool {
    let &[_, channels, height, width] = input_dims else { return false };
    let each = |list: &[f64]| list.len() == 1 || list.len() == channels;
    let sides = match preprocess.resize {
        None => [1, 1],
        Some(Resize::Shorter(side)) => [side, side],
        Some(Resize::Exact(size)) => size,
    };
    preprocess.color.channels() == channels
        && each(&preprocess.mean)
        && each(&preprocess.std)
        && sides.iter().all(|side| (1..1 << 20).contains(side))
        && preprocess.std.iter().all(|&std| std as f32 != 0.0)
        && preprocess.crop.is_none_or(|crop| crop == [height, width])
}

/// `(from, to, position, weights) -> (first, count)`: see [`build_taps`].
pub(super) fn taps_signature(target: &Target) -> Signature {
    let mut signature = target.kernel_signature();
    signature.params = vec![AbiParam::new(types::I64); 4];
    signature.returns = vec![AbiParam::new(types::I64); 2];
    signature
}

/// Where an axis of `from` samples is scaled to `to`: which samples a position sees, and the
/// weight of each.
pub(super) fn build_taps(target: &Target, function: &mut Function) {
    let mut frontend = FunctionBuilderContext::new();
    let mut b = FunctionBuilder::new(function, &mut frontend);
    let &[from, to, position, weights] = &begin(&mut b)[..] else { return };
    let [zero, half, one] = [0.0, 0.5, 1.0].map(|value| b.ins().f64const(value));
    let float = |b: &mut FunctionBuilder<'_>, value| b.ins().fcvt_from_sint(types::F64, value);
    let (long, short) = (float(&mut b, from), float(&mut b, to));
    let scale = b.ins().fdiv(long, short);
    let shrinks = b.ins().fcmp(FloatCC::GreaterThan, scale, one);
    let reach = b.ins().select(shrinks, scale, one);
    let position = float(&mut b, position);
    let middle = b.ins().fadd(position, half);
    let centre = b.ins().fmul(middle, scale);
    let lowest = b.ins().fsub(centre, reach);
    let lowest = b.ins().fadd(lowest, half);
    let first = b.ins().fcvt_to_uint_sat(types::I64, lowest);
    let highest = b.ins().fadd(centre, reach);
    let highest = b.ins().fadd(highest, half);
    let end = b.ins().fcvt_to_uint_sat(types::I64, highest);
    let end = b.ins().umin(end, from);
    let inverse = b.ins().fdiv(one, reach);

    // The weight of a sample before all are made to add up to one.
    let triangle = |b: &mut FunctionBuilder<'_>, sample: Value| {
        let x = float(b, sample);
        let x = b.ins().fsub(x, centre);
        let x = b.ins().fadd(x, half);
        let x = b.ins().fmul(x, inverse);
        let x = b.ins().fabs(x);
        let x = b.ins().fsub(one, x);
        let inside = b.ins().fcmp(FloatCC::GreaterThan, x, zero);
        b.ins().select(inside, x, zero)
    };
    let sum = b.declare_var(types::F64);
    b.def_var(sum, zero);
    let sample = b.declare_var(types::I64);
    b.def_var(sample, first);
    b.repeat(sample, end, 1, |b, sample| {
        let weight = triangle(b, sample);
        let before = b.use_var(sum);
        let after = b.ins().fadd(before, weight);
        b.def_var(sum, after);
    });
    let sum = b.use_var(sum);
    let nothing = b.ins().fcmp(FloatCC::Equal, sum, zero);
    let divisor = b.ins().select(nothing, one, sum);
    let scale = b.ins().f64const(f64::from(1 << PRECISION_BITS));
    let at = b.declare_var(types::I64);
    b.def_var(at, weights);
    b.def_var(sample, first);
    b.repeat(sample, end, 1, |b, sample| {
        let weight = triangle(b, sample);
        let weight = b.ins().fdiv(weight, divisor);
        let weight = b.ins().fmul(weight, scale);
        let weight = b.ins().fadd(half, weight);
        let weight = b.ins().fcvt_to_sint_sat(types::I32, weight);
        let place = b.use_var(at);
        b.ins().store(MemFlagsData::trusted(), weight, place, 0);
        let next = b.ins().iadd_imm_s(place, 4);
        b.def_var(at, next);
    });
    let count = b.ins().isub(end, first);
    b.ins().return_(&[first, count]);
    finish(b, target);
}

/// `int (const unsigned char *rgb, int height, int width, float *input)`.
pub(super) fn signature(target: &Target) -> Signature {
    returns_int(target, &[types::I64, types::I32, types::I32, types::I64])
}

/// What the function calls.
pub(super) struct Callees {
    /// See [`build_taps`].
    pub(super) taps: FuncRef,
    /// Functions that save and load the floating-point settings.
    pub(super) floats: Option<(Settings, FuncRef, FuncRef)>,
}

/// One axis of the picture and of the input.
struct Axis {
    /// Samples of the picture.
    from: Value,
    /// Samples after scaling.
    to: Value,
    /// The first of those that become input.
    start: Value,
    /// How many do.
    visible: Value,
    /// Black in front of them.
    before: Value,
    /// Where the weights of a position go.
    weights: Value,
}

/// What a position of an axis sees.
struct Seen {
    first: Value,
    count: Value,
}

impl Axis {
    /// The weights and samples of a position of the input.
    fn look(&self, b: &mut FunctionBuilder<'_>, taps: FuncRef, position: Value) -> Option<Seen> {
        let inside = b.ins().isub(position, self.before);
        let position = b.ins().iadd(self.start, inside);
        let call = b.ins().call(taps, &[self.from, self.to, position, self.weights]);
        let &[first, count] = b.inst_results(call) else { return None };
        Some(Seen { first, count })
    }

    /// Not black.
    fn shows(&self, b: &mut FunctionBuilder<'_>, position: Value) -> Value {
        let inside = b.ins().isub(position, self.before);
        b.ins().icmp(IntCC::UnsignedLessThan, inside, self.visible)
    }
}

/// Writes the function. `function` has [`signature`]; `preprocess` [`fits`].
pub(super) fn build(
    preprocess: &Preprocess,
    input_dims: &[usize],
    callees: &Callees,
    target: &Target,
    function: &mut Function,
) {
    let &[_, _, height, width] = input_dims else { return };
    let mut frontend = FunctionBuilderContext::new();
    let mut b = FunctionBuilder::new(function, &mut frontend);
    let &[picture, rows, columns, input] = &begin(&mut b)[..] else { return };
    for pointer in [picture, input] {
        let null = b.ins().icmp_imm_u(IntCC::Equal, pointer, 0);
        b.return_if(null, NULL_POINTER);
    }
    let [rows, columns] = [rows, columns].map(|side| {
        let none = b.ins().icmp_imm_s(IntCC::SignedLessThan, side, 1);
        b.return_if(none, BAD_PICTURE);
        b.ins().uextend(types::I64, side)
    });
    let scaled = resized(&mut b, preprocess, [rows, columns]);
    let [vertical, horizontal] = [(rows, scaled[0], height), (columns, scaled[1], width)]
        .map(|(from, to, length)| axis(&mut b, from, to, length, preprocess.crop.is_some()));

    let before = callees
        .floats
        .as_ref()
        .map(|(settings, save, load)| (settings.replace(&mut b, *save, *load), *load));
    let mut pixels = Pixels {
        picture,
        row_bytes: b.ins().imul_imm_s(columns, 3),
        gray: preprocess.color == Color::Gray,
        values: (0..preprocess.color.channels()).map(|_| b.declare_var(types::I32)).collect(),
        taps: callees.taps,
    };
    let place = b.declare_var(types::I64);
    b.def_var(place, input);
    let [y, x] = [0; 2].map(|_| b.declare_var(types::I64));
    let zero = b.ins().iconst(types::I64, 0);
    b.def_var(y, zero);
    let [all_rows, all_columns] = [height, width].map(|n| b.ins().iconst(types::I64, n as i64));
    b.repeat(y, all_rows, 1, |b, y| {
        let [first, count] = [0; 2].map(|_| b.declare_var(types::I64));
        let zero = b.ins().iconst(types::I64, 0);
        b.def_var(first, zero);
        b.def_var(count, zero);
        let row_shows = vertical.shows(b, y);
        b.when(row_shows, |b| {
            let Some(seen) = vertical.look(b, pixels.taps, y) else { return };
            b.def_var(first, seen.first);
            b.def_var(count, seen.count);
        });
        b.def_var(x, zero);
        b.repeat(x, all_columns, 1, |b, x| {
            let black = b.ins().iconst(types::I32, 0);
            pixels.values.iter().for_each(|&value| b.def_var(value, black));
            let shows = horizontal.shows(b, x);
            let shows = b.ins().band(row_shows, shows);
            b.when(shows, |b| {
                let rows = Seen { first: b.use_var(first), count: b.use_var(count) };
                pixels.compute(b, &rows, vertical.weights, &horizontal, x);
            });
            let at = b.use_var(place);
            pixels.store(b, preprocess, height * width, at);
            let next = b.ins().iadd_imm_s(at, 4);
            b.def_var(place, next);
        });
    });
    if let Some((before, load)) = before {
        b.ins().call(load, &[before]);
    }
    let ok = b.ins().iconst(types::I32, OK);
    b.ins().return_(&[ok]);
    finish(b, target);
}

/// Rows and columns of the picture after scaling.
fn resized(
    b: &mut FunctionBuilder<'_>,
    preprocess: &Preprocess,
    [rows, columns]: [Value; 2],
) -> [Value; 2] {
    match preprocess.resize {
        None => [rows, columns],
        Some(Resize::Exact(size)) => size.map(|side| b.ins().iconst(types::I64, side as i64)),
        Some(Resize::Shorter(side)) => {
            let side = b.ins().iconst(types::I64, side as i64);
            // The shorter side becomes `side` itself. No product reaches 2^51.
            let shorter = b.ins().umin(rows, columns);
            [rows, columns].map(|long| {
                let product = b.ins().imul(side, long);
                b.ins().udiv(product, shorter)
            })
        }
    }
}

/// Cuts an axis as `crop` says; without, its length must be that of the input.
fn axis(b: &mut FunctionBuilder<'_>, from: Value, to: Value, length: usize, crop: bool) -> Axis {
    let most = b.ins().imul_imm_s(to, MOST_SHRINKING);
    let large = b.ins().icmp(IntCC::UnsignedGreaterThan, from, most);
    b.return_if(large, BAD_PICTURE);
    if !crop {
        let other = b.ins().icmp_imm_u(IntCC::NotEqual, to, length as i64);
        b.return_if(other, BAD_PICTURE);
    }
    let length = b.ins().iconst(types::I64, length as i64);
    let zero = b.ins().iconst(types::I64, 0);
    let covers = b.ins().icmp(IntCC::UnsignedGreaterThanOrEqual, to, length);
    // Half of what is too much, halves to the even number.
    let excess = b.ins().isub(to, length);
    let half = b.ins().ushr_imm_u(excess, 1);
    let odd = b.ins().band(excess, half);
    let odd = b.ins().band_imm_u(odd, 1);
    let cut = b.ins().iadd(half, odd);
    let missing = b.ins().isub(length, to);
    let black = b.ins().ushr_imm_u(missing, 1);
    let slot = stack_slot(b, WEIGHTS_BYTES);
    Axis {
        from,
        to,
        start: b.ins().select(covers, cut, zero),
        visible: b.ins().umin(to, length),
        before: b.ins().select(covers, zero, black),
        weights: b.ins().stack_addr(types::I64, slot, 0),
    }
}

/// The pixel at work.
struct Pixels {
    picture: Value,
    row_bytes: Value,
    gray: bool,
    /// Its channels, as the picture has them.
    values: Vec<Variable>,
    taps: FuncRef,
}

impl Pixels {
    /// Scales the columns of each row that is seen, then the rows.
    fn compute(
        &mut self,
        b: &mut FunctionBuilder<'_>,
        rows: &Seen,
        row_weights: Value,
        horizontal: &Axis,
        x: Value,
    ) {
        let Some(columns) = horizontal.look(b, self.taps, x) else { return };
        let sums: Vec<Variable> = self.values.iter().map(|_| b.declare_var(types::I32)).collect();
        let half = b.ins().iconst(types::I32, 1 << (PRECISION_BITS - 1));
        self.values.iter().for_each(|&value| b.def_var(value, half));
        let offset = b.ins().imul(rows.first, self.row_bytes);
        let start = b.ins().iadd(self.picture, offset);
        let offset = b.ins().imul_imm_s(columns.first, 3);
        let start = b.ins().iadd(start, offset);
        let row = b.declare_var(types::I64);
        b.def_var(row, start);
        weighted(b, row_weights, rows.count, |b, weight| {
            sums.iter().for_each(|&sum| b.def_var(sum, half));
            let at = b.declare_var(types::I64);
            let start = b.use_var(row);
            b.def_var(at, start);
            weighted(b, horizontal.weights, columns.count, |b, weight| {
                let place = b.use_var(at);
                for (sample, &sum) in self.samples(b, place).into_iter().zip(&sums) {
                    add(b, sum, weight, sample);
                }
                let next = b.ins().iadd_imm_s(place, 3);
                b.def_var(at, next);
            });
            for (&sum, &value) in sums.iter().zip(&self.values) {
                let level = rounded(b, sum);
                add(b, value, weight, level);
            }
            let next = b.ins().iadd(start, self.row_bytes);
            b.def_var(row, next);
        });
        for &value in &self.values {
            let level = rounded(b, value);
            b.def_var(value, level);
        }
    }

    /// The channels of a pixel of the picture.
    fn samples(&self, b: &mut FunctionBuilder<'_>, at: Value) -> Vec<Value> {
        let bytes = [0, 1, 2].map(|channel| {
            b.ins().uload8(types::I32, MemFlagsData::new().with_notrap(), at, channel)
        });
        if !self.gray {
            return bytes.to_vec();
        }
        let mut sum = b.ins().iconst(types::I32, 0x8000);
        for (byte, part) in bytes.into_iter().zip(LUMINANCE) {
            let part = b.ins().imul_imm_s(byte, part);
            sum = b.ins().iadd(sum, part);
        }
        vec![b.ins().ushr_imm_u(sum, 16)]
    }

    /// `(level / 255 - mean) / std` into each plane.
    fn store(
        &self,
        b: &mut FunctionBuilder<'_>,
        preprocess: &Preprocess,
        area: usize,
        place: Value,
    ) {
        for channel in 0..self.values.len() {
            let of = |list: &[f64]| list[if list.len() == 1 { 0 } else { channel }] as f32;
            let source = if preprocess.color == Color::Bgr { 2 - channel } else { channel };
            let level = b.use_var(self.values[source]);
            let level = b.ins().fcvt_from_sint(types::F32, level);
            let white = b.ins().f32const(255.0);
            let value = b.ins().fdiv(level, white);
            let mean = b.ins().f32const(of(&preprocess.mean));
            let value = b.ins().fsub(value, mean);
            let std = b.ins().f32const(of(&preprocess.std));
            let value = b.ins().fdiv(value, std);
            let at = b.ins().iadd_imm_s(place, (4 * channel * area) as i64);
            b.ins().store(MemFlagsData::new().with_notrap(), value, at, 0);
        }
    }
}

/// `body` with each of `count` weights.
fn weighted(
    b: &mut FunctionBuilder<'_>,
    weights: Value,
    count: Value,
    body: impl FnOnce(&mut FunctionBuilder<'_>, Value),
) {
    let at = b.declare_var(types::I64);
    b.def_var(at, weights);
    let bytes = b.ins().ishl_imm_u(count, 2);
    let end = b.ins().iadd(weights, bytes);
    b.repeat(at, end, 4, |b, at| {
        let weight = b.ins().load(types::I32, MemFlagsData::trusted(), at, 0);
        body(b, weight);
    });
}

fn add(b: &mut FunctionBuilder<'_>, sum: Variable, weight: Value, sample: Value) {
    let product = b.ins().imul(weight, sample);
    let before = b.use_var(sum);
    let after = b.ins().iadd(before, product);
    b.def_var(sum, after);
}

/// A sum as a level from 0 to 255.
fn rounded(b: &mut FunctionBuilder<'_>, sum: Variable) -> Value {
    let value = b.use_var(sum);
    let value = b.ins().sshr_imm_u(value, PRECISION_BITS);
    let (black, white) = (b.ins().iconst(types::I32, 0), b.ins().iconst(types::I32, 255));
    let value = b.ins().smax(value, black);
    b.ins().smin(value, white)
}

//! The shape rules: what an operator makes of the shapes it reads. The one place for them: the
//! builder, the verifier and the passes all ask here. They are PyTorch's rules.

use super::shape_error::{MAX_ELEMENTS, ShapeError};
use super::window::{Axis, Steps};
use super::{BatchNorm, Conv, Epilogue, Linear, Lrn, Op, Pool, Tensor, Window};
use crate::shape::Shape;

/// The shape of what `op` makes of `inputs`. Everything that a later stage relies on is checked
/// here: every number positive, every window fitting, every tensor of the shape that the operator
/// needs, no element count beyond [`MAX_ELEMENTS`]; the epilogue included.
///
/// # Errors
/// The first rule that does not hold.
pub fn output_shape(op: &Op, inputs: &[Shape]) -> Result<Shape, ShapeError> {
    for shape in inputs {
        checked("the input", &shape.dims())?;
    }
    let name = op.name();
    let one = || match inputs {
        [input] => Ok(*input),
        _ => Err(input_count(name, "one input", inputs)),
    };
    let output = match op {
        Op::Conv(conv) => {
            let (input, addends) = split(name, inputs, &conv.epilogue)?;
            let output = conv_output(conv, input)?;
            epilogue(&conv.epilogue, output, addends)?
        }
        Op::Linear(linear) => {
            let (input, addends) = split(name, inputs, &linear.epilogue)?;
            let output = linear_output(linear, input)?;
            epilogue(&linear.epilogue, output, addends)?
        }
        Op::Pool(pool) => pool_output(pool, one()?)?,
        Op::Lrn(lrn) => lrn_output(lrn, one()?)?,
        Op::Activation(_) | Op::Dropout { .. } | Op::Softmax => one()?,
        Op::Flatten => {
            let input = one()?;
            Shape::vector(input.n(), checked("the output", &input.dims()[1..])?)
        }
        Op::BatchNorm(batch_norm) => {
            let input = one()?;
            batch_norm_tensors(batch_norm, input.c())?;
            input
        }
        Op::Add => {
            let first = several(name, inputs)?;
            for (index, &shape) in inputs.iter().enumerate().skip(1) {
                added(index + 1, shape, first)?;
            }
            first
        }
        Op::Concat => concat_output(several(name, inputs)?, inputs)?,
    };
    checked("the output", &output.dims())?;
    Ok(output)
}

/// Holds a shape to the limits of every activation; `what` names it in the error.
///
/// # Errors
/// Where a dimension is zero or there are more than [`MAX_ELEMENTS`] elements.
pub fn check_shape(what: &'static str, shape: Shape) -> Result<(), ShapeError> {
    checked(what, &shape.dims()).map(|_| ())
}

/// How the windows of a convolution or pooling fall over its input, for messages and tables;
/// nothing for other operators and for inputs that do not fit. The epilogue is not looked at.
pub fn window_steps(op: &Op, input: Shape) -> Option<[Steps; 2]> {
    let size = [input.h(), input.w()];
    match op {
        _ if input.is_vector() => None,
        Op::Conv(conv) => conv.window.steps(size, false).ok(),
        Op::Pool(pool) => pool.steps(size).ok(),
        _ => None,
    }
}

/// Shape of a convolution's weight: `[out_channels, in_channels / groups, kernel h, kernel w]`.
///
/// # Errors
/// Where groups do not divide, a number is zero, or the tensor would be too large.
pub fn conv_weight(
    out_channels: usize,
    in_channels: usize,
    groups: usize,
    kernel: [usize; 2],
) -> Result<Vec<usize>, ShapeError> {
    for (key, value) in
        [("out_channels", out_channels), ("groups", groups), ("in_channels", in_channels)]
    {
        if value == 0 {
            return Err(ShapeError::Zero { key });
        }
    }
    for (side, channels) in [("input", in_channels), ("output", out_channels)] {
        if !channels.is_multiple_of(groups) {
            return Err(ShapeError::Groups { groups, channels, side });
        }
    }
    let dims = vec![out_channels, in_channels / groups, kernel[0], kernel[1]];
    checked("the weight", &dims)?;
    Ok(dims)
}

/// Shape of a linear layer's weight: `[out_features, in_features]`; the input is flattened.
///
/// # Errors
/// Where a number is zero or the tensor would be too large.
pub fn linear_weight(out_features: usize, input: Shape) -> Result<Vec<usize>, ShapeError> {
    if out_features == 0 {
        return Err(ShapeError::Zero { key: "out_features" });
    }
    let dims = vec![out_features, checked("the input", &input.dims()[1..])?];
    checked("the weight", &dims)?;
    Ok(dims)
}

/// The product of the dimensions, if none is zero and it is at most [`MAX_ELEMENTS`].
fn checked(what: &'static str, dims: &[usize]) -> Result<usize, ShapeError> {
    if dims.contains(&0) {
        return Err(ShapeError::Zero { key: "a dimension" });
    }
    dims.iter()
        .try_fold(1usize, |product, &dim| product.checked_mul(dim))
        .filter(|&product| product <= MAX_ELEMENTS)
        .ok_or_else(|| ShapeError::TooLarge { what, dims: dims.to_vec() })
}

fn conv_output(conv: &Conv, input: Shape) -> Result<Shape, ShapeError> {
    let Conv { window, out_channels, groups, weight, bias, batch_norm, epilogue: _ } = conv;
    let size = map_size("conv", input)?;
    let [rows, columns] = window.steps(size, false)?;
    check_padded(window, input)?;
    let wants = conv_weight(*out_channels, input.c(), *groups, window.kernel)?;
    check_tensor("conv", weight, &wants)?;
    if let Some(bias) = bias {
        check_tensor("conv", bias, &[*out_channels])?;
    }
    if let Some(batch_norm) = batch_norm {
        batch_norm_tensors(batch_norm, *out_channels)?;
    }
    Ok(Shape::map(input.n(), *out_channels, rows.output, columns.output))
}

fn linear_output(linear: &Linear, input: Shape) -> Result<Shape, ShapeError> {
    check_tensor("linear", &linear.weight, &linear_weight(linear.out_features, input)?)?;
    if let Some(bias) = &linear.bias {
        check_tensor("linear", bias, &[linear.out_features])?;
    }
    Ok(Shape::vector(input.n(), linear.out_features))
}

fn pool_output(pool: &Pool, input: Shape) -> Result<Shape, ShapeError> {
    let [rows, columns] = pool.steps(map_size(pool.kind.name(), input)?)?;
    check_padded(&pool.window, input)?;
    Ok(Shape::map(input.n(), input.c(), rows.output, columns.output))
}

fn lrn_output(lrn: &Lrn, input: Shape) -> Result<Shape, ShapeError> {
    map_size("lrn", input)?;
    if lrn.size.is_multiple_of(2) {
        return Err(ShapeError::LrnSize { size: lrn.size });
    }
    Ok(input)
}

fn concat_output(first: Shape, inputs: &[Shape]) -> Result<Shape, ShapeError> {
    let mut channels = first.c();
    for (index, &has) in inputs.iter().enumerate().skip(1) {
        let beside = |shape: Shape| (shape.is_vector(), shape.n(), shape.h(), shape.w());
        if beside(has) != beside(first) {
            return Err(ShapeError::ConcatInputs { index: index + 1, has, first });
        }
        channels = channels.saturating_add(has.c());
    }
    Ok(match first {
        Shape::Map { n, h, w, .. } => Shape::map(n, channels, h, w),
        Shape::Vector { n, .. } => Shape::vector(n, channels),
    })
}

fn epilogue(
    epilogue: &[Epilogue],
    mut shape: Shape,
    addends: &[Shape],
) -> Result<Shape, ShapeError> {
    let mut addends = addends.iter().enumerate();
    for step in epilogue {
        // What stands between two steps is stored, so it is held to the same limits.
        checked("the output", &shape.dims())?;
        shape = match step {
            Epilogue::Activation(_) => shape,
            Epilogue::Add => {
                if let Some((index, &addend)) = addends.next() {
                    added(index + 2, addend, shape)?;
                }
                shape
            }
            Epilogue::Lrn(lrn) => lrn_output(lrn, shape)?,
            Epilogue::Pool(pool) => pool_output(pool, shape)?,
        };
    }
    Ok(shape)
}

/// The first input, and those that the epilogue adds.
fn split<'a>(
    op: &'static str,
    inputs: &'a [Shape],
    epilogue: &[Epilogue],
) -> Result<(Shape, &'a [Shape]), ShapeError> {
    let adds = epilogue.iter().filter(|step| matches!(step, Epilogue::Add)).count();
    match inputs {
        [first, addends @ ..] if addends.len() == adds => Ok((*first, addends)),
        _ if adds == 0 => Err(input_count(op, "one input", inputs)),
        _ => Err(input_count(op, &format!("{} inputs", adds + 1), inputs)),
    }
}

fn several(op: &'static str, inputs: &[Shape]) -> Result<Shape, ShapeError> {
    match inputs {
        [first, _, ..] => Ok(*first),
        _ => Err(input_count(op, "at least 2 inputs", inputs)),
    }
}

fn added(index: usize, has: Shape, first: Shape) -> Result<(), ShapeError> {
    if has == first { Ok(()) } else { Err(ShapeError::AddInputs { index, has, first }) }
}

fn input_count(op: &'static str, wants: &str, inputs: &[Shape]) -> ShapeError {
    ShapeError::InputCount { op, wants: wants.to_owned(), has: inputs.len() }
}

fn map_size(op: &'static str, input: Shape) -> Result<[usize; 2], ShapeError> {
    match input {
        Shape::Map { h, w, .. } => Ok([h, w]),
        Shape::Vector { features, .. } => Err(ShapeError::NotAMap { op, features }),
    }
}

/// Padded maps lie in memory with their zeros, so these count too.
fn check_padded(window: &Window, input: Shape) -> Result<(), ShapeError> {
    let padded = |axis: Axis, size: usize| {
        let (before, after) = window.padding.on(axis);
        size.saturating_add(before).saturating_add(after)
    };
    let dims =
        [input.n(), input.c(), padded(Axis::Rows, input.h()), padded(Axis::Columns, input.w())];
    checked("the padded input", &dims).map(|_| ())
}

fn check_tensor(op: &'static str, tensor: &Tensor, wants: &[usize]) -> Result<(), ShapeError> {
    if tensor.shape == wants {
        return Ok(());
    }
    Err(ShapeError::TensorShape {
        op,
        tensor: tensor.name.clone(),
        has: tensor.shape.clone(),
        wants: wants.to_vec(),
    })
}

fn batch_norm_tensors(batch_norm: &BatchNorm, channels: usize) -> Result<(), ShapeError> {
    let BatchNorm { eps: _, weight, bias, running_mean, running_var } = batch_norm;
    [weight, bias, running_mean, running_var]
        .into_iter()
        .try_for_each(|tensor| check_tensor("batch_norm", tensor, &[channels]))
}

#[cfg(test)]
mod tests;

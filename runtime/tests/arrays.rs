//! Arrays of ndarray into and out of a net.

mod common;

use std::sync::Arc;

use alexc_runtime::{arrays::ArrayError, network::Network, session::Session};
use common::{LEN, expected, input, network};
use ndarray::{Array, Array1, Array2, Array4, ArrayD, Axis, IxDyn};

fn image() -> Array4<f32> {
    Array::from_shape_vec((1, 10, 10, 10), input()).unwrap()
}

#[test]
fn contiguous_arrays_run_where_they_lie() {
    let mut session = Session::new(&network(), 2).unwrap();
    let expected = expected(&input());
    let output = session.run_array(image().view()).unwrap();
    assert_eq!(output.shape(), [1, LEN]);
    assert_eq!(output.iter().copied().collect::<Vec<_>>(), expected);
    // Without the batch, into a part of a larger array.
    let mut store = Array2::from_elem((3, LEN), f32::NAN);
    session.run_view(image().index_axis(Axis(0), 0), store.row_mut(1)).unwrap();
    assert_eq!(store.row(1).to_vec(), expected);
    assert!(store.row(0).iter().chain(store.row(2)).all(|x| x.is_nan()));
}

#[test]
fn the_shapes_are_the_nets() {
    let mut session = Session::new(&network(), 1).unwrap();
    let error = session.run_array(Array1::zeros(LEN).view()).unwrap_err();
    let message = "the input has the shape [1000] and must have [1, 10, 10, 10]";
    assert_eq!(error.to_string(), message);
    // As many elements, other axes.
    let turned: ArrayD<f32> = ArrayD::zeros(IxDyn(&[10, 10, 10, 1]));
    assert!(matches!(session.run_array(turned.view()), Err(ArrayError::Shape { .. })));
    let mut short = Array2::zeros((1, LEN - 1));
    let error = session.run_view(image().view(), short.view_mut()).unwrap_err();
    let message = "the output has the shape [1, 999] and must have [1, 1000]";
    assert_eq!(error.to_string(), message);

    // A batch of several images is no axis to leave out.
    let mut program = common::program();
    program.input_dims = vec![2, 5, 10, 10];
    let network = Arc::new(Network::new(program, common::weights().into()).unwrap());
    let mut session = Session::new(&network, 1).unwrap();
    let image: ArrayD<f32> = ArrayD::zeros(IxDyn(&[5, 10, 10]));
    assert!(matches!(session.run_array(image.view()), Err(ArrayError::Shape { .. })));
}

#[test]
fn other_layouts_are_refused_and_a_copy_helps() {
    let mut session = Session::new(&network(), 1).unwrap();
    let image = image();
    let mut turned = image.view();
    turned.swap_axes(2, 3);
    let error = session.run_array(turned).unwrap_err();
    assert_eq!(error, ArrayError::Layout { what: "input" });
    assert!(error.to_string().contains("give a copy of it"), "{error}");
    let copy = turned.as_standard_layout();
    let output = session.run_array(copy.view()).unwrap();
    let turned: Vec<f32> = turned.iter().copied().collect();
    assert_eq!(output.iter().copied().collect::<Vec<_>>(), expected(&turned));
    // Every second element.
    let mut gaps = Array1::from_elem(2 * LEN, 0.0);
    let gaps = gaps.slice_mut(ndarray::s![..;2]);
    let error = session.run_view(image.view(), gaps).unwrap_err();
    assert_eq!(error, ArrayError::Layout { what: "output" });
}

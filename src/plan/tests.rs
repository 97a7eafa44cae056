use super::{Item, PlanError, bind, plan};
use crate::algorithm::Algorithm;
use crate::graph::{
    Activation, Conv, Epilogue, Graph, Node, Op, Padding, Tensor, Value, ValueId, Window,
};
use crate::layout::{self, Layout};
use crate::lower::{self, Lowered, Vectors};
use crate::shape::Shape;
use alexc_codegen::ir::DType;
use alexc_runtime::program::Base;
use expect_test::expect;
use std::collections::BTreeSet;

const CHANNELS: usize = 16;

/// Every node by its definition.
fn direct(graph: &Graph) -> Vec<Algorithm> {
    vec![Algorithm::Direct; graph.nodes.len()]
}

fn conv(name: &str, epilogue: Vec<Epilogue>) -> Op {
    Op::Conv(Conv {
        window: Window {
            kernel: [3, 3],
            stride: [1, 1],
            dilation: [1, 1],
            padding: Padding { top: 1, left: 1, bottom: 1, right: 1 },
        },
        out_channels: CHANNELS,
        groups: 1,
        weight: Tensor { name: format!("{name}.weight"), shape: vec![CHANNELS, CHANNELS, 3, 3] },
        bias: None,
        batch_norm: None,
        epilogue,
    })
}

/// Three equal convolutions; the third adds the first's result.
fn residual() -> (Graph, Vec<Layout>, Lowered) {
    let shape = Shape::map(1, CHANNELS, 8, 8);
    let names = ["input", "a", "b", "c"];
    let node = |index: u32, op: Op, inputs: &[u32]| Node {
        name: names[index as usize].to_owned(),
        op,
        inputs: inputs.iter().map(|&input| ValueId(input)).collect(),
        output: ValueId(index),
        sources: vec![names[index as usize].to_owned()],
    };
    let relu = vec![Epilogue::Activation(Activation::Relu)];
    let graph = Graph {
        name: "residual".to_owned(),
        values: names.map(|name| Value { name: name.to_owned(), shape }).to_vec(),
        nodes: vec![
            node(1, conv("a", relu.clone()), &[0]),
            node(2, conv("b", relu), &[1]),
            node(3, conv("c", vec![Epilogue::Add]), &[2, 1]),
        ],
        input: ValueId(0),
        output: ValueId(3),
    };
    let algorithms = direct(&graph);
    let layouts = layout::assign(&graph, &algorithms);
    let lowered = lower::lower(
        &graph,
        &algorithms,
        &layouts,
        Vectors::SSE,
        DType::F32,
        false,
        &BTreeSet::new(),
    );
    (graph, layouts, lowered)
}

#[test]
fn a_residual_net() {
    let (graph, layouts, lowered) = residual();
    let plan = plan(&graph, &lowered, &layouts).unwrap();
    // Maps with a halo have 10 x 10 x 16 floats, the last one 8 x 8 x 16. At c, the maps a, b and
    // c are alive; at b, a and b.
    assert_eq!(plan.lower_bound_bytes, 6400 + 6400 + 4096);
    assert_eq!(plan.arena_bytes, plan.lower_bound_bytes);
    let made: Vec<usize> = plan.slots.iter().map(|slot| slot.made).collect();
    assert_eq!(made, [1, 3, 5, 6]);
    expect![[r#"
        arena           16 896 bytes, lower bound 16 896 (+0.0%)
        weights         27 840 bytes
        scratch              0 bytes a thread

          value          bytes         offset  steps
        A input          6 400              0  0..3
        B a              6 400          6 400  2..6
        C b              6 400              0  4..6
        D c              4 096         12 800  6..7

        step call                the arena, 264 bytes a column
           0 input.halo          AAAAAAAAAAAAAAAAAAAAAAAAA.......................................
           1 input.read_input    AAAAAAAAAAAAAAAAAAAAAAAAA.......................................
           2 a.halo              AAAAAAAAAAAAAAAAAAAAAAAABBBBBBBBBBBBBBBBBBBBBBBBB...............
           3 a.conv              AAAAAAAAAAAAAAAAAAAAAAAABBBBBBBBBBBBBBBBBBBBBBBBB...............
           4 b.halo              CCCCCCCCCCCCCCCCCCCCCCCCCBBBBBBBBBBBBBBBBBBBBBBBB...............
           5 b.conv              CCCCCCCCCCCCCCCCCCCCCCCCCBBBBBBBBBBBBBBBBBBBBBBBB...............
           6 c.conv              CCCCCCCCCCCCCCCCCCCCCCCCCBBBBBBBBBBBBBBBBBBBBBBBDDDDDDDDDDDDDDDD
           7 output.write_output ................................................DDDDDDDDDDDDDDDD
    "#]]
    .assert_eq(&plan.to_string());
}

#[test]
fn steps_wait_only_for_what_others_touch() {
    let (graph, layouts, lowered) = residual();
    let plan = plan(&graph, &lowered, &layouts).unwrap();
    let bound = bind(&lowered, &plan).unwrap();
    let barriers: Vec<(&str, bool)> =
        bound.steps.iter().map(|step| (step.name.as_str(), step.barrier)).collect();
    assert_eq!(
        barriers,
        [
            ("input.halo", false),
            ("input.read_input", true),
            // Beside the input.
            ("a.halo", false),
            ("a.conv", true),
            // Takes the place of the input, which a.conv may still be reading.
            ("b.halo", true),
            ("b.conv", true),
            ("c.conv", true),
            ("output.write_output", true),
        ]
    );
}

#[test]
fn equal_kernels_share_code() {
    let (graph, layouts, lowered) = residual();
    let plan = plan(&graph, &lowered, &layouts).unwrap();
    let bound = bind(&lowered, &plan).unwrap();
    let names: Vec<&str> = bound.kernels.iter().map(|kernel| kernel.name.as_str()).collect();
    assert_eq!(
        names,
        ["input_halo", "input_read_input", "a_conv", "c_conv", "output_write_output"]
    );
    let used: Vec<usize> = bound.steps.iter().map(|step| step.kernel).collect();
    assert_eq!(used, [0, 1, 0, 2, 0, 2, 3, 4]);
    let weights = |step: usize| {
        bound.steps[step].params.iter().find(|binding| binding.base == Base::Weights).unwrap()
    };
    assert_eq!(weights(3).offset_bytes, 0);
    // Behind a's 3 x 3 x 16 x 16 weights and its 16 zeros of bias.
    assert_eq!(weights(5).offset_bytes, 4 * (3 * 3 * 16 * 16 + 16));
}

#[test]
fn constants_of_different_sign_are_different_code() {
    use alexc_codegen::ir::{Inst, Nonzero, Stmt};
    let (graph, layouts, mut lowered) = residual();
    let plan = plan(&graph, &lowered, &layouts).unwrap();
    fn negate(body: &mut [Stmt]) {
        for stmt in body {
            match stmt {
                Stmt::Inst(Inst::Const { value, .. }) => *value = -*value,
                Stmt::Inst(_) => {}
                Stmt::For { body, .. } | Stmt::Nonzero(Nonzero { body, .. }) => negate(body),
                Stmt::Let { .. } | Stmt::Barrier => {}
            }
        }
    }
    negate(&mut lowered.calls[2].kernel.body);
    let bound = bind(&lowered, &plan).unwrap();
    assert_ne!(bound.steps[0].kernel, bound.steps[2].kernel);
    assert_eq!(bound.steps[0].kernel, bound.steps[4].kernel);
}

#[test]
fn the_verifier_sees_a_bad_plan() {
    let (graph, layouts, lowered) = residual();
    let good = plan(&graph, &lowered, &layouts).unwrap();
    let broken = |change: fn(&mut super::Plan)| {
        let mut bad = good.clone();
        change(&mut bad);
        bad.verify(&lowered, &layouts).unwrap_err()
    };
    let overlap = broken(|plan| {
        let offset = plan.slots[1].offset_bytes;
        plan.slots[2].offset_bytes = offset;
    });
    assert!(overlap.to_string().contains("`a` and `b` overlap"), "{overlap}");
    let outside = broken(|plan| plan.slots[3].offset_bytes += 64);
    assert!(outside.to_string().contains("`c` reaches past"), "{outside}");
    let unaligned = broken(|plan| plan.slots[0].offset_bytes += 4);
    assert!(unaligned.to_string().contains("`input` is not aligned"), "{unaligned}");
    let dead = broken(|plan| plan.slots[1].lifetime.last = 4);
    assert!(dead.to_string().contains("`a` is not alive in b.conv"), "{dead}");
    let missing = broken(|plan| drop(plan.slots.remove(1)));
    assert!(matches!(missing, PlanError::Unbound { .. }), "{missing}");
    let weights = broken(|plan| plan.weights[1] -= 64);
    assert!(weights.to_string().contains("pack 0 overlaps"), "{weights}");
}

#[test]
fn a_buffer_larger_than_its_value_is_refused() {
    let (graph, layouts, mut lowered) = residual();
    lowered.calls[1].kernel.buffers[1].len += 1;
    let error = plan(&graph, &lowered, &layouts).unwrap_err();
    assert!(matches!(error, PlanError::Short { needed: 6404, bytes: 6400, .. }), "{error}");
}

#[test]
fn sizes_that_overflow_are_refused() {
    let (graph, mut layouts, lowered) = residual();
    layouts[1].n = usize::MAX / 8 / layouts[1].len();
    assert_eq!(plan(&graph, &lowered, &layouts), Err(PlanError::TooLarge));
    let value = plan(&graph, &lowered, &layout::assign(&graph, &direct(&graph))).unwrap();
    assert_eq!(value.slot(Item::Temporary(0)), None);
}

//! Calls to steps: every buffer gets its bytes, equal kernels share code, and a step waits for
//! the others only where it touches what they write or writes what they touch.
//!
//! That is decided by whole buffers, as the loader of a program can check it. Clearing a halo and
//! filling the map inside it, which touch different bytes of one buffer, count as dependent.

use super::{Item, Plan, PlanError};
use crate::lower::{Argument, Call, Lowered};
use alexc_codegen::ir::{Access, Inst, Kernel};
use alexc_runtime::program::{Base, Binding, Step};
use std::collections::HashSet;

/// A lowered graph bound to memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Bound {
    /// The kernels, each once, under unique names: `node_kernel` after the first node that calls
    /// it.
    pub kernels: Vec<Kernel>,
    /// One for each call, in order.
    pub steps: Vec<Step>,
}

/// Binds the calls of a lowered graph to the places that `plan` (made for it) gives.
pub fn bind(lowered: &Lowered, plan: &Plan) -> Result<Bound, PlanError> {
    let mut kernels: Vec<Kernel> = Vec::new();
    let mut names = HashSet::new();
    let mut steps: Vec<Step> = Vec::with_capacity(lowered.calls.len());
    // What the steps since the last barrier touch; they may all be running at once.
    let mut running: Vec<Binding> = Vec::new();
    for (index, call) in lowered.calls.iter().enumerate() {
        let params = bindings(lowered, plan, index, call)?;
        // Scratch is every thread's own.
        let shared = || params.iter().filter(|binding| binding.base != Base::Local);
        let barrier = shared().any(|mine| running.iter().any(|theirs| mine.collides(theirs)));
        if barrier {
            running.clear();
        }
        running.extend(shared());

        let kernel = match kernels.iter().position(|kernel| same_code(kernel, &call.kernel)) {
            Some(kernel) => kernel,
            None => {
                let name = unique(identifier(call), &mut names);
                kernels.push(Kernel { name, ..call.kernel.clone() });
                kernels.len() - 1
            }
        };
        steps.push(Step {
            name: call.label(),
            kernel,
            extent: call.kernel.extent(),
            barrier,
            params,
        });
    }
    Ok(Bound { kernels, steps })
}

/// The bytes of every buffer of a call.
fn bindings(
    lowered: &Lowered,
    plan: &Plan,
    index: usize,
    call: &Call,
) -> Result<Vec<Binding>, PlanError> {
    let place = |argument: Argument, buffer: usize| {
        let item = |item: Item| plan.slot(item).map(|slot| (Base::Arena, slot.offset_bytes));
        match argument {
            Argument::Input => Some((Base::Input, 0)),
            Argument::Output => Some((Base::Output, 0)),
            Argument::Value(value) => item(Item::Value(value)),
            Argument::Temporary(temporary) => item(Item::Temporary(temporary)),
            Argument::Weights(pack) => {
                plan.weights.get(pack).map(|&offset| (Base::Weights, offset))
            }
            Argument::Local => {
                plan.locals.get(index)?.get(buffer).map(|&offset| (Base::Local, offset))
            }
        }
    };
    debug_assert_eq!(lowered.calls.len(), plan.locals.len());
    call.kernel
        .buffers
        .iter()
        .enumerate()
        .map(|(position, buffer)| {
            call.arguments
                .get(position)
                .and_then(|&argument| place(argument, position))
                .map(|(base, offset_bytes)| Binding {
                    base,
                    offset_bytes: offset_bytes
                        + call.firsts.get(position).copied().unwrap_or(0) * buffer.dtype.bytes(),
                    len_bytes: buffer.len * buffer.dtype.bytes(),
                    writes: buffer.access != Access::Read,
                })
                .ok_or_else(|| PlanError::Unbound {
                    call: call.label(),
                    buffer: buffer.name.clone(),
                })
        })
        .collect()
}

/// Equal in everything but the name. `==` alone would take the constants 0.0 and -0.0 for one.
fn same_code(a: &Kernel, b: &Kernel) -> bool {
    fn constants(kernel: &Kernel) -> Vec<u32> {
        let mut bits = Vec::new();
        kernel.for_each_inst(&mut |inst, _| {
            if let Inst::Const { value, .. } = inst {
                bits.push(value.to_bits());
            }
        });
        bits
    }
    a.buffers == b.buffers
        && a.parallel == b.parallel
        && a.regs == b.regs
        && a.vars == b.vars
        && a.body == b.body
        && constants(a) == constants(b)
}

/// `node_kernel` as a C identifier.
fn identifier(call: &Call) -> String {
    let mut name: String = format!("{}_{}", call.node, call.kernel.name)
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect();
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        name.insert(0, 'k');
    }
    name
}

fn unique(name: String, taken: &mut HashSet<String>) -> String {
    let mut candidate = name.clone();
    let mut number = 2;
    while !taken.insert(candidate.clone()) {
        candidate = format!("{name}_{number}");
        number += 1;
    }
    candidate
}

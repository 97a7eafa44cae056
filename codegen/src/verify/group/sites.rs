//! The accesses of a kernel, and which of them no barrier separates.

use super::values::{Values, has_barrier};
use crate::ir::{Access, Addr, Inst, Kernel, Stmt, Var};

/// One access.
#[derive(Debug)]
pub(super) struct Site<'k> {
    /// Number of the statement.
    pub(super) number: usize,
    /// The loops around it.
    pub(super) loops: Vec<(Var, u32)>,
    pub(super) inst: &'k Inst,
    pub(super) addr: &'k Addr,
    pub(super) lanes: i64,
    pub(super) stores: bool,
}

/// The value of a loop with barriers at an access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// This one.
    Fixed(i64),
    /// So much more than at the other accesses of the phase.
    Shifted(i64),
}

/// An access in a phase.
#[derive(Debug, Clone)]
pub(super) struct Visit {
    /// Index into the sites.
    pub(super) site: usize,
    /// Of the loops with barriers around it, outermost first.
    pub(super) turns: Vec<(usize, Turn)>,
}

/// What happens between two barriers.
pub(super) type Phase = Vec<Visit>;

/// Loops with barriers, inside one another, that are followed: each doubles the phases.
const DEEPEST: usize = 6;

/// All accesses but those of read-only and local buffers, and the phases of those of shared ones;
/// no phases where loops with barriers lie too deep in one another.
pub(super) fn sites<'k>(
    kernel: &'k Kernel,
    values: &Values,
) -> (Vec<Site<'k>>, Option<Vec<Phase>>) {
    let mut sites = Vec::new();
    let mut loops: Vec<_> = kernel.parallel.iter().map(|dim| (dim.var, dim.count)).collect();
    loops.extend(kernel.items.iter().map(|dim| (dim.var, dim.count)));
    collect(kernel, &kernel.body, &mut 0, &mut loops, &mut sites);
    let shared: Vec<bool> =
        sites.iter().map(|site| is_shared(kernel, site.addr)).collect::<Vec<_>>();
    let mut walk = Walk {
        values,
        sites: &sites,
        shared: &shared,
        turns: Vec::new(),
        open: Vec::new(),
        closed: Vec::new(),
        deepest: 0,
    };
    walk.body(&kernel.body, &mut 0, 0);
    let Walk { open, mut closed, deepest, .. } = walk;
    closed.push(open);
    let phases = (deepest <= DEEPEST).then_some(closed);
    (sites, phases)
}

fn is_shared(kernel: &Kernel, addr: &Addr) -> bool {
    kernel.buffers[usize::from(addr.buffer.0)].access == Access::Shared
}

fn collect<'k>(
    kernel: &Kernel,
    body: &'k [Stmt],
    number: &mut usize,
    loops: &mut Vec<(Var, u32)>,
    sites: &mut Vec<Site<'k>>,
) {
    for stmt in body {
        let this = *number;
        *number += 1;
        match stmt {
            Stmt::Inst(inst) => {
                let Some((addr, lanes, stores)) = touched(kernel, inst) else { continue };
                let access = kernel.buffers[usize::from(addr.buffer.0)].access;
                if !matches!(access, Access::Read | Access::Local) {
                    let loops = loops.clone();
                    sites.push(Site { number: this, loops, inst, addr, lanes, stores });
                }
            }
            Stmt::For { var, count, body } => {
                loops.push((*var, *count));
                collect(kernel, body, number, loops, sites);
                loops.pop();
            }
            // Those with loops over nonzero elements are refused before.
            Stmt::Let { .. } | Stmt::Barrier | Stmt::Nonzero(_) => {}
        }
    }
}

/// The elements that an instruction touches, and whether it stores them.
fn touched<'k>(kernel: &Kernel, inst: &'k Inst) -> Option<(&'k Addr, i64, bool)> {
    match inst {
        Inst::Load { dst, addr } => Some((addr, i64::from(kernel.lanes(*dst)), false)),
        Inst::Splat { addr, .. } => Some((addr, 1, false)),
        Inst::Store { addr, src } => Some((addr, i64::from(kernel.lanes(*src)), true)),
        _ => None,
    }
}

struct Walk<'w, 'k> {
    values: &'w Values,
    sites: &'w [Site<'k>],
    shared: &'w [bool],
    turns: Vec<(usize, Turn)>,
    open: Phase,
    closed: Vec<Phase>,
    deepest: usize,
}

impl Walk<'_, '_> {
    /// Goes through statements from number `number` on.
    fn body(&mut self, body: &[Stmt], number: &mut usize, depth: usize) {
        for stmt in body {
            let this = *number;
            *number += 1;
            match stmt {
                Stmt::Inst(_) => {
                    let site = self.sites.binary_search_by_key(&this, |site| site.number);
                    if let Some(site) = site.ok().filter(|&site| self.shared[site]) {
                        self.open.push(Visit { site, turns: self.turns.clone() });
                    }
                }
                Stmt::For { var, count, body } if has_barrier(body) => {
                    let var = self.values.same(*var);
                    self.repeat((var, i64::from(*count)), body, number, depth + 1);
                }
                Stmt::For { body, .. } => self.body(body, number, depth),
                Stmt::Let { .. } | Stmt::Nonzero(_) => {}
                Stmt::Barrier => self.closed.push(std::mem::take(&mut self.open)),
            }
        }
    }

    /// A loop with barriers: the first turn behind what came before it, then any turn behind the
    /// end of the one before. What lies open behind the last turn is the end of one alone, because
    /// its barrier closes all else.
    fn repeat(
        &mut self,
        (var, count): (usize, i64),
        body: &[Stmt],
        number: &mut usize,
        depth: usize,
    ) {
        self.deepest = self.deepest.max(depth);
        let first = *number;
        let mut turn = |this: &mut Self, turn: Turn| {
            *number = first;
            if depth <= DEEPEST {
                this.turns.push((var, turn));
                this.body(body, number, depth);
                this.turns.pop();
            } else {
                count_statements(body, number);
            }
        };
        turn(self, Turn::Fixed(0));
        if count > 1 {
            self.rename(var, Turn::Shifted(-1));
            turn(self, Turn::Shifted(0));
            self.rename(var, Turn::Fixed(count - 1));
        }
    }

    /// The open accesses of a loop, seen from another turn.
    fn rename(&mut self, var: usize, to: Turn) {
        for visit in &mut self.open {
            visit.turns.iter_mut().filter(|t| t.0 == var).for_each(|t| t.1 = to);
        }
    }
}

fn count_statements(body: &[Stmt], number: &mut usize) {
    for stmt in body {
        *number += 1;
        if let Stmt::For { body, .. } = stmt {
            count_statements(body, number);
        }
    }
}

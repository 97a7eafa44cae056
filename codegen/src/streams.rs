//! Addresses by strength reduction, shared by the machine-code emitters: an affine address becomes
//! a pointer plus a constant displacement, and each loop advances its pointers by constant steps.
//!
//! A root pointer is a buffer's base plus what the parallel indices contribute; it is computed once
//! an iteration of the parallel space. A loop whose variable occurs in an address starts a pointer
//! at the value of an outer one and steps it. In a loop over nonzero elements pointers are made anew
//! from the indices. Accesses that differ by a constant share everything.

use crate::ir::{Addr, BufferId, Inst, Kernel, Nonzero, Stmt, Var};

/// Index of a pointer of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Pointer(pub(crate) u32);

/// Where an instruction accesses memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) pointer: Pointer,
    pub(crate) displacement_bytes: i32,
    pub(crate) buffer: BufferId,
}

/// A pointer that is set up once an iteration of the parallel space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Root {
    pub(crate) pointer: Pointer,
    pub(crate) buffer: BufferId,
    /// (index of the parallel dimension, bytes for each step of it).
    pub(crate) terms: Vec<(usize, i64)>,
    /// Multiple of [`FAR`] that brings displacements into 32 bits.
    pub(crate) offset_bytes: i64,
}

/// A pointer of a loop: begins at `from`, moves by `step_bytes` after each iteration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Advance {
    pub(crate) pointer: Pointer,
    pub(crate) from: Pointer,
    pub(crate) step_bytes: i64,
}

/// A statement with its addresses resolved.
#[derive(Debug)]
pub(crate) enum Node<'k> {
    Inst(&'k Inst, Option<Place>),
    Loop { count: u32, advances: Vec<Advance>, body: Vec<Node<'k>> },
    Nonzero(Turns<'k>),
}

/// A loop over nonzero elements.
#[derive(Debug)]
pub(crate) struct Turns<'k> {
    pub(crate) of: &'k Nonzero,
    /// The first of the elements.
    pub(crate) from: Place,
    /// The beginning of the list.
    pub(crate) list: Place,
    /// Pointers at what the indices lead to, each with the position of its index in
    /// [`Nonzero::found`]: in each turn `from` and `step_bytes` for each unit of the index.
    pub(crate) leads: Vec<(usize, Advance)>,
    pub(crate) body: Vec<Node<'k>>,
}

/// A kernel with its addresses resolved.
#[derive(Debug)]
pub(crate) struct Streams<'k> {
    pub(crate) pointers: u32,
    pub(crate) roots: Vec<Root>,
    pub(crate) body: Vec<Node<'k>>,
}

/// Displacements stay below this.
const FAR: i64 = 1 << 30;

/// Resolves all addresses of a kernel.
pub(crate) fn resolve(kernel: &Kernel) -> Streams<'_> {
    let mut resolver = Resolver { kernel, pointers: 0, roots: Vec::new(), open: Vec::new() };
    let body = resolver.body(&kernel.body);
    Streams { pointers: resolver.pointers, roots: resolver.roots, body }
}

struct Resolver<'k> {
    kernel: &'k Kernel,
    pointers: u32,
    roots: Vec<Root>,
    /// Enclosing loops, outermost first, with the pointers that they need so far.
    open: Vec<(Var, Vec<Advance>)>,
}

impl<'k> Resolver<'k> {
    fn body(&mut self, body: &'k [Stmt]) -> Vec<Node<'k>> {
        body.iter()
            .filter_map(|stmt| match stmt {
                Stmt::Inst(inst) => {
                    Some(Node::Inst(inst, inst.addr().map(|addr| self.place(addr))))
                }
                Stmt::For { var, count, body } => {
                    self.open.push((*var, Vec::new()));
                    let body = self.body(body);
                    let advances = self.open.pop().map(|(_, a)| a).unwrap_or_default();
                    Some(Node::Loop { count: *count, advances, body })
                }
                Stmt::Nonzero(of) => {
                    let from = self.place(&of.from);
                    let list =
                        Addr { buffer: of.list, offset: 0, terms: Vec::new(), guards: Vec::new() };
                    let list = self.place(&list);
                    let outside = self.open.len();
                    self.open.extend(of.found.iter().map(|&var| (var, Vec::new())));
                    let body = self.body(&of.body);
                    let leads = self.open.drain(outside..).enumerate();
                    let leads = leads
                        .flat_map(|(index, (_, advances))| {
                            advances.into_iter().map(move |advance| (index, advance))
                        })
                        .collect();
                    Some(Node::Nonzero(Turns { of, from, list, leads, body }))
                }
                // Emitters of machine code take only kernels without these.
                Stmt::Let { .. } | Stmt::Barrier => None,
            })
            .collect()
    }

    fn place(&mut self, addr: &Addr) -> Place {
        let size = self.kernel.buffers[usize::from(addr.buffer.0)].dtype.bytes() as i64;
        let coefficient =
            |var: Var| addr.terms.iter().find(|t| t.0 == var).map_or(0, |t| t.1 * size);
        let terms: Vec<(usize, i64)> = (self.kernel.parallel.iter().enumerate())
            .map(|(index, dim)| (index, coefficient(dim.var)))
            .filter(|&(_, step)| step != 0)
            .collect();
        let bytes = addr.offset * size;
        let offset_bytes = bytes.div_euclid(FAR) * FAR;
        let mut pointer = self.root(addr.buffer, terms, offset_bytes);
        for (var, advances) in &mut self.open {
            let step_bytes = coefficient(*var);
            if step_bytes == 0 {
                continue;
            }
            let known = advances.iter().find(|a| a.from == pointer && a.step_bytes == step_bytes);
            pointer = match known {
                Some(advance) => advance.pointer,
                None => {
                    let new = Pointer(self.pointers);
                    self.pointers += 1;
                    advances.push(Advance { pointer: new, from: pointer, step_bytes });
                    new
                }
            };
        }
        Place { pointer, displacement_bytes: (bytes - offset_bytes) as i32, buffer: addr.buffer }
    }

    fn root(&mut self, buffer: BufferId, terms: Vec<(usize, i64)>, offset_bytes: i64) -> Pointer {
        let known = self
            .roots
            .iter()
            .find(|r| r.buffer == buffer && r.terms == terms && r.offset_bytes == offset_bytes);
        if let Some(root) = known {
            return root.pointer;
        }
        let pointer = Pointer(self.pointers);
        self.pointers += 1;
        self.roots.push(Root { pointer, buffer, terms, offset_bytes });
        pointer
    }
}

#[cfg(test)]
mod tests {
    use super::{Node, resolve};
    use crate::builder::Builder;
    use crate::ir::Access;

    #[test]
    fn accesses_that_differ_by_a_constant_share_a_pointer() {
        let mut b = Builder::new("k");
        let x = b.buffer("x", 1000, Access::ReadWrite);
        let p = b.parallel("p", 4);
        b.repeat("i", 10, |b, i| {
            let v = b.load(4, x, &p * 100 + &i * 8);
            b.store(x, &p * 100 + &i * 8 + 4usize, v);
            b.repeat("j", 2, |b, j| {
                b.load(1, x, &p * 100 + &i * 8 + j);
            });
        });
        let kernel = b.finish();
        let streams = resolve(&kernel);
        assert_eq!(streams.roots.len(), 1);
        assert_eq!(streams.roots[0].terms, vec![(0, 400)]);
        let Node::Loop { count: 10, advances, body } = &streams.body[0] else {
            panic!("the loop over i comes first")
        };
        assert_eq!(advances.len(), 1);
        assert_eq!(advances[0].step_bytes, 32);
        let Node::Inst(_, Some(store)) = &body[1] else { panic!("the store is second") };
        assert_eq!((store.pointer, store.displacement_bytes), (advances[0].pointer, 16));
        let Node::Loop { advances: inner, .. } = &body[2] else { panic!("the loop over j") };
        assert_eq!((inner[0].from, inner[0].step_bytes), (advances[0].pointer, 4));
    }
}

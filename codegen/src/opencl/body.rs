//! Statements: loops, and instructions on private variables that are declared where they are
//! first written, in the innermost block that holds all their uses.

use super::{MultiplyAdd, Names, Options};
use crate::ir::{
    Access, Addr, Binary, DType, Index, IndexOp, Inst, Kernel, Nonzero, Reduce, Reg, Stmt, Unary,
    Var,
};
use std::collections::HashMap;
use std::fmt::Write;

/// The statement in front of which a register is declared: number of the block and position in it.
type Place = (usize, usize);

pub(super) struct Body<'k> {
    kernel: &'k Kernel,
    names: &'k Names,
    options: &'k Options,
    /// Registers to declare at each place.
    declared: HashMap<Place, Vec<Reg>>,
    /// Number of the next block, counted as blocks open.
    block: usize,
}

impl<'k> Body<'k> {
    pub(super) fn new(kernel: &'k Kernel, names: &'k Names, options: &'k Options) -> Self {
        let mut homes = Homes { of: vec![None; kernel.regs.len()], path: Vec::new(), blocks: 0 };
        homes.body(&kernel.body);
        let mut declared: HashMap<Place, Vec<Reg>> = HashMap::new();
        for (index, home) in homes.of.iter().enumerate() {
            if let Some(&place) = home.as_ref().and_then(|path| path.last()) {
                declared.entry(place).or_default().push(Reg(index as u32));
            }
        }
        Body { kernel, names, options, declared, block: 0 }
    }

    pub(super) fn print(mut self, text: &mut String, depth: usize) {
        self.body(&self.kernel.body, text, depth);
    }

    fn body(&mut self, body: &[Stmt], text: &mut String, depth: usize) {
        let block = self.block;
        self.block += 1;
        for (position, stmt) in body.iter().enumerate() {
            let mut own = false;
            let mut by_lanes: Vec<(u8, Vec<String>)> = Vec::new();
            for reg in self.declared.remove(&(block, position)).unwrap_or_default() {
                if matches!(stmt, Stmt::Inst(inst) if inst.dst() == Some(reg)) {
                    own = true;
                    continue;
                }
                let lanes = self.kernel.lanes(reg);
                match by_lanes.iter_mut().find(|(of, _)| *of == lanes) {
                    Some((_, names)) => names.push(name(reg)),
                    None => by_lanes.push((lanes, vec![name(reg)])),
                }
            }
            for (lanes, names) in by_lanes {
                line(text, depth, &format!("{} {};", float(lanes), names.join(", ")));
            }
            match stmt {
                Stmt::Inst(inst) => {
                    if let Some(statement) = self.inst(inst, own) {
                        line(text, depth, &statement);
                    }
                }
                Stmt::For { var, count, body } => {
                    let (index, name) = (self.names.index, self.var(*var));
                    let head = format!("for ({index} {name} = 0; {name} < {count}; ++{name}) {{");
                    line(text, depth, &head);
                    self.body(body, text, depth + 1);
                    line(text, depth, "}");
                }
                Stmt::Nonzero(nonzero) => self.nonzero(nonzero, text, depth),
                Stmt::Let { var, value } => {
                    let (index, name) = (self.names.index, self.var(*var));
                    line(text, depth, &format!("{index} {name} = {};", self.index(value)));
                }
                Stmt::Barrier => line(text, depth, "barrier(CLK_LOCAL_MEM_FENCE);"),
            }
        }
    }

    /// A list of the nonzero elements and their indices, then a loop over it. Each element is
    /// written down, and the next one over it if it was zero.
    fn nonzero(&mut self, nonzero: &Nonzero, text: &mut String, depth: usize) {
        let Nonzero { from, count, list, found, values, body } = nonzero;
        let (index, list) = (self.names.index, &self.names.buffers[usize::from(list.0)]);
        let (from, at, half) = (self.buffer(from), grouped(&self.at(from)), nonzero.half_list());
        let (value, step, inner) = ("alexc_value", "alexc_at", depth + 1);
        line(text, depth, "{");
        line(text, inner, &format!("{index} alexc_found = 0;"));
        let head = |from: &str, to: &str, by: usize| {
            format!("for ({index} {step} = {from}; {step} < {to}; {step} += {by}) {{")
        };
        line(text, inner, &head("0", &count.to_string(), 1));
        line(text, inner + 1, &format!("const float {value} = {from}[{at} + {step}];"));
        line(text, inner + 1, &format!("{list}[alexc_found] = {value};"));
        // As they are: nothing calculates with the bits, so that none are lost.
        let entry = format!("{list}[{half} + alexc_found] = as_float((int){step});");
        line(text, inner + 1, &entry);
        line(text, inner + 1, &format!("alexc_found += {value} != 0.0f;"));
        line(text, inner, "}");
        line(text, inner, &head("0", &found.len().to_string(), 1));
        line(text, inner + 1, &format!("{list}[alexc_found + {step}] = 0.0f;"));
        line(text, inner + 1, &format!("{list}[{half} + alexc_found + {step}] = 0.0f;"));
        line(text, inner, "}");
        line(text, inner, &head("0", "alexc_found", values.len()));
        for (position, &var) in found.iter().enumerate() {
            let entry = format!("as_int({list}[{} + {step}])", half + position);
            line(text, inner + 1, &format!("const {index} {} = {entry};", self.var(var)));
        }
        for (position, &reg) in values.iter().enumerate() {
            let lanes = self.kernel.lanes(reg);
            let value = spread(lanes, format!("{list}[{step} + {position}]"));
            line(text, inner + 1, &format!("{} = {value};", name(reg)));
        }
        self.body(body, text, inner + 1);
        line(text, inner, "}");
        line(text, depth, "}");
    }

    /// The statement of an instruction; `None` for a hint. `declares`: with its variable's type.
    fn inst(&self, inst: &Inst, declares: bool) -> Option<String> {
        let value = match *inst {
            Inst::Prefetch { .. } => return None,
            Inst::Store { ref addr, src } => {
                return Some(match self.condition(addr) {
                    None => self.store(addr, src),
                    Some(condition) => format!("if ({condition}) {}", self.store(addr, src)),
                });
            }
            Inst::Const { dst, value } => spread(self.kernel.lanes(dst), constant(value)),
            Inst::Load { dst, ref addr } => self.guarded_load(addr, self.kernel.lanes(dst)),
            Inst::Splat { dst, ref addr } => {
                spread(self.kernel.lanes(dst), self.guarded_load(addr, 1))
            }
            Inst::Broadcast { dst, src } => spread(self.kernel.lanes(dst), name(src)),
            Inst::Lane { src, lane, .. } => match self.kernel.lanes(src) {
                1 => name(src),
                _ => format!("{}.s{lane:x}", name(src)),
            },
            Inst::Join { src, .. } => format!("(float4)({})", src.map(name).join(", ")),
            Inst::Tf32 { src, .. } => match self.kernel.lanes(src) {
                1 => format!("alexc_tf32({})", name(src)),
                lanes => format!("alexc_tf32x{lanes}({})", name(src)),
            },
            Inst::Mma { kind, a: [a, a2], b, c, .. } => {
                self.options.warps.call(kind, [a, a2, b, c].map(name))
            }
            Inst::Unary { op, src, .. } => self.unary(op, src),
            Inst::Binary { op, a, b, .. } => {
                let n = lanes_suffix(self.kernel.lanes(a));
                let (a, b) = (name(a), name(b));
                match op {
                    Binary::Add => format!("{a} + {b}"),
                    Binary::Sub => format!("{a} - {b}"),
                    Binary::Mul => format!("{a} * {b}"),
                    Binary::Div => format!("{a} / {b}"),
                    Binary::Max => format!("{a} > {b} ? {a} : {b}"),
                    Binary::Min => format!("{a} < {b} ? {a} : {b}"),
                    Binary::SubQuarter => {
                        format!("as_float{n}(as_uint{n}({a}) - (as_uint{n}({b}) >> 2))")
                    }
                }
            }
            Inst::Fma { a, b, c, .. } => {
                let function = match self.options.multiply_add {
                    MultiplyAdd::Fused => "fma",
                    MultiplyAdd::Any => "mad",
                };
                format!("{function}({}, {}, {})", name(a), name(b), name(c))
            }
            Inst::Reduce { op, src, .. } => match (op, self.kernel.lanes(src)) {
                (_, 1) => name(src),
                (Reduce::Add, lanes) => format!("alexc_sum{lanes}({})", name(src)),
                (Reduce::Max, lanes) => format!("alexc_max{lanes}({})", name(src)),
            },
        };
        inst.dst().map(|dst| {
            let dtype = if declares { float(self.kernel.lanes(dst)) + " " } else { String::new() };
            format!("{dtype}{} = {value};", name(dst))
        })
    }

    fn unary(&self, op: Unary, src: Reg) -> String {
        let (n, x) = (lanes_suffix(self.kernel.lanes(src)), name(src));
        match op {
            Unary::Copy => x,
            Unary::Neg => format!("-{x}"),
            Unary::Abs => format!("fabs({x})"),
            Unary::Sqrt => format!("sqrt({x})"),
            Unary::Round => format!("rint({x})"),
            Unary::Pow2 => format!("as_float{n}((convert_int{n}({x}) + 127) << 23)"),
        }
    }

    /// What the guards of an address ask for.
    fn condition(&self, addr: &Addr) -> Option<String> {
        let unsigned = self.names.unsigned();
        // Of a negative number the unsigned one is larger than any count.
        let conditions: Vec<String> = (addr.guards.iter())
            .map(|guard| format!("({unsigned}){} < {}", self.var(guard.var), guard.count))
            .collect();
        (!conditions.is_empty()).then(|| conditions.join(" && "))
    }

    fn guarded_load(&self, addr: &Addr, lanes: u8) -> String {
        match self.condition(addr) {
            None => self.load(addr, lanes),
            Some(condition) => {
                let zero = spread(lanes, "0.0f".to_owned());
                format!("({condition}) ? {} : {zero}", self.load(addr, lanes))
            }
        }
    }

    /// A vector of four that lies as such in memory.
    fn aligned(&self, addr: &Addr, lanes: u8) -> Option<String> {
        let buffer = &self.kernel.buffers[usize::from(addr.buffer.0)];
        let fits = |by: i64| by % 4 == 0;
        let known = buffer.access == Access::Shared
            || (self.options.aligned && buffer.access != Access::Local);
        let aligned = lanes == 4
            && known
            && buffer.dtype == DType::F32
            && fits(addr.offset)
            && addr.terms.iter().all(|t| fits(t.1));
        aligned.then(|| {
            let space = match buffer.access {
                Access::Shared => "local",
                Access::Read => "global const",
                _ => "global",
            };
            format!("*({space} float4 *)({} + {})", self.buffer(addr), grouped(&self.at(addr)))
        })
    }

    /// The value of a named sum; what is divided is not negative.
    fn index(&self, value: &Index) -> String {
        let sum = self.sum(value.offset, &value.terms);
        let (unsigned, grouped) = (self.names.unsigned(), grouped(&sum));
        match value.op {
            IndexOp::Sum => sum,
            IndexOp::Div(by) => format!("({unsigned}){grouped} / {by}"),
            IndexOp::Rem(by) => format!("({unsigned}){grouped} % {by}"),
        }
    }

    fn load(&self, addr: &Addr, lanes: u8) -> String {
        if let Some(vector) = self.aligned(addr, lanes) {
            return vector;
        }
        let (buffer, at) = (self.buffer(addr), self.at(addr));
        match (self.kernel.buffers[usize::from(addr.buffer.0)].dtype, lanes) {
            (DType::F32, 1) => format!("{buffer}[{at}]"),
            (DType::F32, _) => format!("vload{lanes}(0, {buffer} + {})", grouped(&at)),
            (DType::F16, 1) => format!("vload_half({at}, {buffer})"),
            (DType::F16, _) => format!("vload_half{lanes}(0, {buffer} + {})", grouped(&at)),
            (DType::Bf16, 1) => format!("as_float((uint){buffer}[{at}] << 16)"),
            (DType::Bf16, _) => format!(
                "as_float{lanes}(convert_uint{lanes}(vload{lanes}(0, {buffer} + {})) << 16)",
                grouped(&at)
            ),
            (DType::I16 | DType::I8, 1) => format!("convert_float({buffer}[{at}])"),
            (DType::I16 | DType::I8, _) => {
                format!("convert_float{lanes}(vload{lanes}(0, {buffer} + {}))", grouped(&at))
            }
        }
    }

    fn store(&self, addr: &Addr, src: Reg) -> String {
        if let Some(vector) = self.aligned(addr, self.kernel.lanes(src)) {
            return format!("{vector} = {};", name(src));
        }
        let (buffer, at) = (self.buffer(addr), self.at(addr));
        match self.kernel.lanes(src) {
            1 => format!("{buffer}[{at}] = {};", name(src)),
            lanes => format!("vstore{lanes}({}, 0, {buffer} + {});", name(src), grouped(&at)),
        }
    }

    fn buffer(&self, addr: &Addr) -> &str {
        &self.names.buffers[usize::from(addr.buffer.0)]
    }

    fn var(&self, var: Var) -> &'k str {
        &self.names.vars[usize::from(var.0)]
    }

    fn at(&self, addr: &Addr) -> String {
        self.sum(addr.offset, &addr.terms)
    }

    fn sum(&self, offset: i64, terms: &[(Var, i64)]) -> String {
        let mut text = String::new();
        let sign = |text: &mut String, negative: bool| match (text.is_empty(), negative) {
            (true, false) => {}
            (true, true) => text.push('-'),
            (false, false) => text.push_str(" + "),
            (false, true) => text.push_str(" - "),
        };
        for &(var, coefficient) in terms {
            sign(&mut text, coefficient < 0);
            let size = coefficient.unsigned_abs();
            if size > 1 {
                let _ = write!(text, "{size} * ");
            }
            text.push_str(self.var(var));
        }
        if offset != 0 || terms.is_empty() {
            sign(&mut text, offset < 0);
            let _ = write!(text, "{}", offset.unsigned_abs());
        }
        text
    }
}

/// In brackets if it is a sum or a product.
fn grouped(expression: &str) -> String {
    if expression.contains(' ') || expression.starts_with('-') {
        format!("({expression})")
    } else {
        expression.to_owned()
    }
}

fn name(reg: Reg) -> String {
    format!("v{}", reg.0)
}

/// What OpenCL appends to the names of types with this many lanes.
fn lanes_suffix(lanes: u8) -> String {
    if lanes == 1 { String::new() } else { lanes.to_string() }
}

fn float(lanes: u8) -> String {
    format!("float{}", lanes_suffix(lanes))
}

/// A number in all lanes.
fn spread(lanes: u8, value: String) -> String {
    if lanes == 1 { value } else { format!("(float{lanes})({value})") }
}

/// Digits that read back as the same value.
fn constant(value: f32) -> String {
    if value.is_nan() {
        format!("as_float({:#010x}u)", value.to_bits())
    } else if value.is_infinite() {
        if value > 0.0 { "INFINITY".to_owned() } else { "-INFINITY".to_owned() }
    } else {
        format!("{value:?}f")
    }
}

fn line(text: &mut String, depth: usize, line: &str) {
    let _ = writeln!(text, "{:1$}{line}", "", 2 * depth);
}

/// For each register the path to the statement that is in front of all its uses: of each block on
/// the way its number and the position in it.
struct Homes {
    of: Vec<Option<Vec<Place>>>,
    path: Vec<Place>,
    blocks: usize,
}

impl Homes {
    fn body(&mut self, body: &[Stmt]) {
        let block = self.blocks;
        self.blocks += 1;
        for (position, stmt) in body.iter().enumerate() {
            self.path.push((block, position));
            match stmt {
                Stmt::Inst(inst) => {
                    for reg in inst.uses().chain(inst.dst()) {
                        self.touch(reg);
                    }
                }
                Stmt::Nonzero(nonzero) => {
                    // Declared in front of the loop.
                    nonzero.values.iter().for_each(|&reg| self.touch(reg));
                    self.body(&nonzero.body);
                }
                Stmt::For { body, .. } => self.body(body),
                Stmt::Let { .. } | Stmt::Barrier => {}
            }
            self.path.pop();
        }
    }

    fn touch(&mut self, reg: Reg) {
        match &mut self.of[reg.0 as usize] {
            None => self.of[reg.0 as usize] = Some(self.path.clone()),
            // The first use's statement in the innermost block that both are in.
            Some(home) => {
                let common = home.iter().zip(&self.path).take_while(|(a, b)| a.0 == b.0).count();
                home.truncate(common.max(1));
            }
        }
    }
}

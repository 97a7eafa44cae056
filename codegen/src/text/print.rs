//! Printing kernels.

use crate::ir::{
    Access, Addr, Binary, BufferId, Index, IndexOp, Inst, Kernel, Mma, Nonzero, Reduce, Reg, Stmt,
    Unary, Var,
};
use std::fmt::{self, Display, Formatter};

impl Unary {
    /// Each of them.
    pub const ALL: [Self; 6] =
        [Self::Copy, Self::Neg, Self::Abs, Self::Sqrt, Self::Round, Self::Pow2];

    /// Name in the text form.
    pub fn name(self) -> &'static str {
        match self {
            Unary::Copy => "copy",
            Unary::Neg => "neg",
            Unary::Abs => "abs",
            Unary::Sqrt => "sqrt",
            Unary::Round => "round",
            Unary::Pow2 => "pow2",
        }
    }
}

impl Binary {
    /// Each of them.
    pub const ALL: [Self; 7] =
        [Self::Add, Self::Sub, Self::Mul, Self::Div, Self::Max, Self::Min, Self::SubQuarter];

    /// Name in the text form.
    pub fn name(self) -> &'static str {
        match self {
            Binary::Add => "add",
            Binary::Sub => "sub",
            Binary::Mul => "mul",
            Binary::Div => "div",
            Binary::Max => "max",
            Binary::Min => "min",
            Binary::SubQuarter => "sub_quarter",
        }
    }
}

impl Reduce {
    /// Each of them.
    pub const ALL: [Self; 2] = [Self::Add, Self::Max];

    /// Name in the text form.
    pub fn name(self) -> &'static str {
        match self {
            Reduce::Add => "reduce_add",
            Reduce::Max => "reduce_max",
        }
    }
}

impl Mma {
    /// Each of them.
    pub const ALL: [Self; 2] = [Self::Tf32, Self::F16];

    /// Name in the text form.
    pub fn name(self) -> &'static str {
        match self {
            Mma::Tf32 => "mma_tf32",
            Mma::F16 => "mma_f16",
        }
    }
}

impl Access {
    /// Name in the text form.
    pub fn name(self) -> &'static str {
        match self {
            Access::Read => "read",
            Access::Write => "write",
            Access::ReadWrite => "readwrite",
            Access::Local => "local",
            Access::Shared => "shared",
        }
    }
}

// Kernels that the verifier rejects are printed too, in its messages: an index that leads nowhere
// must not panic here.

struct RegText(Reg);

impl Display for RegText {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0.0)
    }
}

struct TypedReg<'a>(&'a Kernel, Reg);

impl Display for TypedReg<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "v{}:", self.1.0)?;
        match self.0.regs.get(self.1.0 as usize) {
            Some(1) => f.write_str("f32"),
            Some(lanes) => write!(f, "f32x{lanes}"),
            None => f.write_str("?"),
        }
    }
}

struct VarText<'a>(&'a Kernel, Var);

impl Display for VarText<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0.vars.get(usize::from(self.1.0)) {
            Some(name) => f.write_str(name),
            None => write!(f, "?{}", self.1.0),
        }
    }
}

struct BufferText<'a>(&'a Kernel, BufferId);

impl Display for BufferText<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0.buffers.get(usize::from(self.1.0)) {
            Some(buffer) => f.write_str(&buffer.name),
            None => write!(f, "?{}", self.1.0),
        }
    }
}

struct AddrText<'a>(&'a Kernel, &'a Addr);

impl Display for AddrText<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let AddrText(kernel, addr) = *self;
        write!(f, "{}", BufferText(kernel, addr.buffer))?;
        SumText(kernel, addr.offset, &addr.terms).fmt(f)?;
        for (index, guard) in addr.guards.iter().enumerate() {
            let word = if index == 0 { " if" } else { "," };
            write!(f, "{word} {} < {}", VarText(kernel, guard.var), guard.count)?;
        }
        Ok(())
    }
}

/// An affine sum in square brackets.
struct SumText<'a>(&'a Kernel, i64, &'a [(Var, i64)]);

impl Display for SumText<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let SumText(kernel, offset, terms) = *self;
        f.write_str("[")?;
        let mut first = true;
        let mut sign = |f: &mut Formatter<'_>, negative: bool| {
            let text = match (std::mem::take(&mut first), negative) {
                (true, false) => "",
                (true, true) => "-",
                (false, false) => " + ",
                (false, true) => " - ",
            };
            f.write_str(text)
        };
        for &(var, coefficient) in terms {
            sign(f, coefficient < 0)?;
            match coefficient.unsigned_abs() {
                1 => write!(f, "{}", VarText(kernel, var))?,
                size => write!(f, "{size}*{}", VarText(kernel, var))?,
            }
        }
        if offset != 0 || terms.is_empty() {
            sign(f, offset < 0)?;
            write!(f, "{}", offset.unsigned_abs())?;
        }
        f.write_str("]")
    }
}

/// A constant, exact to the bit: decimal digits that read back as the same value, `inf`, or
/// `nan(bits)` because a NaN has many.
struct ConstText(f32);

impl Display for ConstText {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.0.is_nan() {
            write!(f, "nan({:#010x})", self.0.to_bits())
        } else {
            write!(f, "{:?}", self.0)
        }
    }
}

/// One instruction of a kernel, as it stands in the text form.
#[derive(Debug, Clone, Copy)]
pub struct InstText<'a> {
    /// Gives names and lane counts.
    pub kernel: &'a Kernel,
    /// What is printed.
    pub inst: &'a Inst,
}

impl Display for InstText<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let kernel = self.kernel;
        if let Some(dst) = self.inst.dst() {
            write!(f, "{} = ", TypedReg(kernel, dst))?;
        }
        match *self.inst {
            Inst::Const { value, .. } => write!(f, "const {}", ConstText(value)),
            Inst::Load { ref addr, .. } => write!(f, "load {}", AddrText(kernel, addr)),
            Inst::Splat { ref addr, .. } => write!(f, "splat {}", AddrText(kernel, addr)),
            Inst::Broadcast { src, .. } => write!(f, "broadcast {}", RegText(src)),
            Inst::Lane { src, lane, .. } => write!(f, "lane {}, {lane}", RegText(src)),
            Inst::Store { ref addr, src } => {
                write!(f, "store {}, {}", AddrText(kernel, addr), RegText(src))
            }
            Inst::Unary { op, src, .. } => write!(f, "{} {}", op.name(), RegText(src)),
            Inst::Binary { op, a, b, .. } => {
                write!(f, "{} {}, {}", op.name(), RegText(a), RegText(b))
            }
            Inst::Join { src, .. } => {
                let [a, b, c, d] = src.map(RegText);
                write!(f, "join {a}, {b}, {c}, {d}")
            }
            Inst::Tf32 { src, .. } => write!(f, "tf32 {}", RegText(src)),
            Inst::Mma { kind, a, b, c, .. } => {
                let [first, second] = a.map(RegText);
                let (b, c) = (RegText(b), RegText(c));
                write!(f, "{} {first}, {second}, {b}, {c}", kind.name())
            }
            Inst::Fma { a, b, c, .. } => {
                write!(f, "fma {}, {}, {}", RegText(a), RegText(b), RegText(c))
            }
            Inst::Reduce { op, src, .. } => write!(f, "{} {}", op.name(), RegText(src)),
            Inst::Prefetch { ref addr } => write!(f, "prefetch {}", AddrText(kernel, addr)),
        }
    }
}

/// `let q = [p + 3] / 13`.
pub(crate) struct LetText<'a> {
    pub(crate) kernel: &'a Kernel,
    pub(crate) var: Var,
    pub(crate) value: &'a Index,
}

impl Display for LetText<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let LetText { kernel, var, value } = *self;
        let sum = SumText(kernel, value.offset, &value.terms);
        write!(f, "let {} = {sum}", VarText(kernel, var))?;
        match value.op {
            IndexOp::Sum => Ok(()),
            IndexOp::Div(by) => write!(f, " / {by}"),
            IndexOp::Rem(by) => write!(f, " % {by}"),
        }
    }
}

/// The head of a loop over nonzero elements:
/// `nonzero k, k_2, k_3, k_4 in 0..4096 of x[4096*n] as v3:f32x16, v4:f32x16 in list`.
pub(crate) struct NonzeroText<'a> {
    pub(crate) kernel: &'a Kernel,
    pub(crate) nonzero: &'a Nonzero,
}

impl Display for NonzeroText<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let NonzeroText { kernel, nonzero } = *self;
        let Nonzero { from, count, list, found, values, .. } = nonzero;
        f.write_str("nonzero ")?;
        for (index, &var) in found.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{}", VarText(kernel, var))?;
        }
        write!(f, " in 0..{count} of {} as ", AddrText(kernel, from))?;
        for (index, &reg) in values.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{}", TypedReg(kernel, reg))?;
        }
        write!(f, " in {}", BufferText(kernel, *list))
    }
}

fn print_body(kernel: &Kernel, body: &[Stmt], depth: usize, f: &mut Formatter<'_>) -> fmt::Result {
    for stmt in body {
        write!(f, "{:1$}", "", 2 * depth)?;
        match stmt {
            Stmt::Inst(inst) => writeln!(f, "{}", InstText { kernel, inst })?,
            Stmt::For { var, count, body } => {
                writeln!(f, "for {} in 0..{count} {{", VarText(kernel, *var))?;
                print_body(kernel, body, depth + 1, f)?;
                writeln!(f, "{:1$}}}", "", 2 * depth)?;
            }
            Stmt::Nonzero(nonzero) => {
                writeln!(f, "{} {{", NonzeroText { kernel, nonzero })?;
                print_body(kernel, &nonzero.body, depth + 1, f)?;
                writeln!(f, "{:1$}}}", "", 2 * depth)?;
            }
            Stmt::Let { var, value } => {
                writeln!(f, "{}", LetText { kernel, var: *var, value })?;
            }
            Stmt::Barrier => writeln!(f, "barrier")?,
        }
    }
    Ok(())
}

fn mark_written(body: &[Stmt], written: &mut [bool]) {
    let mut mark = |reg: Reg| {
        if let Some(flag) = written.get_mut(reg.0 as usize) {
            *flag = true;
        }
    };
    for stmt in body {
        match stmt {
            Stmt::Inst(inst) => inst.dst().into_iter().for_each(&mut mark),
            Stmt::Nonzero(Nonzero { values, .. }) => values.iter().copied().for_each(&mut mark),
            _ => {}
        }
    }
    for stmt in body {
        match stmt {
            Stmt::Inst(_) => {}
            Stmt::For { body, .. } | Stmt::Nonzero(Nonzero { body, .. }) => {
                mark_written(body, written);
            }
            Stmt::Let { .. } | Stmt::Barrier => {}
        }
    }
}

impl Display for Kernel {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "kernel {} {{", self.name)?;
        for buffer in &self.buffers {
            writeln!(
                f,
                "  buffer {}: {}[{}] {}",
                buffer.name,
                buffer.dtype.name(),
                buffer.len,
                buffer.access.name()
            )?;
        }
        let mut written = vec![false; self.regs.len()];
        mark_written(&self.body, &mut written);
        for (index, _) in written.iter().enumerate().filter(|(_, written)| !**written) {
            writeln!(f, "  register {}", TypedReg(self, Reg(index as u32)))?;
        }
        if !self.buffers.is_empty() || written.contains(&false) {
            writeln!(f)?;
        }
        f.write_str("  parallel ")?;
        for (index, dim) in self.parallel.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{} in 0..{}", VarText(self, dim.var), dim.count)?;
        }
        for (index, dim) in self.items.iter().enumerate() {
            let comma = if index == 0 { " items" } else { "," };
            write!(f, "{comma} {} in 0..{}", VarText(self, dim.var), dim.count)?;
        }
        writeln!(f, " {{")?;
        print_body(self, &self.body, 2, f)?;
        writeln!(f, "  }}")?;
        writeln!(f, "}}")
    }
}

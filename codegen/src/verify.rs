//! The verifier: the only maker of [`Verified`], which emitters ask for.
//!
//! It proves that
//! - every load, splat and store stays inside its buffer, for all values of the loop variables;
//! - buffers are used as their access and element type allow;
//! - lane counts are 1, 4, 8 or 16 and fit one another;
//! - every register is written before it is read, on every path;
//! - groups are of at most 1024 items, and only groups have shared buffers and barriers;
//! - products of warps are for groups of whole warps;
//! - loops over nonzero elements have a list of their own that is long enough, and stand in kernels
//!   without groups and conditions only;
//! - loop variables belong to one loop each and are used only inside it;
//! - addresses, extents and sizes do not overflow;
//! - names are unique C identifiers, no loop and no buffer is empty.
//!
//! Those are [`in_bounds`]. Then items and iterations must keep out of each other's way. Of kernels
//! with groups or conditions it proves that (`group`), and refuses what it cannot prove. In others
//! it looks for iterations of the parallel space that touch what another one stores (`race`): every
//! race that it reports is one, but it may give up on tangled addresses. Not proved: that
//! thread-local scratch and shared memory are written before they are read (the interpreter fills
//! them with NaN).

mod group;
mod problem;
mod race;

pub use problem::{Place, Problem, VerifyError};

use crate::ir::{
    Access, Addr, BufferId, DType, Index, IndexOp, Inst, Kernel, Nonzero, Reg, Stmt, Var,
};
use crate::mma::WARP;
use crate::text::{InstText, LetText, NonzeroText};
use std::collections::HashSet;
use std::fmt::{self, Display, Formatter};
use std::ops::Deref;

/// Deepest nesting of loops; keeps every walk over a kernel within the stack.
pub const MAX_LOOP_DEPTH: usize = 64;

/// Most items of a group.
pub const MAX_GROUP: u64 = 1024;

/// A kernel whose accesses stay inside their buffers. Its items may be in each other's way.
#[derive(Debug, Clone, PartialEq)]
pub struct InBounds(Kernel);

impl Deref for InBounds {
    type Target = Kernel;
    fn deref(&self) -> &Kernel {
        &self.0
    }
}

impl Display for InBounds {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A kernel that passed the verifier.
#[derive(Debug, Clone, PartialEq)]
pub struct Verified(InBounds);

impl Verified {
    /// Gives the kernel back, to be changed.
    pub fn into_inner(self) -> Kernel {
        self.0.0
    }
}

impl Deref for Verified {
    type Target = InBounds;
    fn deref(&self) -> &InBounds {
        &self.0
    }
}

/// Checks a kernel; all problems at once.
pub fn verify(kernel: Kernel) -> Result<Verified, Vec<VerifyError>> {
    let kernel = in_bounds(kernel)?;
    let errors = if kernel.is_plain() { race::races(&kernel) } else { group::races(&kernel) };
    if errors.is_empty() { Ok(Verified(kernel)) } else { Err(errors) }
}

/// Checks everything but whether items are in each other's way.
pub fn in_bounds(kernel: Kernel) -> Result<InBounds, Vec<VerifyError>> {
    let mut verifier = Verifier {
        kernel: &kernel,
        errors: Vec::new(),
        statement: 0,
        open: Vec::new(),
        range: vec![None; kernel.vars.len()],
        opened: 0,
        written: vec![false; kernel.regs.len()],
    };
    verifier.run();
    let errors = verifier.errors;
    if errors.is_empty() { Ok(InBounds(kernel)) } else { Err(errors) }
}

fn is_identifier(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

struct Verifier<'a> {
    kernel: &'a Kernel,
    errors: Vec<VerifyError>,
    /// Number of the next statement.
    statement: usize,
    /// The loops around it.
    open: Vec<String>,
    /// For each variable in scope its lowest and highest value.
    range: Vec<Option<(i128, i128)>>,
    /// Variables whose loops have been met.
    opened: usize,
    /// For each register whether it has been written. Loops run at least once and nothing is
    /// conditional, so what stands earlier has run.
    written: Vec<bool>,
}

impl<'a> Verifier<'a> {
    fn error(&mut self, place: Place, problem: Problem) {
        self.errors.push(VerifyError { kernel: self.kernel.name.clone(), place, problem });
    }

    fn run(&mut self) {
        let kernel = self.kernel;
        self.names();
        for (index, buffer) in kernel.buffers.iter().enumerate() {
            let name = || buffer.name.clone();
            if buffer.access == Access::Local && !kernel.items.is_empty() {
                self.error(Place::Buffer(index), Problem::GroupScratch { buffer: name() });
            }
            if buffer.access == Access::Shared && kernel.items.is_empty() {
                let problem = Problem::NoGroup { what: "a shared buffer" };
                self.error(Place::Buffer(index), problem);
            }
            let bytes = buffer.len.checked_mul(buffer.dtype.bytes());
            if buffer.len == 0 {
                self.error(Place::Buffer(index), Problem::EmptyBuffer { buffer: name() });
            } else if bytes.is_none_or(|b| b > i64::MAX as usize) {
                let problem = Problem::HugeBuffer { buffer: name(), len: buffer.len };
                self.error(Place::Buffer(index), problem);
            }
        }
        for (index, &lanes) in kernel.regs.iter().enumerate() {
            if !matches!(lanes, 1 | 4 | 8 | 16) {
                let problem = Problem::LaneCount { register: index as u32, lanes };
                self.error(Place::Register(index), problem);
            }
        }
        if kernel.parallel.is_empty() {
            self.error(Place::Kernel, Problem::NoParallel);
        }
        let mut extent = 1_u64;
        for (index, dim) in kernel.parallel.iter().enumerate() {
            let place = Place::Parallel(index);
            extent = self.times(&place, extent, dim.count);
            self.open_loop(&place, dim.var, dim.count);
        }
        for dim in &kernel.items {
            let place = Place::Parallel(0);
            extent = self.times(&place, extent, dim.count);
            self.open_loop(&place, dim.var, dim.count);
        }
        let items = kernel.items.iter().fold(1_u64, |n, d| n.saturating_mul(u64::from(d.count)));
        if items > MAX_GROUP {
            self.error(Place::Parallel(0), Problem::LargeGroup { items });
        }
        self.lists();
        self.body(&kernel.body, 0, extent);
        for name in kernel.vars.iter().skip(self.opened) {
            self.error(Place::Kernel, Problem::UnusedVar { var: name.clone() });
        }
    }

    fn names(&mut self) {
        let kernel = self.kernel;
        let mut check = |what, place: Place, name: &'a str, seen: &mut HashSet<&'a str>| {
            if !is_identifier(name) {
                let problem = Problem::NotIdentifier { what, name: name.to_owned() };
                self.error(place, problem);
            } else if !seen.insert(name) {
                let problem = Problem::DuplicateName { what, name: name.to_owned() };
                self.error(place, problem);
            }
        };
        check("kernel", Place::Kernel, &kernel.name, &mut HashSet::new());
        let mut seen = HashSet::new();
        for (index, buffer) in kernel.buffers.iter().enumerate() {
            check("buffer", Place::Buffer(index), &buffer.name, &mut seen);
        }
        seen.clear();
        for name in &kernel.vars {
            check("loop variable", Place::Kernel, name, &mut seen);
        }
    }

    /// Checks that lists of nonzero elements are nothing but that.
    fn lists(&mut self) {
        fn count(body: &[Stmt], users: &mut [usize]) {
            let mut one = |buffer: BufferId| {
                if let Some(users) = users.get_mut(usize::from(buffer.0)) {
                    *users += 1;
                }
            };
            for stmt in body {
                match stmt {
                    Stmt::Inst(inst) => inst.addr().into_iter().for_each(|addr| one(addr.buffer)),
                    Stmt::Nonzero(nonzero) => {
                        one(nonzero.from.buffer);
                        one(nonzero.list);
                    }
                    Stmt::For { .. } | Stmt::Let { .. } | Stmt::Barrier => {}
                }
            }
            for stmt in body {
                if let Stmt::For { body, .. } | Stmt::Nonzero(Nonzero { body, .. }) = stmt {
                    count(body, users);
                }
            }
        }
        let kernel = self.kernel;
        let mut users = vec![0; kernel.buffers.len()];
        count(&kernel.body, &mut users);
        let mut lists = Vec::new();
        kernel.for_each_nonzero(&mut |nonzero| lists.push(nonzero));
        for nonzero in lists {
            let id = usize::from(nonzero.list.0);
            let Some(buffer) = kernel.buffers.get(id) else { continue };
            let (needed, name) = (2 * nonzero.half_list(), buffer.name.clone());
            let scratch = buffer.access == Access::Local && buffer.dtype == DType::F32;
            if !scratch || buffer.len < needed || users[id] != 1 {
                self.error(Place::Buffer(id), Problem::List { buffer: name, needed });
            }
        }
    }

    fn var_name(&self, var: Var) -> String {
        match self.kernel.vars.get(usize::from(var.0)) {
            Some(name) => name.clone(),
            None => format!("?{}", var.0),
        }
    }

    /// How often a loop's body runs in all.
    fn times(&mut self, place: &Place, outer: u64, count: u32) -> u64 {
        match outer.checked_mul(u64::from(count)) {
            Some(times) if times <= 1 << 63 => times,
            _ => {
                self.error(place.clone(), Problem::HugeExtent);
                // Once is enough.
                1
            }
        }
    }

    /// Puts a variable in scope.
    fn open_loop(&mut self, place: &Place, var: Var, count: u32) {
        self.open_var(place, var);
        if count == 0 {
            self.error(place.clone(), Problem::EmptyLoop { var: self.var_name(var) });
        }
        if let Some(range) = self.range.get_mut(usize::from(var.0)) {
            *range = Some((0, i128::from(count.saturating_sub(1))));
        }
        self.open.push(format!("{} in 0..{count}", self.var_name(var)));
    }

    /// Checks that a variable is the next one.
    fn open_var(&mut self, place: &Place, var: Var) {
        let index = usize::from(var.0);
        if index >= self.kernel.vars.len() {
            let problem = Problem::NoSuch { what: "loop variable", index: u32::from(var.0) };
            self.error(place.clone(), problem);
        } else if index != self.opened {
            let problem = Problem::VarOrder { found: var.0, expected: self.opened };
            self.error(place.clone(), problem);
        }
        self.opened = self.opened.max(index + 1);
    }

    /// Names a value, up to the end of the block.
    fn let_var(&mut self, number: usize, var: Var, value: &Index) {
        let text = LetText { kernel: self.kernel, var, value }.to_string();
        let place = Place::Statement { number, loops: self.open.clone(), text };
        let mut problems = Vec::new();
        let sum = self.interval(value.offset, &value.terms, &mut problems);
        let mut range = (0, 0);
        if let Some(Interval { low, high, reach }) = sum {
            range = (low, high);
            if reach > i128::from(i64::MAX) {
                problems.push(Problem::AddressOverflow);
            }
            if let IndexOp::Div(by) | IndexOp::Rem(by) = value.op {
                if by == 0 || low < 0 {
                    problems.push(Problem::Division { low, high, by });
                } else {
                    let by = i128::from(by);
                    range = match value.op {
                        IndexOp::Div(_) => (low / by, high / by),
                        _ => (0, high.min(by - 1)),
                    };
                }
            }
        }
        for problem in problems {
            self.error(place.clone(), problem);
        }
        self.open_var(&place, var);
        if let Some(slot) = self.range.get_mut(usize::from(var.0)) {
            *slot = Some(range);
        }
    }

    fn body(&mut self, body: &'a [Stmt], depth: usize, outer: u64) {
        self.statements(body, depth, outer);
        for stmt in body {
            if let Stmt::Let { var, .. } = stmt
                && let Some(range) = self.range.get_mut(usize::from(var.0))
            {
                *range = None;
            }
        }
    }

    fn statements(&mut self, body: &'a [Stmt], depth: usize, outer: u64) {
        for stmt in body {
            let number = self.statement;
            self.statement += 1;
            match stmt {
                Stmt::Inst(inst) => self.inst(number, inst),
                Stmt::For { var, count, body } => {
                    let text = format!("for {} in 0..{count}", self.var_name(*var));
                    let place = Place::Statement { number, loops: self.open.clone(), text };
                    self.open_loop(&place, *var, *count);
                    let times = self.times(&place, outer, *count);
                    if depth < MAX_LOOP_DEPTH {
                        self.body(body, depth + 1, times);
                    } else {
                        self.error(place, Problem::TooDeep);
                    }
                    self.open.pop();
                    if let Some(range) = self.range.get_mut(usize::from(var.0)) {
                        *range = None;
                    }
                }
                Stmt::Nonzero(nonzero) => self.nonzero(number, nonzero, depth, outer),
                Stmt::Let { var, value } => self.let_var(number, *var, value),
                Stmt::Barrier => {
                    if self.kernel.items.is_empty() {
                        let loops = self.open.clone();
                        let place = Place::Statement { number, loops, text: "barrier".to_owned() };
                        self.error(place, Problem::NoGroup { what: "a barrier" });
                    }
                }
            }
        }
    }

    fn nonzero(&mut self, number: usize, nonzero: &'a Nonzero, depth: usize, outer: u64) {
        let Nonzero { from, count, list, found, values, body } = nonzero;
        let text = NonzeroText { kernel: self.kernel, nonzero }.to_string();
        let place = Place::Statement { number, loops: self.open.clone(), text };
        let mut problems = Vec::new();
        if !self.kernel.is_plain() {
            problems.push(Problem::ConditionalNonzero);
        }
        if self.kernel.buffers.get(usize::from(list.0)).is_none() {
            problems.push(Problem::NoSuch { what: "buffer", index: u32::from(list.0) });
        }
        if values.is_empty() || values.len() > found.len() {
            problems.push(Problem::FewFound { values: values.len(), found: found.len() });
        }
        self.run_of_f32(from, *count, &mut problems);
        // The body may not run: what is written in it is unwritten behind it.
        let before = self.written.clone();
        for &reg in values {
            match self.written.get_mut(reg.0 as usize) {
                Some(written) => *written = true,
                None => problems.push(Problem::NoSuch { what: "register", index: reg.0 }),
            }
        }
        for problem in problems {
            self.error(place.clone(), problem);
        }
        let opened = self.open.len();
        for &var in found {
            self.open_loop(&place, var, *count);
        }
        let times = self.times(&place, outer, nonzero.most_times());
        if depth < MAX_LOOP_DEPTH {
            self.body(body, depth + 1, times);
        } else {
            self.error(place, Problem::TooDeep);
        }
        self.written = before;
        self.open.truncate(opened);
        for var in found {
            if let Some(range) = self.range.get_mut(usize::from(var.0)) {
                *range = None;
            }
        }
    }

    /// Checks a load of `count` elements.
    fn run_of_f32(&mut self, from: &Addr, count: u32, problems: &mut Vec<Problem>) {
        self.reach(Reach { verb: Some("load from"), width: count }, from, problems);
        let dtype = self.kernel.buffers.get(usize::from(from.buffer.0)).map(|b| b.dtype);
        if let Some(dtype) = dtype.filter(|&dtype| dtype != DType::F32) {
            problems.push(Problem::NonzeroType { dtype });
        }
    }

    fn inst(&mut self, number: usize, inst: &Inst) {
        let mut problems = Vec::new();
        self.registers(inst, &mut problems);
        if let Some(addr) = inst.addr() {
            self.address(inst, addr, &mut problems);
        }
        for problem in problems {
            let text = InstText { kernel: self.kernel, inst }.to_string();
            let place = Place::Statement { number, loops: self.open.clone(), text };
            self.error(place, problem);
        }
    }

    fn registers(&mut self, inst: &Inst, problems: &mut Vec<Problem>) {
        let regs = &self.kernel.regs;
        let missing = inst.uses().chain(inst.dst()).find(|r| r.0 as usize >= regs.len());
        if let Some(reg) = missing {
            problems.push(Problem::NoSuch { what: "register", index: reg.0 });
            return;
        }
        let lanes = |reg: Reg| regs[reg.0 as usize];
        for reg in inst.uses() {
            if !self.written[reg.0 as usize] {
                problems.push(Problem::Unwritten { register: reg.0 });
                // Once is enough.
                self.written[reg.0 as usize] = true;
            }
        }
        let one_lane = match *inst {
            Inst::Broadcast { src, .. } => Some(src),
            Inst::Reduce { dst, .. } | Inst::Lane { dst, .. } => Some(dst),
            _ => None,
        };
        if let Inst::Lane { src, lane, .. } = *inst
            && lane >= lanes(src)
        {
            problems.push(Problem::NoSuch { what: "lane", index: u32::from(lane) });
        }
        if let Inst::Mma { .. } = inst {
            let items = self.kernel.group();
            if self.kernel.items.is_empty() || !items.is_multiple_of(WARP as u64) {
                problems.push(Problem::NoWarps { items });
            }
            for reg in inst.uses().chain(inst.dst()).filter(|&reg| lanes(reg) != 4) {
                problems.push(Problem::NotFourLanes { register: reg.0, lanes: lanes(reg) });
            }
        } else if let Inst::Join { dst, .. } = *inst {
            if lanes(dst) != 4 {
                problems.push(Problem::NotFourLanes { register: dst.0, lanes: lanes(dst) });
            }
            for reg in inst.uses().filter(|&reg| lanes(reg) != 1) {
                problems.push(Problem::NotOneLane { register: reg.0, lanes: lanes(reg) });
            }
        } else if let Some(reg) = one_lane {
            if lanes(reg) != 1 {
                problems.push(Problem::NotOneLane { register: reg.0, lanes: lanes(reg) });
            }
        } else if let Some(dst) = inst.dst() {
            for reg in inst.uses().filter(|&reg| lanes(reg) != lanes(dst)) {
                problems.push(Problem::LanesDiffer {
                    a: dst.0,
                    a_lanes: lanes(dst),
                    b: reg.0,
                    b_lanes: lanes(reg),
                });
            }
        }
        if let Some(dst) = inst.dst() {
            self.written[dst.0 as usize] = true;
        }
    }

    fn address(&mut self, inst: &Inst, addr: &Addr, problems: &mut Vec<Problem>) {
        let lanes = |reg: Reg| self.kernel.regs.get(reg.0 as usize).copied().unwrap_or(1);
        let (verb, width) = match *inst {
            Inst::Load { dst, .. } => (Some("load from"), lanes(dst)),
            Inst::Splat { .. } => (Some("load from"), 1),
            Inst::Store { src, .. } => (Some("store to"), lanes(src)),
            _ => (None, 1),
        };
        self.reach(Reach { verb, width: u32::from(width.max(1)) }, addr, problems);
    }

    fn reach(&mut self, reach: Reach, addr: &Addr, problems: &mut Vec<Problem>) {
        let Reach { verb, width } = reach;
        let BufferId(id) = addr.buffer;
        let Some(buffer) = self.kernel.buffers.get(usize::from(id)) else {
            problems.push(Problem::NoSuch { what: "buffer", index: u32::from(id) });
            return;
        };
        let name = || buffer.name.clone();
        let forbidden = match buffer.access {
            Access::Write => "load from",
            Access::Read => "store to",
            Access::ReadWrite | Access::Local | Access::Shared => "",
        };
        if let Some(verb) = verb.filter(|&verb| verb == forbidden) {
            problems.push(Problem::Access { verb, buffer: name(), access: buffer.access });
        }
        if verb == Some("store to") && buffer.dtype != DType::F32 {
            problems.push(Problem::StoreType { buffer: name(), dtype: buffer.dtype });
        }

        let Some(Interval { low, high, reach }) = self.guarded(addr, problems) else { return };
        let width = i128::from(width);
        let high = high + width - 1;
        let bytes = buffer.dtype.bytes() as i128;
        if (reach + width).saturating_mul(bytes) > i128::from(i64::MAX) {
            problems.push(Problem::AddressOverflow);
        } else if verb.is_some() && buffer.len > 0 && (low < 0 || high >= buffer.len as i128) {
            let len = buffer.len;
            problems.push(Problem::OutOfBounds { buffer: name(), low, high, len });
        }
    }

    /// The values that an address takes where its guards hold; `None` where its form is wrong or
    /// the guards never hold.
    fn guarded(&mut self, addr: &Addr, problems: &mut Vec<Problem>) -> Option<Interval> {
        let unguarded = self.range.clone();
        let mut ever = true;
        for guard in &addr.guards {
            match self.range.get_mut(usize::from(guard.var.0)) {
                Some(Some((low, high))) => {
                    *low = (*low).max(0);
                    *high = (*high).min(i128::from(guard.count) - 1);
                    ever &= low <= high;
                }
                Some(None) => {
                    problems.push(Problem::OutOfScope { var: self.var_name(guard.var) });
                }
                None => {
                    let index = u32::from(guard.var.0);
                    problems.push(Problem::NoSuch { what: "loop variable", index });
                }
            }
        }
        let interval = self.interval(addr.offset, &addr.terms, problems);
        self.range = unguarded;
        interval.filter(|_| ever)
    }

    /// The values that a sum takes; `None` where its form is wrong.
    fn interval(
        &self,
        offset: i64,
        terms: &[(Var, i64)],
        problems: &mut Vec<Problem>,
    ) -> Option<Interval> {
        let before = problems.len();
        if !terms.is_sorted_by(|a, b| a.0 < b.0) {
            problems.push(Problem::UnsortedTerms);
        }
        let offset = i128::from(offset);
        let mut interval = Interval { low: offset, high: offset, reach: offset.abs() };
        for &(var, coefficient) in terms {
            let Some(&range) = self.range.get(usize::from(var.0)) else {
                let index = u32::from(var.0);
                problems.push(Problem::NoSuch { what: "loop variable", index });
                continue;
            };
            if coefficient == 0 {
                problems.push(Problem::ZeroTerm { var: self.var_name(var) });
            }
            let Some((first, last)) = range else {
                problems.push(Problem::OutOfScope { var: self.var_name(var) });
                continue;
            };
            // Loops are u32s, named sums within 64 bits, at most 2^16 of them: within an i128.
            let (a, b) = (i128::from(coefficient) * first, i128::from(coefficient) * last);
            interval.low += a.min(b);
            interval.high += a.max(b);
            interval.reach += a.abs().max(b.abs());
        }
        (problems.len() == before).then_some(interval)
    }
}

/// What is done at an address.
struct Reach {
    /// "load from" or "store to"; nothing: a hint, which may lie anywhere.
    verb: Option<&'static str>,
    /// Elements from the address on.
    width: u32,
}

struct Interval {
    low: i128,
    high: i128,
    /// No sum of any part of the address is further from zero, so that emitters may add the
    /// parts up in any order.
    reach: i128,
}

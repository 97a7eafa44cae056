//! Reading kernels back. Only what the text form cannot express is an error here; the rules of
//! the IR are the verifier's.

use super::lex::{Position, Token, tokens};
use super::{ParseError, Parsed};
use crate::ir::{
    Access, Addr, Binary, Buffer, BufferId, DType, Guard, Index, IndexOp, Inst, Kernel, Mma,
    Nonzero, ParallelDim, Reduce, Reg, Stmt, Unary, Var,
};
use crate::verify::MAX_LOOP_DEPTH;
use std::collections::BTreeMap;

/// Reads a text of any number of kernels.
pub(super) fn parse_all(text: &str) -> Result<Vec<Parsed>, ParseError> {
    let tokens = tokens(text)?;
    let mut parser = Parser { tokens: &tokens, next: 0 };
    let mut kernels = Vec::new();
    while parser.peek() != Token::End {
        kernels.push(parser.kernel()?);
    }
    Ok(kernels)
}

struct Parser<'t> {
    /// Never empty: the last one is `End`.
    tokens: &'t [(Position, Token<'t>)],
    next: usize,
}

/// The kernel being read.
struct Reading<'t> {
    parsed: Parsed,
    /// Registers met so far.
    regs: BTreeMap<u32, Register>,
    /// Variables in scope, innermost last.
    scope: Vec<(&'t str, Var)>,
}

struct Register {
    /// Where it is met first.
    first: Position,
    /// Its lanes and the line that gives them.
    typed: Option<(u8, usize)>,
}

impl<'t> Parser<'t> {
    fn peek(&self) -> Token<'t> {
        self.tokens[self.next].1
    }

    fn position(&self) -> Position {
        self.tokens[self.next].0
    }

    /// Takes the next token; `End` stays.
    fn take(&mut self) -> (Position, Token<'t>) {
        let token = self.tokens[self.next];
        if self.next + 1 < self.tokens.len() {
            self.next += 1;
        }
        token
    }

    /// Takes a sign if it is the next token.
    fn accept(&mut self, sign: char) -> bool {
        let found = self.peek() == Token::Sign(sign);
        if found {
            self.take();
        }
        found
    }

    fn expected<T>(&self, what: &str) -> Result<T, ParseError> {
        let message = format!("expected {what}, found {}", self.peek().quoted());
        Err(self.position().error(message))
    }

    fn sign(&mut self, sign: char) -> Result<(), ParseError> {
        if self.accept(sign) { Ok(()) } else { self.expected(&format!("`{sign}`")) }
    }

    fn word(&mut self, what: &str) -> Result<(Position, &'t str), ParseError> {
        match self.peek() {
            Token::Word(word) => Ok((self.take().0, word)),
            _ => self.expected(what),
        }
    }

    fn keyword(&mut self, keyword: &str) -> Result<(), ParseError> {
        if self.peek() == Token::Word(keyword) {
            self.take();
            Ok(())
        } else {
            self.expected(&format!("`{keyword}`"))
        }
    }

    /// A whole number of any type.
    fn number<N: std::str::FromStr>(&mut self, what: &str) -> Result<N, ParseError> {
        let Token::Number(digits) = self.peek() else { return self.expected(what) };
        let position = self.take().0;
        if digits.bytes().any(|b| !b.is_ascii_digit()) {
            return Err(position.error(format!("expected {what}, found `{digits}`")));
        }
        digits.parse().map_err(|_| position.error(format!("{digits} is too large for {what}")))
    }

    fn kernel(&mut self) -> Result<Parsed, ParseError> {
        self.keyword("kernel")?;
        let line = self.position().line;
        let (_, name) = self.word("the kernel's name")?;
        let mut reading = Reading {
            parsed: Parsed {
                kernel: Kernel {
                    name: name.to_owned(),
                    buffers: Vec::new(),
                    vars: Vec::new(),
                    regs: Vec::new(),
                    parallel: Vec::new(),
                    items: Vec::new(),
                    body: Vec::new(),
                },
                line,
                buffer_lines: Vec::new(),
                register_lines: Vec::new(),
                parallel_line: line,
                statement_lines: Vec::new(),
            },
            regs: BTreeMap::new(),
            scope: Vec::new(),
        };
        self.sign('{')?;
        loop {
            match self.peek() {
                Token::Word("buffer") => self.buffer(&mut reading)?,
                Token::Word("register") => {
                    self.take();
                    self.typed_register(&mut reading)?;
                }
                Token::Word("parallel") => break,
                _ => return self.expected("`buffer`, `register` or `parallel`"),
            }
        }
        reading.parsed.parallel_line = self.take().0.line;
        // An empty space is the verifier's to refuse.
        while !matches!(self.peek(), Token::Sign('{') | Token::Word("items"))
            || matches!(self.tokens.get(self.next + 1), Some((_, Token::Word("in"))))
        {
            if !reading.parsed.kernel.parallel.is_empty() {
                self.sign(',')?;
            }
            let (var, count) = self.loop_head(&mut reading)?;
            reading.parsed.kernel.parallel.push(ParallelDim { var, count });
        }
        if self.peek() == Token::Word("items") {
            self.take();
            while reading.parsed.kernel.items.is_empty() || self.accept(',') {
                let (var, count) = self.loop_head(&mut reading)?;
                reading.parsed.kernel.items.push(ParallelDim { var, count });
            }
        }
        self.sign('{')?;
        reading.parsed.kernel.body = self.body(&mut reading, 0)?;
        self.sign('}')?;
        self.sign('}')?;
        reading.finish()
    }

    fn buffer(&mut self, reading: &mut Reading<'t>) -> Result<(), ParseError> {
        let (keyword, _) = self.take();
        let (_, name) = self.word("the buffer's name")?;
        self.sign(':')?;
        let (position, text) = self.word("an element type")?;
        let dtype = [DType::F32, DType::F16, DType::Bf16, DType::I16, DType::I8]
            .into_iter()
            .find(|d| d.name() == text)
            .ok_or_else(|| position.error(format!("no element type is called `{text}`")))?;
        self.sign('[')?;
        let len = self.number("the buffer's length")?;
        self.sign(']')?;
        let (position, text) = self.word("an access")?;
        let access =
            [Access::Read, Access::Write, Access::ReadWrite, Access::Local, Access::Shared]
                .into_iter()
                .find(|a| a.name() == text)
                .ok_or_else(|| position.error(format!("no access is called `{text}`")))?;
        let buffers = &mut reading.parsed.kernel.buffers;
        if buffers.len() > usize::from(u16::MAX) {
            return Err(keyword.error("more than 65536 buffers"));
        }
        buffers.push(Buffer { name: name.to_owned(), dtype, len, access });
        reading.parsed.buffer_lines.push(keyword.line);
        Ok(())
    }

    /// `name in 0..count`; the variable is in scope from here on.
    fn loop_head(&mut self, reading: &mut Reading<'t>) -> Result<(Var, u32), ParseError> {
        let (position, name) = self.word("a loop variable")?;
        self.keyword("in")?;
        let count = self.range()?;
        Ok((self.new_var(reading, position, name)?, count))
    }

    /// `0..count`.
    fn range(&mut self) -> Result<u32, ParseError> {
        match self.take() {
            (_, Token::Number("0")) => {}
            (p, other) => {
                return Err(p.error(format!("loops begin at 0, not at {}", other.quoted())));
            }
        }
        match self.peek() {
            Token::Range => self.take(),
            _ => return self.expected("`..`"),
        };
        self.number("a trip count")
    }

    /// Numbers a variable and puts it in scope.
    fn new_var(
        &self,
        reading: &mut Reading<'t>,
        position: Position,
        name: &'t str,
    ) -> Result<Var, ParseError> {
        let vars = &mut reading.parsed.kernel.vars;
        let Ok(index) = u16::try_from(vars.len()) else {
            return Err(position.error("more than 65536 loops"));
        };
        vars.push(name.to_owned());
        reading.scope.push((name, Var(index)));
        Ok(Var(index))
    }

    /// Statements up to the closing brace, which stays.
    fn body(&mut self, reading: &mut Reading<'t>, depth: usize) -> Result<Vec<Stmt>, ParseError> {
        let mut body = Vec::new();
        let scope = reading.scope.len();
        while self.peek() != Token::Sign('}') {
            let position = self.position();
            reading.parsed.statement_lines.push(position.line);
            if self.peek() == Token::Word("barrier") {
                self.take();
                body.push(Stmt::Barrier);
                continue;
            }
            if self.peek() == Token::Word("let") {
                self.take();
                let (position, name) = self.word("a variable")?;
                self.sign('=')?;
                let value = self.index(reading)?;
                body.push(Stmt::Let { var: self.new_var(reading, position, name)?, value });
                continue;
            }
            let nonzero = self.peek() == Token::Word("nonzero");
            if !nonzero && self.peek() != Token::Word("for") {
                body.push(Stmt::Inst(self.inst(reading)?));
                continue;
            }
            // One more than the verifier allows, so that it can say so.
            if depth > MAX_LOOP_DEPTH {
                let message = format!("more than {MAX_LOOP_DEPTH} loops inside one another");
                return Err(position.error(message));
            }
            self.take();
            if nonzero {
                body.push(Stmt::Nonzero(self.nonzero(reading, depth)?));
                continue;
            }
            let (var, count) = self.loop_head(reading)?;
            self.sign('{')?;
            let inner = self.body(reading, depth + 1)?;
            self.sign('}')?;
            reading.scope.pop();
            body.push(Stmt::For { var, count, body: inner });
        }
        reading.scope.truncate(scope);
        Ok(body)
    }

    /// What follows `nonzero`.
    fn nonzero(&mut self, reading: &mut Reading<'t>, depth: usize) -> Result<Nonzero, ParseError> {
        let mut names = vec![self.word("a variable")?];
        while self.accept(',') {
            names.push(self.word("a variable")?);
        }
        self.keyword("in")?;
        let count = self.range()?;
        self.keyword("of")?;
        // Outside of the loop: its variables are not in scope yet.
        let from = self.addr(reading)?;
        self.keyword("as")?;
        let mut values = vec![self.typed_register(reading)?];
        while self.accept(',') {
            values.push(self.typed_register(reading)?);
        }
        self.keyword("in")?;
        let list = self.buffer_name(reading)?;
        let scope = reading.scope.len();
        let mut found = Vec::new();
        for (position, name) in names {
            found.push(self.new_var(reading, position, name)?);
        }
        self.sign('{')?;
        let body = self.body(reading, depth + 1)?;
        self.sign('}')?;
        reading.scope.truncate(scope);
        Ok(Nonzero { from, count, list, found, values, body })
    }

    fn inst(&mut self, reading: &mut Reading<'t>) -> Result<Inst, ParseError> {
        match self.peek() {
            Token::Word("store") => {
                self.take();
                let addr = self.addr(reading)?;
                self.sign(',')?;
                let src = self.register(reading)?;
                return Ok(Inst::Store { addr, src });
            }
            Token::Word("prefetch") => {
                self.take();
                return Ok(Inst::Prefetch { addr: self.addr(reading)? });
            }
            Token::Word(word) if register_number(word).is_some() => {}
            _ => {
                return self.expected(
                    "a register, `store`, `prefetch`, `for`, `nonzero`, `let`, `barrier` or `}`",
                );
            }
        }
        let dst = self.typed_register(reading)?;
        self.sign('=')?;
        let (position, name) = self.word("an instruction")?;
        match name {
            "const" => return Ok(Inst::Const { dst, value: self.constant()? }),
            "load" => return Ok(Inst::Load { dst, addr: self.addr(reading)? }),
            "splat" => return Ok(Inst::Splat { dst, addr: self.addr(reading)? }),
            "broadcast" => return Ok(Inst::Broadcast { dst, src: self.register(reading)? }),
            "lane" => {
                let src = self.register(reading)?;
                self.sign(',')?;
                return Ok(Inst::Lane { dst, src, lane: self.number("a lane")? });
            }
            "join" => return Ok(Inst::Join { dst, src: self.four_registers(reading)? }),
            "tf32" => return Ok(Inst::Tf32 { dst, src: self.register(reading)? }),
            "fma" => {
                let a = self.register(reading)?;
                self.sign(',')?;
                let b = self.register(reading)?;
                self.sign(',')?;
                let c = self.register(reading)?;
                return Ok(Inst::Fma { dst, a, b, c });
            }
            _ => {}
        }
        if let Some(kind) = Mma::ALL.into_iter().find(|kind| kind.name() == name) {
            let [first, second, b, c] = self.four_registers(reading)?;
            return Ok(Inst::Mma { kind, dst, a: [first, second], b, c });
        }
        if let Some(op) = Unary::ALL.into_iter().find(|op| op.name() == name) {
            return Ok(Inst::Unary { op, dst, src: self.register(reading)? });
        }
        if let Some(op) = Binary::ALL.into_iter().find(|op| op.name() == name) {
            let a = self.register(reading)?;
            self.sign(',')?;
            let b = self.register(reading)?;
            return Ok(Inst::Binary { op, dst, a, b });
        }
        if let Some(op) = Reduce::ALL.into_iter().find(|op| op.name() == name) {
            return Ok(Inst::Reduce { op, dst, src: self.register(reading)? });
        }
        Err(position.error(format!("no instruction is called `{name}`")))
    }

    fn four_registers(&mut self, reading: &mut Reading<'t>) -> Result<[Reg; 4], ParseError> {
        let mut registers = [self.register(reading)?; 4];
        for register in &mut registers[1..] {
            self.sign(',')?;
            *register = self.register(reading)?;
        }
        Ok(registers)
    }

    /// A register being read.
    fn register(&mut self, reading: &mut Reading<'t>) -> Result<Reg, ParseError> {
        let (position, number) = self.register_name()?;
        reading.regs.entry(number).or_insert(Register { first: position, typed: None });
        Ok(Reg(number))
    }

    fn register_name(&mut self) -> Result<(Position, u32), ParseError> {
        if let Token::Word(word) = self.peek()
            && let Some(number) = register_number(word)
        {
            return Ok((self.take().0, number));
        }
        self.expected("a register")
    }

    /// A register being written or declared: `v3:f32x8`.
    fn typed_register(&mut self, reading: &mut Reading<'t>) -> Result<Reg, ParseError> {
        let (position, number) = self.register_name()?;
        self.sign(':')?;
        let (type_position, text) = self.word("a type, such as `f32x8`")?;
        let lanes = match text.strip_prefix("f32") {
            Some("") => Some(1),
            Some(rest) => rest.strip_prefix('x').and_then(|lanes| lanes.parse().ok()),
            None => None,
        };
        let Some(lanes) = lanes else {
            let message = format!("expected a type, such as `f32x8`, found `{text}`");
            return Err(type_position.error(message));
        };
        let unknown = Register { first: position, typed: None };
        let register = reading.regs.entry(number).or_insert(unknown);
        let (known, _) = *register.typed.get_or_insert((lanes, position.line));
        if known != lanes {
            let message = format!("v{number} had {known} lanes above, and {lanes} here");
            return Err(type_position.error(message));
        }
        Ok(Reg(number))
    }

    fn buffer_name(&mut self, reading: &Reading<'t>) -> Result<BufferId, ParseError> {
        let (position, name) = self.word("a buffer")?;
        let buffers = &reading.parsed.kernel.buffers;
        buffers
            .iter()
            .position(|b| b.name == name)
            .and_then(|index| u16::try_from(index).ok())
            .map(BufferId)
            .ok_or_else(|| position.error(format!("no buffer is called `{name}`")))
    }

    fn addr(&mut self, reading: &Reading<'t>) -> Result<Addr, ParseError> {
        let buffer = self.buffer_name(reading)?;
        let (offset, terms) = self.sum(reading)?;
        let mut guards = Vec::new();
        if self.peek() == Token::Word("if") {
            self.take();
            loop {
                let (position, name) = self.word("a variable")?;
                let var = reading.var(position, name)?;
                self.sign('<')?;
                guards.push(Guard { var, count: self.number("a bound")? });
                // A store goes on with a comma and a register.
                let next = self.tokens.get(self.next + 2).map(|t| t.1);
                if self.peek() != Token::Sign(',') || next != Some(Token::Sign('<')) {
                    break;
                }
                self.take();
            }
        }
        Ok(Addr { buffer, offset, terms, guards })
    }

    /// The value of a `let`.
    fn index(&mut self, reading: &Reading<'t>) -> Result<Index, ParseError> {
        let (offset, terms) = self.sum(reading)?;
        let op = if self.accept('/') {
            IndexOp::Div(self.number("a divisor")?)
        } else if self.accept('%') {
            IndexOp::Rem(self.number("a divisor")?)
        } else {
            IndexOp::Sum
        };
        Ok(Index { offset, terms, op })
    }

    /// An affine sum in square brackets.
    fn sum(&mut self, reading: &Reading<'t>) -> Result<(i64, Vec<(Var, i64)>), ParseError> {
        self.sign('[')?;
        let mut offset = None;
        let mut terms = Vec::new();
        let mut negative = self.accept('-');
        loop {
            let position = self.position();
            let size: Option<u64> = match self.peek() {
                Token::Number(_) => Some(self.number("a 64-bit number")?),
                _ => None,
            };
            let magnitude = size.unwrap_or(1);
            let value = if negative {
                0_i64.checked_sub_unsigned(magnitude)
            } else {
                i64::try_from(magnitude).ok()
            };
            let Some(value) = value else {
                let message = format!("{magnitude} is too large for a 64-bit number");
                return Err(position.error(message));
            };
            if size.is_some() && !self.accept('*') {
                if offset.replace(value).is_some() {
                    return Err(position.error("a second constant in one address"));
                }
            } else {
                let (position, name) = self.word("a number or a loop variable")?;
                let var = reading.var(position, name)?;
                if terms.iter().any(|&(v, _)| v == var) {
                    return Err(position.error(format!("`{name}` a second time in one address")));
                }
                terms.push((var, value));
            }
            negative = match self.peek() {
                Token::Sign('+') => false,
                Token::Sign('-') => true,
                _ => break,
            };
            self.take();
        }
        self.sign(']')?;
        terms.sort_unstable_by_key(|t| t.0);
        Ok((offset.unwrap_or(0), terms))
    }

    fn constant(&mut self) -> Result<f32, ParseError> {
        let negative = self.accept('-');
        let (position, token) = self.take();
        let magnitude = match token {
            Token::Word("inf") => f32::INFINITY,
            Token::Word("nan") => {
                self.sign('(')?;
                let (position, token) = self.take();
                let bits = match token {
                    Token::Number(text) => text.strip_prefix("0x"),
                    _ => None,
                };
                let value = bits
                    .and_then(|digits| u32::from_str_radix(digits, 16).ok())
                    .map(f32::from_bits)
                    .filter(|value| value.is_nan() && !negative)
                    .ok_or_else(|| position.error("expected the bits of a NaN: `0x7fc00000`"))?;
                self.sign(')')?;
                value
            }
            Token::Number(text) => match text.parse::<f32>() {
                Ok(value) if value.is_finite() => value,
                Ok(_) => return Err(position.error(format!("{text} is too large for an f32"))),
                Err(_) => return Err(position.error(format!("`{text}` is not a number"))),
            },
            other => {
                let message = format!("expected a number, found {}", other.quoted());
                return Err(position.error(message));
            }
        };
        Ok(if negative { -magnitude } else { magnitude })
    }
}

fn register_number(word: &str) -> Option<u32> {
    let digits = word.strip_prefix('v')?;
    let canonical = digits == "0" || !digits.starts_with('0');
    let number = canonical && digits.bytes().all(|b| b.is_ascii_digit());
    if number { digits.parse().ok() } else { None }
}

impl<'t> Reading<'t> {
    fn var(&self, position: Position, name: &str) -> Result<Var, ParseError> {
        if let Some(&(_, var)) = self.scope.iter().rev().find(|s| s.0 == name) {
            return Ok(var);
        }
        // A loop that has closed: for the verifier.
        let vars = &self.parsed.kernel.vars;
        let closed = vars.iter().rposition(|v| v == name).and_then(|i| u16::try_from(i).ok());
        closed
            .map(Var)
            .ok_or_else(|| position.error(format!("no loop variable is called `{name}`")))
    }

    fn finish(mut self) -> Result<Parsed, ParseError> {
        for (expected, (&number, register)) in self.regs.iter().enumerate() {
            let Some((lanes, line)) = register.typed else {
                let message = format!("v{number} is never written or declared");
                return Err(register.first.error(message));
            };
            if number as usize != expected {
                return Err(register.first.error(format!(
                    "registers are numbered without gaps: v{number}, but no v{expected}"
                )));
            }
            self.parsed.kernel.regs.push(lanes);
            self.parsed.register_lines.push(line);
        }
        Ok(self.parsed)
    }
}

//! The proof that items of a group keep out of each other's way, against running through all items
//! of all groups.

use alexc_codegen::interp::{Data, InterpError, run};
use alexc_codegen::text::parse;
use alexc_codegen::verify::{InBounds, Problem, VerifyError, in_bounds, verify};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRng, TestRunner};
use std::fmt::Write;

/// The verifier's errors and whether the interpreter meets a race.
fn judged(text: &str) -> (Vec<VerifyError>, bool) {
    let kernel = parse(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let bounded = in_bounds(kernel.clone()).unwrap_or_else(|errors| panic!("{errors:?}\n{text}"));
    (verify(kernel).err().unwrap_or_default(), meets(&bounded))
}

fn meets(kernel: &InBounds) -> bool {
    let mut data: Vec<Data> = kernel.buffers.iter().map(|b| Data::zeros(b.dtype, b.len)).collect();
    match run(kernel, &mut data, 0..kernel.extent()) {
        Ok(()) => false,
        Err(InterpError::Race { .. }) => true,
        Err(other) => panic!("{other}"),
    }
}

/// The first error of a kernel that the interpreter finds a race in, too.
fn refused(text: &str) -> String {
    let (errors, met) = judged(text);
    assert!(met && !errors.is_empty(), "{text}");
    errors[0].to_string()
}

fn accepted(text: &str) {
    let (errors, met) = judged(text);
    assert!(!met && errors.is_empty(), "{errors:?}\n{text}");
}

/// A product of matrices as the GPU's lowering spells it: a tile of 8 x 8 of 12 x 18 results by
/// 16 items, two rows of four steps in shared memory.
fn product(first: &str, last: &str, pitch: usize, row: &str, images: &str) -> String {
    format!(
        "kernel product {{
           buffer y: f32[432] write
           buffer left: f32[64] shared
           buffer right: f32[64] shared
           parallel row_tile in 0..2, column_tile in 0..5 items item in 0..16 {{
             v0:f32 = const 1.0
             v1:f32 = const 0.0
             v2:f32 = const 0.0
             for step in 0..4 {{
               for load in 0..2 {{
                 let r = [item] / 8
                 let c = [item] % 8
                 store left[{pitch}*r + c + 16*load], v0
                 store right[8*r + c + 16*load], v0
               }}
               {first}
               let item_row = [item] / 4
               let item_column = [item] % 4
               for k in 0..4 {{
                 v3:f32 = load left[8*k + 2*item_row]
                 v4:f32 = load right[8*k + item_column]
                 v5:f32 = load right[8*k + item_column + 4]
                 v1:f32 = fma v3, v4, v1
                 v2:f32 = fma v3, v5, v2
               }}
               {last}
             }}
             let across = [item] % 4
             let down = [item] / 4
             let row = [8*row_tile + {row}]
             let p = [8*column_tile + across]
             let image = [p] / 18
             let q = [p] % 18
             store y[216*image + 18*row + q] if image < {images}, row < 12, v1
             let p_2 = [8*column_tile + across + 4]
             let image_2 = [p_2] / 18
             let q_2 = [p_2] % 18
             store y[216*image_2 + 18*row + q_2] if image_2 < {images}, row < 12, v2
           }}
         }}"
    )
}

#[test]
fn a_product_is_proved_and_broken_ones_are_refused() {
    accepted(&product("barrier", "barrier", 8, "2*down", "2"));
    // The stores of one step and the loads of the same.
    let error = refused(&product("", "barrier", 8, "2*down", "2"));
    assert!(error.contains("`store left[16*load + 8*r + c], v0`"), "{error}");
    assert!(error.contains("another item of the group loads elements of `left`"), "{error}");
    assert!(error.contains("`v3:f32 = load left[2*item_row + 8*k]`"), "{error}");
    // The loads of one step and the stores of the next.
    let error = refused(&product("barrier", "", 8, "2*down", "2"));
    assert!(error.contains("without a barrier between: `v3:f32 = load left"), "{error}");
    // Rows that overlap in shared memory.
    let error = refused(&product("barrier", "barrier", 7, "2*down", "2"));
    assert!(error.contains("stores elements of `left`"), "{error}");
    // Rows that overlap in the results: of one item and of one group.
    let error = refused(&product("barrier", "barrier", 8, "across", "2"));
    assert!(error.contains("no proof that no other item or group stores"), "{error}");
    assert!(error.contains("`y`") && error.contains("18*row"), "{error}");
}

/// Between the last turn of a loop and what follows, and before its first, as well.
#[test]
fn phases_reach_into_and_out_of_loops() {
    let body = |before: &str, inside: &str, after: &str| {
        format!(
            "kernel k {{
               buffer t: f32[64] shared
               parallel g in 0..1 items i in 0..4 {{
                 v0:f32 = const 1.0
                 {before}
                 for n in 0..3 {{
                   {inside}
                 }}
                 {after}
               }}
             }}"
        )
    };
    let (load, store) = ("v1:f32 = load t[3 - i]", "store t[i], v0");
    accepted(&body(store, &format!("barrier\n {load}"), ""));
    refused(&body(store, &format!("{load}\n barrier"), ""));
    accepted(&body("", &format!("{store}\n barrier"), load));
    refused(&body("", &format!("barrier\n {store}"), load));
    // Two buffers in turn: what is stored now was loaded a turn ago.
    let turns = |slots: usize| {
        format!(
            "let now = [n] % {slots}\n v1:f32 = load t[4*now + 7 - i]\n barrier\n store t[4*now + i], v0"
        )
    };
    let other =
        "let now = [n] % 2\n store t[4*now + i], v0\n barrier\n v1:f32 = load t[4*now + 3 - i]";
    accepted(&body("", other, ""));
    refused(&body("", &other.replace("% 2", "% 1"), ""));
    refused(&body("", &turns(2), ""));
    // Loops in loops: the end of the inner one meets the beginning of the outer one.
    let nested = |end: &str| {
        format!("{store}\n for m in 0..2 {{\n barrier\n v1:f32 = load t[3 - i]\n {end} }}")
    };
    refused(&body("", &nested(""), ""));
    accepted(&body("", &nested("barrier\n"), ""));
}

/// Without an overflow, and without a proof.
#[test]
fn huge_numbers_are_refused() {
    let text = |by: u64| {
        format!(
            "kernel k {{
               buffer y: f32[64] write
               parallel g in 0..2 items i in 0..4 {{
                 v0:f32 = const 1.0
                 let x = [2305843009213693952*g + i]
                 store y[{by}*x + i] if x < 4, v0
               }}
             }}"
        )
    };
    let errors = verify(parse(&text(3)).unwrap()).unwrap_err();
    assert!(matches!(errors[..], [VerifyError { problem: Problem::NotApart { .. }, .. }]));
}

/// Numbers out of a list; zeros when it runs out.
struct Choices<'a>(std::slice::Iter<'a, u32>);

impl Choices<'_> {
    fn below(&mut self, count: usize) -> usize {
        self.0.next().map_or(0, |&c| c as usize % count)
    }
}

/// A kernel of a few groups of a few items, with divisions, conditions, loops and barriers.
struct Generator<'a> {
    choices: Choices<'a>,
    text: String,
    /// Variables in scope, with one more than their largest value.
    vars: Vec<(String, usize)>,
    named: usize,
}

const LEN: usize = 1 << 14;

fn generate(choices: &[u32]) -> String {
    let mut g = Generator {
        choices: Choices(choices.iter()),
        text: String::new(),
        vars: Vec::new(),
        named: 0,
    };
    let groups = 1 + g.choices.below(3);
    let items = [2, 4, 6][g.choices.below(3)];
    g.vars = vec![("g".to_owned(), groups), ("i".to_owned(), items)];
    g.body(0);
    format!(
        "kernel k {{
           buffer y: f32[{LEN}] readwrite
           buffer t: f32[{LEN}] shared
           parallel g in 0..{groups} items i in 0..{items} {{
             v0:f32 = const 1.0
             v1:f32x4 = const 1.0
             v2:f32 = const 0.0
             v3:f32x4 = const 0.0
             {}
           }}
         }}",
        g.text
    )
}

impl Generator<'_> {
    fn name(&mut self, prefix: &str) -> String {
        self.named += 1;
        format!("{prefix}{}", self.named)
    }

    /// A sum of variables, and one more than its largest value.
    fn sum(&mut self, strides: &[usize]) -> (String, usize) {
        let (mut text, mut end) = (String::new(), 1);
        for (var, count) in self.vars.clone() {
            let by = strides[self.choices.below(strides.len())];
            if by > 0 && end + by * (count - 1) < LEN / 2 {
                let _ = write!(text, "{by}*{var} + ");
                end += by * (count - 1);
            }
        }
        let offset = self.choices.below(4);
        (format!("{text}{offset}"), end + offset)
    }

    fn body(&mut self, depth: usize) {
        let scope = self.vars.len();
        for _ in 0..1 + self.choices.below(6) {
            match self.choices.below(8) {
                0 if depth < 2 => {
                    let (var, count) = (self.name("n"), 1 + self.choices.below(3));
                    let _ = writeln!(self.text, "for {var} in 0..{count} {{");
                    self.vars.push((var, count));
                    self.body(depth + 1);
                    self.vars.pop();
                    self.text.push_str("}\n");
                }
                1 | 2 => self.text.push_str("barrier\n"),
                3 => {
                    let (sum, end) = self.sum(&[0, 1, 1, 2, 4]);
                    let by = 1 + self.choices.below(6);
                    let var = self.name("x");
                    let (op, end) = match self.choices.below(3) {
                        0 => (String::new(), end),
                        1 => (format!(" / {by}"), (end - 1) / by + 1),
                        _ => (format!(" % {by}"), by),
                    };
                    let _ = writeln!(self.text, "let {var} = [{sum}]{op}");
                    self.vars.push((var, end));
                }
                n => {
                    let buffer = ["t", "y"][self.choices.below(2)];
                    let (at, _) = self.sum(&[0, 0, 1, 2, 4, 6, 12, 24]);
                    let mut guards = Vec::new();
                    for _ in 0..self.choices.below(3) {
                        let (var, end) = self.vars[self.choices.below(self.vars.len())].clone();
                        guards.push(format!("{var} < {}", 1 + self.choices.below(end)));
                    }
                    let guards = match guards[..] {
                        [] => String::new(),
                        _ => format!(" if {}", guards.join(", ")),
                    };
                    let wide = self.choices.below(4) == 1;
                    let _ = match (n, wide) {
                        (4, false) => writeln!(self.text, "v2:f32 = load {buffer}[{at}]{guards}"),
                        (4, true) => writeln!(self.text, "v3:f32x4 = load {buffer}[{at}]{guards}"),
                        (_, false) => writeln!(self.text, "store {buffer}[{at}]{guards}, v0"),
                        (_, true) => writeln!(self.text, "store {buffer}[{at}]{guards}, v1"),
                    };
                }
            }
        }
        self.vars.truncate(scope);
    }
}

/// What is accepted has no race, and what is called one is one. Enough is accepted, enough refused
/// for a race, and little for want of a proof alone.
#[test]
fn random_kernels() {
    let config = Config { failure_persistence: None, ..Config::default() };
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(3000);
    let config = Config { cases, ..config };
    let rng = TestRng::deterministic_rng(config.rng_algorithm);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let (fine, races, unproved) = Default::default();
    let counts: (std::cell::Cell<u32>, std::cell::Cell<u32>, std::cell::Cell<u32>) =
        (fine, races, unproved);
    let add = |cell: &std::cell::Cell<u32>| cell.set(cell.get() + 1);
    runner
        .run(&proptest::collection::vec(any::<u32>(), 1..120), |choices| {
            let text = generate(&choices);
            let (errors, met) = judged(&text);
            let certain = errors.iter().any(|e| matches!(e.problem, Problem::ItemRace { .. }));
            prop_assert!(met || !certain, "{:?}\n{}", errors, text);
            prop_assert!(!met || !errors.is_empty(), "{}", text);
            match (met, errors.is_empty()) {
                (true, _) => add(&counts.1),
                (false, true) => add(&counts.0),
                (false, false) => add(&counts.2),
            }
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    let (fine, races, unproved) = (counts.0.get(), counts.1.get(), counts.2.get());
    eprintln!("{fine} fine, {races} races, {unproved} unproved");
    assert!(fine > cases / 10 && races > cases / 4 && unproved < fine / 5);
}

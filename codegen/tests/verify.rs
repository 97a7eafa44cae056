//! What the text form cannot spell, and what an error says.

use alexc_codegen::builder::Builder;
use alexc_codegen::ir::{Access, Addr, BufferId, DType, Inst, Kernel, Reg, Stmt, Var};
use alexc_codegen::verify::{Problem, verify};

/// Copies 4 rows of 24 elements, 8 at a time.
fn copy() -> Kernel {
    let mut b = Builder::new("copy");
    let input = b.buffer("input", 96, Access::Read);
    let output = b.buffer("output", 96, Access::Write);
    let row = b.parallel("row", 4);
    b.repeat("i", 3, |b, i| {
        let at = row.clone() * 24 + i * 8;
        let v = b.load(8, input, &at);
        b.store(output, &at, v);
    });
    b.finish()
}

fn problems(kernel: Kernel) -> Vec<Problem> {
    match verify(kernel) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.into_iter().map(|e| e.problem).collect(),
    }
}

/// The load of `copy`, to be spoiled.
fn spoil_load(kernel: &mut Kernel, spoil: impl Fn(&mut Addr, &mut Reg)) {
    let Stmt::For { body, .. } = &mut kernel.body[0] else { panic!("a loop") };
    let Stmt::Inst(Inst::Load { dst, addr }) = &mut body[0] else { panic!("a load") };
    spoil(addr, dst);
}

#[test]
fn accepts_a_copy_that_touches_the_last_element() {
    assert_eq!(problems(copy()), []);
}

#[test]
fn an_error_names_kernel_loops_instruction_interval_and_length() {
    let mut kernel = copy();
    spoil_load(&mut kernel, |addr, _| addr.offset = -3);
    let errors = verify(kernel).unwrap_err();
    let text: Vec<_> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        text,
        ["kernel copy: `v0:f32x8 = load input[24*row + 8*i - 3]` (for row in 0..4, i in 0..3): \
          reaches elements -3..=92 of `input`, which has 0..=95"]
    );
}

#[test]
fn each_bound_is_exact() {
    for (offset, fits) in [(-1, false), (0, true), (1, false)] {
        let mut kernel = copy();
        spoil_load(&mut kernel, |addr, _| addr.offset = offset);
        assert_eq!(problems(kernel).is_empty(), fits, "offset {offset}");
    }
}

#[test]
fn indices_that_lead_nowhere_are_errors() {
    let no = |what, index| vec![Problem::NoSuch { what, index }];

    let mut kernel = copy();
    spoil_load(&mut kernel, |addr, _| addr.buffer = BufferId(9));
    assert_eq!(problems(kernel), no("buffer", 9));

    let mut kernel = copy();
    spoil_load(&mut kernel, |addr, _| addr.terms[1].0 = Var(7));
    assert_eq!(problems(kernel), no("loop variable", 7));

    let mut kernel = copy();
    spoil_load(&mut kernel, |_, dst| *dst = Reg(5));
    let found = problems(kernel);
    assert_eq!(found, [no("register", 5), vec![Problem::Unwritten { register: 0 }]].concat());
}

#[test]
fn addresses_have_one_form() {
    let mut kernel = copy();
    spoil_load(&mut kernel, |addr, _| addr.terms.reverse());
    assert_eq!(problems(kernel), [Problem::UnsortedTerms]);

    let mut kernel = copy();
    spoil_load(&mut kernel, |addr, _| addr.terms[1] = addr.terms[0]);
    assert_eq!(problems(kernel), [Problem::UnsortedTerms]);

    let mut kernel = copy();
    spoil_load(&mut kernel, |addr, _| addr.terms[0].1 = 0);
    assert_eq!(problems(kernel), [Problem::ZeroTerm { var: "row".to_owned() }]);
}

#[test]
fn parts_that_cancel_out_still_overflow() {
    let mut kernel = copy();
    // 2^62 - 2^62: the sum is in the buffer, its parts are beyond 64 bits of bytes.
    spoil_load(&mut kernel, |addr, _| {
        addr.terms = vec![(Var(0), i64::MAX / 8), (Var(1), -i64::MAX / 8)];
    });
    assert_eq!(problems(kernel), [Problem::AddressOverflow]);
}

#[test]
fn extremes_of_every_number_are_errors_not_panics() {
    for value in [i64::MIN, i64::MAX] {
        let mut kernel = copy();
        spoil_load(&mut kernel, |addr, _| {
            addr.offset = value;
            addr.terms[0].1 = value;
            addr.terms[1].1 = value;
        });
        kernel.parallel[0].count = u32::MAX;
        assert!(problems(kernel).contains(&Problem::AddressOverflow));
    }
    let mut kernel = copy();
    kernel.buffers[0].len = usize::MAX;
    let found = problems(kernel);
    assert_eq!(found, [Problem::HugeBuffer { buffer: "input".to_owned(), len: usize::MAX }]);
}

#[test]
fn iterations_can_be_counted() {
    let mut b = Builder::new("many");
    let _ = b.parallel("i", 1 << 31);
    let _ = b.parallel("j", 1 << 31);
    b.repeat("k", 2, |b, _| {
        b.repeat("l", 2, |b, _| {
            let _ = b.constant(1, 0.0);
        });
    });
    assert_eq!(problems(b.finish()), [Problem::HugeExtent]);
}

#[test]
fn loops_nest_only_so_deep() {
    fn nest(b: &mut Builder, depth: usize) {
        if depth > 0 {
            b.repeat("i", 2, |b, _| nest(b, depth - 1));
        }
    }
    // 2^64 iterations are too many as well, so count the deep ones by themselves.
    let deep = |depth| {
        let mut b = Builder::new("deep");
        nest(&mut b, depth);
        problems(b.finish()).contains(&Problem::TooDeep)
    };
    assert!(!deep(64));
    assert!(deep(65));
}

#[test]
fn prefetch_may_leave_the_buffer() {
    let mut b = Builder::new("fetch");
    let input = b.typed_buffer("input", DType::F16, 8, Access::Read);
    let _ = b.parallel("i", 2);
    b.prefetch(input, 100_usize);
    b.prefetch(input, -100_i64);
    assert_eq!(problems(b.finish()), []);
}

#[test]
fn a_write_in_a_loop_counts_after_it_and_not_before() {
    let kernel = |store_first: bool| {
        let mut b = Builder::new("order");
        let output = b.buffer("output", 2, Access::Write);
        let row = b.parallel("row", 2);
        let x = b.reg(1);
        b.repeat("i", 3, |b, _| {
            if store_first {
                b.store(output, &row, x);
            }
            b.set_constant(x, 1.0);
        });
        b.store(output, &row, x);
        b.finish()
    };
    assert_eq!(problems(kernel(false)), []);
    // Only later iterations of the loop find it written.
    assert_eq!(problems(kernel(true)), [Problem::Unwritten { register: 0 }]);
}

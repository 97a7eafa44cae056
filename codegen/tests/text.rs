//! Every kernel reads back as it was printed.

mod common;

use alexc_codegen::ir::{Inst, Kernel, Nonzero, Stmt};
use alexc_codegen::text::parse;
use alexc_codegen::verify::verify;
use proptest::prelude::*;

/// Constants as their bits, because a NaN equals nothing.
fn constants(body: &mut [Stmt]) -> Vec<u32> {
    let mut bits = Vec::new();
    for stmt in body {
        match stmt {
            Stmt::Inst(Inst::Const { value, .. }) => {
                bits.push(value.to_bits());
                *value = 0.0;
            }
            Stmt::Inst(_) => {}
            Stmt::For { body, .. } | Stmt::Nonzero(Nonzero { body, .. }) => {
                bits.extend(constants(body));
            }
            Stmt::Let { .. } | Stmt::Barrier => {}
        }
    }
    bits
}

fn assert_reads_back(kernel: &Kernel) -> Result<(), TestCaseError> {
    let text = kernel.to_string();
    let mut read = parse(&text).map_err(|e| TestCaseError::fail(format!("{e}\n{text}")))?;
    prop_assert_eq!(&read.to_string(), &text);
    let mut kernel = kernel.clone();
    prop_assert_eq!(constants(&mut read.body), constants(&mut kernel.body));
    prop_assert_eq!(read, kernel);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn kernels_read_back(kernel in common::kernels()) {
        prop_assert!(verify(kernel.clone()).is_ok(), "{:?}\n{}", verify(kernel.clone()), kernel);
        assert_reads_back(&kernel)?;
    }

    #[test]
    fn constants_are_exact_to_the_bit(bits in any::<u32>()) {
        let text = format!("{}", probe(f32::from_bits(bits)));
        let Stmt::Inst(Inst::Const { value, .. }) = parse(&text).unwrap().body[0] else {
            panic!("a constant")
        };
        prop_assert_eq!(value.to_bits(), bits);
    }

    /// Texts that are almost kernels: never a panic.
    #[test]
    fn spoiled_texts_are_errors(
        kernel in common::kernels(),
        at in any::<prop::sample::Index>(),
        other in "[a-z0-9{}\\[\\]():,=*+.;é\u{2028}\n -]{0,3}",
        cut in 0..9_usize,
    ) {
        let text: Vec<char> = kernel.to_string().chars().collect();
        let at = at.index(text.len());
        let end = (at + cut).min(text.len());
        let spoiled: String =
            text[..at].iter().copied().chain(other.chars()).chain(text[end..].iter().copied()).collect();
        match parse(&spoiled) {
            // Still a kernel: it goes by the same rules.
            Ok(kernel) => {
                let _ = verify(kernel.clone());
                assert_reads_back(&kernel)?;
            }
            Err(error) => {
                let lines: Vec<_> = spoiled.lines().collect();
                prop_assert!(error.line >= 1 && error.line <= lines.len() + 1, "{error}");
                let width = lines.get(error.line - 1).map_or(0, |l| l.chars().count());
                prop_assert!(error.column >= 1 && error.column <= width + 1, "{error}");
            }
        }
    }
}

fn probe(value: f32) -> Kernel {
    let mut b = alexc_codegen::builder::Builder::new("probe");
    let _ = b.constant(4, value);
    b.finish()
}

#[test]
fn deep_nesting_is_an_error_in_the_text() {
    let text =
        format!("kernel deep {{ parallel n in 0..1 {{ {}", "for i in 0..1 { ".repeat(100_000));
    assert_eq!(parse(&text).unwrap_err().what, "more than 64 loops inside one another");
}

#[test]
fn one_kernel_is_expected() {
    assert_eq!(parse("; nothing\n").unwrap_err().to_string(), "1:1: no kernel");
    let two = format!("{}\n{}", probe(1.0), probe(2.0));
    let error = parse(&two).unwrap_err().to_string();
    assert_eq!(error, "7:1: a second kernel where one is expected");
}

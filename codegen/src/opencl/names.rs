//! Names of buffers and loop variables in OpenCL C: as they are, unless the language, this emitter
//! or another name of the kernel has taken them.

use std::collections::HashSet;

/// Words that mean something else in the text that the emitter prints: C's and OpenCL's keywords,
/// address spaces and types, and every function and variable that the text itself uses.
const TAKEN: &[&str] = &[
    "auto",
    "break",
    "case",
    "char",
    "const",
    "continue",
    "default",
    "do",
    "double",
    "else",
    "enum",
    "extern",
    "float",
    "for",
    "goto",
    "if",
    "inline",
    "int",
    "long",
    "register",
    "restrict",
    "return",
    "short",
    "signed",
    "sizeof",
    "static",
    "struct",
    "switch",
    "typedef",
    "union",
    "unsigned",
    "void",
    "volatile",
    "while",
    "bool",
    "half",
    "uchar",
    "ushort",
    "uint",
    "ulong",
    "size_t",
    "ptrdiff_t",
    "intptr_t",
    "uintptr_t",
    "event_t",
    "sampler_t",
    "quad",
    "true",
    "false",
    "kernel",
    "global",
    "local",
    "constant",
    "private",
    "generic",
    "read_only",
    "write_only",
    "read_write",
    "uniform",
    "pipe",
    "complex",
    "imaginary",
    "fma",
    "mad",
    "sqrt",
    "fabs",
    "rint",
    "barrier",
    "item",
    "group",
    "scratch",
    "asm",
    "typeof",
    "NULL",
    "NAN",
    "INFINITY",
    "CLK_LOCAL_MEM_FENCE",
];

/// Beginnings of the other functions in use.
const TAKEN_PREFIXES: &[&str] =
    &["vload", "vstore", "as_", "convert_", "get_", "alexc_", "cl_", "CL_", "CLK_"];

/// Types that have vectors: a number may follow.
const VECTORS: &[&str] = &[
    "char", "uchar", "short", "ushort", "int", "uint", "long", "ulong", "half", "float", "double",
];

/// A C identifier that may stand in the text, given those already in use.
pub(super) fn assign(name: &str, used: &mut HashSet<String>) -> String {
    // Names that begin with an underscore are the compiler's.
    let mut candidate = if name.starts_with('_') { format!("n{name}") } else { name.to_owned() };
    if is_taken(&candidate) {
        candidate.push('_');
    }
    while used.contains(&candidate) {
        candidate.push('_');
    }
    used.insert(candidate.clone());
    candidate
}

/// No taken name ends in an underscore.
fn is_taken(name: &str) -> bool {
    let numbered = |prefix: &str| {
        name.strip_prefix(prefix)
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
    };
    TAKEN.contains(&name)
        || TAKEN_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || VECTORS.iter().any(|prefix| numbered(prefix))
        // The emitter's own: registers and parameters.
        || numbered("v")
        || name.ends_with("_base")
        || name.ends_with("_first")
}

#[cfg(test)]
mod tests {
    use super::assign;
    use std::collections::HashSet;

    #[test]
    fn taken_names_get_an_underscore() {
        let mut used = HashSet::new();
        let names = [
            "x",
            "half",
            "v12",
            "v",
            "vload8",
            "x",
            "float4",
            "half_",
            "output_base",
            "__x",
            "image",
        ];
        let assigned: Vec<String> = names.iter().map(|name| assign(name, &mut used)).collect();
        let expected = [
            "x",
            "half_",
            "v12_",
            "v",
            "vload8_",
            "x_",
            "float4_",
            "half__",
            "output_base_",
            "n__x",
            "image",
        ];
        assert_eq!(assigned, expected);
    }
}

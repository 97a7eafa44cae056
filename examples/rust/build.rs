//! Compiles the net into the program.

fn main() -> Result<(), alexc::build::Error> {
    let digits = alexc::build::compile("../../specs/digits.yaml");
    digits.weights("../../specs/digits/digits.safetensors").emit()?;
    Ok(())
}

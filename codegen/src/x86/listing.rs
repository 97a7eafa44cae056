//! Machine code for people to read.

use iced_x86::{Decoder, DecoderOptions, Formatter, IntelFormatter, Mnemonic};

/// Machine code as text, an instruction a line with its offset; the constants behind the code are
/// left out.
pub fn listing(bytes: &[u8]) -> String {
    let mut formatter = IntelFormatter::new();
    let mut text = String::new();
    for instruction in Decoder::new(64, bytes, DecoderOptions::NONE).iter() {
        text.push_str(&format!("{:6x}  ", instruction.ip()));
        formatter.format(&instruction, &mut text);
        text.push('\n');
        if instruction.mnemonic() == Mnemonic::Ret {
            break;
        }
    }
    text
}

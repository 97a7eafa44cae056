//! The object as a static library: an archive of one member with its table of symbols, so that
//! no `ranlib` is needed. Times, owners and modes are constants: the same object gives the same
//! bytes.

use crate::target::Target;
use target_lexicon::BinaryFormat;

const MAGIC: &[u8] = b"!<arch>\n";

/// The archive of an object, in the dialect that the target's linker reads.
///
/// `symbols` are the functions and data that the object offers, as C spells them.
pub fn archive(target: &Target, member: &str, object: &[u8], symbols: &[String]) -> Vec<u8> {
    match target.isa().triple().binary_format {
        BinaryFormat::Macho => bsd(member, object, symbols),
        _ => gnu(member, object, symbols),
    }
}

/// ELF's and Windows' linkers: names longer than 15 bytes stand in a member of their own.
fn gnu(member: &str, object: &[u8], symbols: &[String]) -> Vec<u8> {
    let names: Vec<u8> =
        symbols.iter().flat_map(|name| [name.as_bytes(), b"\0"].concat()).collect();
    let table_len = 4 + 4 * symbols.len() + names.len();
    let long = (member.len() > 15).then(|| format!("{member}/\n").into_bytes());
    let begin =
        MAGIC.len() + entry_len(table_len) + long.as_ref().map_or(0, |l| entry_len(l.len()));
    let mut table = (symbols.len() as u32).to_be_bytes().to_vec();
    for _ in symbols {
        table.extend((begin as u32).to_be_bytes());
    }
    table.extend(names);

    let mut file = MAGIC.to_vec();
    entry(&mut file, "/", &table);
    let name = match &long {
        Some(long) => {
            entry(&mut file, "//", long);
            "/0".to_owned()
        }
        None => format!("{member}/"),
    };
    entry(&mut file, &name, object);
    file
}

/// Apple's linkers: each name stands before its contents, and contents begin at multiples of 8.
fn bsd(member: &str, object: &[u8], symbols: &[String]) -> Vec<u8> {
    let mut names = Vec::new();
    let mut starts = Vec::new();
    for symbol in symbols {
        starts.push(names.len() as u32);
        names.extend([b"_", symbol.as_bytes(), b"\0"].concat());
    }
    names.resize(names.len().next_multiple_of(8), 0);
    let table_len = 4 + 8 * symbols.len() + 4 + names.len();
    let table_name = named("__.SYMDEF");
    let begin = MAGIC.len() + entry_len(table_name.len() + table_len.next_multiple_of(8));
    let mut table = (8 * symbols.len() as u32).to_le_bytes().to_vec();
    for start in starts {
        table.extend(start.to_le_bytes());
        table.extend((begin as u32).to_le_bytes());
    }
    table.extend((names.len() as u32).to_le_bytes());
    table.extend(names);

    let mut file = MAGIC.to_vec();
    for (name, contents) in [(table_name, table.as_slice()), (named(member), object)] {
        let mut whole = [&name, contents].concat();
        whole.resize(name.len() + contents.len().next_multiple_of(8), 0);
        entry(&mut file, &format!("#1/{}", name.len()), &whole);
    }
    file
}

/// A name padded so that, behind 60 bytes of an entry's head, contents begin at a multiple of 8.
fn named(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize((bytes.len() + 4).next_multiple_of(8) - 4, 0);
    if bytes.len() == name.len() {
        bytes.resize(bytes.len() + 8, 0);
    }
    bytes
}

/// Bytes that an entry takes.
fn entry_len(contents: usize) -> usize {
    60 + contents.next_multiple_of(2)
}

fn entry(file: &mut Vec<u8>, name: &str, contents: &[u8]) {
    let (time, owner, group, mode, len) = (0, 0, 0, 644, contents.len());
    let head = format!("{name:16}{time:<12}{owner:<6}{group:<6}{mode:<8}{len:<10}`\n");
    file.extend(head.as_bytes());
    file.extend(contents);
    if !contents.len().is_multiple_of(2) {
        file.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symbols() -> Vec<String> {
        ["net_run", "net_label"].map(str::to_owned).to_vec()
    }

    fn word(file: &[u8], at: usize) -> [u8; 4] {
        *file[at..].first_chunk().unwrap()
    }

    #[test]
    fn gnu_tables_point_to_the_member() {
        for member in ["net.o", "a_name_of_many_letters.o"] {
            let file = gnu(member, b"OBJECT!", &symbols());
            assert_eq!(u32::from_be_bytes(word(&file, 68)), 2);
            for at in [72, 76] {
                let begin = u32::from_be_bytes(word(&file, at)) as usize;
                let head = std::str::from_utf8(&file[begin..begin + 60]).unwrap();
                assert!(head.starts_with(if member.len() > 15 { "/0 " } else { "net.o/" }));
                assert_eq!(head[48..58].trim(), "7");
                assert_eq!(&file[begin + 60..], b"OBJECT!\n");
            }
            assert_eq!(&file[80..98], b"net_run\0net_label\0");
        }
    }

    #[test]
    fn bsd_contents_are_aligned() {
        for member in ["n.o", "net.o", "net_.o", "twelve_123.o", "a_name_of_many_letters.o"] {
            let file = bsd(member, b"OBJECT!", &symbols());
            let table = 8 + 60 + 12;
            assert_eq!(&file[68..table], b"__.SYMDEF\0\0\0");
            assert_eq!(u32::from_le_bytes(word(&file, table)), 16);
            let begin = u32::from_le_bytes(word(&file, table + 8)) as usize;
            assert_eq!(word(&file, table + 16), word(&file, table + 8));
            let head = std::str::from_utf8(&file[begin..begin + 60]).unwrap();
            let name_len: usize = head[3..16].trim().parse().unwrap();
            let contents = begin + 60 + name_len;
            assert!(contents.is_multiple_of(8));
            assert!(file[begin + 60..].starts_with(format!("{member}\0").as_bytes()));
            assert_eq!(&file[contents..], b"OBJECT!\0");
            assert_eq!(u32::from_le_bytes(word(&file, table + 4)), 0);
            assert_eq!(u32::from_le_bytes(word(&file, table + 12)), 9);
            assert_eq!(&file[table + 24..table + 44], b"_net_run\0_net_label\0");
        }
    }
}

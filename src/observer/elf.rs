//! Reads from an ELF file whether it names a dynamic linker, and which symbols of other libraries it uses.
//!
//! Pure. Only 64-bit files with this machine's byte order are read, because the observer can be loaded
//! into no others.

const MAGIC: &[u8] = b"\x7fELF";
const CLASS_64: u8 = 2;
const LITTLE: u8 = 1;
const BIG: u8 = 2;

const PT_INTERP: u32 = 3;
const SHT_DYNSYM: u32 = 11;

const SEGMENT_BYTES: u64 = 56;
const SECTION_BYTES: u64 = 64;
const SYMBOL_BYTES: usize = 24;

/// The content of an ELF file. Only its first bytes have been checked.
#[derive(Clone, Copy, Debug)]
pub struct Elf<'a>(&'a [u8]);

impl<'a> Elf<'a> {
    /// The file with this content; `None` if it is not a 64-bit ELF file with this byte order.
    pub fn read(content: &'a [u8]) -> Option<Elf<'a>> {
        let order = if cfg!(target_endian = "little") { LITTLE } else { BIG };
        let is_one = content.starts_with(MAGIC) && content.get(4..6)? == [CLASS_64, order];
        is_one.then_some(Elf(content))
    }

    /// Whether a dynamic linker loads the program, so that `LD_PRELOAD` works for it. `None` if the file is
    /// malformed.
    pub fn has_interpreter(self) -> Option<bool> {
        // A dynamic linker is named by a segment, and segments are what the kernel reads. Sections are
        // optional in a program.
        let (at, count) = (self.long(32)?, u64::from(self.short(56)?));
        let mut kinds = (0..count).map(|index| self.word(at.checked_add(index * SEGMENT_BYTES)?));
        kinds.try_fold(false, |found, kind| Some(found || kind? == PT_INTERP))
    }

    /// The names of the symbols that it imports from other libraries, without versions. `None` if the file
    /// has no list of symbols, or is malformed.
    pub fn imports(self) -> Option<Vec<&'a [u8]>> {
        // The header of the file says where the section headers are. One of the sections is the list of
        // imported and exported symbols; its header has the index of the section with their names. A symbol
        // that is defined in no section is imported.
        let (at, count) = (self.long(40)?, u64::from(self.short(60)?));
        let place = |index: u64| at.checked_add(index.checked_mul(SECTION_BYTES)?);
        let is_symbols = |index: &u64| {
            place(*index).and_then(|place| self.word(place.checked_add(4)?)) == Some(SHT_DYNSYM)
        };
        let symbols = place((0..count).find(is_symbols)?)?;
        let names = self.section(place(u64::from(self.word(symbols.checked_add(40)?)?))?)?;
        let list = self.section(symbols)?;
        let undefined = list.chunks_exact(SYMBOL_BYTES).filter(|symbol| symbol[6..8] == [0, 0]);
        let name = |symbol: &[u8]| {
            let start = u32::from_ne_bytes(symbol[..4].try_into().ok()?) as usize;
            names.get(start..)?.split(|byte| *byte == 0).next()
        };
        undefined.map(name).collect()
    }

    /// The content of the section whose header is at this place.
    fn section(self, place: u64) -> Option<&'a [u8]> {
        let start = usize::try_from(self.long(place.checked_add(24)?)?).ok()?;
        let len = usize::try_from(self.long(place.checked_add(32)?)?).ok()?;
        self.0.get(start..start.checked_add(len)?)
    }

    fn bytes<const LEN: usize>(self, place: u64) -> Option<[u8; LEN]> {
        let start = usize::try_from(place).ok()?;
        self.0.get(start..start.checked_add(LEN)?)?.try_into().ok()
    }

    fn short(self, place: u64) -> Option<u16> {
        self.bytes(place).map(u16::from_ne_bytes)
    }

    fn word(self, place: u64) -> Option<u32> {
        self.bytes(place).map(u32::from_ne_bytes)
    }

    fn long(self, place: u64) -> Option<u64> {
        self.bytes(place).map(u64::from_ne_bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_imports_of_a_program_are_read() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let own = Elf::read(&own).unwrap();
        assert_eq!(own.has_interpreter(), Some(true));
        let imports = own.imports().unwrap();
        assert!(imports.contains(&&b"getcwd"[..]) && !imports.contains(&&b"main"[..]), "{imports:?}");
    }

    proptest! {
        #[test]
        fn no_content_makes_the_parser_panic(rest in proptest::collection::vec(any::<u8>(), 0..300)) {
            let content = [MAGIC, &[CLASS_64, LITTLE], &rest[..]].concat();
            if let Some(elf) = Elf::read(&content) {
                let _ = (elf.has_interpreter(), elf.imports());
            }
        }
    }
}

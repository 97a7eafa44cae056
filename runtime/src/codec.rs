//! Plain values to bytes and back. Reading trusts nothing: whatever the bytes are, it ends with a
//! value or with what is wrong and where.

use crate::container::{FileFault, HEADER_BYTES, Malformed};

/// Collects bytes.
#[derive(Default)]
pub(crate) struct Writer {
    pub(crate) bytes: Vec<u8>,
}

impl Writer {
    pub(crate) fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub(crate) fn bool(&mut self, value: bool) {
        self.u8(u8::from(value));
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn usize(&mut self, value: usize) {
        self.u64(value as u64);
    }

    pub(crate) fn f64(&mut self, value: f64) {
        self.u64(value.to_bits());
    }

    pub(crate) fn bytes(&mut self, value: &[u8]) {
        self.usize(value.len());
        self.bytes.extend_from_slice(value);
    }

    pub(crate) fn text(&mut self, value: &str) {
        self.bytes(value.as_bytes());
    }

    pub(crate) fn list<T>(&mut self, items: &[T], mut write: impl FnMut(&mut Writer, &T)) {
        self.usize(items.len());
        for item in items {
            write(self, item);
        }
    }

    pub(crate) fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Writer, T)) {
        self.bool(value.is_some());
        if let Some(value) = value {
            write(self, value);
        }
    }
}

/// Takes bytes apart.
pub(crate) struct Reader<'a> {
    contents: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Of a file's contents.
    pub(crate) fn new(contents: &'a [u8]) -> Reader<'a> {
        Reader { contents, at: 0 }
    }

    /// The error that points to the bytes read last, `back` of them.
    pub(crate) fn fault(&self, back: usize, what: Malformed) -> FileFault {
        FileFault::Malformed { at: HEADER_BYTES + self.at - back, what }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], FileFault> {
        match self.contents[self.at..].split_at_checked(len) {
            Some((taken, _)) => {
                self.at += len;
                Ok(taken)
            }
            None => Err(self.fault(0, Malformed::End)),
        }
    }

    pub(crate) fn u8(&mut self) -> Result<u8, FileFault> {
        Ok(self.take(1)?[0])
    }

    pub(crate) fn bool(&mut self) -> Result<bool, FileFault> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            code => Err(self.fault(1, Malformed::Code { what: "yes or no", code })),
        }
    }

    pub(crate) fn u64(&mut self) -> Result<u64, FileFault> {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(self.take(8)?);
        Ok(u64::from_le_bytes(bytes))
    }

    pub(crate) fn usize(&mut self) -> Result<usize, FileFault> {
        let value = self.u64()?;
        usize::try_from(value).map_err(|_| self.fault(8, Malformed::Number(value)))
    }

    pub(crate) fn f64(&mut self) -> Result<f64, FileFault> {
        self.u64().map(f64::from_bits)
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], FileFault> {
        let len = self.usize()?;
        self.take(len)
    }

    pub(crate) fn text(&mut self) -> Result<String, FileFault> {
        let bytes = self.bytes()?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_string()),
            Err(_) => Err(self.fault(bytes.len(), Malformed::Text)),
        }
    }

    /// Memory grows with what is read, never with what a length claims.
    pub(crate) fn list<T>(
        &mut self,
        mut read: impl FnMut(&mut Reader<'a>) -> Result<T, FileFault>,
    ) -> Result<Vec<T>, FileFault> {
        let len = self.usize()?;
        // Every item takes a byte at least.
        if len > self.contents.len() - self.at {
            return Err(self.fault(8, Malformed::End));
        }
        let mut items = Vec::new();
        for _ in 0..len {
            items.push(read(self)?);
        }
        Ok(items)
    }

    pub(crate) fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Reader<'a>) -> Result<T, FileFault>,
    ) -> Result<Option<T>, FileFault> {
        if self.bool()? { read(self).map(Some) } else { Ok(None) }
    }

    /// Nothing may be left.
    pub(crate) fn end(self) -> Result<(), FileFault> {
        if self.at == self.contents.len() { Ok(()) } else { Err(self.fault(0, Malformed::Rest)) }
    }
}

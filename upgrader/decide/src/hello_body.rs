//! The body of a `ClientHello` (RFC 8446, 4.1.2), read where it lies, across records.

use crate::hello::{ALPN, RECORD_HEADER};

/// Extension types (RFC 6066, 3; RFC 7301, 3.1).
const SERVER_NAME: u16 = 0;
const APPLICATION_PROTOCOLS: u16 = 16;
const HOST_NAME: u8 = 0;

const RANDOM: usize = 32;
const SESSION_ID_MAX: usize = 32;

/// The bytes are no hello.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bad;

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Fields<'a> {
    pub offers_jfe: bool,
    pub server_name: Option<&'a str>,
}

/// A part of a handshake message: `left` bytes from `at` on, record headers between them not counted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Body<'a> {
    bytes: &'a [u8],
    at: usize,
    in_record: usize,
    left: usize,
}

impl<'a> Body<'a> {
    /// The `length` bytes of the message after its first `skip`.
    pub(crate) fn new(bytes: &'a [u8], skip: usize, length: usize) -> Result<Self, Bad> {
        let mut message = Self { bytes, at: 0, in_record: 0, left: skip + length };
        message.skip(skip)?;
        Ok(message)
    }

    pub(crate) fn hello(mut self) -> Result<Fields<'a>, Bad> {
        if self.u8()? != 3 {
            return Err(Bad);
        }
        self.skip(1 + RANDOM)?;
        if self.vector8()?.left > SESSION_ID_MAX {
            return Err(Bad);
        }
        let suites = self.vector16()?.left;
        if suites == 0 || suites % 2 != 0 || self.vector8()?.left == 0 {
            return Err(Bad);
        }
        if self.left == 0 {
            return Ok(Fields::default());
        }
        let extensions = self.vector16()?;
        if self.left > 0 {
            return Err(Bad);
        }
        extensions.extensions()
    }

    fn extensions(mut self) -> Result<Fields<'a>, Bad> {
        let mut fields = Fields::default();
        let mut seen = Seen::default();
        while self.left > 0 {
            let kind = self.u16()?;
            let extension = self.vector16()?;
            if !seen.first_time(kind) {
                return Err(Bad);
            }
            match kind {
                SERVER_NAME => fields.server_name = extension.server_name()?,
                APPLICATION_PROTOCOLS => fields.offers_jfe = extension.offers(ALPN)?,
                _ => {}
            }
        }
        Ok(fields)
    }

    fn server_name(mut self) -> Result<Option<&'a str>, Bad> {
        let mut names = self.vector16()?;
        if self.left > 0 || names.left == 0 {
            return Err(Bad);
        }
        let mut host = None;
        while names.left > 0 {
            let kind = names.u8()?;
            let name = names.vector16()?;
            if name.left == 0 {
                return Err(Bad);
            }
            if kind == HOST_NAME && host.is_none() {
                host = name.printable();
            }
        }
        Ok(host)
    }

    fn offers(mut self, protocol: &[u8]) -> Result<bool, Bad> {
        let mut protocols = self.vector16()?;
        if self.left > 0 || protocols.left == 0 {
            return Err(Bad);
        }
        let mut found = false;
        while protocols.left > 0 {
            let name = protocols.vector8()?;
            if name.left == 0 {
                return Err(Bad);
            }
            found |= name.equals(protocol)?;
        }
        Ok(found)
    }

    fn equals(mut self, other: &[u8]) -> Result<bool, Bad> {
        if self.left != other.len() {
            return Ok(false);
        }
        for &byte in other {
            if self.u8()? != byte {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// These bytes as text that is safe to log, unless a record's header cuts them.
    fn printable(mut self) -> Option<&'a str> {
        self.enter_record().ok()?;
        if self.left > self.in_record {
            return None;
        }
        let text = self.bytes.get(self.at..self.at + self.left)?;
        if text.iter().all(u8::is_ascii_graphic) { std::str::from_utf8(text).ok() } else { None }
    }

    fn vector8(&mut self) -> Result<Self, Bad> {
        let length = usize::from(self.u8()?);
        self.split(length)
    }

    fn vector16(&mut self) -> Result<Self, Bad> {
        let length = usize::from(self.u16()?);
        self.split(length)
    }

    fn split(&mut self, length: usize) -> Result<Self, Bad> {
        let part = Self { left: length, ..*self };
        self.skip(length)?;
        Ok(part)
    }

    fn u16(&mut self) -> Result<u16, Bad> {
        Ok(u16::from_be_bytes([self.u8()?, self.u8()?]))
    }

    fn u8(&mut self) -> Result<u8, Bad> {
        if self.left == 0 {
            return Err(Bad);
        }
        self.enter_record()?;
        let byte = *self.bytes.get(self.at).ok_or(Bad)?;
        self.advance(1);
        Ok(byte)
    }

    fn skip(&mut self, length: usize) -> Result<(), Bad> {
        if length > self.left {
            return Err(Bad);
        }
        let mut length = length;
        while length > 0 {
            self.enter_record()?;
            let step = length.min(self.in_record);
            self.advance(step);
            length -= step;
        }
        Ok(())
    }

    fn advance(&mut self, step: usize) {
        self.at += step;
        self.in_record -= step;
        self.left -= step;
    }

    /// Steps over the next record's header where this record is used up.
    fn enter_record(&mut self) -> Result<(), Bad> {
        if self.in_record > 0 {
            return Ok(());
        }
        let length = self.bytes.get(self.at + 3..self.at + RECORD_HEADER).ok_or(Bad)?;
        self.in_record = usize::from(length[0]) << 8 | usize::from(length[1]);
        self.at += RECORD_HEADER;
        if self.in_record == 0 { Err(Bad) } else { Ok(()) }
    }
}

/// One bit an extension type.
struct Seen([u64; 1024]);

impl Default for Seen {
    fn default() -> Self {
        Self([0; 1024])
    }
}

impl Seen {
    fn first_time(&mut self, kind: u16) -> bool {
        let word = &mut self.0[usize::from(kind >> 6)];
        let bit = 1 << (kind & 63);
        let first = *word & bit == 0;
        *word |= bit;
        first
    }
}

//! Whether a stream begins with a `ClientHello`, and with whose.

use crate::hello_body::{Bad, Body};

/// Bytes of a stream, records' headers included, within which its hello must end.
pub const HELLO_MAX: usize = 64 * 1024;

/// The protocol by which two upgraders know one another, as in ALPN (RFC 7301).
pub const ALPN: &[u8] = b"jfe/1";

/// Record layer (RFC 8446, 5.1) and handshake (RFC 8446, 4).
pub(crate) const RECORD_HEADER: usize = 5;
const HANDSHAKE_HEADER: usize = 4;
const RECORD_MAX: usize = 1 << 14;
const CONTENT_HANDSHAKE: u8 = 22;
const VERSION_MAJOR: u8 = 3;
const VERSION_MINORS: std::ops::RangeInclusive<u8> = 1..=4;
const CLIENT_HELLO: u8 = 1;

/// What the bytes so far are. All but [`Hello::Nothing`] and [`Hello::Partial`] stay, whatever follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hello<'a> {
    Nothing,
    /// The beginning of a hello; with fewer than `need` bytes in all the answer stays the same.
    Partial {
        need: usize,
    },
    /// A hello that offers `jfe/1`.
    Jfe,
    /// Any other hello. The name it asks for, where that is printable ASCII and lies within one record.
    Stranger {
        server_name: Option<&'a str>,
    },
    NotTls,
    /// Begins as TLS and can't be a hello.
    Malformed,
    /// The hello does not end within [`HELLO_MAX`].
    TooLarge,
}

/// Classifies all bytes that a peer has sent so far.
///
/// Allocates nothing. Called again only when `need` bytes are there, it looks at a hello of n bytes O(log n) times,
/// however small the records are into which it is cut.
pub fn classify(bytes: &[u8]) -> Hello<'_> {
    if bytes.is_empty() {
        return Hello::Nothing;
    }
    match whole_message(bytes) {
        Ok(length) => read(bytes, length).unwrap_or(Hello::Malformed),
        Err(hello) => hello,
    }
}

fn read(bytes: &[u8], length: usize) -> Result<Hello<'_>, Bad> {
    let hello = Body::new(bytes, HANDSHAKE_HEADER, length)?.hello()?;
    Ok(if hello.offers_jfe { Hello::Jfe } else { Hello::Stranger { server_name: hello.server_name } })
}

/// The length of the handshake message's body, as soon as all of it is there.
fn whole_message(bytes: &[u8]) -> Result<usize, Hello<'static>> {
    let mut header = [0; HANDSHAKE_HEADER];
    let mut header_read = 0;
    // Bytes of the message that the records so far hold or will hold.
    let mut announced = 0;
    let mut total = HANDSHAKE_HEADER;
    let mut at = 0;
    loop {
        let Some(payload) = record_payload(&bytes[at..], at == 0)? else {
            return Err(partial(bytes, at + on_the_wire(total - announced)));
        };
        let start = at + RECORD_HEADER;
        let end = start + payload;
        for &byte in bytes[start..end.min(bytes.len())].iter().take(HANDSHAKE_HEADER - header_read) {
            header[header_read] = byte;
            header_read += 1;
        }
        let [kind, length @ ..] = header;
        if header_read > 0 && kind != CLIENT_HELLO {
            return Err(Hello::NotTls);
        }
        let length = (header_read == HANDSHAKE_HEADER)
            .then(|| length.iter().fold(0, |length, &byte| length << 8 | usize::from(byte)));
        announced += payload;
        total = HANDSHAKE_HEADER + length.unwrap_or(0);
        let message_end =
            if announced >= total { end - (announced - total) } else { end + on_the_wire(total - announced) };
        match length {
            Some(_) if message_end > HELLO_MAX => return Err(Hello::TooLarge),
            Some(length) if announced >= total && bytes.len() >= message_end => return Ok(length),
            _ if announced < total && bytes.len() > end => at = end,
            _ => return Err(partial(bytes, message_end)),
        }
    }
}

/// The payload's length of the record that begins here, unless its header is not whole yet.
fn record_payload(bytes: &[u8], first: bool) -> Result<Option<usize>, Hello<'static>> {
    let foreign = if first { Hello::NotTls } else { Hello::Malformed };
    if bytes.first().is_some_and(|&content| content != CONTENT_HANDSHAKE)
        || bytes.get(1).is_some_and(|&major| major != VERSION_MAJOR)
    {
        return Err(foreign);
    }
    if bytes.get(2).is_some_and(|minor| !VERSION_MINORS.contains(minor)) {
        return Err(Hello::Malformed);
    }
    let Some(&[high, low]) = bytes.get(3..RECORD_HEADER) else {
        return Ok(None);
    };
    match usize::from(u16::from_be_bytes([high, low])) {
        // An empty handshake record is forbidden (RFC 8446, 5.1), and would make a hello endless.
        0 => Err(Hello::Malformed),
        payload if payload > RECORD_MAX => Err(Hello::Malformed),
        payload => Ok(Some(payload)),
    }
}

fn partial(bytes: &[u8], need: usize) -> Hello<'static> {
    // Each byte up to the message's type may show that this is no TLS, and plaintext must not wait for the next one.
    let need = if bytes.len() <= RECORD_HEADER { bytes.len() + 1 } else { need };
    if need > HELLO_MAX { Hello::TooLarge } else { Hello::Partial { need } }
}

/// The fewest bytes that carry so much of a message in further records.
fn on_the_wire(missing: usize) -> usize {
    missing + missing.div_ceil(RECORD_MAX) * RECORD_HEADER
}

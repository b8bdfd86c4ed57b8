//! Hellos put together by hand.

#![allow(dead_code)]

pub const SNI: u16 = 0;
pub const ALPN: u16 = 16;

/// A handshake message with these extensions, or none at all.
pub fn hello(extensions: &[Vec<u8>]) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend_from_slice(&[0x55; 32]);
    body.push(0);
    body.extend_from_slice(b"\0\x02\x13\x01");
    body.extend_from_slice(b"\x01\0");
    if !extensions.is_empty() {
        body.extend(vector16(&extensions.concat()));
    }
    let length = u32::try_from(body.len()).expect("short").to_be_bytes();
    let mut message = vec![1];
    message.extend_from_slice(&length[1..]);
    message.extend(body);
    message
}

pub fn extension(kind: u16, data: &[u8]) -> Vec<u8> {
    let mut bytes = kind.to_be_bytes().to_vec();
    bytes.extend(vector16(data));
    bytes
}

pub fn alpn(protocols: &[&[u8]]) -> Vec<u8> {
    let mut list = Vec::new();
    for protocol in protocols {
        list.push(u8::try_from(protocol.len()).expect("short"));
        list.extend_from_slice(protocol);
    }
    vector16(&list)
}

pub fn sni(name: &[u8]) -> Vec<u8> {
    let mut entry = vec![0];
    entry.extend(vector16(name));
    vector16(&entry)
}

pub fn in_records(message: &[u8], size: usize) -> Vec<u8> {
    message.chunks(size).flat_map(|payload| [b"\x16\x03\x01".to_vec(), vector16(payload)].concat()).collect()
}

fn vector16(data: &[u8]) -> Vec<u8> {
    let mut bytes = u16::try_from(data.len()).expect("short").to_be_bytes().to_vec();
    bytes.extend_from_slice(data);
    bytes
}

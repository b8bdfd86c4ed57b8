//! A client's hello that any TLS server answers.

use aws_lc_rs::rand;

/// Cipher suites from IANA's registry: TLS 1.3's, then those of TLS 1.2 that servers commonly allow.
const SUITES: [u16; 15] = [
    0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013, 0xc014, 0x009c, 0x009d, 0x002f,
    0x0035,
];
const X25519: u16 = 0x001d;
const GROUPS: [u16; 4] = [X25519, 0x0017, 0x0018, 0x0019];
const SIGNATURES: [u16; 12] =
    [0x0403, 0x0503, 0x0603, 0x0807, 0x0804, 0x0805, 0x0806, 0x0401, 0x0501, 0x0601, 0x0203, 0x0201];
const VERSIONS: [u16; 2] = [0x0304, 0x0303];

/// One record with a well-formed hello for TLS 1.2 and 1.3 (RFC 8446, section 4.1.2), without a server name and without
/// `jfe/1`. It serves to learn whether an application speaks TLS, which any record in answer shows: no handshake can be
/// completed with it.
pub fn probe_hello() -> Vec<u8> {
    let mut random = [0; 96];
    // Nothing hangs on these bytes, so a hello without randomness would do as well.
    let _ = rand::fill(&mut random);
    let (random, rest) = random.split_at(32);
    let (session_id, key_share) = rest.split_at(32);

    let extensions = [
        extension(0x0017, &[]),                            // extended_master_secret
        extension(0xff01, &[0]),                           // renegotiation_info
        extension(0x000a, &vector16(&words(&GROUPS))),     // supported_groups
        extension(0x000b, &[1, 0]),                        // ec_point_formats
        extension(0x000d, &vector16(&words(&SIGNATURES))), // signature_algorithms
        extension(0x002b, &vector8(&words(&VERSIONS))),    // supported_versions
        extension(0x002d, &[1, 1]),                        // psk_key_exchange_modes
        extension(0x0033, &vector16(&[words(&[X25519]), vector16(key_share)].concat())),
    ]
    .concat();
    let body = [
        &[3, 3],
        random,
        &vector8(session_id),
        &vector16(&words(&SUITES)),
        &[1, 0], // no compression
        &vector16(&extensions),
    ]
    .concat();
    let message = [&[1, 0][..], &vector16(&body)].concat();
    [&[22, 3, 1][..], &vector16(&message)].concat()
}

fn words(words: &[u16]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

fn vector8(bytes: &[u8]) -> Vec<u8> {
    let [.., length] = bytes.len().to_be_bytes();
    [&[length], bytes].concat()
}

fn vector16(bytes: &[u8]) -> Vec<u8> {
    let [.., high, low] = bytes.len().to_be_bytes();
    [&[high, low], bytes].concat()
}

fn extension(number: u16, bytes: &[u8]) -> Vec<u8> {
    [words(&[number]), vector16(bytes)].concat()
}

//! Against rustls with its own record layer.

use std::io::{Read, Write};
use std::ops::DerefMut;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;

use jfe_tls::{Expectation, Handshake};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, cipher_suite, kx_group};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    ClientConfig, ClientConnection, ConnectionCommon, RootCertStore, ServerConfig, ServerConnection, SideData,
};

use crate::authority::{Authority, CLIENT, Credentials, Leaf, SERVER};
use crate::memory::shake;
use crate::wire::Wire;

fn roots(authority: &Authority) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.bundle().as_bytes()).unwrap()).unwrap();
    Arc::new(roots)
}

fn pair(credentials: &Credentials) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain = CertificateDer::pem_slice_iter(credentials.certificates.as_bytes()).map(Result::unwrap).collect();
    (chain, PrivateKeyDer::from_pem_slice(credentials.key.as_bytes()).unwrap())
}

fn client(authority: &Authority, provider: CryptoProvider) -> ClientConnection {
    let (chain, key) = pair(&authority.issue(&Leaf::of(CLIENT)));
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots(authority))
        .with_client_auth_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![b"jfe/1".to_vec()];
    let name = ServerName::try_from("127.0.0.1").unwrap();
    ClientConnection::new(Arc::new(config), name).unwrap()
}

fn server(authority: &Authority) -> ServerConnection {
    let (chain, key) = pair(&authority.issue(&Leaf::of(SERVER)));
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(authority), provider.clone()).build().unwrap();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![b"jfe/1".to_vec()];
    config.ticketer = aws_lc_rs::Ticketer::new().unwrap();
    config.send_tls13_tickets = 3;
    ServerConnection::new(Arc::new(config)).unwrap()
}

/// rustls' end echoes messages of 1,000 bytes, with a key update after each third, until the end, which it answers with
/// one of its own.
fn echo<D: SideData>(mut connection: impl DerefMut<Target = ConnectionCommon<D>>, mut stream: UnixStream) {
    let mut message = [0; 1000];
    for round in 0.. {
        let mut tls = rustls::Stream::new(&mut connection, &mut stream);
        if let Err(error) = tls.read_exact(&mut message) {
            assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
            break;
        }
        if round % 3 == 0 {
            connection.refresh_traffic_keys().unwrap();
        }
        let mut tls = rustls::Stream::new(&mut connection, &mut stream);
        tls.write_all(&message).unwrap();
    }
    connection.send_close_notify();
    connection.complete_io(&mut stream).unwrap();
}

fn talk<D: SideData>(
    handshake: Handshake,
    theirs: impl DerefMut<Target = ConnectionCommon<D>> + Send + 'static,
) -> Wire<UnixStream> {
    let (stream, other) = UnixStream::pair().unwrap();
    let echo = thread::spawn(move || echo(theirs, other));
    let mut wire = Wire::shake(stream, handshake).unwrap();
    for round in 0..60_u8 {
        if round % 4 == 0 {
            wire.update_key(round % 8 == 0);
        }
        wire.send(&[round; 1000]);
        assert_eq!(wire.receive_exactly(1000), [round; 1000]);
    }
    wire.close();
    assert_eq!(wire.receive(), Ok(None));
    echo.join().unwrap();
    wire
}

#[test]
fn a_rustls_server_is_met_tickets_and_key_updates_and_all() {
    let authority = Authority::new("root");
    let ours = authority.endpoint(CLIENT).connect(Expectation::Address("127.0.0.1".parse().unwrap()));
    let wire = talk(ours, server(&authority));
    assert!(wire.key_updates >= 20, "{}", wire.key_updates);
    assert_eq!(wire.tls.peer.unwrap().identity.as_str(), SERVER);
}

#[test]
fn a_rustls_client_is_met() {
    let authority = Authority::new("root");
    let wire = talk(authority.endpoint(SERVER).accept_mutual(), client(&authority, aws_lc_rs::default_provider()));
    assert!(wire.key_updates >= 20, "{}", wire.key_updates);
    assert_eq!(wire.tls.peer.unwrap().identity.as_str(), CLIENT);
}

#[test]
fn each_cipher_and_key_exchange_that_we_offer_works() {
    let authority = Authority::new("root");
    for (cipher, cipher_name) in [
        (cipher_suite::TLS13_AES_128_GCM_SHA256, "TLS_AES_128_GCM_SHA256"),
        (cipher_suite::TLS13_AES_256_GCM_SHA384, "TLS_AES_256_GCM_SHA384"),
        (cipher_suite::TLS13_CHACHA20_POLY1305_SHA256, "TLS_CHACHA20_POLY1305_SHA256"),
    ] {
        for (group, group_name) in [
            (kx_group::X25519MLKEM768, "X25519MLKEM768"),
            (kx_group::X25519, "x25519"),
            (kx_group::SECP256R1, "secp256r1"),
        ] {
            let provider =
                CryptoProvider { cipher_suites: vec![cipher], kx_groups: vec![group], ..aws_lc_rs::default_provider() };
            let wire =
                talk(authority.endpoint(SERVER).accept_stranger(), client_without_protocol(&authority, provider));
            assert_eq!((wire.tls.cipher, wire.tls.key_exchange), (cipher_name, group_name));
        }
    }
}

fn client_without_protocol(authority: &Authority, provider: CryptoProvider) -> ClientConnection {
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots(authority))
        .with_no_client_auth();
    ClientConnection::new(Arc::new(config), ServerName::try_from("127.0.0.1").unwrap()).unwrap()
}

#[test]
fn a_remembered_certificate_is_worth_nothing_without_its_key() {
    let authority = Authority::new("root");
    let ours = authority.endpoint(CLIENT);
    let good = authority.issue(&Leaf::of(SERVER));
    let expectation = Expectation::Identity(SERVER.parse().unwrap());
    let genuine = good.endpoint(SERVER, &authority.bundle()).unwrap();
    assert!(shake(ours.connect(expectation.clone()), genuine.accept_mutual()).client.is_ok());

    let thief = Credentials { certificates: good.certificates, key: authority.issue(&Leaf::of(SERVER)).key };
    let (chain, key) = pair(&thief);
    let provider = aws_lc_rs::default_provider();
    let key = provider.key_provider.load_private_key(key).unwrap();
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, key))));
    config.alpn_protocols = vec![b"jfe/1".to_vec()];
    let mut theirs = ServerConnection::new(Arc::new(config)).unwrap();
    let (stream, mut other) = UnixStream::pair().unwrap();
    let thread = thread::spawn(move || theirs.complete_io(&mut other).unwrap_err().to_string());
    let error = Wire::shake(stream, ours.connect(expectation)).err().unwrap();
    assert_eq!(error.reason(), "peer-untrusted");
    assert!(thread.join().unwrap().contains("DecryptError"));
}

#[test]
fn a_rustls_peer_reads_our_alerts() {
    let authority = Authority::new("root");
    let (stream, mut other) = UnixStream::pair().unwrap();
    let mut theirs = client(&authority, aws_lc_rs::default_provider());
    let reader = thread::spawn(move || {
        let mut tls = rustls::Stream::new(&mut theirs, &mut other);
        tls.read(&mut [0; 10]).unwrap_err().to_string()
    });
    let mut wire = Wire::shake(stream, authority.endpoint(SERVER).accept_mutual()).unwrap();
    let mut alert = Vec::new();
    wire.tls.sealer.alert(49, &mut alert);
    wire.stream.write_all(&alert).unwrap();
    assert!(reader.join().unwrap().contains("AccessDenied"));
}

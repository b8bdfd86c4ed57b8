//! Against OpenSSL's command line.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

use jfe_tls::{Endpoint, Expectation, Handshake, probe_hello};

use crate::authority::{Authority, CLIENT, Credentials, Leaf, SERVER};
use crate::wire::Wire;

/// PEM files for one OpenSSL process, and the process; both gone when dropped.
struct OpenSsl {
    folder: PathBuf,
    process: Child,
    output: BufReader<ChildStdout>,
}

impl OpenSsl {
    fn start(name: &str, authority: &Authority, credentials: &Credentials, arguments: &[&str]) -> Self {
        let folder = std::env::temp_dir().join(format!("jfe-tls-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        for (file, text) in
            [("root", &authority.bundle()), ("certificate", &credentials.certificates), ("key", &credentials.key)]
        {
            std::fs::write(folder.join(file), text).unwrap();
        }
        let mut process = Command::new("openssl")
            .args(arguments)
            .args(["-CAfile", "root", "-cert", "certificate", "-key", "key", "-verify_return_error"])
            .current_dir(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the openssl command is installed");
        let output = BufReader::new(process.stdout.take().unwrap());
        Self { folder, process, output }
    }

    fn write(&mut self, bytes: &[u8]) {
        self.process.stdin.as_mut().unwrap().write_all(bytes).unwrap();
    }

    /// `s_server` takes port 0 and says which it got.
    fn listening_at(&mut self) -> String {
        self.read_until("ACCEPT").trim().rsplit(' ').next().unwrap().to_owned()
    }

    /// What the process writes up to and including `end`.
    fn read_until(&mut self, end: &str) -> String {
        let mut text = String::new();
        while !text.contains(end) {
            assert_ne!(self.output.read_line(&mut text).unwrap(), 0, "ended without {end}:\n{text}");
        }
        text
    }
}

impl Drop for OpenSsl {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// An OpenSSL client, its connection to us, and who we are.
fn accept(name: &str, arguments: &[&str]) -> (OpenSsl, TcpStream, Endpoint) {
    let authority = Authority::new("root");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let connect = [&["s_client", "-connect", &address], arguments].concat();
    let client = OpenSsl::start(name, &authority, &authority.issue(&Leaf::of(CLIENT)), &connect);
    let (stream, _) = listener.accept().unwrap();
    (client, stream, authority.endpoint(SERVER))
}

fn accept_client(
    name: &str,
    arguments: &[&str],
    handshake: impl Fn(&Endpoint) -> Handshake,
) -> (OpenSsl, Wire<TcpStream>) {
    let (client, stream, endpoint) = accept(name, arguments);
    (client, Wire::shake(stream, handshake(&endpoint)).unwrap())
}

#[test]
fn an_openssl_client_talks_mutually_and_updates_its_keys() {
    let (mut client, mut wire) =
        accept_client("mutual", &["-alpn", "jfe/1", "-verify_ip", "127.0.0.1"], Endpoint::accept_mutual);
    assert_eq!(wire.tls.peer.as_ref().unwrap().identity.as_str(), CLIENT);
    assert!(client.read_until("Verify return code").contains("Verify return code: 0 (ok)"));
    for round in 1..=3 {
        // `K` at the head of what s_client reads: update the key, and ask for an answer.
        client.write(b"K\n");
        assert_eq!(wire.receive_key_update(), round);
        wire.update_key(true);
        wire.send(format!("round {round}\n").as_bytes());
        client.read_until(&format!("round {round}"));
    }
}

#[test]
fn an_openssl_client_is_a_stranger_that_only_needs_the_root() {
    let (mut client, mut wire) =
        accept_client("stranger", &["-quiet", "-verify_ip", "127.0.0.1"], Endpoint::accept_stranger);
    assert_eq!(wire.tls.peer, None);
    client.write(b"question\n");
    assert_eq!(wire.receive_exactly(9), b"question\n");
    wire.send(b"answer\n");
    wire.close();
    wire.stream.shutdown(Shutdown::Write).unwrap();
    assert!(client.read_until("answer").contains("answer"));
}

#[test]
fn an_openssl_client_without_tls_1_3_is_refused() {
    let (_client, stream, endpoint) = accept("old", &["-tls1_2"]);
    let error = Wire::shake(stream, endpoint.accept_stranger()).err().unwrap();
    assert_eq!(error.reason(), "handshake-failed");
}

#[test]
fn an_openssl_client_that_speaks_our_protocol_without_a_certificate_is_refused() {
    let authority = Authority::new("root");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut client = Command::new("openssl")
        .args(["s_client", "-alpn", "jfe/1", "-connect", &address])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (stream, _) = listener.accept().unwrap();
    let error = Wire::shake(stream, authority.endpoint(SERVER).accept_mutual()).err();
    client.kill().unwrap();
    client.wait().unwrap();
    assert_eq!(error.unwrap().reason(), "peer-untrusted");
}

#[test]
fn our_probe_is_answered_by_openssl_servers_old_and_new() {
    for version in ["-tls1_2", "-tls1_3"] {
        let authority = Authority::new("root");
        let arguments = ["s_server", "-accept", "127.0.0.1:0", version];
        let mut server = OpenSsl::start(version, &authority, &authority.issue(&Leaf::of(SERVER)), &arguments);
        let mut stream = TcpStream::connect(server.listening_at()).unwrap();
        stream.write_all(&probe_hello()).unwrap();
        let mut answer = [0; 6];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!((answer[0], answer[5]), (22, 2), "a ServerHello");
    }
}

#[test]
fn an_openssl_server_is_met_tickets_and_all() {
    let authority = Authority::new("root");
    let arguments =
        ["s_server", "-accept", "127.0.0.1:0", "-rev", "-alpn", "jfe/1", "-Verify", "1", "-num_tickets", "4"];
    let mut server = OpenSsl::start("server", &authority, &authority.issue(&Leaf::of(SERVER)), &arguments);
    let stream = TcpStream::connect(server.listening_at()).unwrap();
    let expectation = Expectation::Address("127.0.0.1".parse().unwrap());
    let mut wire = Wire::shake(stream, authority.endpoint(CLIENT).connect(expectation)).unwrap();
    assert_eq!(wire.tls.peer.as_ref().unwrap().identity.as_str(), SERVER);
    // Few rounds: s_server sleeps a second whenever a record held no data.
    for request in [true, false] {
        wire.update_key(request);
        wire.send(b"abc\n");
        assert_eq!(wire.receive_exactly(4), b"cba\n");
    }
    assert_eq!(wire.key_updates, 1);
}

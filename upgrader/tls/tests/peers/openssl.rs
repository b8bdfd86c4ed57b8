//! Against OpenSSL's command line.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

use jfe_tls::{Endpoint, Expectation, Handshake};

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

fn accept_client(
    name: &str,
    arguments: &[&str],
    handshake: impl Fn(&Endpoint) -> Handshake,
) -> (OpenSsl, Wire<TcpStream>) {
    let authority = Authority::new("root");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let connect = [&["s_client", "-connect", &address], arguments].concat();
    let client = OpenSsl::start(name, &authority, &authority.issue(&Leaf::of(CLIENT)), &connect);
    let (stream, _) = listener.accept().unwrap();
    let wire = Wire::shake(stream, handshake(&authority.endpoint(SERVER))).unwrap();
    (client, wire)
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
fn an_openssl_server_is_met_tickets_and_all() {
    let authority = Authority::new("root");
    // s_server takes port 0 and says which it got.
    let arguments =
        ["s_server", "-accept", "127.0.0.1:0", "-rev", "-alpn", "jfe/1", "-Verify", "1", "-num_tickets", "4"];
    let mut server = OpenSsl::start("server", &authority, &authority.issue(&Leaf::of(SERVER)), &arguments);
    let line = server.read_until("ACCEPT");
    let address = line.trim().rsplit(' ').next().unwrap().to_owned();
    let stream = TcpStream::connect(address).unwrap();
    let expectation = Expectation::Address("127.0.0.1".parse().unwrap());
    let mut wire = Wire::shake(stream, authority.endpoint(CLIENT).connect(expectation)).unwrap();
    assert_eq!(wire.tls.peer.as_ref().unwrap().identity.as_str(), SERVER);
    for round in 0..10 {
        wire.update_key(round % 2 == 0);
        wire.send(b"abc\n");
        assert_eq!(wire.receive_exactly(4), b"cba\n");
    }
    assert_eq!(wire.key_updates, 5);
}

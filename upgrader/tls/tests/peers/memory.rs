//! Two of our ends, joined by nothing but memory.

use jfe_tls::{
    Expectation, Finished, HEADER, Handshake, HandshakeError, MAX_PLAINTEXT, Opened, Progress, RecordError, STRIDE,
    whole_record,
};

use crate::authority::{Authority, CLIENT, SERVER};

/// Both ends' results; a failed end's alert has been shown to the other.
pub struct Outcome {
    pub client: Result<End, HandshakeError>,
    pub server: Result<End, HandshakeError>,
}

/// One end of an established connection.
pub struct End {
    pub tls: Finished,
    /// Ciphertext from the peer.
    pub input: Vec<u8>,
    /// Ciphertext to the peer.
    pub output: Vec<u8>,
}

/// Carries bytes between two handshakes until neither gets on.
pub fn shake(mut client: Handshake, mut server: Handshake) -> Outcome {
    let (mut client_ends, mut server_ends) = (client.step(), Ok(Progress::WantsInput));
    loop {
        let to_server = std::mem::take(client.output());
        server.input().extend(&to_server);
        if server_ends == Ok(Progress::WantsInput) {
            server_ends = server.step();
        }
        let to_client = std::mem::take(server.output());
        client.input().extend(&to_client);
        if client_ends == Ok(Progress::WantsInput) {
            client_ends = client.step();
        }
        if to_server.is_empty() && to_client.is_empty() {
            let end = |handshake: Handshake| handshake.finish().map(End::new);
            return Outcome { client: end(client), server: end(server) };
        }
    }
}

/// An established connection from [`CLIENT`] to [`SERVER`].
pub fn connection() -> (End, End) {
    let authority = Authority::new("root");
    let client = authority.endpoint(CLIENT).connect(Expectation::Identity(SERVER.parse().unwrap()));
    let outcome = shake(client, authority.endpoint(SERVER).accept_mutual());
    (outcome.client.unwrap(), outcome.server.unwrap())
}

impl End {
    fn new(mut tls: Finished) -> Self {
        let (input, output) = (std::mem::take(&mut tls.unread), std::mem::take(&mut tls.last_flight));
        Self { tls, input, output }
    }

    pub fn send(&mut self, data: &[u8]) {
        for part in data.chunks(MAX_PLAINTEXT) {
            let record = self.seal(part);
            self.output.extend(record);
        }
    }

    /// One record.
    pub fn seal(&mut self, data: &[u8]) -> Vec<u8> {
        let mut record = vec![0; STRIDE];
        record[HEADER..HEADER + data.len()].copy_from_slice(data);
        let length = self.tls.sealer.seal_data(&mut record, data.len());
        record.truncate(length);
        record
    }

    pub fn open_next(&mut self) -> Result<Option<(Opened, Vec<u8>)>, RecordError> {
        let Some(length) = whole_record(&self.input)? else {
            return Ok(None);
        };
        let mut record: Vec<u8> = self.input.drain(..length).collect();
        let opened = self.tls.opener.open(&mut record)?;
        let data = if let Opened::Data(place) = &opened { record[place.clone()].to_vec() } else { Vec::new() };
        Ok(Some((opened, data)))
    }

    /// All data that is there, and all else that was opened.
    pub fn receive(&mut self) -> Result<(Vec<u8>, Vec<Opened>), RecordError> {
        let (mut received, mut others) = (Vec::new(), Vec::new());
        while let Some((opened, data)) = self.open_next()? {
            received.extend(data);
            if !matches!(opened, Opened::Data(_)) {
                others.push(opened);
            }
        }
        Ok((received, others))
    }
}

pub fn carry(from: &mut End, to: &mut End) {
    to.input.append(&mut from.output);
}

//! One of our ends on a blocking stream.

use std::io::{Read, Write};

use jfe_tls::{Finished, HEADER, Handshake, HandshakeError, Opened, Progress, RecordError, STRIDE, whole_record};

pub struct Wire<S> {
    pub tls: Finished,
    pub stream: S,
    input: Vec<u8>,
    /// How many key updates the peer has sent.
    pub key_updates: usize,
}

enum Received {
    Data(Vec<u8>),
    NoData,
    End,
}

impl<S: Read + Write> Wire<S> {
    pub fn shake(mut stream: S, mut handshake: Handshake) -> Result<Self, HandshakeError> {
        loop {
            let step = handshake.step();
            let output = std::mem::take(handshake.output());
            stream.write_all(&output).unwrap();
            match step? {
                Progress::WantsInput => {
                    let mut buffer = [0; 4096];
                    let length = stream.read(&mut buffer).unwrap();
                    assert_ne!(length, 0, "the peer hung up");
                    handshake.input().extend(&buffer[..length]);
                }
                Progress::Complete => {
                    let mut tls = handshake.finish()?;
                    let input = std::mem::take(&mut tls.unread);
                    return Ok(Self { tls, stream, input, key_updates: 0 });
                }
            }
        }
    }

    pub fn send(&mut self, data: &[u8]) {
        let mut record = vec![0; STRIDE];
        record[HEADER..HEADER + data.len()].copy_from_slice(data);
        let length = self.tls.sealer.seal_data(&mut record, data.len());
        self.stream.write_all(&record[..length]).unwrap();
    }

    pub fn update_key(&mut self, request_peer: bool) {
        let mut message = Vec::new();
        self.tls.sealer.key_update(request_peer, &mut message);
        self.stream.write_all(&message).unwrap();
    }

    pub fn close(&mut self) {
        let mut message = Vec::new();
        self.tls.sealer.close_notify(&mut message);
        self.stream.write_all(&message).unwrap();
    }

    /// The next piece of data; `None` at the end. Key updates are answered on the way.
    pub fn receive(&mut self) -> Result<Option<Vec<u8>>, RecordError> {
        loop {
            match self.receive_one()? {
                Received::Data(data) => return Ok(Some(data)),
                Received::End => return Ok(None),
                Received::NoData => {}
            }
        }
    }

    fn receive_one(&mut self) -> Result<Received, RecordError> {
        let length = loop {
            if let Some(length) = whole_record(&self.input)? {
                break length;
            }
            let mut buffer = [0; 4096];
            let length = self.stream.read(&mut buffer).unwrap();
            assert_ne!(length, 0, "the stream was cut off");
            self.input.extend(&buffer[..length]);
        };
        let mut record: Vec<u8> = self.input.drain(..length).collect();
        Ok(match self.tls.opener.open(&mut record)? {
            Opened::Data(place) => Received::Data(record[place].to_vec()),
            Opened::CloseNotify => Received::End,
            Opened::Nothing => Received::NoData,
            Opened::KeyUpdate { answer_requested } => {
                self.key_updates += 1;
                if answer_requested {
                    self.update_key(false);
                }
                Received::NoData
            }
        })
    }

    /// Waits for a key update without data before it; how many there have been.
    pub fn receive_key_update(&mut self) -> usize {
        let so_far = self.key_updates;
        while self.key_updates == so_far {
            let received = self.receive_one().unwrap();
            assert!(!matches!(received, Received::Data(_) | Received::End), "something else came");
        }
        self.key_updates
    }

    /// Exactly so many bytes.
    pub fn receive_exactly(&mut self, length: usize) -> Vec<u8> {
        let mut received = Vec::new();
        while received.len() < length {
            received.extend(self.receive().unwrap().expect("more data"));
        }
        assert_eq!(received.len(), length);
        received
    }
}

//! rustls' two kinds of connection as one.

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus};
use rustls::{CommonState, Error};

use crate::opener::Sender;

pub(crate) enum Side {
    Client(Box<UnbufferedClientConnection>),
    Server(Box<UnbufferedServerConnection>),
}

/// How far rustls came with what it was given.
pub(crate) enum Advance {
    /// So many bytes at the head of the input are done with.
    Read(usize),
    Blocked,
    Complete,
}

impl Side {
    pub(crate) fn state(&self) -> &CommonState {
        match self {
            Self::Client(client) => client,
            Self::Server(server) => server,
        }
    }

    pub(crate) fn peer(&self) -> Sender {
        match self {
            Self::Client(_) => Sender::Server,
            Self::Server(_) => Sender::Client,
        }
    }

    /// One state of rustls' state machine; what is to be sent is appended to `output`.
    pub(crate) fn advance(&mut self, input: &mut [u8], output: &mut Vec<u8>) -> Result<Advance, Error> {
        match self {
            Self::Client(client) => handle(client.process_tls_records(input), output),
            Self::Server(server) => handle(server.process_tls_records(input), output),
        }
    }

    /// The numbers of the next record to be sent and of the next to be received.
    pub(crate) fn into_sequences(self) -> Result<(u64, u64), Error> {
        let secrets = match self {
            Self::Client(client) => client.dangerous_into_kernel_connection()?.0,
            Self::Server(server) => server.dangerous_into_kernel_connection()?.0,
        };
        Ok((secrets.tx.0, secrets.rx.0))
    }
}

fn handle<Data>(status: UnbufferedStatus<'_, '_, Data>, output: &mut Vec<u8>) -> Result<Advance, Error> {
    let advance = Advance::Read(status.discard);
    match status.state? {
        ConnectionState::EncodeTlsData(mut message) => {
            let start = output.len();
            if let Err(EncodeError::InsufficientSize(size)) = message.encode(&mut []) {
                output.resize(start + size.required_size, 0);
                message.encode(&mut output[start..]).map_err(|error| Error::General(error.to_string()))?;
            }
            Ok(advance)
        }
        ConnectionState::TransmitTlsData(flight) => {
            flight.done();
            Ok(advance)
        }
        ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_) if status.discard > 0 => Ok(advance),
        ConnectionState::BlockedHandshake => Ok(Advance::Blocked),
        ConnectionState::WriteTraffic(_) => Ok(Advance::Complete),
        // Records after the peer's Finished are never shown to rustls, and early data is not offered.
        ConnectionState::PeerClosed | ConnectionState::Closed => Err(Error::General("closed by the peer".into())),
        other => Err(Error::General(format!("unexpected state {other:?}"))),
    }
}

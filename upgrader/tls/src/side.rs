//! rustls' two kinds of connection as one.

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus};
use rustls::{CommonState, Error};

use crate::peer::Role;

pub(crate) enum Side {
    Client(Box<UnbufferedClientConnection>),
    Server(Box<UnbufferedServerConnection>),
}

/// What rustls did with what it was shown.
pub(crate) enum Advance {
    /// Appended to the output.
    Wrote,
    /// Something that needs nothing of us.
    Went,
    /// It needs more.
    Blocked,
    Complete,
}

/// Bytes at the head of the input that are done with, and how far it came. They are to be taken away in any case, and
/// the rest kept in its place: rustls remembers by position what of it it has read, and panics if that is gone.
pub(crate) type Advanced = (usize, Result<Advance, Error>);

impl Side {
    pub(crate) fn state(&self) -> &CommonState {
        match self {
            Self::Client(client) => client,
            Self::Server(server) => server,
        }
    }

    pub(crate) fn peer(&self) -> Role {
        match self {
            Self::Client(_) => Role::Server,
            Self::Server(_) => Role::Client,
        }
    }

    /// One state of rustls' state machine; what is to be sent is appended to `output`.
    pub(crate) fn advance(&mut self, input: &mut [u8], output: &mut Vec<u8>) -> Advanced {
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

fn handle<Data>(status: UnbufferedStatus<'_, '_, Data>, output: &mut Vec<u8>) -> Advanced {
    (status.discard, status.state.and_then(|state| handle_state(state, output)))
}

fn handle_state<Data>(state: ConnectionState<'_, '_, Data>, output: &mut Vec<u8>) -> Result<Advance, Error> {
    match state {
        ConnectionState::EncodeTlsData(mut message) => {
            let start = output.len();
            if let Err(EncodeError::InsufficientSize(size)) = message.encode(&mut []) {
                output.resize(start + size.required_size, 0);
                message.encode(&mut output[start..]).map_err(|error| Error::General(error.to_string()))?;
            }
            Ok(Advance::Wrote)
        }
        ConnectionState::TransmitTlsData(flight) => {
            flight.done();
            Ok(Advance::Went)
        }
        ConnectionState::BlockedHandshake => Ok(Advance::Blocked),
        ConnectionState::WriteTraffic(_) => Ok(Advance::Complete),
        // Records after the peer's Finished are never shown to rustls, and early data is not offered.
        ConnectionState::PeerClosed | ConnectionState::Closed => Err(Error::General("the peer closed it".into())),
        other => Err(Error::General(format!("unexpected state {other:?}"))),
    }
}

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use crate::error::LoadError;

pub const USAGE: &str = "\
usage: jfe-load serve ADDRESS:PORT
       jfe-load bulk ADDRESS:PORT [--bytes N] [--down]
       jfe-load ping-pong ADDRESS:PORT [--trips N]
       jfe-load ping-pong-under-bulk ADDRESS:PORT [--seconds S]
       jfe-load connections ADDRESS:PORT [--clients N] [--seconds S]
       jfe-load idle ADDRESS:PORT [--connections N]     (held until standard input ends)";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Serve,
    Bulk,
    PingPong,
    PingPongUnderBulk,
    Connections,
    Idle,
}

#[derive(Debug, Clone)]
pub struct Arguments {
    pub mode: Mode,
    pub address: SocketAddr,
    pub bytes: u64,
    /// From the server to the client.
    pub down: bool,
    pub trips: u32,
    pub clients: u32,
    pub connections: u32,
    pub time: Duration,
}

impl Arguments {
    pub fn parse(words: impl Iterator<Item = String>) -> Result<Self, LoadError> {
        let mut words = words;
        let mode = match words.next().as_deref() {
            Some("serve") => Mode::Serve,
            Some("bulk") => Mode::Bulk,
            Some("ping-pong") => Mode::PingPong,
            Some("ping-pong-under-bulk") => Mode::PingPongUnderBulk,
            Some("connections") => Mode::Connections,
            Some("idle") => Mode::Idle,
            Some(other) => return Err(LoadError::Usage(format!("{other} is no mode"))),
            None => return Err(LoadError::Usage("a mode is missing".to_owned())),
        };
        let mut arguments = Self {
            mode,
            address: value("ADDRESS:PORT", words.next())?,
            bytes: 1 << 30,
            down: false,
            trips: 20_000,
            clients: 16,
            connections: 1000,
            time: Duration::from_secs(3),
        };
        while let Some(option) = words.next() {
            match option.as_str() {
                "--bytes" => arguments.bytes = value("--bytes", words.next())?,
                "--down" => arguments.down = true,
                "--trips" => arguments.trips = value("--trips", words.next())?,
                "--clients" => arguments.clients = value("--clients", words.next())?,
                "--connections" => arguments.connections = value("--connections", words.next())?,
                "--seconds" => {
                    let seconds: f64 = value("--seconds", words.next())?;
                    arguments.time = Duration::try_from_secs_f64(seconds)
                        .map_err(|error| LoadError::Usage(format!("--seconds {seconds}: {error}")))?;
                }
                other => return Err(LoadError::Usage(format!("{other} is no option"))),
            }
        }
        Ok(arguments)
    }
}

fn value<T: FromStr>(name: &str, word: Option<String>) -> Result<T, LoadError> {
    let word = word.ok_or_else(|| LoadError::Usage(format!("{name} is missing")))?;
    word.parse().map_err(|_| LoadError::Usage(format!("{word} won't do for {name}")))
}

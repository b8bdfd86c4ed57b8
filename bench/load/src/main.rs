//! `jfe-load serve` answers in one host, the other modes measure from another and print one line of JSON.

mod arguments;
mod bulk;
mod connections;
mod error;
mod idle;
mod quantile;
mod request;
mod round_trips;
mod serve;

use std::process::ExitCode;

use arguments::{Arguments, Mode};
use error::LoadError;
use serde_json::Value;

fn main() -> ExitCode {
    match Arguments::parse(std::env::args().skip(1)).and_then(|arguments| run(&arguments)) {
        Ok(result) => {
            println!("{result}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("jfe-load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<Value, LoadError> {
    match arguments.mode {
        Mode::Serve => serve::serve(arguments.address),
        Mode::Bulk => bulk::bulk(arguments),
        Mode::PingPong => round_trips::ping_pong(arguments),
        Mode::PingPongUnderBulk => round_trips::ping_pong_under_bulk(arguments),
        Mode::Connections => connections::connections(arguments),
        Mode::Idle => idle::idle(arguments),
    }
}

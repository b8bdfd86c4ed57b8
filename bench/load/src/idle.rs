//! Connections on which something has been said once, and then nothing.

use std::io::{Read, Write, stdin, stdout};

use serde_json::{Value, json};

use crate::arguments::Arguments;
use crate::error::LoadError;
use crate::request::echo;

/// Prints `ready` when all are there, and ends them when standard input ends.
pub fn idle(arguments: &Arguments) -> Result<Value, LoadError> {
    let held = (0..arguments.connections).map(|_| echo(arguments.address)).collect::<Result<Vec<_>, _>>()?;
    println!("ready");
    stdout().flush().map_err(LoadError::broken("telling that all are there"))?;
    stdin().read_to_end(&mut Vec::new()).map_err(LoadError::broken("waiting for the end"))?;
    Ok(json!({ "connections": held.len() }))
}

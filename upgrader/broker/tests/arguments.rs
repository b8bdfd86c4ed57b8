//! The command line.
#![allow(clippy::unwrap_used)]

use std::ffi::OsString;
use std::path::Path;

use jfe_broker::arguments::{Arguments, Wish, parse};

fn parsed(given: &[&str]) -> Result<Wish, String> {
    parse(given.iter().map(OsString::from), Path::new("/opt/jfe-upgrader")).map_err(|error| error.to_string())
}

#[test]
fn the_worker_is_looked_for_beside_the_broker() {
    let Wish::Run(Arguments { control, workers, worker_binary }) = parsed(&["--control", "/run/x"]).unwrap() else {
        panic!()
    };
    assert_eq!((control.as_path(), workers), (Path::new("/run/x"), 1));
    assert_eq!(worker_binary, Path::new("/opt/jfe-upgrader-worker"));
}

#[test]
fn wrong_arguments_are_named() {
    for (given, named) in [
        (&[][..], "--control is missing"),
        (&["--control"], "--control needs a value"),
        (&["--control", "x", "--workers", "0"], "from 1 to 256"),
        (&["--frob"], "--frob is not known"),
    ] {
        let error = parsed(given).unwrap_err();
        assert!(error.contains(named) && error.contains("usage:"), "{error}");
    }
    assert_eq!(parsed(&["--version"]), Ok(Wish::Version));
}

//! The call as one HTTP request (RFC 9112, section 3).

use crate::environment::Environment;

/// The request whose body is the encoded environment, a NUL byte, and stdin byte for byte.
///
/// An encoded variable is never empty, so the first two NUL bytes in a row end the environment; with no variable at all
/// the body begins with the NUL.
pub fn encode(environment: &Environment, input: &[u8]) -> Vec<u8> {
    let variables = environment.encode();
    let mut request = format!(
        "POST /v1/cni HTTP/1.1\r\n\
         Host: localhost\r\n\
         Connection: close\r\n\
         Content-Type: application/octet-stream\r\n\
         Content-Length: {}\r\n\
         \r\n",
        variables.len() + 1 + input.len()
    )
    .into_bytes();
    request.extend_from_slice(&variables);
    request.push(0);
    request.extend_from_slice(input);
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_is_the_environment_a_nul_and_stdin() {
        let environment = [("CNI_COMMAND".into(), "DEL".into())].into_iter().collect();
        let request = encode(&environment, b"{\0}");
        assert!(request.starts_with(b"POST /v1/cni HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"));
        assert!(request.ends_with(b"Content-Length: 20\r\n\r\nCNI_COMMAND=DEL\0\0{\0}"));
    }
}

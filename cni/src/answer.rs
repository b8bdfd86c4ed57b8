//! The agent's answer: one HTTP response (RFC 9112, section 4), of the one shape that the agent gives.

/// Bytes of status line and fields. The agent's are some two hundred.
const LONGEST_HEAD: usize = 16 * 1024;
/// Bytes of a body. A result is a few kilobytes.
pub const LONGEST_BODY: usize = 4 * 1024 * 1024;

const PROTOCOL: &[u8] = b"HTTP/1.1 ";
const END_OF_HEAD: &[u8] = b"\r\n\r\n";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

/// Why the bytes are no answer of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl Answer {
    /// The answer that `bytes` hold, or `None` while they are only a beginning of one.
    ///
    /// Its length must be told by `Content-Length`: where the end of the connection would tell it, half an answer looks
    /// like a whole one.
    pub fn read(bytes: &[u8]) -> Result<Option<Self>, Malformed> {
        let beginning = bytes.len().min(PROTOCOL.len());
        if bytes[..beginning] != PROTOCOL[..beginning] {
            return Err(Malformed("it is not HTTP/1.1"));
        }
        let within = &bytes[..bytes.len().min(LONGEST_HEAD)];
        let Some(end) = within.windows(END_OF_HEAD.len()).position(|window| window == END_OF_HEAD) else {
            let too_long = bytes.len() >= LONGEST_HEAD;
            return if too_long { Err(Malformed("its head does not end")) } else { Ok(None) };
        };
        let head = Head::read(&bytes[..end])?;
        if head.length > LONGEST_BODY {
            return Err(Malformed("it is longer than 4 MiB"));
        }
        let body = bytes[end + END_OF_HEAD.len()..].get(..head.length);
        Ok(body.map(|body| Self { status: head.status, body: body.to_vec() }))
    }
}

struct Head {
    status: u16,
    length: usize,
}

impl Head {
    fn read(head: &[u8]) -> Result<Self, Malformed> {
        let text = std::str::from_utf8(head).map_err(|_| Malformed("its head is no text"))?;
        let mut lines = text.split("\r\n");
        let status = lines.next().and_then(status).ok_or(Malformed("it has no status"))?;
        let mut length = None;
        for line in lines {
            let (name, value) = line.split_once(':').ok_or(Malformed("its head has a line that is no field"))?;
            if name.eq_ignore_ascii_case("transfer-encoding") {
                return Err(Malformed("it comes in chunks"));
            }
            if name.eq_ignore_ascii_case("content-length") {
                let told = number(value.trim()).ok_or(Malformed("its length is no number"))?;
                if length.is_some_and(|before| before != told) {
                    return Err(Malformed("it tells two lengths"));
                }
                length = Some(told);
            }
        }
        let length = length.ok_or(Malformed("it does not tell its length"))?;
        Ok(Self { status, length })
    }
}

/// The three digits after the protocol.
fn status(line: &str) -> Option<u16> {
    let (digits, rest) = line.get(PROTOCOL.len()..)?.split_at_checked(3)?;
    let status = number(digits).and_then(|number| u16::try_from(number).ok())?;
    (rest.is_empty() || rest.starts_with(' ')).then_some(status)
}

/// Digits alone: `parse` would take a sign.
fn number(digits: &str) -> Option<usize> {
    if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok() } else { None }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const GOOD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\ncontent-length:  2 \r\n\r\n{}";

    fn fault(answer: &[u8]) -> &'static str {
        Answer::read(answer).unwrap_err().0
    }

    #[test]
    fn a_whole_answer_is_read_and_a_beginning_waits() {
        for length in 0..GOOD.len() {
            assert_eq!(Answer::read(&GOOD[..length]), Ok(None), "{length}");
        }
        assert_eq!(Answer::read(GOOD), Ok(Some(Answer { status: 200, body: b"{}".to_vec() })));
    }

    #[test]
    fn an_answer_may_be_empty_and_may_have_no_word_after_its_status() {
        let answer = Answer::read(b"HTTP/1.1 422\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(answer, Ok(Some(Answer { status: 422, body: Vec::new() })));
    }

    #[test]
    fn what_comes_after_its_end_is_not_the_answers() {
        let more = [GOOD, b"HTTP/1.1 500"].concat();
        assert_eq!(Answer::read(&more).unwrap().unwrap().body, b"{}");
    }

    #[test]
    fn what_is_no_answer_is_told_why() {
        assert_eq!(fault(b"S"), "it is not HTTP/1.1");
        assert_eq!(fault(b"HTTP/1.0 200 OK\r\n"), "it is not HTTP/1.1");
        for status in ["", "20", "2000", "abc", "+20", "20\u{e9}"] {
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
            assert_eq!(fault(answer.as_bytes()), "it has no status", "{status}");
        }
        assert_eq!(fault(b"HTTP/1.1 200 OK\r\n\r\n{}"), "it does not tell its length");
        assert_eq!(fault(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), "it comes in chunks");
        assert_eq!(fault(b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\n{}"), "its length is no number");
        assert_eq!(
            fault(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}"),
            "it tells two lengths"
        );
        assert_eq!(fault(b"HTTP/1.1 200 OK\r\nContent-Length: 4194305\r\n\r\n"), "it is longer than 4 MiB");
        assert_eq!(fault(b"HTTP/1.1 200 \xff\r\nContent-Length: 1\r\n\r\n"), "its head is no text");
        assert_eq!(
            fault(&[b"HTTP/1.1 200 OK\r\nA: ".as_slice(), &[b'x'; LONGEST_HEAD]].concat()),
            "its head does not end"
        );
    }
}

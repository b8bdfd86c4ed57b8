//! What a worker writes on its standard error: a few lines, which may be an attacker's.

/// Bytes of a line that are kept.
const LINE: usize = 2000;

/// Lines of one worker process that are kept: it says little, unless it is not itself any more.
const LINES: u32 = 100;

/// Cuts a stream into lines fit for a log: printable ASCII, bounded in length and number.
#[derive(Debug, Default)]
pub struct Output {
    line: String,
    lines: u32,
}

impl Output {
    /// The lines that `bytes` complete.
    pub fn take(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for &byte in bytes {
            if byte == b'\n' {
                lines.extend(self.end());
            } else if self.line.len() < LINE {
                self.line.push(if byte == b' ' || byte.is_ascii_graphic() { char::from(byte) } else { '?' });
            }
        }
        lines
    }

    /// The last line, which nothing ended.
    pub fn end(&mut self) -> Option<String> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() || self.lines == LINES {
            return None;
        }
        self.lines += 1;
        Some(line)
    }
}

//! As much JSON (RFC 8259) as the plugin needs: an object's own fields read, the rest checked; a string written.

use std::fmt;

/// Levels of nesting. A network configuration with the result of a plugin before has six.
const MOST_LEVELS: usize = 128;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value<'a> {
    Null,
    String(String),
    /// As it is written.
    Number(&'a str),
    /// A boolean, an array or an object.
    Other,
}

/// The fields of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object<'a>(Vec<(String, Value<'a>)>);

impl<'a> Object<'a> {
    /// Reads a document that is one object, and checks all of it.
    pub fn read(document: &'a [u8]) -> Result<Self, Undecodable> {
        let text = std::str::from_utf8(document)
            .map_err(|error| Undecodable { at: error.valid_up_to(), why: "bytes that are no UTF-8" })?;
        let mut reader = Reader { text, at: 0 };
        reader.skip_whitespace();
        if reader.peek() != Some(b'{') {
            return Err(reader.undecodable("no object"));
        }
        let mut fields = Vec::new();
        reader.object(MOST_LEVELS, |name, value| fields.push((unescaped(name), value.read())))?;
        reader.skip_whitespace();
        if reader.peek().is_some() {
            return Err(reader.undecodable("something after the object's end"));
        }
        Ok(Self(fields))
    }

    /// The field's value; of fields of one name the last, as Go's and Python's readers have it. `null` counts as none.
    pub fn get(&self, name: &str) -> Option<&Value<'a>> {
        let found = self.0.iter().rev().find(|(candidate, _)| candidate == name);
        found.map(|(_, value)| value).filter(|value| **value != Value::Null)
    }
}

/// A document that is no JSON, or not one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Undecodable {
    /// Bytes before the fault.
    pub at: usize,
    why: &'static str,
}

impl fmt::Display for Undecodable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} at byte {}", self.why, self.at)
    }
}

/// `text` as a JSON string, quotes included.
pub fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            control @ '\0'..' ' => quoted.extend(format!("\\u{:04x}", u32::from(control)).chars()),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

/// A value that has been checked and not yet read.
enum Checked<'a> {
    Null,
    /// Without the quotes, its escapes as they are.
    String(&'a str),
    Number(&'a str),
    Other,
}

impl<'a> Checked<'a> {
    fn read(self) -> Value<'a> {
        match self {
            Self::Null => Value::Null,
            Self::String(raw) => Value::String(unescaped(raw)),
            Self::Number(text) => Value::Number(text),
            Self::Other => Value::Other,
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn undecodable(&self, why: &'static str) -> Undecodable {
        Undecodable { at: self.at, why }
    }

    fn take(&mut self, byte: u8) -> bool {
        let is_there = self.peek() == Some(byte);
        self.at += usize::from(is_there);
        is_there
    }

    fn expect(&mut self, byte: u8, otherwise: &'static str) -> Result<(), Undecodable> {
        if self.take(byte) { Ok(()) } else { Err(self.undecodable(otherwise)) }
    }

    fn skip(&mut self, wanted: impl Fn(u8) -> bool) -> usize {
        let start = self.at;
        while self.peek().is_some_and(&wanted) {
            self.at += 1;
        }
        self.at - start
    }

    fn skip_whitespace(&mut self) {
        self.skip(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
    }

    fn since(&self, start: usize) -> &'a str {
        // Both ends lie beside ASCII, or this is never called.
        self.text.get(start..self.at).unwrap_or_default()
    }

    fn value(&mut self, levels: usize) -> Result<Checked<'a>, Undecodable> {
        match self.peek() {
            Some(b'{') => self.object(levels, |_, _| ()).map(|()| Checked::Other),
            Some(b'[') => self.array(levels).map(|()| Checked::Other),
            Some(b'"') => self.string().map(Checked::String),
            Some(b't') => self.word("true").map(|()| Checked::Other),
            Some(b'f') => self.word("false").map(|()| Checked::Other),
            Some(b'n') => self.word("null").map(|()| Checked::Null),
            Some(b'-' | b'0'..=b'9') => self.number().map(Checked::Number),
            _ => Err(self.undecodable("no value")),
        }
    }

    fn object(&mut self, levels: usize, mut field: impl FnMut(&'a str, Checked<'a>)) -> Result<(), Undecodable> {
        let levels = self.one_level_down(levels)?;
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            let name = self.string()?;
            self.skip_whitespace();
            self.expect(b':', "no colon after a field's name")?;
            self.skip_whitespace();
            field(name, self.value(levels)?);
            self.skip_whitespace();
            if self.take(b'}') {
                return Ok(());
            }
            self.expect(b',', "an object that does not end")?;
            self.skip_whitespace();
        }
    }

    fn array(&mut self, levels: usize) -> Result<(), Undecodable> {
        let levels = self.one_level_down(levels)?;
        if self.take(b']') {
            return Ok(());
        }
        loop {
            self.value(levels)?;
            self.skip_whitespace();
            if self.take(b']') {
                return Ok(());
            }
            self.expect(b',', "an array that does not end")?;
            self.skip_whitespace();
        }
    }

    /// Steps over the bracket that opens an object or an array. The limit keeps the reader's own stack small.
    fn one_level_down(&mut self, levels: usize) -> Result<usize, Undecodable> {
        let left = levels.checked_sub(1).ok_or_else(|| self.undecodable("more than 128 levels"))?;
        self.at += 1;
        self.skip_whitespace();
        Ok(left)
    }

    fn word(&mut self, word: &'static str) -> Result<(), Undecodable> {
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return Err(self.undecodable("no value"));
        }
        self.at += word.len();
        Ok(())
    }

    /// RFC 8259, section 6.
    fn number(&mut self) -> Result<&'a str, Undecodable> {
        let start = self.at;
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            let _sign = self.take(b'+') || self.take(b'-');
            self.digits()?;
        }
        Ok(self.since(start))
    }

    fn digits(&mut self) -> Result<(), Undecodable> {
        if self.skip(|byte| byte.is_ascii_digit()) == 0 {
            Err(self.undecodable("a number without digits"))
        } else {
            Ok(())
        }
    }

    /// RFC 8259, section 7.
    fn string(&mut self) -> Result<&'a str, Undecodable> {
        self.expect(b'"', "no string")?;
        let start = self.at;
        loop {
            self.skip(|byte| byte >= b' ' && byte != b'"' && byte != b'\\');
            match self.peek() {
                Some(b'"') => {
                    let raw = self.since(start);
                    self.at += 1;
                    return Ok(raw);
                }
                Some(b'\\') => self.escape()?,
                Some(_) => return Err(self.undecodable("a control character in a string")),
                None => return Err(self.undecodable("a string that does not end")),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Undecodable> {
        let rest = &self.text.as_bytes()[self.at..];
        self.at += match rest {
            [_, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => 2,
            [_, b'u', digits @ ..] if digits.len() >= 4 && digits[..4].iter().all(u8::is_ascii_hexdigit) => 6,
            _ => return Err(self.undecodable("an unknown escape in a string")),
        };
        Ok(())
    }
}

/// A checked string's characters. Half of a surrogate pair becomes U+FFFD, as Go's reader has it.
fn unescaped(raw: &str) -> String {
    let mut text = String::with_capacity(raw.len());
    // UTF-16 of escapes that stand together.
    let mut units = Vec::new();
    let mut characters = raw.chars();
    while let Some(character) = characters.next() {
        let plain = match (character, if character == '\\' { characters.next() } else { None }) {
            (_, None) => character,
            (_, Some('u')) => {
                let (digits, rest) = characters.as_str().split_at_checked(4).unwrap_or_default();
                units.extend(u16::from_str_radix(digits, 16));
                characters = rest.chars();
                continue;
            }
            (_, Some('b')) => '\u{8}',
            (_, Some('f')) => '\u{c}',
            (_, Some('n')) => '\n',
            (_, Some('r')) => '\r',
            (_, Some('t')) => '\t',
            (_, Some(itself)) => itself,
        };
        flush(&mut units, &mut text);
        text.push(plain);
    }
    flush(&mut units, &mut text);
    text
}

fn flush(units: &mut Vec<u16>, text: &mut String) {
    text.extend(char::decode_utf16(units.drain(..)).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)));
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn string(document: &str) -> String {
        match Object::read(document.as_bytes()).unwrap().get("a") {
            Some(Value::String(text)) => text.clone(),
            other => panic!("{other:?}"),
        }
    }

    fn fault(document: &[u8]) -> String {
        Object::read(document).unwrap_err().to_string()
    }

    #[test]
    fn the_fields_of_the_outermost_object_are_read_and_no_others() {
        let document =
            br#" {"a": {"b": "inner"}, "b" : "outer", "c": -1.5e+3, "d": [1, {"c": 2}], "e": true, "f": null}
        "#;
        let object = Object::read(document).unwrap();
        assert_eq!(object.get("a"), Some(&Value::Other));
        assert_eq!(object.get("b"), Some(&Value::String("outer".to_owned())));
        assert_eq!(object.get("c"), Some(&Value::Number("-1.5e+3")));
        assert_eq!(object.get("d"), Some(&Value::Other));
        assert_eq!(object.get("e"), Some(&Value::Other));
        assert_eq!(object.get("f"), None);
        assert_eq!(object.get("g"), None);
    }

    #[test]
    fn of_two_fields_of_one_name_the_last_counts() {
        assert_eq!(string(r#"{"a": "one", "a": "two"}"#), "two");
        assert_eq!(Object::read(br#"{"a": "one", "a": null}"#).unwrap().get("a"), None);
    }

    #[test]
    fn escapes_become_what_they_stand_for() {
        assert_eq!(string(r#"{"\u0061": "\"\\\/\b\f\n\r\t"}"#), "\"\\/\u{8}\u{c}\n\r\t");
        assert_eq!(string(r#"{"a": "\\\\n\\"}"#), "\\\\n\\");
        assert_eq!(string(r#"{"a": "x\u00e9y\ud83d\ude00z"}"#), "x\u{e9}y\u{1f600}z");
        assert_eq!(string(r#"{"a": "\ud83dx\ude00"}"#), "\u{fffd}x\u{fffd}");
    }

    #[test]
    fn what_is_no_object_is_told_with_its_place() {
        assert_eq!(fault(b""), "no object at byte 0");
        assert_eq!(fault(b" []"), "no object at byte 1");
        assert_eq!(fault(b"{"), "no string at byte 1");
        assert_eq!(fault(b"{} {}"), "something after the object's end at byte 3");
        assert_eq!(fault(b"{\"a\": \"\xff\"}"), "bytes that are no UTF-8 at byte 7");
        assert_eq!(fault(b"{\"a\": \"\n\"}"), "a control character in a string at byte 7");
        assert_eq!(fault(b"{\"a\": 1."), "a number without digits at byte 8");
        for document in ["{\"a\"}", "{\"a\":}", "{\"a\":01}", "{\"a\":tru}", "{\"a\":\"\\u12\"}", "{\"a\":1,}", "{a:1}"]
        {
            assert!(Object::read(document.as_bytes()).is_err(), "{document}");
        }
    }

    #[test]
    fn nesting_has_a_limit_that_spares_the_stack() {
        let nested = |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels), "]".repeat(levels)).into_bytes();
        assert!(Object::read(&nested(127)).is_ok());
        assert_eq!(fault(&nested(128)), "more than 128 levels at byte 132");
        assert_eq!(fault(&nested(2_000_000)), "more than 128 levels at byte 132");
    }

    #[test]
    fn a_written_string_is_read_as_it_was() {
        let text = "\"\\/\u{0}\u{1f}\u{7f}\n\t\u{2028}\u{1f600}";
        assert_eq!(string(&format!("{{\"a\": {}}}", quoted(text))), text);
    }
}

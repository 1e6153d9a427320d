//! A JSON scanner over one line: strict, without a tree, numbers as they were written.

use std::borrow::Cow;

/// Levels of nesting within a line.
const DEPTH_MAX: u32 = 64;

/// Text that is not JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Invalid {
    /// Byte within the text.
    pub(crate) at: usize,
    pub(crate) what: &'static str,
}

/// What a value begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Null,
    Boolean,
    Number,
    String,
    Array,
    Object,
}

impl Kind {
    /// In the user's words.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean => "a boolean",
            Self::Number => "a number",
            Self::String => "a string",
            Self::Array => "a list",
            Self::Object => "an object",
        }
    }
}

/// A place in a text of JSON.
#[derive(Clone, Debug)]
pub(crate) struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// A scanner at another byte of the same text.
    pub(crate) fn at(&self, at: usize) -> Self {
        Self { text: self.text, at }
    }

    pub(crate) fn offset(&self) -> usize {
        self.at
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn invalid<T>(&self, what: &'static str) -> Result<T, Invalid> {
        Err(Invalid { at: self.at, what })
    }

    pub(crate) fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Takes `byte`, after blanks, if it is next.
    pub(crate) fn take(&mut self, byte: u8) -> bool {
        self.blanks();
        let taken = self.peek() == Some(byte);
        self.at += usize::from(taken);
        taken
    }

    /// Nothing but blanks may follow.
    pub(crate) fn end(&mut self) -> Result<(), Invalid> {
        self.blanks();
        if self.at < self.text.len() {
            self.invalid("something follows the object")
        } else {
            Ok(())
        }
    }

    /// What the next value is, without taking it.
    pub(crate) fn kind(&mut self) -> Result<Kind, Invalid> {
        self.blanks();
        match self.peek() {
            Some(b'n') => Ok(Kind::Null),
            Some(b't' | b'f') => Ok(Kind::Boolean),
            Some(b'-' | b'0'..=b'9') => Ok(Kind::Number),
            Some(b'"') => Ok(Kind::String),
            Some(b'[') => Ok(Kind::Array),
            Some(b'{') => Ok(Kind::Object),
            Some(_) => self.invalid("no JSON value begins like this"),
            None => self.invalid("the line ends where a value is expected"),
        }
    }

    fn word(&mut self, word: &str) -> Result<(), Invalid> {
        if !self.text[self.at..].starts_with(word) {
            return self.invalid("no JSON value begins like this");
        }
        self.at += word.len();
        Ok(())
    }

    pub(crate) fn null(&mut self) -> Result<(), Invalid> {
        self.word("null")
    }

    pub(crate) fn boolean(&mut self) -> Result<bool, Invalid> {
        let value = self.peek() == Some(b't');
        self.word(if value { "true" } else { "false" })?;
        Ok(value)
    }

    fn digits(&mut self) -> Result<(), Invalid> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { self.invalid("a digit is missing") } else { Ok(()) }
    }

    /// A number, as it is written.
    pub(crate) fn number(&mut self) -> Result<&'a str, Invalid> {
        let start = self.at;
        self.at += usize::from(self.peek() == Some(b'-'));
        if self.peek() == Some(b'0') {
            self.at += 1;
            if matches!(self.peek(), Some(b'0'..=b'9')) {
                return self.invalid("a number begins with a superfluous 0");
            }
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits()?;
        }
        Ok(&self.text[start..self.at])
    }

    /// A string without its quotes and escapes.
    pub(crate) fn string(&mut self) -> Result<Cow<'a, str>, Invalid> {
        self.at += 1;
        let start = self.at;
        self.plain_characters()?;
        let plain = &self.text[start..self.at];
        if self.peek() == Some(b'"') {
            self.at += 1;
            return Ok(Cow::Borrowed(plain));
        }
        let mut value = plain.to_owned();
        while self.peek() == Some(b'\\') {
            value.push(self.escape()?);
            let start = self.at;
            self.plain_characters()?;
            value.push_str(&self.text[start..self.at]);
        }
        self.at += 1;
        Ok(Cow::Owned(value))
    }

    /// Moves to the next quote or backslash.
    fn plain_characters(&mut self) -> Result<(), Invalid> {
        loop {
            match self.peek() {
                None => return self.invalid("a string has no end"),
                Some(b'"' | b'\\') => return Ok(()),
                Some(0..=0x1f) => return self.invalid("a control character in a string"),
                Some(_) => self.at += 1,
            }
        }
    }

    fn escape(&mut self) -> Result<char, Invalid> {
        self.at += 1;
        let escaped = match self.peek() {
            Some(quoted @ (b'"' | b'\\' | b'/')) => char::from(quoted),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode_escape(),
            _ => return self.invalid("an unknown escape in a string"),
        };
        self.at += 1;
        Ok(escaped)
    }

    fn unicode_escape(&mut self) -> Result<char, Invalid> {
        let first = self.hex4()?;
        let code = match first {
            0xd800..=0xdbff if self.text[self.at..].starts_with("\\u") => {
                self.at += 1;
                match self.hex4()? {
                    second @ 0xdc00..=0xdfff => {
                        0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00)
                    }
                    _ => return self.invalid("half of a surrogate pair in a string"),
                }
            }
            code => code,
        };
        match char::from_u32(code) {
            Some(escaped) => Ok(escaped),
            None => self.invalid("half of a surrogate pair in a string"),
        }
    }

    /// The four digits behind a `u`.
    fn hex4(&mut self) -> Result<u32, Invalid> {
        self.at += 1;
        let digits = self.text.as_bytes().get(self.at..self.at + 4);
        let digits = digits.filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let Some(digits) = digits.and_then(|digits| std::str::from_utf8(digits).ok()) else {
            return self.invalid("an unknown escape in a string");
        };
        self.at += 4;
        u32::from_str_radix(digits, 16).or_else(|_| self.invalid("an unknown escape in a string"))
    }

    /// Takes the next value, whatever it is.
    pub(crate) fn skip(&mut self) -> Result<(), Invalid> {
        self.skip_below(DEPTH_MAX)
    }

    fn skip_below(&mut self, depth: u32) -> Result<(), Invalid> {
        if depth == 0 {
            return self.invalid("values are nested too deeply");
        }
        match self.kind()? {
            Kind::Null => self.null(),
            Kind::Boolean => self.boolean().map(|_| ()),
            Kind::Number => self.number().map(|_| ()),
            Kind::String => self.string().map(|_| ()),
            Kind::Array => self.elements(|scanner| scanner.skip_below(depth - 1)),
            Kind::Object => self.members(|scanner, _| scanner.skip_below(depth - 1)),
        }
    }

    /// Takes a list; `each` takes one element.
    pub(crate) fn elements<E: From<Invalid>>(
        &mut self,
        mut each: impl FnMut(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        self.at += 1;
        if self.take(b']') {
            return Ok(());
        }
        loop {
            each(self)?;
            if self.take(b']') {
                return Ok(());
            }
            if !self.take(b',') {
                return Ok(self.invalid("a list goes on with neither a comma nor a bracket")?);
            }
        }
    }

    /// Takes an object; `each` takes the value of one member.
    pub(crate) fn members<E: From<Invalid>>(
        &mut self,
        mut each: impl FnMut(&mut Self, Cow<'a, str>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.at += 1;
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            self.blanks();
            if self.peek() != Some(b'"') {
                return Ok(self.invalid("the name of a field is missing")?);
            }
            let name = self.string()?;
            if !self.take(b':') {
                return Ok(self.invalid("a colon is missing behind the name of a field")?);
            }
            each(self, name)?;
            if self.take(b'}') {
                return Ok(());
            }
            if !self.take(b',') {
                return Ok(self.invalid("an object goes on with neither a comma nor a brace")?);
            }
        }
    }
}

//! A manifest's text as a tree that still knows which words had no quotes.
//!
//! kubectl reads YAML 1.1, where `y` is a boolean, and we read YAML 1.2, where it is a text. To
//! tell a user of the difference the tree keeps each scalar as it was written.

use std::fmt;

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) content: Content,
    /// Line in the text, from 1.
    pub(super) line: usize,
}

/// What a value is, as far as it can be told without knowing what is wanted.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Content {
    /// A word without quotes: a number, a boolean, null or a text.
    Plain(String),
    /// A text for sure: in quotes, or a block.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A mapping, in the order of the text; a key may come twice.
    Map(Vec<(Key, Node)>),
}

/// A key of a mapping.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Key {
    pub(super) text: String,
    /// Whether it had no quotes.
    pub(super) plain: bool,
}

impl Node {
    /// The entries of a mapping; nothing of another value.
    pub(super) fn entries(&self) -> &[(Key, Node)] {
        match &self.content {
            Content::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The value of a key; the first one if it comes twice.
    pub(super) fn get(&self, name: &str) -> Option<&Node> {
        self.entries().iter().find(|(key, _)| key.text == name).map(|(_, node)| node)
    }

    /// The items of a list; nothing of another value.
    pub(super) fn items(&self) -> &[Node] {
        match &self.content {
            Content::List(items) => items,
            _ => &[],
        }
    }

    /// The words of a scalar, with or without quotes.
    pub(super) fn words(&self) -> Option<&str> {
        match &self.content {
            Content::Plain(text) | Content::Text(text) => Some(text),
            Content::List(_) | Content::Map(_) => None,
        }
    }

    /// Whether there is nothing: no words at all, `~` or `null`.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.content, Content::Plain(text) if Meaning::of(text) == Meaning::Null)
    }
}

impl fmt::Display for Node {
    /// What was found, for a message.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.content {
            Content::List(_) => f.write_str("a list"),
            Content::Map(_) => f.write_str("a mapping"),
            Content::Text(text) => write!(f, "the text \"{}\"", Cut(text)),
            Content::Plain(text) => match Meaning::of(text) {
                Meaning::Null => f.write_str("nothing"),
                Meaning::Number => write!(f, "the number {}", Cut(text)),
                Meaning::Boolean | Meaning::Text => write!(f, "`{}`", Cut(text)),
            },
        }
    }
}

/// Characters of the user's text that a message repeats.
const SHOWN_CHARS_MAX: usize = 200;

/// Shows the beginning of a text.
pub(super) struct Cut<'a>(pub(super) &'a str);

impl fmt::Display for Cut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(SHOWN_CHARS_MAX) {
            Some((end, _)) => write!(f, "{}…", &self.0[..end]),
            None => f.write_str(self.0),
        }
    }
}

/// How YAML 1.1 reads a word without quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    Null,
    Boolean,
    Number,
    Text,
}

impl Meaning {
    /// As kubectl's parser does: <https://yaml.org/type/>, without base 60.
    pub(super) fn of(word: &str) -> Self {
        const WORDS: [&str; 11] =
            ["y", "yes", "true", "on", "n", "no", "false", "off", "null", "~", ""];
        let Some(index) = WORDS.iter().position(|known| same_in_yaml(word, known)) else {
            return if is_number(word) { Self::Number } else { Self::Text };
        };
        if index < 8 { Self::Boolean } else { Self::Null }
    }

    /// What kubectl takes the word for.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean => "a boolean",
            Self::Number => "a number",
            Self::Text => "a text",
        }
    }
}

/// `yes`, `Yes` or `YES`, and no other mix.
fn same_in_yaml(word: &str, known: &str) -> bool {
    let mut letters = word.chars();
    letters.next();
    let rest = letters.as_str();
    word.eq_ignore_ascii_case(known)
        && (rest.chars().all(|c| c.is_ascii_lowercase())
            || word.chars().all(|c| c.is_ascii_uppercase()))
}

fn is_number(word: &str) -> bool {
    let unsigned = word.strip_prefix(['-', '+']).unwrap_or(word);
    let lower = unsigned.to_ascii_lowercase();
    if lower == ".inf" || (lower == ".nan" && unsigned.len() == word.len()) {
        return true;
    }
    let digits = lower.replace('_', "");
    for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        if let Some(rest) = digits.strip_prefix(prefix) {
            return !rest.is_empty() && rest.chars().all(|c| c.is_digit(radix));
        }
    }
    let (mantissa, exponent) = digits.split_once('e').unwrap_or((&digits, "0"));
    let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all_digits = |text: &str| text.chars().all(|c| c.is_ascii_digit());
    unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && !(whole.is_empty() && fraction.is_empty())
        && all_digits(whole)
        && all_digits(fraction)
        && !exponent.is_empty()
        && all_digits(exponent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_mean_what_kubectl_takes_them_for() {
        let cases = [
            (Meaning::Boolean, "y Y yes Yes YES n N no No NO true True TRUE false on ON off Off"),
            (Meaning::Null, "null Null NULL ~"),
            (
                Meaning::Number,
                "0 12 -3 +4 1_000 0x1F 0b11 0o17 017 1.5 .5 5. 1e3 1E-3 .inf -.inf .nan",
            ),
            (
                Meaning::Text,
                "yEs oN nope x 1a 1.2.3 e3 - . + _1 0x 1e 12s 2013-01-01 1:30 ~x -.nan",
            ),
        ];
        for (meaning, words) in cases {
            for word in words.split(' ') {
                assert_eq!(Meaning::of(word), meaning, "{word}");
            }
        }
        assert_eq!(Meaning::of(""), Meaning::Null);
    }

    #[test]
    fn long_texts_are_cut_at_a_character() {
        assert_eq!(Cut("ä").to_string(), "ä");
        assert_eq!(Cut(&"ä".repeat(300)).to_string().chars().count(), SHOWN_CHARS_MAX + 1);
    }
}

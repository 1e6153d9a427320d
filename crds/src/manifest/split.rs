//! Items that YAML cut at their commas, put together again for a message.

use super::Problems;
use super::node::Cut;

/// An item that YAML cut at its commas: `[coalesce(a, 0) as a]` arrives as `coalesce(a` and
/// `0) as a`.
#[derive(Default)]
pub(super) struct Split {
    path: String,
    parts: Vec<String>,
}

impl Split {
    /// Begins with a part whose brackets do not close.
    pub(super) fn begins(&mut self, words: &str, plain: bool, path: &str) -> bool {
        let unbalanced = plain && open_brackets(words) != 0;
        if unbalanced {
            path.clone_into(&mut self.path);
            self.parts = vec![words.to_owned()];
        }
        unbalanced
    }

    /// Goes on with the next part while brackets are open.
    pub(super) fn takes(&mut self, words: &str, plain: bool) -> bool {
        let goes_on = plain && open_brackets(&self.parts.join(", ")) > 0;
        if goes_on {
            self.parts.push(words.to_owned());
        }
        goes_on
    }

    /// Reports what was put together, if anything.
    pub(super) fn report(&mut self, problems: &mut Problems) {
        if self.parts.is_empty() {
            return;
        }
        let first = &self.parts[0];
        let whole = self.parts.join(", ");
        let message = if self.parts.len() > 1 && open_brackets(&whole) == 0 {
            format!(
                "`{}` has unbalanced parentheses: YAML splits an item of a flow list at its commas; \
                 write \"{}\" in quotes, or use a block list",
                Cut(first),
                Cut(&whole)
            )
        } else {
            format!(
                "`{}` has unbalanced parentheses; in a flow list an item with a comma belongs in \
                 quotes",
                Cut(first)
            )
        };
        problems.add(&self.path, message);
        self.parts.clear();
    }
}

/// Brackets opened and not closed, outside of quotes; `<` counts where a type opens it.
fn open_brackets(text: &str) -> i64 {
    let mut open = 0;
    let mut quote = None;
    let mut types = 0;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(mark), _) if mark == c => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '(') => open += 1,
            (None, ')') => open -= 1,
            (None, '<') if text[..at].ends_with("struct") || text[..at].ends_with("list") => {
                types += 1
            }
            (None, '>') if types > 0 => types -= 1,
            _ => {}
        }
    }
    open + types
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_are_counted_outside_of_quotes() {
        let cases = [
            ("coalesce(a", 1),
            ("0) as a", -1),
            ("count(*) as flights", 0),
            ("x in ('(', \"(\")", 0),
            ("a < b", 0),
            ("a > b", 0),
            ("struct<a: int64", 1),
            ("list<list<int64>>", 0),
            ("b: string>", 0),
        ];
        for (text, open) in cases {
            assert_eq!(open_brackets(text), open, "{text}");
        }
    }
}

//! From text to tree: YAML, or JSON when the text is that.
//!
//! Every size that comes from outside has a limit: bytes of text, depth, and nodes, since an alias
//! may repeat what it names.

use std::collections::BTreeMap;
use std::fmt;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, Tag};
use serde::Deserialize;
use serde::de::{self, MapAccess, SeqAccess, Visitor};

use super::Problem;
use super::node::{Content, Key, Node};

/// Bytes of a manifest; an API server takes little more.
const TEXT_BYTES_MAX: usize = 1 << 20;

/// Lists and mappings inside each other.
const DEPTH_MAX: usize = 64;

/// Values in all, those that an alias repeats counted each time.
const NODES_MAX: usize = 100_000;

/// Reads the one document of a text.
pub(super) fn parse(text: &str) -> Result<Node, Problem> {
    if text.len() > TEXT_BYTES_MAX {
        let message = format!("{} bytes are more than a manifest may have, 1 MiB", text.len());
        return Err(Problem::new("manifest", message));
    }
    if text.trim_start().starts_with('{')
        && let Ok(Json(node)) = serde_json::from_str(text)
    {
        return Ok(node);
    }
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| syntax_error(&error, text))?;
        builder.take(event, span)?;
    }
    let mut documents = builder.documents.into_iter().filter(|document| !document.is_null());
    match (documents.next(), documents.next()) {
        (Some(document), None) => Ok(document),
        (None, _) => Err(Problem::new("manifest", "is empty; a StatefulJob was expected")),
        (Some(_), Some(second)) => {
            let message = "a second document begins; write each StatefulJob into its own file";
            Err(Problem::new(&format!("line {}", second.line), message))
        }
    }
}

fn place(line: usize, column: usize) -> String {
    format!("line {line}, column {column}")
}

fn syntax_error(error: &ScanError, text: &str) -> Problem {
    // At the end of the text the parser stands on a line that is not there.
    let lines = text.lines().count();
    let number = error.marker().line().clamp(1, lines.max(1));
    let line = text.lines().nth(number - 1).unwrap_or("");
    let end = line.chars().count() + 1;
    let column = if error.marker().line() > lines { end } else { error.marker().col() + 1 };
    let hint = match error.info() {
        info if info.contains("mapping values") => {
            "; put a text that holds a colon and a blank in quotes, and check the indentation"
        }
        info if info.contains("trailing content") => {
            "; a text that begins with a quote belongs in quotes as a whole"
        }
        info if info.contains("expected ','") => {
            "; in a flow list or mapping a text with a comma, a colon or a bracket belongs in quotes"
        }
        info if info.contains("anchor or alias") => "; write \"*\" in quotes",
        info if info.contains("tabs") => "; indent with blanks",
        _ if line.trim_start().trim_start_matches("- ").starts_with(['@', '`', '%']) => {
            "; a text that begins with @, ` or % belongs in quotes"
        }
        _ => "",
    };
    let message = format!("is not valid YAML: {}{hint}", error.info());
    Problem::new(&place(number, column), message)
}

/// A list or mapping that is being read.
enum Open {
    List { items: Vec<Node>, line: usize, anchor: usize },
    Map { entries: Vec<(Key, Node)>, key: Option<Key>, line: usize, anchor: usize },
}

/// Puts the parser's events together.
#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: BTreeMap<usize, (Node, usize)>,
    documents: Vec<Node>,
    nodes: usize,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Problem> {
        let line = span.start.line();
        let at = place(line, span.start.col() + 1);
        match event {
            Event::Scalar(words, style, anchor, tag) => {
                let text_by_tag = is_string(tag.as_deref(), &at)?;
                let words = words.into_owned();
                let content = if style == ScalarStyle::Plain && !text_by_tag {
                    Content::Plain(words)
                } else {
                    Content::Text(words)
                };
                self.add(Node { content, line }, anchor, 1, &at)
            }
            Event::Alias(anchor) => {
                let unknown = || Problem::new(&at, "an alias stands inside what it names");
                let (node, nodes) = self.anchors.get(&anchor).cloned().ok_or_else(unknown)?;
                self.add(node, 0, nodes, &at)
            }
            Event::SequenceStart(anchor, tag) => {
                is_string(tag.as_deref(), &at)?;
                self.begin(Open::List { items: Vec::new(), line, anchor }, &at)
            }
            Event::MappingStart(anchor, tag) => {
                is_string(tag.as_deref(), &at)?;
                self.begin(Open::Map { entries: Vec::new(), key: None, line, anchor }, &at)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(&at),
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => Ok(()),
        }
    }

    fn begin(&mut self, open: Open, at: &str) -> Result<(), Problem> {
        if self.open.len() == DEPTH_MAX {
            return Err(Problem::new(at, format!("is nested deeper than {DEPTH_MAX} levels")));
        }
        self.open.push(open);
        Ok(())
    }

    fn end(&mut self, at: &str) -> Result<(), Problem> {
        match self.open.pop() {
            Some(Open::List { items, line, anchor }) => {
                self.add(Node { content: Content::List(items), line }, anchor, 1, at)
            }
            Some(Open::Map { entries, line, anchor, .. }) => {
                let content = Content::Map(merged(entries));
                self.add(Node { content, line }, anchor, 1, at)
            }
            None => Ok(()),
        }
    }

    /// Puts a finished value where it belongs: a key, a value, an item or a document.
    fn add(&mut self, node: Node, anchor: usize, nodes: usize, at: &str) -> Result<(), Problem> {
        self.nodes += nodes;
        if self.nodes > NODES_MAX {
            return Err(Problem::new(at, format!("the manifest has more than {NODES_MAX} values")));
        }
        if anchor != 0 {
            let size = size(&node);
            self.anchors.insert(anchor, (node.clone(), size));
        }
        match self.open.last_mut() {
            None => self.documents.push(node),
            Some(Open::List { items, .. }) => items.push(node),
            Some(Open::Map { entries, key, .. }) => match (key.take(), node.content) {
                (Some(key), content) => entries.push((key, Node { content, line: node.line })),
                (None, Content::Plain(text)) => *key = Some(Key { text, plain: true }),
                (None, Content::Text(text)) => *key = Some(Key { text, plain: false }),
                (None, _) => return Err(Problem::new(at, "a key has to be a text")),
            },
        }
        Ok(())
    }
}

/// Whether a tag says "this is a text", `!!str` or `!`. Those that say what is plain anyway are
/// let pass; any other one was rather meant as the beginning of a text.
fn is_string(tag: Option<&Tag>, at: &str) -> Result<bool, Problem> {
    let Some(tag) = tag else { return Ok(false) };
    match (tag.is_yaml_core_schema(), tag.suffix.as_str()) {
        (true, "str") => Ok(true),
        (true, "int" | "float" | "bool" | "null" | "seq" | "map") => Ok(false),
        (false, "" | "!") => Ok(true),
        _ => {
            let (handle, suffix) = (&tag.handle, &tag.suffix);
            let message = format!(
                "the tag `{handle}{suffix}` is not understood; a text that begins with ! belongs in \
                 quotes"
            );
            Err(Problem::new(at, message))
        }
    }
}

fn size(node: &Node) -> usize {
    match &node.content {
        Content::Plain(_) | Content::Text(_) => 1,
        Content::List(items) => 1 + items.iter().map(size).sum::<usize>(),
        Content::Map(entries) => 1 + entries.iter().map(|(_, node)| size(node)).sum::<usize>(),
    }
}

/// Takes in what `<<` names; the mapping's own keys win.
fn merged(entries: Vec<(Key, Node)>) -> Vec<(Key, Node)> {
    let (merges, mut own): (Vec<_>, Vec<_>) =
        entries.into_iter().partition(|(key, _)| key.plain && key.text == "<<");
    for (_, node) in merges {
        let one = [node];
        let sources = if let Content::List(items) = &one[0].content { items } else { &one[..] };
        for (key, node) in sources.iter().flat_map(Node::entries) {
            if !own.iter().any(|(known, _)| known.text == key.text) {
                own.push((key.clone(), node.clone()));
            }
        }
    }
    own
}

/// A JSON value as a tree: texts are in quotes, all else is not.
struct Json(Node);

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let content = deserializer.deserialize_any(JsonVisitor)?;
        Ok(Self(Node { content, line: 1 }))
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Content, E> {
        Ok(Content::Plain("null".to_owned()))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Content, E> {
        Ok(Content::Plain(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Content, E> {
        Ok(Content::Plain(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Content, E> {
        Ok(Content::Plain(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Content, E> {
        Ok(Content::Plain(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Content, E> {
        Ok(Content::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Content, A::Error> {
        let mut items = Vec::new();
        while let Some(Json(item)) = seq.next_element()? {
            items.push(item);
        }
        Ok(Content::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Content, A::Error> {
        let mut entries = Vec::new();
        while let Some((text, Json(node))) = map.next_entry()? {
            entries.push((Key { text, plain: false }, node));
        }
        Ok(Content::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(text: &str, path: &str, words: &str) {
        let problem = parse(text).expect_err("is refused");
        assert_eq!(problem.path, path, "{problem}");
        assert!(problem.message.contains(words), "{problem}");
    }

    #[test]
    fn what_is_not_yaml_is_reported_with_its_place() {
        refused("a: [1\nb: 2", "line 2, column 2", "is not valid YAML");
        refused("a: [1,\n", "line 1, column 7", "is not valid YAML");
        refused("filter: a = 'x' : b", "line 1, column 17", "in quotes, and check");
        refused("a: {s: struct<b: int64>}", "line 1, column 16", "in a flow list or mapping");
        refused("a: \"b\" = c", "line 1, column 8", "in quotes as a whole");
        refused("filter: !a and b", "line 1, column 9", "the tag `!a` is not understood");
        refused("a: !!binary [b]", "line 1, column 4", "is not understood");
        refused("- *", "line 1, column 3", "write \"*\" in quotes");
        refused("a:\n\tb: 1", "line 2, column 2", "indent with blanks");
        refused("- @x", "line 1, column 3", "belongs in quotes");
        refused("a: 'x", "line 1, column 4", "is not valid YAML");
        refused("[a]: 1", "line 1, column 3", "a key has to be a text");
        refused("&a [*a]", "line 1, column 5", "inside what it names");
    }

    #[test]
    fn one_document_is_read() {
        refused("", "manifest", "is empty");
        refused("# only words\n---\n", "manifest", "is empty");
        refused("a: 1\n---\nb: 2\n", "line 3", "into its own file");
        let one = parse("---\na: 1\n---\n# nothing\n...\n").unwrap();
        assert_eq!(one.get("a").unwrap().words(), Some("1"));
    }

    #[test]
    fn sizes_are_limited() {
        refused(&"x".repeat(TEXT_BYTES_MAX + 1), "manifest", "1 MiB");
        refused(&"[".repeat(DEPTH_MAX + 1), "line 1, column 65", "64 levels");
        let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..9 {
            let below = format!("*a{}, ", level - 1).repeat(10);
            laughs += &format!("a{level}: &a{level} [{below}]\n");
        }
        refused(&laughs, "line 5, column 45", "more than 100000 values");
    }

    #[test]
    fn quotes_are_remembered_and_aliases_and_merges_resolved() {
        let node = parse("a: &x {k: y, 'q': \"n\"}\nb: *x\nc: {<<: *x, k: !!str on}").unwrap();
        let plain = |node: &Node| matches!(node.content, Content::Plain(_));
        let a = node.get("a").unwrap();
        assert!(plain(a.get("k").unwrap()));
        assert!(!plain(a.get("q").unwrap()));
        assert!(a.entries()[0].0.plain && !a.entries()[1].0.plain);
        assert_eq!(node.get("b").unwrap().get("k").unwrap().words(), Some("y"));
        let c = node.get("c").unwrap();
        assert_eq!(c.get("k").unwrap().content, Content::Text("on".to_owned()));
        assert_eq!(c.get("q").unwrap().words(), Some("n"));
    }

    #[test]
    fn json_is_read_as_json() {
        let node =
            parse("\n{\"b\": [1, -2, 1.5, true, null, \"\\ud83d\\ude00\"],\t\"a\": {}}").unwrap();
        let words: Vec<_> = node.get("b").unwrap().items().iter().map(Node::words).collect();
        let expected = ["1", "-2", "1.5", "true", "null", "😀"].map(Some);
        assert_eq!(words, expected);
        assert_eq!(node.entries()[0].0.text, "b", "in the order of the text");
        refused("{\"a\": 1", "line 1, column 8", "is not valid YAML");
    }
}

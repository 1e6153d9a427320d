//! Text to a syntax tree: expressions, select items, and what they may not contain.
//!
//! DataFusion's dialect of SQL by sqlparser. A number with an exponent and no point is made a
//! float here, since the planner reads every number that is no integer as a decimal.

use std::ops::ControlFlow;

use arrow::datatypes::Schema;
use datafusion_sql::sqlparser::ast::{
    ExcludeSelectItem, Expr, Function, FunctionArguments, Ident, SelectItem, Value,
    WildcardAdditionalOptions, visit_expressions,
};
use datafusion_sql::sqlparser::dialect::GenericDialect;
use datafusion_sql::sqlparser::keywords::Keyword;
use datafusion_sql::sqlparser::parser::{Parser, ParserError};
use datafusion_sql::sqlparser::tokenizer::{Token, Tokenizer, Word};

use crate::error::ExprError;
use crate::functions;
use crate::near;

/// Longest text, in bytes.
const TEXT_BYTES_MAX: usize = 4096;
/// Most operators in one expression: each may be a level of the tree that is walked recursively.
const OPERATORS_MAX: usize = 500;
/// Deepest nesting of parentheses, function calls and CASE.
const NESTING_MAX: usize = 40;

/// One item of a select list.
#[derive(Debug)]
pub(crate) enum Item {
    /// `*`, without the columns named.
    All { except: Vec<String> },
    /// An expression and its name, if it has one.
    One { expr: Box<Expr>, name: Option<String> },
}

/// Parses a scalar expression.
pub(crate) fn expression(text: &str) -> Result<Expr, ExprError> {
    with_parser(text, |parser| parser.parse_expr())
}

/// Parses a select item.
pub(crate) fn item(text: &str) -> Result<Item, ExprError> {
    match with_parser(text, |parser| parser.parse_select_item())? {
        SelectItem::UnnamedExpr(expr) => {
            let name = match &expr {
                Expr::Identifier(ident) => Some(ident.value.clone()),
                _ => None,
            };
            Ok(Item::One { expr: Box::new(expr), name })
        }
        SelectItem::ExprWithAlias { expr, alias } => {
            Ok(Item::One { expr: Box::new(expr), name: Some(alias.value) })
        }
        SelectItem::Wildcard(options) => all(options),
        SelectItem::QualifiedWildcard(..) | SelectItem::ExprWithAliases { .. } => {
            Err(ExprError(format!("`{text}` is no select item: write `*`, or an expression")))
        }
    }
}

fn all(options: WildcardAdditionalOptions) -> Result<Item, ExprError> {
    let refused = options.opt_ilike.is_some()
        || options.opt_replace.is_some()
        || options.opt_rename.is_some()
        || options.opt_alias.is_some();
    if refused {
        return Err(ExprError("after `*` only `except (a, b)` is understood".into()));
    }
    let mut except = Vec::new();
    if let Some(list) = options.opt_except {
        except.push(list.first_element.value);
        except.extend(list.additional_elements.into_iter().map(|ident| ident.value));
    }
    let excluded = match options.opt_exclude {
        None => Vec::new(),
        Some(ExcludeSelectItem::Single(name)) => vec![name],
        Some(ExcludeSelectItem::Multiple(names)) => names,
    };
    for name in excluded {
        let ident = name.0.last().and_then(|part| part.as_ident());
        except.extend(ident.map(|ident| ident.value.clone()));
    }
    Ok(Item::All { except })
}

/// The tokens of `text` without blanks and comments, one blank between them, functions' names and
/// the words in front of their arguments in lower case: the same for every way to lay out one expression.
pub(crate) fn canonical(text: &str) -> Result<String, ExprError> {
    let tokens = tokens(text)?;
    let mut words = Vec::with_capacity(tokens.len());
    for (at, token) in tokens.iter().enumerate() {
        let called = tokens.get(at + 1) == Some(&Token::LParen);
        words.push(match token {
            Token::Word(word) if word.quote_style.is_none() && called => word.value.to_lowercase(),
            Token::Word(word) if in_call(tokens[..at].last(), word) => word.value.to_lowercase(),
            token => token.to_string(),
        });
    }
    Ok(words.join(" "))
}

/// Whether a word is the `distinct`, `all` or `where` that stands first in parentheses.
fn in_call(before: Option<&Token>, word: &Word) -> bool {
    before == Some(&Token::LParen)
        && matches!(word.keyword, Keyword::DISTINCT | Keyword::ALL | Keyword::WHERE)
}

fn with_parser<T>(
    text: &str,
    parse: impl FnOnce(&mut Parser<'_>) -> Result<T, ParserError>,
) -> Result<T, ExprError> {
    let tokens = with_floats(tokens(text)?);
    let refuse = |error: ParserError| ExprError(format!("`{text}` is not SQL: {}", reason(error)));
    let dialect = GenericDialect {};
    let mut parser = Parser::new(&dialect).with_recursion_limit(NESTING_MAX).with_tokens(tokens);
    let parsed = parse(&mut parser).map_err(refuse)?;
    match &parser.peek_token_ref().token {
        Token::EOF => Ok(parsed),
        Token::SemiColon => Err(ExprError(format!("`{text}`: an expression has no `;`"))),
        other => {
            Err(ExprError(format!("`{text}` is not SQL: nothing may follow before `{other}`")))
        }
    }
}

fn reason(error: ParserError) -> String {
    match error {
        ParserError::RecursionLimitExceeded => {
            format!("nested deeper than {NESTING_MAX} levels")
        }
        ParserError::ParserError(message) | ParserError::TokenizerError(message) => {
            let message = message.replace("Expected:", "expected").replace("EOF", "the end");
            message.split(" at Line").next().unwrap_or_default().to_owned()
        }
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, ExprError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(ExprError(format!(
            "an expression has at most {TEXT_BYTES_MAX} bytes, this one has {}",
            text.len()
        )));
    }
    if text.trim().is_empty() {
        return Err(ExprError("the expression is empty".into()));
    }
    let mut tokens = Tokenizer::new(&GenericDialect {}, text)
        .tokenize()
        .map_err(|error| ExprError(format!("`{text}` is not SQL: {}", reason(error.into()))))?;
    tokens.retain(|token| !matches!(token, Token::Whitespace(_)));
    let count = |wanted: Token| tokens.iter().filter(|token| **token == wanted).count();
    if count(Token::LParen) != count(Token::RParen) {
        return Err(ExprError(format!(
            "the parentheses of `{text}` do not match; in a flow list (`[a, b]`) YAML splits an \
             item at its commas: put it in quotes or use a block list"
        )));
    }
    if tokens.iter().filter(|token| is_operator(token)).count() > OPERATORS_MAX {
        return Err(ExprError(format!(
            "the expression has more than {OPERATORS_MAX} operators; use `in (…)` or several steps"
        )));
    }
    Ok(tokens)
}

fn is_operator(token: &Token) -> bool {
    match token {
        Token::Word(word) => {
            let value = word.value.as_str();
            word.quote_style.is_none()
                && ["and", "or", "not", "is", "like", "ilike", "between", "when"]
                    .iter()
                    .any(|keyword| value.eq_ignore_ascii_case(keyword))
        }
        Token::Number(..) | Token::SingleQuotedString(_) | Token::Comma => false,
        Token::LParen | Token::RParen | Token::Period => false,
        _ => true,
    }
}

/// `1e3` becomes `cast('1e3' as double)`.
fn with_floats(tokens: Vec<Token>) -> Vec<Token> {
    let mut result = Vec::with_capacity(tokens.len());
    for token in tokens {
        match token {
            Token::Number(text, false) if text.contains(['e', 'E']) && !text.contains('.') => {
                result.extend([
                    Token::make_keyword("CAST"),
                    Token::LParen,
                    Token::SingleQuotedString(text),
                    Token::make_keyword("AS"),
                    Token::make_keyword("DOUBLE"),
                    Token::RParen,
                ]);
            }
            token => result.push(token),
        }
    }
    result
}

/// Refuses what no scalar expression over `columns` may contain, with a sentence for each.
pub(crate) fn survey(expr: &Expr, columns: &Schema) -> Result<(), ExprError> {
    let visit = |expr: &Expr| match survey_node(expr, columns) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(error),
    };
    match visit_expressions(expr, visit) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

fn survey_node(expr: &Expr, columns: &Schema) -> Result<(), ExprError> {
    match expr {
        Expr::Identifier(ident) => survey_column(ident, columns),
        Expr::CompoundIdentifier(idents) => {
            idents.first().map_or(Ok(()), |ident| survey_column(ident, columns))
        }
        Expr::Subquery(_)
        | Expr::Exists { .. }
        | Expr::InSubquery { .. }
        | Expr::AnyOp { .. }
        | Expr::AllOp { .. } => Err(ExprError(format!(
            "`{expr}` is a subquery: an expression sees one row; use a join or another step"
        ))),
        Expr::CompoundFieldAccess { .. } => Err(ExprError(format!(
            "`{expr}`: write `a.b` for field b of struct a; lists have no access by number"
        ))),
        Expr::Value(value) if matches!(value.value, Value::Placeholder(_)) => {
            Err(ExprError(format!("`{expr}` is a placeholder, which nothing fills")))
        }
        Expr::Function(function) => survey_function(function, columns),
        _ => Ok(()),
    }
}

fn survey_column(ident: &Ident, columns: &Schema) -> Result<(), ExprError> {
    if columns.column_with_name(&ident.value).is_some() {
        return Ok(());
    }
    Err(unknown_column(&ident.value, columns))
}

/// Says that `columns` has no `name`, and which near names it has, or all of them.
pub fn unknown_column(name: &str, columns: &Schema) -> ExprError {
    let names = || columns.fields().iter().map(|field| field.name().as_str());
    let near = near::nearest(name, names());
    let hint = if !near.is_empty() {
        format!("did you mean {}?", quoted(&near, " or "))
    } else if columns.fields().is_empty() {
        "there are none".into()
    } else {
        let shown: Vec<&str> = names().take(20).collect();
        let more = if columns.fields().len() > shown.len() { ", …" } else { "" };
        format!("columns: {}{more}", quoted(&shown, ", "))
    };
    ExprError(format!("there is no column `{name}`; {hint}"))
}

fn quoted(names: &[&str], between: &str) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(between)
}

fn survey_function(function: &Function, columns: &Schema) -> Result<(), ExprError> {
    let name = function_name(function);
    // A column such as "localtime" is read by sqlparser as a call without parentheses.
    let is_column = matches!(function.args, FunctionArguments::None)
        && columns.column_with_name(&function.name.to_string()).is_some();
    if is_column {
        return Ok(());
    }
    if function.over.is_some() {
        return Err(ExprError(format!(
            "`{name}(…) over …` is a window function: use an aggregate step"
        )));
    }
    functions::known_scalar(&name)?;
    let plain = match &function.args {
        FunctionArguments::List(list) => {
            list.duplicate_treatment.is_none() && list.clauses.is_empty()
        }
        FunctionArguments::None => true,
        FunctionArguments::Subquery(_) => false,
    };
    if plain && function.filter.is_none() && function.null_treatment.is_none() {
        Ok(())
    } else {
        Err(ExprError(format!(
            "`{function}`: only aggregates take `distinct`, `filter` or an order, and `{name}` is none"
        )))
    }
}

/// The name by which a function is looked up: functions' names are no columns' and are folded.
pub(crate) fn function_name(function: &Function) -> String {
    match function.name.0.as_slice() {
        [part] => match part.as_ident() {
            Some(ident) if ident.quote_style.is_some() => ident.value.clone(),
            Some(ident) => ident.value.to_lowercase(),
            None => function.name.to_string(),
        },
        _ => function.name.to_string(),
    }
}

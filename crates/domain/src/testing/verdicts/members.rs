//! The members of a table in TOML. Each is read once, and what is left at the end is refused, so
//! that a misspelled member is not a member that is silently absent.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A table whose members are taken one by one.
#[derive(Debug)]
pub(super) struct Members<'i> {
    document: &'i str,
    table: DeTable<'i>,
    line: usize,
}

impl<'i> Members<'i> {
    pub(super) fn of_document(document: &'i str) -> Result<Self, String> {
        let table = DeTable::parse(document).map_err(|why| why.to_string())?;
        Ok(Self { document, table: table.into_inner(), line: 1 })
    }

    /// The line of the file at which the table begins.
    pub(super) const fn line(&self) -> usize {
        self.line
    }

    /// A fault of the table.
    pub(super) fn fault(&self, what: &str) -> String {
        format!("line {}: {what}", self.line)
    }

    fn take<T>(
        &mut self,
        name: &str,
        kind: &str,
        read: impl FnOnce(DeValue<'i>) -> Option<T>,
    ) -> Result<Option<T>, String> {
        let Some(value) = self.table.remove(name) else { return Ok(None) };
        let line = line_of(self.document, &value);
        let read = read(value.into_inner());
        read.map(Some).ok_or_else(|| format!("line {line}: `{name}` is not {kind}"))
    }

    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>, String> {
        self.take(name, "a text", |value| text(&value))
    }

    pub(super) fn required_text(&mut self, name: &str) -> Result<String, String> {
        let text = self.text(name)?;
        text.ok_or_else(|| self.fault(&format!("`{name}` is missing")))
    }

    /// A list of texts; empty if it is absent.
    pub(super) fn texts(&mut self, name: &str) -> Result<Vec<String>, String> {
        let texts = self.take(name, "a list of texts", |value| match value {
            DeValue::Array(items) => items.iter().map(|item| text(item.get_ref())).collect(),
            _ => None,
        })?;
        Ok(texts.unwrap_or_default())
    }

    pub(super) fn flag(&mut self, name: &str) -> Result<Option<bool>, String> {
        self.take(name, "true or false", |value| value.as_bool())
    }

    /// A number of the range of its type.
    pub(super) fn number<T: std::str::FromStr>(&mut self, name: &str) -> Result<Option<T>, String> {
        self.take(name, "a number within its bounds", |value| {
            value.as_integer()?.as_str().parse().ok()
        })
    }

    /// The tables of a list; empty if it is absent.
    pub(super) fn tables(&mut self, name: &str) -> Result<Vec<Self>, String> {
        let document = self.document;
        let tables = self.take(name, "a list of tables", |value| match value {
            DeValue::Array(items) => items
                .into_iter()
                .map(|item| {
                    let line = line_of(document, &item);
                    match item.into_inner() {
                        DeValue::Table(table) => Some(Self { document, table, line }),
                        _ => None,
                    }
                })
                .collect(),
            _ => None,
        })?;
        Ok(tables.unwrap_or_default())
    }

    /// Refuses members that nobody took.
    pub(super) fn finish(self) -> Result<(), String> {
        let unknown: Vec<&str> = self.table.keys().map(|name| name.get_ref().as_ref()).collect();
        if unknown.is_empty() {
            Ok(())
        } else {
            Err(self.fault(&format!("unknown members: {}", unknown.join(", "))))
        }
    }
}

fn text(value: &DeValue<'_>) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn line_of<T>(document: &str, value: &Spanned<T>) -> usize {
    let before = document.get(..value.span().start).unwrap_or_default();
    before.matches('\n').count() + 1
}

//! Resolution of field names, and suggestions for unknown names.

use crate::filter::error::{listed, shown};
use crate::filter::fields::{EntryMember, Field, ancestry, has_labels, plural, prefix, side_word};
use crate::filter::tree::{Level, Side};
use crate::labels;
use crate::spelling::nearest;

/// The longest name for which a similar name is suggested, in characters.
const MAX_NEAREST_CHARS: usize = 40;

/// The meaning of a name.
#[derive(Debug, Clone, Copy)]
pub(super) enum Named<'a> {
    Field(Field),
    /// The value of a label: the level that has the label, and its key.
    Label(Level, &'a str),
}

/// Finds the field of a name. The error is a sentence about the name.
pub(super) fn resolve(level: Level, name: &str) -> Result<Named<'_>, String> {
    for owner in ancestry(level) {
        let word = prefix(level, *owner).and_then(|prefix| name.strip_prefix(prefix));
        let Some(word) = word else { continue };
        if let Some(field) = Field::own(*owner).find(|field| field.word() == word) {
            return Ok(Named::Field(field));
        }
        if let Some(key) = word.strip_prefix("labels.").filter(|_| has_labels(*owner)) {
            return if labels::is_key(key) {
                Ok(Named::Label(*owner, key))
            } else {
                Err(not_a_key(key))
            };
        }
    }
    Err(unknown(level, name))
}

/// Explains why a text is not a label key.
pub(super) fn not_a_key(key: &str) -> String {
    format!(
        "`{}` is not a label key: 1 to 63 of a-z, 0-9, `.`, `_`, `/`, `-`, with a letter or digit \
         at both ends",
        shown(key)
    )
}

/// Explains why a name is not a field, and suggests the one that was probably meant.
fn unknown(level: Level, name: &str) -> String {
    let given = shown(name);
    match name {
        "firewall" if matches!(level, Level::Policy | Level::Rule) => {
            return "`firewall` is not a field by itself; add one of its fields, such as \
                    `firewall.name`"
                .to_owned();
        }
        "filtering_policy" if level == Level::Rule => {
            return "`filtering_policy` is not a field by itself; add one of its fields, such as \
                    `filtering_policy.name`"
                .to_owned();
        }
        _ => {}
    }
    if let Some(meant) = of_another_level(level, name) {
        return meant;
    }
    for side in [Side::Source, Side::Destination] {
        let word = side_word(side);
        if level == Level::Rule && name.split_once('.').is_some_and(|(group, _)| group == word) {
            return format!(
                "`{given}` is not a field; an entry of `{word}` has {}",
                listed(EntryMember::ALL.map(EntryMember::word), "and")
            );
        }
    }
    if level == Level::Rule && name.starts_with("traffic.") {
        return format!(
            "`{given}` is not a field; write the members of `traffic` in parentheses: \
             `traffic:(source = 10.20.0.0/16 AND protocol = tcp)`"
        );
    }
    let list = plural(level);
    let known: Vec<String> = Field::all(level).map(|field| field.name(level)).collect();
    if name.chars().count() <= MAX_NEAREST_CHARS
        && let Some(meant) = nearest(name, known.iter().map(String::as_str))
    {
        return format!("`{given}` is not a field of {list}; did you mean `{meant}`?");
    }
    let own = listed(Field::own(level).map(Field::word), "and");
    let parents = match level {
        Level::Rule => "; the fields of the parents begin with `filtering_policy.` and `firewall.`",
        Level::Policy => "; the fields of the firewall begin with `firewall.`",
        Level::Firewall | Level::Event => "",
    };
    format!("`{given}` is not a field of {list}; the fields are {own}{parents}")
}

/// Suggests a field if the name has a wrong prefix, or explains that it belongs to another list.
fn of_another_level(level: Level, name: &str) -> Option<String> {
    let (mut word, mut named) = (name, None);
    'strip: loop {
        for (prefix, owner) in [
            ("firewall.", Level::Firewall),
            ("filtering_policy.", Level::Policy),
            ("policy.", Level::Policy),
            ("rule.", Level::Rule),
        ] {
            if let Some(rest) = word.strip_prefix(prefix) {
                (word, named) = (rest, Some(owner));
                continue 'strip;
            }
        }
        break;
    }
    let has = |owner: Level| {
        word.starts_with("labels.") && has_labels(owner)
            || Field::own(owner).any(|field| field.word() == word)
    };
    let others = [Level::Firewall, Level::Policy, Level::Rule, Level::Event];
    let owner = named
        .into_iter()
        .chain(ancestry(level).iter().copied())
        .chain(others)
        .find(|owner| has(*owner))?;
    let (given, list) = (shown(name), plural(level));
    Some(match prefix(level, owner) {
        Some(prefix) => {
            format!("`{given}` is not a field of {list}; did you mean `{prefix}{}`?", shown(word))
        }
        None => {
            format!("`{}` is a field of {}; this list is of {list}", shown(word), plural(owner))
        }
    })
}

//! Converts between rows and the domain. Reading a row can fail: the domain parses it like any
//! input, and a rejected value is reported with table, column and row.

mod acceptance;
mod audit;
mod audit_state;
mod firewall;
mod policy;
mod rule;

pub(crate) use acceptance::{acceptance, acceptance_row};
pub(crate) use audit::{EventTexts, audit_record, audit_row};
pub(crate) use firewall::{firewall, firewall_content, firewall_reference};
pub(crate) use policy::{policy, policy_content};
pub(crate) use rule::{
    changed_rule, compact_rule, rule, rule_content, rule_in_state, rule_of, rule_spec, rule_upkeep,
};

use std::collections::BTreeMap;
use std::fmt::Display;

use fireflow_domain::labels::Labels;
use fireflow_domain::mark::Mark;
use fireflow_domain::store::Stamp;
use fireflow_domain::time::Instant;

use crate::error::Corrupt;

/// The row of a value, for the message if the value cannot be read.
#[derive(Clone, Copy)]
struct Row {
    table: &'static str,
    id: i64,
}

impl Row {
    fn corrupt(self, column: &'static str, why: impl Display) -> Corrupt {
        Corrupt { table: self.table, column, row: self.id, why: why.to_string() }
    }

    fn read<T, E: Display>(self, column: &'static str, value: Result<T, E>) -> Result<T, Corrupt> {
        value.map_err(|error| self.corrupt(column, error))
    }

    fn known<T>(self, column: &'static str, value: Option<T>) -> Result<T, Corrupt> {
        value.ok_or_else(|| self.corrupt(column, "unknown value"))
    }

    fn instant(self, column: &'static str, micros: i64) -> Result<Instant, Corrupt> {
        self.known(column, Instant::from_micros(micros))
    }

    fn optional_instant(
        self,
        column: &'static str,
        micros: Option<i64>,
    ) -> Result<Option<Instant>, Corrupt> {
        micros.map(|micros| self.instant(column, micros)).transpose()
    }

    /// When and by whom a row was deleted.
    fn deleted(self, at: Option<i64>, by: Option<String>) -> Result<Option<Stamp>, Corrupt> {
        let at = self.optional_instant("deleted_at", at)?;
        Ok(at.map(|at| Stamp { at, by: by.unwrap_or_default() }))
    }

    fn count(self, column: &'static str, value: i64) -> Result<u64, Corrupt> {
        self.read(column, u64::try_from(value))
    }

    fn labels(self, json: &str) -> Result<Labels, Corrupt> {
        // Most rows have none.
        if json == NO_LABELS {
            return Ok(Labels::default());
        }
        let map: BTreeMap<String, String> = self.read("labels", serde_json::from_str(json))?;
        Labels::stored(map).map_err(|_| self.corrupt("labels", "a label the domain refuses"))
    }
}

/// The labels of a row, from their column.
pub(crate) fn stored_labels(table: &'static str, id: i64, json: &str) -> Result<Labels, Corrupt> {
    Row { table, id }.labels(json)
}

/// The mark of a state from its column: the same bits.
const fn mark(column: i64) -> Mark {
    Mark::new(column.cast_unsigned())
}

const NO_LABELS: &str = "{}";

fn labels_json(labels: &Labels) -> String {
    json(labels.as_map())
}

/// JSON of plain strings and numbers, which cannot fail.
fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

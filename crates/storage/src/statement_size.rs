//! How many rows fit into one statement.

/// The most parameters of a statement on SQLite; PostgreSQL takes twice as many.
const MAX_PARAMETERS: usize = 32_766;

/// How many rows one statement writes: all columns of the widest table that is written so are within
/// the parameters that it can have.
pub(crate) const ROWS_PER_INSERT: usize = rows_of(crate::entity::rule::COLUMNS);

/// How many rows with so many columns fit into a statement: 1,000 at most, for more gain nothing.
const fn rows_of(columns: usize) -> usize {
    let most = MAX_PARAMETERS / columns;
    if most < 1_000 { most } else { 1_000 }
}

#[cfg(test)]
mod tests {
    use sea_orm::{EntityTrait, Iterable};

    use super::*;
    use crate::entity::{audit_event, label, rule, rule_address, rule_port};

    fn columns<E: EntityTrait>() -> usize {
        E::Column::iter().count()
    }

    #[test]
    fn the_rows_of_every_statement_are_within_its_parameters() {
        assert_eq!(columns::<rule::Entity>(), rule::COLUMNS);
        for columns in [
            columns::<rule::Entity>(),
            columns::<rule_address::Entity>(),
            columns::<rule_port::Entity>(),
            columns::<label::of_rule::Entity>(),
            columns::<audit_event::Entity>(),
        ] {
            assert!(columns * ROWS_PER_INSERT <= MAX_PARAMETERS, "{columns} columns");
        }
        // One column more makes the statements smaller, and not too large.
        for columns in 1..200 {
            assert!(columns * rows_of(columns) <= MAX_PARAMETERS && rows_of(columns) > 100);
        }
        assert_eq!((rows_of(13), rows_of(32), rows_of(33)), (1_000, 1_000, 992));
    }
}

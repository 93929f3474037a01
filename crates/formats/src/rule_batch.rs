//! Batches of changes of a policy's rules, read operation by operation.

use fireflow_domain::error::{Violation, Violations};
use fireflow_domain::ids::{PolicyId, Revision, RuleId};
use fireflow_domain::rule::order::Placement;
use fireflow_domain::text::excerpt;
use fireflow_domain::usecase::Named;
use fireflow_domain::usecase::batch::{MAX_OPERATIONS, Operation};
use serde_json::Value;

use crate::ReadError;
use crate::entity_tags;
use crate::json::{self, Meter, Parsed};
use crate::members::{MemberValue, Members, integer};
use crate::read_only::ReadOnly;
use crate::restoration::name_and_duplicates;
use crate::rule::{new_rule, rule_patch};
use crate::rule_order::{placement, rule_id, rule_ids, some_placement};

/// The member with the operations.
const OPERATIONS: &str = "operations";

/// Reads a batch, operation by operation. Blocks the thread, so call it outside those that serve
/// requests.
///
/// # Errors
/// Returns all violations, each with its place.
pub fn operations(
    bytes: &[u8],
    policy: PolicyId,
    read_only: ReadOnly,
    meter: &Meter,
) -> Result<Vec<Operation>, ReadError> {
    // A scalar or an array is valid JSON, but not a batch.
    if !matches!(bytes.trim_ascii_start().first(), Some(b'{') | None) {
        let value = json::parse_within(bytes, meter)?;
        let mut violations = Violations::new();
        drop(Members::open(value, "", &mut violations));
        return Err(ReadError::Invalid(violations));
    }
    let mut violations = Violations::new();
    let mut operations = Vec::new();
    let mut count = 0_usize;
    let parsed = json::parse_members(bytes, OPERATIONS, meter, &mut |index, value| {
        count += 1;
        // Operations beyond the limit are only counted.
        if count > MAX_OPERATIONS {
            operations.clear();
            return;
        }
        let mut faults = violations.nested();
        let at = format!("/{OPERATIONS}/{index}");
        let read = operation(value, &at, policy, read_only, &mut faults);
        // A batch with a fault is refused, so its valid operations need not be kept.
        operations.extend(read.filter(|_| violations.is_empty() && faults.is_empty()));
        violations.extend(faults);
    });
    let others = match parsed {
        Ok(Parsed::Elements(others)) => others,
        Ok(Parsed::Object(others)) => {
            violations.push(Violation::body(format!("/{OPERATIONS}"), "is required"));
            others
        }
        Err(error) if error.is_data() => return Err(not_a_batch(bytes, meter, error)),
        Err(error) => return Err(error.into()),
    };
    if count > MAX_OPERATIONS {
        let detail = format!("has {count} entries; at most {MAX_OPERATIONS} are allowed");
        violations = Violation::body(format!("/{OPERATIONS}"), detail).into();
    }
    if let Some(mut members) = Members::open(Value::Object(others), "", &mut violations) {
        // The operations were read above; this only marks the name as known.
        let _read = members.value(OPERATIONS, Ok);
        members.finish();
    }
    if violations.is_empty() && operations.len() == count {
        Ok(operations)
    } else {
        Err(ReadError::Invalid(violations))
    }
}

/// The fault of a body whose operations are not an array, or that is not JSON.
fn not_a_batch(bytes: &[u8], meter: &Meter, error: serde_json::Error) -> ReadError {
    meter.refill();
    let value = match json::parse_within(bytes, meter) {
        Ok(value) => value,
        Err(error) => return error.into(),
    };
    let mut violations = Violations::new();
    if let Some(mut members) = Members::open(value, "", &mut violations) {
        let operations = members.list(OPERATIONS, MAX_OPERATIONS, |_, _, _| None::<()>);
        members.required(OPERATIONS, operations);
        members.finish();
    }
    if violations.is_empty() { error.into() } else { ReadError::Invalid(violations) }
}

fn operation(
    value: Value,
    at: &str,
    policy: PolicyId,
    read_only: ReadOnly,
    violations: &mut Violations,
) -> Option<Operation> {
    // Rules and patches are read last, because the object that contains them borrows the
    // violations until then.
    let (mut rule, mut patch) = (None, None);
    let mut members = Members::open(value, at, violations)?;
    let op = members.text("op", |word| match word {
        "create" | "update" | "delete" | "move" | "restore" => Ok(word.to_owned()),
        _ => Err(format!(
            "`{}` is not an operation; use create, update, delete, move or restore",
            excerpt(word)
        )),
    });
    let op = members.required("op", op)?;
    let read = match op.as_str() {
        "create" => {
            let given = members.value("rule", Ok);
            rule = members.required("rule", given);
            let place = some_placement(&mut members);
            (place != MemberValue::Bad).then(|| ReadOperation::Create(place.nullable()))
        }
        "update" => {
            let id = id(&mut members);
            let conditions = (if_revision(&mut members), if_match(&mut members));
            let given = members.value("patch", Ok);
            patch = members.required("patch", given);
            id.map(|id| ReadOperation::Update(id, conditions))
        }
        "delete" => {
            let id = id(&mut members);
            let (if_revision, if_match) = (if_revision(&mut members), if_match(&mut members));
            id.map(|rule| ReadOperation::Whole(Operation::Delete { rule, if_revision, if_match }))
        }
        "restore" => {
            let id = id(&mut members);
            let (name, duplicates) = name_and_duplicates(&mut members);
            id.map(|rule| ReadOperation::Whole(Operation::Restore { rule, name, duplicates }))
        }
        _ => {
            let rules = rule_ids(&mut members, usize::MAX);
            let place = placement(&mut members);
            rules.zip(place).map(|(rules, placement)| {
                ReadOperation::Whole(Operation::Move { rules, placement })
            })
        }
    };
    let (_, violations) = members.finish();
    match read? {
        ReadOperation::Whole(operation) => Some(operation),
        ReadOperation::Create(placement) => {
            let mut faults = violations.nested();
            let below = format!("{at}/rule");
            let spec = new_rule(rule?, &below, placement.is_some(), read_only, &mut faults);
            let is_good = faults.is_empty();
            violations.extend(faults);
            Some(Operation::Create { spec: Box::new(spec.filter(|_| is_good)?), placement })
        }
        ReadOperation::Update(rule, (if_revision, if_match)) => {
            let mut faults = violations.nested();
            let below = format!("{at}/patch");
            let patch = rule_patch(patch?, &below, policy, rule, &mut faults);
            let is_good = faults.is_empty();
            violations.extend(faults);
            let patch = Box::new(patch.filter(|_| is_good)?);
            Some(Operation::Update { rule, patch, if_revision, if_match })
        }
    }
}

/// An operation, complete or without its rule or patch.
enum ReadOperation {
    Whole(Operation),
    Create(Option<Placement>),
    Update(RuleId, (Option<Revision>, Named)),
}

fn id(members: &mut Members<'_>) -> Option<RuleId> {
    let id = members.value("rule_id", |value| rule_id(&value));
    members.required("rule_id", id)
}

fn if_revision(members: &mut Members<'_>) -> Option<Revision> {
    members.value("if_revision", |value| integer(&value, 1, i64::MAX)).nullable().map(Revision)
}

fn if_match(members: &mut Members<'_>) -> Named {
    let tags = members.text("if_match", |text| entity_tags::list(text.as_bytes()));
    tags.nullable().map_or(Named::Nothing, |tags| tags.named())
}

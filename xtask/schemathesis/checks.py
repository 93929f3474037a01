"""What a request that keeps to the schemas may still be refused for.

Loaded by `cargo xtask schemathesis`. It stands in for the check `positive_data_acceptance`, which
knows statuses alone: here every single reason of a refusal must be one that OpenAPI 3.0 has no word
for. Anything else means that the description promises too much.
"""

import re

import schemathesis

# Each by the words with which FireFlow refuses it.
BEYOND_SCHEMAS = [re.compile(pattern) for pattern in [
    # Two values that do not go together.
    r"lies beyond the first \d+ items",
    r"stands beside (another place|a place|`\w+`); use one of them|use one of before, after and at$",
    r"^must have exactly one of `before`, `after` and `at`$",
    r"^is required( with \w+| beside `icmp_code`)?$",
    r'^must be either \{"number": …\} or \{"from": …, "to": …\}$',
    r"^(is missing|stands) here, but not in the rules before; give it to all or to none$",
    r"^must be left out: ",
    r"^the range `?[^ ]+ ends before it begins$",
    r"^must be later than `starts_at`",
    r"^needs (exactly one protocol, `icmp` or `icmpv6`|`icmp_type`)$",
    r"^can match no packet: ",
    r"^must be of the same family as `source_address`$",
    r"does not exist in IPv[46]; \w+ is meant$",
    r"stands there twice$",
    r"`\w+` orders the list of one parent, or one with a filter",
    r"orders the pages of a list",
    r"^does not go with `deleted=true`; leave it out$",
    r"^comes as JSON alone; leave `Accept` out$",
    # The filter language, and cursors, which are opaque.
    r"^at position \d+: ",
    r"^is not a cursor of this list, filter and order; ",
    r"^stands beside `page`; use one of them$",
    r"^is another name of `page_size`; use one of them$",
    # Structure within a text: host bits, mapped addresses, and the shape of IPv6 (with a colon).
    r"has host bits set; the block that holds it is",
    r"is IPv4 in IPv6 form; write ",
    r"^`[^`]*:[^`]*` is not an (address|IPv4 or IPv6 address)",
    # OpenAPI 3.0 cannot constrain the names of members.
    r"is not a label key: ",
    # To Python, `$` is also before a line end at the end; to JSON Schema (ECMA 262) it is not.
    r"^holds a control character; remove it$",
    # The engines of patterns do not agree on characters beyond the basic plane.
    r"^holds U\+[0-9A-F]{5} at character \d+, which nobody sees; remove it$",
    # The list of entity tags of a header (RFC 9110, 8.8.3).
    r"^takes `\*`, or entity tags as `ETag` answers them",
    # What is stored.
    r"^the (firewall|filtering policy|rule|firewall rule) is not deleted; ",
    r"^a deleted rule with id=\d+ is not in this policy$",
    r"^this `Idempotency-Key` was used for another request; ",
    r"^a rule with id=\d+ is not (in this policy|among the others of this policy)$",
    r"has the same name as the one with id=\d+$",
    r"is equal to the one with id=\d+$",
    r"^the rule has changed: its revision is \d+ now$",
    r"^is left out, but the stored rule with id=\d+ has one; ",
    # Texts in lines: CSV and NDJSON.
    r"^line \d+: ",
    r"^the request body is empty",
    r"^the body is not CSV: ",
    # Two entries of one set.
    r"^rule \d+ is itself to be moved$",
    r"^must name rules, each once, and not the one that they move to$",
    r"^names rule \d+ twice$",
    r"^stands already at #/\d+$",
    r"is already the name of #/\d+$",
    r"^is equal to #/\d+$",
    r"^has \d+ packets; at most 100 are taken with `explain`$",
]]


# Which members an operation of a batch takes depends on its `op`.
OF_OPERATION = re.compile(r"^#/operations/\d+/\w+: is not a known member")


def is_beyond_schemas(place, reason):
    return any(pattern.search(reason) for pattern in BEYOND_SCHEMAS) or OF_OPERATION.search(f"{place}: {reason}")


def reasons(response):
    problem = response.json()
    errors = problem.get("errors", [])
    return [(error.get("pointer"), error["detail"]) for error in errors] or [(None, problem["detail"])]


@schemathesis.check
def refused_only_beyond_the_schemas(ctx, response, case):
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    if response.status_code not in (400, 413, 415, 422):
        return
    for place, reason in reasons(response):
        if not is_beyond_schemas(place, reason):
            raise AssertionError(f"refused, though the schemas allow it: {reason}")

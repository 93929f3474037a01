"""The reasons for which FireFlow may refuse a request that conforms to the schemas.

Loaded by `cargo xtask schemathesis`. It replaces the check `positive_data_acceptance`, which only
checks the status. Here, every reason of a refusal must be one that OpenAPI 3.0 cannot express. Any other
reason means that the description promises too much.
"""

import re

import schemathesis

# Patterns of FireFlow's messages for these reasons.
BEYOND_SCHEMAS = [re.compile(pattern) for pattern in [
    # Two values that conflict.
    r"is beyond the first \d+ items",
    r"cannot be combined with (another position|a position|`\w+`)",
    r"^must have exactly one of `before`, `after` and `at`$",
    r"^is required( with (\w+|`icmp_code`))?$",
    r'^must be either \{"number": …\} or \{"from": …, "to": …\}$',
    r"^is (missing|set) here, but not in the previous rules; set it in all rules or in none$",
    r"^must be left out: ",
    r"^the range `?[^ ]+ ends before it begins$",
    r"^must be later than `starts_at`",
    r"^needs (exactly one protocol, `icmp` or `icmpv6`|`icmp_type`)$",
    r"^cannot match any packet: ",
    r"^must be of the same family as `source_address`$",
    r"does not exist in IPv[46]; use \w+$",
    r"^duplicate ",
    r"`\w+` can only order the list of one parent, or a list with a filter",
    r"can only order pages",
    r"^cannot be combined with `deleted=true`; leave it out$",
    r"^is available as JSON only; leave `Accept` out$",
    # The filter language, and cursors, which are opaque.
    r"^at position \d+: ",
    r"^is not a cursor of this list, filter and order; ",
    r"^cannot be combined with `page`$",
    r"^is another name for `page_size`; use only one of them$",
    # Analyses: their cursors, the two forms of a policy, outcomes, intervals, and ranges in lists.
    r"^is not a cursor of this policy and these filters; ",
    r"^is available as JSON only; other formats have all findings$",
    r"^must have either (`firewall_id` and `filtering_policy_id`, or `rules` and `default_action`|`action` or `rule_id`)$",
    r"^(is required and must not be null|cannot be combined with a stored policy)$",
    r"^must (not )?be (in the future|earlier than `from`)",
    r"^entry \d+: (the range `?[^ ]+ ends before it begins|`[^`]*:[^`]*` is not an address|a range needs two addresses)",
    r"^entry \d+: `\d+-\d+` is not a number from 0 to 255 or a range",
    r"^the policy has no rule with id=\d+$",
    # Rules that a request names.
    r"^there is no rule with id=\d+$",
    r"^the rule with id=\d+ is (in another policy|deleted)",
    # Structure within a text: host bits, mapped addresses, and the shape of IPv6 (with a colon).
    r"has host bits set; the block that contains it is",
    r"is an IPv4 address in IPv6 form; write ",
    r"^`[^`]*:[^`]*` is not an (address|IPv4 or IPv6 address)",
    # OpenAPI 3.0 cannot constrain the names of members.
    r"is not a label key: ",
    # In Python, `$` also matches before a final line end; in JSON Schema (ECMA 262) it does not.
    r"^contains a control character; remove it$",
    # Regular expression engines disagree about characters beyond the basic plane.
    r"^contains the invisible U\+[0-9A-F]{5} at character \d+; remove it$",
    # The list of entity tags of a header (RFC 9110, 8.8.3).
    r"^must be `\*`, or entity tags as in `ETag`",
    # Conflicts with stored resources.
    r"^the (firewall|filtering policy|rule|firewall rule) is not deleted; ",
    r"^a deleted rule with id=\d+ is not in this policy$",
    r"^this `Idempotency-Key` was used for another request; ",
    r"^a rule with id=\d+ is not (in this policy|among the others of this policy)$",
    r"has the same name as the one with id=\d+$",
    r"is equivalent to the one with id=\d+$",
    r"^the rule has changed since you read it: its revision is now \d+$",
    r"^is left out, but the stored rule with id=\d+ has one; ",
    # Bodies in lines: CSV and NDJSON.
    r"^line \d+: ",
    r"^the request body is empty",
    r"^the body is not CSV: ",
    # Two entries of one set.
    r"^rule \d+ is one of the moved rules$",
    r"^must name each rule once, and not the rule that they move to$",
    r"^contains rule \d+ twice$",
    r"^is a duplicate of #/\d+$",
    r"is already the name of #/\d+$",
    r"^is equivalent to #/\d+$",
    r"^has \d+ packets; at most 100 are allowed with `explain`$",
]]


# The members of a batch operation depend on its `op`.
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

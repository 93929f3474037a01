"""Runs the README's example with a generated client. `mypy --strict` checks this file first.

Usage: drive.py ADDRESS, with a token in FIREFLOW_TOKEN; the database holds `fireflow demo`.
"""

import os
import sys
from typing import TypeVar

from fireflow_client import AuthenticatedClient
from fireflow_client.api.filtering_policies import get_filtering_policies
from fireflow_client.api.firewall_rules import create_rule, get_rules, move_rules
from fireflow_client.api.firewalls import create_firewall, get_firewalls
from fireflow_client.api.inspections import inspect_packet
from fireflow_client.models import Action, Endpoint, Inspection, NewFirewall, NewFirewallRule, Problem, RuleMove
from fireflow_client.models.problem_code import ProblemCode
from fireflow_client.models.rule_move_at import RuleMoveAt
from fireflow_client.types import Unset

T = TypeVar("T")


def there(answer: T | Problem | Unset | None) -> T:
    if answer is None or isinstance(answer, (Problem, Unset)):
        raise SystemExit(f"not what was asked for: {answer}")
    return answer


def main() -> None:
    client = AuthenticatedClient(base_url=sys.argv[1], token=os.environ["FIREFLOW_TOKEN"])
    with client:
        [firewall] = there(there(get_firewalls.sync(client=client, name="demo")).items)
        [policy] = there(there(get_filtering_policies.sync(firewall.id, client=client)).items)

        def ssh() -> tuple[str, str | None]:
            answer: Inspection = there(inspect_packet.sync(
                firewall.id, policy.id, client=client, source_address="203.0.113.7", source_port=40_000,
                destination_address="198.51.100.10", destination_port=22))
            rule = there(answer.active_rule)
            return answer.action.value, None if isinstance(rule.name, Unset) else rule.name

        before = ssh()
        assert before == ("ALLOW", "vendor-temporary"), before
        named = there(get_rules.sync(firewall.id, policy.id, client=client, name="vendor-temporary"))
        [vendor] = named.items
        there(move_rules.sync(
            firewall.id, policy.id, client=client, body=RuleMove(rule_ids=[vendor.id], at=RuleMoveAt.LAST)))
        after = ssh()
        assert after == ("REJECT", "no-ssh"), after

        # A list is read to its end by cursor, without a total or page numbers.
        names: list[str | None] = []
        cursor = ""
        while True:
            page = there(get_rules.sync(firewall.id, policy.id, client=client, page_size=2, cursor=cursor))
            assert isinstance(page.total, Unset), page
            names += [None if isinstance(rule.name, Unset) else rule.name for rule in page.items]
            if isinstance(page.next_cursor, Unset):
                break
            cursor = page.next_cursor
        assert len(names) == there(policy.rule_count) and "no-ssh" in names, names

        rule = NewFirewallRule(
            action=Action.ALLOW, priority=95, sources=[Endpoint(address="192.0.2.9")],
            destinations=[Endpoint(address="198.51.100.0/24", port="8000-8100")])
        made = there(create_rule.sync(firewall.id, policy.id, client=client, body=rule))
        assert there(made.destinations)[0].port == "8000-8100", made
        refused = create_firewall.sync(client=client, body=NewFirewall(name="demo"))
        assert isinstance(refused, Problem) and refused.code == ProblemCode.NAME_TAKEN, refused


main()

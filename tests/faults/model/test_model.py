"""Revocation and authority keep their guarantees in every run within bounds, and need each of their rules."""

from dataclasses import replace

import pytest

from tests.faults.model import (
    authority,
    authority_scenarios,
    clients,
    clients_scenarios,
    replica,
    replica_scenarios,
)
from tests.faults.model.explore import explore, reaches
from tests.faults.model.protocol import Model
from tests.faults.model.scenarios import AMENDMENTS, BURIALS, FLOORS, LIMITS, MUTANTS, SPARE, any_violation

# They compute, and wait for nothing. The largest has half a million states.
pytestmark = pytest.mark.timeout(300)


def told(trace: list[str] | None) -> str:
    return "\n".join(trace or [])


@pytest.mark.parametrize("scenario", FLOORS, ids=lambda scenario: scenario.name)
def test_the_protocol_has_no_violation(scenario: Model) -> None:
    """In a full exploration, the protocol never answers VALID after OK, nor refuses a living key."""
    result = explore(scenario, any_violation)
    assert result.trace is None, told(result.trace)
    assert result.states >= FLOORS[scenario]


@pytest.mark.parametrize("name", MUTANTS)
def test_without_a_rule_there_is_a_violation(name: str) -> None:
    """Each mutant answers VALID to a verification that was invoked after OK."""
    mutant = MUTANTS[name]
    assert explore(mutant.model(name), mutant.violated).trace is not None


@pytest.mark.parametrize("name", BURIALS)
def test_without_a_rule_a_living_key_is_buried(name: str) -> None:
    """The second property can fail: a fill from the old primary's branch is kept, and the key is alive."""
    mutant = BURIALS[name]
    assert explore(mutant.model(name), mutant.violated).trace is not None


@pytest.mark.parametrize("name", SPARE)
def test_a_spare_rule_is_not_needed(name: str) -> None:
    """A rule that is kept for clarity could be dropped."""
    spare = SPARE[name]
    result = explore(spare.model(name), any_violation)
    assert result.trace is None, told(result.trace)


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_is_known(name: str) -> None:
    """What the protocol does not guarantee does happen: after a failover, by a read from the old primary."""
    limit = LIMITS[name]
    trace = explore(limit.model(), limit.violated).trace
    assert trace is not None
    assert any("failover" in step for step in trace)
    assert any("NOT_FOUND at the old primary" in step for step in trace)


@pytest.mark.parametrize("name", AMENDMENTS)
def test_an_amendment_ends_a_limit(name: str) -> None:
    """With one more rule the limit is gone, and there is no new violation."""
    amendment = AMENDMENTS[name]
    model = amendment.model(name)
    result = explore(model, lambda state: amendment.violated(state) or any_violation(state))
    assert result.trace is None, told(result.trace)
    assert result.states >= 2_000


@pytest.mark.parametrize("scenario", authority_scenarios.FLOORS, ids=lambda scenario: scenario.name)
def test_authority_has_no_violation(scenario: authority.Model) -> None:
    """In a full exploration, no change is committed after its caller's end, and there is no deadlock."""
    result = explore(scenario, authority_scenarios.any_violation)
    assert result.trace is None, told(result.trace)
    assert result.states >= authority_scenarios.FLOORS[scenario]


@pytest.mark.parametrize("scenario", authority_scenarios.FLOORS, ids=lambda scenario: scenario.name)
def test_every_call_can_be_answered(scenario: authority.Model) -> None:
    """The locks refuse no call: each call of a scenario is answered OK in some run."""
    for number, plan in enumerate(scenario.plans):
        last = len(scenario.program(plan))
        assert explore(scenario, lambda state: state.calls[number].place == last).trace is not None, plan.name  # noqa: B023


@pytest.mark.parametrize("name", authority_scenarios.MUTANTS)
def test_without_a_part_of_authority_there_is_a_violation(name: str) -> None:
    """Each mutant commits a forbidden change, or reaches a deadlock."""
    mutant = authority_scenarios.MUTANTS[name]
    assert explore(mutant.model(name), mutant.violated).trace is not None


@pytest.mark.parametrize("name", authority_scenarios.SPARE)
def test_a_spare_part_of_authority_is_not_needed(name: str) -> None:
    """If the statement locks that very row, it may also read it."""
    spare = authority_scenarios.SPARE[name]
    result = explore(spare.model(name), authority_scenarios.any_violation)
    assert result.trace is None, told(result.trace)


@pytest.mark.parametrize("scenario", replica_scenarios.FLOORS, ids=lambda scenario: scenario.name)
def test_a_replica_has_no_violation(scenario: replica.Model) -> None:
    """In a full exploration, no worker of a replica answers VALID after OK."""
    result = explore(scenario, replica_scenarios.any_violation)
    assert result.trace is None, told(result.trace)
    assert result.states >= replica_scenarios.FLOORS[scenario]


@pytest.mark.parametrize("name", replica_scenarios.MUTANTS)
def test_without_a_rule_of_replicas_there_is_a_violation(name: str) -> None:
    """Each mutant answers VALID after OK."""
    mutant = replica_scenarios.MUTANTS[name]
    assert explore(mutant.model(name), mutant.violated).trace is not None


@pytest.mark.parametrize("name", replica_scenarios.SPARE)
def test_a_spare_rule_of_replicas_is_not_needed(name: str) -> None:
    """A rule that only bounds how long changes wait."""
    spare = replica_scenarios.SPARE[name]
    result = explore(spare.model(name), replica_scenarios.any_violation)
    assert result.trace is None, told(result.trace)


@pytest.mark.parametrize("scenario", clients_scenarios.FLOORS, ids=lambda scenario: scenario.name)
def test_a_client_has_no_violation(scenario: clients.Model) -> None:
    """In a full exploration, no client answers VALID after OK, and none is waited for after its sub-lease."""
    result = explore(scenario, clients_scenarios.any_violation)
    assert result.trace is None, told(result.trace)
    assert result.states >= clients_scenarios.FLOORS[scenario]


@pytest.mark.parametrize("scenario", clients_scenarios.FLOORS, ids=lambda scenario: scenario.name)
def test_a_client_accepts_a_living_key(scenario: clients.Model) -> None:
    """The rules do not keep a client from answering."""
    assert reaches(scenario, clients_scenarios.accepts)


@pytest.mark.parametrize("name", clients_scenarios.MUTANTS)
def test_without_a_rule_of_clients_there_is_a_violation(name: str) -> None:
    """Each mutant answers VALID after OK, or waits for too long."""
    mutant = clients_scenarios.MUTANTS[name]
    assert reaches(mutant.model(name), mutant.violated)


@pytest.mark.parametrize("name", clients_scenarios.SPARE)
def test_a_spare_rule_of_clients_is_not_needed(name: str) -> None:
    """A rule that is kept for clarity could be dropped."""
    spare = clients_scenarios.SPARE[name]
    result = explore(spare.model(name), clients_scenarios.any_violation)
    assert result.trace is None, told(result.trace)


def holding(scenario: clients.Model) -> clients.Model:
    """Return a scenario that begins with a commit, and a client with the key and a fresh sub-lease."""

    def holds(state: clients.State) -> bool:
        worker, stream = state.workers[0], state.streams[0]
        return (
            clients_scenarios.accepts(state)
            and state.client.lease == clients.SUB_LEASE + clients.DRIFT
            and worker.lease == clients.LEASE
            and stream.until == clients.OVER
        )

    held = explore(scenario, holds).last
    assert held is not None
    return replace(scenario, begins=held._replace(wait=clients.LEASE))


def when_acknowledged(scenario: clients.Model, left: int) -> list[str] | None:
    """Return a way to an acknowledged revocation that has waited until `left` ticks of a lease were left."""
    return explore(
        scenario, lambda state: state.rows[0] == 1 and not state.answered and state.wait == left
    ).trace


def test_a_change_waits_for_no_time_when_the_client_is_well() -> None:
    """The client that holds the key confirms, and no time has to pass."""
    scenario = replace(holding(clients_scenarios.BOUNDED), frozen=True, loses=False, leaves=False)
    trace = when_acknowledged(scenario, clients.LEASE)
    assert trace is not None
    assert "R14: the client forgets the key" in trace


@pytest.mark.parametrize(
    "scenario", [clients_scenarios.ONE, clients_scenarios.ENDS], ids=lambda each: each.name
)
def test_a_change_waits_for_a_sub_lease_when_the_client_is_out_of_reach(scenario: clients.Model) -> None:
    """It waits until the sub-lease is certainly over, and not for the lease of the worker; nor for less."""
    scenario = replace(holding(scenario), hung=True)
    for left in range(clients.LEASE + 1):
        waited_enough = left <= clients.LEASE - clients.OVER
        assert (when_acknowledged(scenario, left) is not None) == waited_enough, left

"""Pods whose certificates come from an authority behind ratelock: they start, or wait with the reason."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from jfe_cni.ratelock.budgets import Budget, Limit, Meter
from tests.cni.calls import PREVIOUS, container
from tests.cni.test_calls import NAMESPACES
from tests.e2e.ratelock import HOUR, Ratelock, credential, serving
from tests.stage import Stage


@pytest.fixture
def ratelock(stage: Stage) -> Iterator[Ratelock]:
    with serving(stage.folder / "ratelock") as service:
        yield service


def start(stage: Stage, ratelock: Ratelock, *operations: str) -> None:
    file = stage.a.folder / "namespaces.toml"
    file.write_text(NAMESPACES)
    stage.a.start_agent(*ratelock.options(stage.a, *operations), "--cni-namespaces", str(file))


def test_pods_wait_while_ratelock_is_away_and_when_its_budget_is_spent(stage: Stage, ratelock: Ratelock) -> None:
    start(stage, ratelock, "certify", "certify-pods")
    with container(stage, stage.a, "first", pod="shop/first") as first:
        assert first.call("ADD").body == PREVIOUS
        with container(stage, stage.a, "web", pod="shop/web") as web:
            ratelock.kill()
            answer = web.call("ADD")
            assert answer.code == 11
            assert "ratelock at unix:" in answer.said
            assert "can't be reached" in answer.said
            assert web.call("STATUS").code == 50
            assert first.call("CHECK").done
            ratelock.start()
            ratelock.budget(Meter("caller", credential(stage.a)), Budget((Limit(1, HOUR),)))
            assert web.call("ADD").done
            assert web.call("DEL").done
            answer = web.call("ADD")
            assert answer.code == 11
            assert "the signing budget of this node at ratelock is spent: 1 in 3600 s" in answer.said
            assert "come again in" in answer.said
            assert first.call("CHECK").done


def test_a_credential_that_is_not_for_pods_starts_none(stage: Stage, ratelock: Ratelock) -> None:
    start(stage, ratelock, "certify")
    with container(stage, stage.a, "web", pod="shop/web") as web:
        answer = web.call("ADD")
        assert answer.code == 11
        assert "may not have spiffe://jfe.test/ns/shop/pod/web certified" in answer.said
        assert not web.rules()

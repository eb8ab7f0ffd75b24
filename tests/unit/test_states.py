"""The state table, and the document that is generated from it.

`python -m tests.unit.test_states` writes docs/states.md anew after the table has changed.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from aegispay.domain.errors import IllegalTransition
from aegispay.domain.events import TYPE_OF
from aegispay.domain.states import EDGES, PAID, TERMINAL, UNSETTLED, PaymentState, check_transition, diagram

DOCUMENT = Path(__file__).parents[2] / "docs" / "states.md"

_INTRODUCTION = """# The states of a payment

Generated from the one table in `aegispay.domain.states`; a test holds this page and the table together, and
another walks through every sequence of commands and finds each edge taken and no other. Capital letters stand for
what may happen beside the main line; all of them but A, G and H are left out of the diagram: a person's
[review](guides/reviews.md) (B, C, D), a late success (E) and its reversal (F).
"""


def render() -> str:
    """The document's text."""
    lines = [
        _INTRODUCTION,
        "```mermaid",
        diagram(),
        "```",
        "",
        "| edge | from | to | events | why |",
        "|---|---|---|---|---|",
    ]
    for letter in dict.fromkeys(edge.letter for edge in EDGES):
        edges = [edge for edge in EDGES if edge.letter == letter]
        sources = ", ".join(dict.fromkeys(edge.source.value for edge in edges))
        same = all(edge.source is edge.target for edge in edges)
        targets = "the same" if same else ", ".join(dict.fromkeys(edge.target.value for edge in edges))
        events = ", ".join(dict.fromkeys(f"`{edge.event}`" for edge in edges))
        lines.append(f"| {letter} | {sources} | {targets} | {events} | {edges[0].why} |")
    return "\n".join(lines) + "\n"


def test_the_document_shows_the_table_as_it_is() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == render(), "run: python -m tests.unit.test_states"


def test_every_state_has_an_edge_and_every_state_but_the_first_is_entered() -> None:
    assert {edge.source for edge in EDGES} == set(PaymentState)
    assert {edge.target for edge in EDGES} == set(PaymentState) - {PaymentState.INITIATED}


def test_edges_name_events_that_exist() -> None:
    assert {edge.event for edge in EDGES} == set(TYPE_OF.values()) - {"payment_initiated"}


def test_no_letter_has_two_reasons_and_within_a_letter_no_edge_stands_twice() -> None:
    assert len({(edge.letter, edge.why) for edge in EDGES}) == len({edge.letter for edge in EDGES})
    plain = [(edge.letter, edge.source, edge.event, edge.target) for edge in EDGES]
    assert len(set(plain)) == len(plain)


def test_a_step_outside_the_table_is_refused_by_name() -> None:
    with pytest.raises(IllegalTransition, match="from refunded to authorized by operation_approved"):
        check_transition(PaymentState.REFUNDED, "operation_approved", PaymentState.AUTHORIZED)
    with pytest.raises(IllegalTransition):
        check_transition(PaymentState.SUCCEEDED, "operation_declined", PaymentState.FAILED)
    check_transition(PaymentState.INITIATED, "operation_started", PaymentState.PROCESSING)


def test_terminal_states_are_left_only_for_a_refund_a_dispute_a_review_or_news_of_an_earlier_capture() -> (
    None
):
    """I12. What a late success changes is not the state: its edges lead back to where they start."""
    for edge in EDGES:
        if edge.source in TERMINAL and edge.target is not edge.source:
            refunds = edge.event == "operation_approved" and edge.source in PAID and edge.target in PAID
            earlier = (edge.letter, edge.event, edge.target) == (
                "G",
                "operation_approved",
                PaymentState.SUCCEEDED,
            )
            assert refunds or earlier or edge.event in ("dispute_opened", "review_requested"), edge


def test_success_is_never_undone_by_a_decline() -> None:
    for edge in EDGES:
        if edge.source in PAID and edge.event in (
            "operation_declined",
            "operation_not_sent",
            "payment_failed",
        ):
            assert edge.target is edge.source


def test_the_groups_of_states_do_not_overlap() -> None:
    assert not TERMINAL & UNSETTLED
    rest = {PaymentState.AUTHORIZED, PaymentState.DISPUTED, PaymentState.NEEDS_REVIEW}
    assert set(PaymentState) == TERMINAL | UNSETTLED | rest


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("SUCCESS", PaymentState.SUCCEEDED),
        ("completed", PaymentState.SUCCEEDED),
        ("FAILURE", PaymentState.FAILED),
        ("cancelled", PaymentState.CANCELED),
        ("succeeded", PaymentState.SUCCEEDED),
    ],
)
def test_the_missions_names_are_understood(given: str, meant: PaymentState) -> None:
    assert PaymentState(given) is meant


def test_a_name_that_nobody_uses_is_refused() -> None:
    with pytest.raises(ValueError):
        PaymentState("lost")


if __name__ == "__main__":
    DOCUMENT.write_text(render(), encoding="utf-8")

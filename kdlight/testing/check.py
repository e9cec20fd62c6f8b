"""Check all laws on one objective."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from types import MappingProxyType

from kdlight.objectives import Objective
from kdlight.testing import laws, state_laws
from kdlight.testing.report import Law, Report, demand, find
from kdlight.testing.sample import Sample

LAWS: dict[str, Law] = {
    law.__name__: law
    for law in (
        laws.value_is_one_finite_number_over_all_positions,
        laws.zero_at_a_match,
        laws.never_negative,
        laws.a_constant_added_to_a_row_of_logits_changes_nothing,
        laws.the_order_of_the_vocabulary_does_not_matter,
        laws.columns_at_minus_infinity_on_both_sides_are_outside_the_vocabulary,
        laws.masking_is_removing,
        laws.what_stands_at_ignored_positions_does_not_leak,
        laws.no_position_at_all_is_zero_with_a_graph,
        laws.rows_add_up_however_the_work_is_split,
        laws.hidden_states_and_a_head_give_what_their_logits_give,
        laws.half_precision_is_widened_first,
        laws.gradient_is_the_slope,
        state_laws.the_default_dtype_of_a_run_does_not_matter,
        state_laws.forward_changes_no_state,
        state_laws.copies_and_pickles_are_the_same_objective,
        state_laws.state_dict_brings_back_what_is_not_a_hyper_parameter,
    )
}
"""Laws by name. A law takes an objective and a `Sample`, and yields deviations."""


def examine_objective(objective: Objective) -> Report:
    """Measure the deviation from every law, on copies of ``objective``.

    Example:
        >>> from kdlight.objectives import CrossEntropy
        >>> print(*(finding.law for finding in examine_objective(CrossEntropy()).broken))
        zero at a match
    """
    return find({name: _on_copies(law) for name, law in LAWS.items()}, objective)


def check_objective(
    objective: Objective, *, except_for: Mapping[str, str] = MappingProxyType({})
) -> Report:
    """Check an objective against the laws that all objectives of kdlight are tested with.

    The laws are checked on a few seeded positions in float64, with logits, labels and a mask. An
    objective on whole sequences has another unit, and breaks the laws about rows.

    Args:
        objective: a `kdlight.TokenObjective`, or any `kdlight.Objective` on such inputs.
        except_for: laws that the objective cannot satisfy, each with the reason. A law that holds
            although it is listed here is an error, as the entry would hide a later violation.

    Returns:
        The findings of all laws; printed, a table.

    Raises:
        AssertionError: a law is broken, or one in ``except_for`` holds.
        ValueError: a name in ``except_for`` is not that of a law.

    Example:
        >>> from kdlight.objectives import CrossEntropy, ForwardKL
        >>> len(check_objective(ForwardKL(temperature=2.0)).broken)
        0
        >>> why = {"zero_at_a_match": "measured against labels"}
        >>> len(check_objective(CrossEntropy(), except_for=why).broken)
        1
    """
    return demand(examine_objective(objective), type(objective).__name__, except_for)


def _on_copies(law: Law) -> Law:
    return lambda objective: law(copy.deepcopy(objective), Sample.draw())

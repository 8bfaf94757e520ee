"""Watches what a stage drops and fails, against the budget that the recipe gives it."""

from __future__ import annotations

from dataclasses import dataclass

from ..steps.limits import Budget
from ..steps.outcome import Outcome


@dataclass
class BudgetTracker:
    """What one stage has used of its budget, shards of earlier runs included."""

    budget: Budget
    samples_out: int = 0
    drops: int = 0
    failed_in_a_row: int = 0

    def add(self, outcome: Outcome) -> None:
        """Counts a shard."""
        if outcome.status in ("done", "cached"):
            self.failed_in_a_row = 0
            self.samples_out += outcome.samples_out
            self.drops += sum(outcome.drops.values())
        elif outcome.status == "failed":
            self.failed_in_a_row += 1

    def passed(self) -> str:
        """Which bound was passed, in words; empty while all is well."""
        budget, seen = self.budget, self.samples_out + self.drops
        if self.failed_in_a_row >= budget.max_failed_in_a_row:
            return f"{self.failed_in_a_row} shards failed in a row"
        if budget.max_drops is not None and self.drops > budget.max_drops:
            return f"{self.drops} drops, more than max_drops {budget.max_drops}"
        if seen >= budget.min_samples and self.drops > budget.max_drop_share * seen:
            return f"{self.drops} of {seen} dropped, more than max_drop_share {budget.max_drop_share:g}"
        return ""

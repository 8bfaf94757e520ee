"""Rankers of labels that need no truth, and what they are worth where there is one."""

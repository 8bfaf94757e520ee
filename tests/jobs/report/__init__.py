"""Tests of the report, and of the viewer in a real browser."""

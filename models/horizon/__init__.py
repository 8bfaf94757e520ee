"""Horizon validation: is a picture a whole panorama, and how far is it from level?"""

from pathlib import Path

EMBEDDED_WEIGHTS = Path(__file__).parent / "embedded_weights"
"""Of the network that measures tilt."""

"""What cards can do, and what a training step costs."""

PEAK_FLOPS = {"B200": 2250e12, "H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "4090": 165e12}
"""Dense operations a second in 16 bits, by a part of the card's name."""

FORWARDS = 3
"""Forward passes whose cost a training step has: a backward pass costs two."""

"""A child that C code keeps from running any Python, threads included."""

import ctypes
import os
from typing import Any


def hold_the_interpreter(parent: Any) -> None:
    """Sends its process id and sleeps, with the lock of the interpreter held."""
    parent.send(os.getpid())
    ctypes.PyDLL(None).sleep(60)

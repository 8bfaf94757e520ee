"""Checkpoints in parts: what their metadata may hold."""

import io
import os
import pickle

import pytest
import torch
from torch.distributed.checkpoint.metadata import Metadata

from dap_engine.stages.training.sharding import _Metadata


def test_metadata_is_read_and_nothing_else_is_ever_made_of_it():
    written = pickle.dumps(Metadata({}, planner_data=torch.float64))
    assert _Metadata(io.BytesIO(written)).load().planner_data is torch.float64
    for hostile in (os.system, torch.load, eval):
        with pytest.raises(pickle.UnpicklingError, match=f"names .*{hostile.__name__}"):
            _Metadata(io.BytesIO(pickle.dumps(hostile))).load()

"""Networks whose parameters are spread over the ranks (FSDP2), and the way back to a whole one."""

from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from ..network.dap import DapModel
from ..network.pretrained import StrictPreTrainedModel
from .speed import blocks


def shard(model: DapModel, mesh: DeviceMesh) -> None:
    """Leaves a rank a part of every parameter, in place; a block's whole parameters are there while it computes."""
    for block in blocks(model):
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh, reshard_after_forward=True)  # an average and a step take parameters as they lie


def whole(model: StrictPreTrainedModel) -> StrictPreTrainedModel:
    """The model to be saved by rank 0, and by no other, where parameters are spread. All ranks call this."""
    if not isinstance(model, FSDPModule):
        return model
    weights = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    gathered = DapModel.skeleton(model.config)  # only such models are spread
    if weights:  # on rank 0
        gathered.load_state_dict(weights, assign=True)
    return gathered

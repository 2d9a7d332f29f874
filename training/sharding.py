"""Split a frozen decoder among the processes of a team, by torch's fully sharded data parallelism (FSDP2)."""

from __future__ import annotations

from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from core.errors import ConfigError
from models.llama.model import Block
from training.adapter_trainee import AdapterTrainee
from training.loop import Team


def shard_frozen(trainee: AdapterTrainee, team: Team, device_type: str) -> tuple[int, int]:
    """Keep a share of each block's feed-forward and output matrices in each process, gathered when they are used.

    They are three quarters of a LLaMA block. The matrix of queries, keys and values stays whole, since conditions are
    projected through it outside the block, by the processes whose batch has a picture; and what trains stays whole.
    Returns how many of the decoder's parameters lie in this process now, and how many there are. Raises `ConfigError`
    for a team of one.
    """
    if team.size == 1:
        raise ConfigError("--shard splits the decoder among processes; start several with torchrun --nproc-per-node N")
    mesh = init_device_mesh(device_type, (team.size,))
    trained = set(trainee.trained.values())
    num_all = sum(value.numel() for value in trainee.decoder.parameters())
    for block in [module for module in trainee.decoder.modules() if isinstance(module, Block)]:
        for part in (block.feed_forward, block.attention.wo):
            fully_shard(part, mesh=mesh, reshard_after_forward=True, ignored_params=trained)
    local = [value.to_local() if isinstance(value, DTensor) else value for value in trainee.decoder.parameters()]
    return sum(value.numel() for value in local), num_all

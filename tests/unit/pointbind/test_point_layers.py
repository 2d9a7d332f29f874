"""The point encoders' parts against their plain formulas."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.pointbind.i2pmae import gather_rows, radius_mask
from models.pointbind.layers import BlockStack, GroupTokenNet


def randomised(net: nn.Module) -> nn.Module:
    """Give batch norms statistics of their own, so that a wrong axis shows."""
    torch.manual_seed(0)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return net.eval()


@torch.no_grad()
def test_group_tokens_equal_the_convolutions_over_the_joined_features() -> None:
    net = randomised(GroupTokenNet(5, (7, 6, 9, 4)))
    neighbours = torch.randn(2, 3, 8, 5)
    channels_first = neighbours.flatten(0, 1).transpose(1, 2)  # (B * G, C, K)
    local = net.first_conv(channels_first)
    shared = local.max(dim=2, keepdim=True).values.expand(-1, -1, 8)
    expected = net.second_conv(torch.cat((shared, local), dim=1)).max(dim=2).values.view(2, 3, 4)
    assert torch.allclose(net(neighbours), expected, atol=1e-5)


@torch.no_grad()
def test_group_tokens_do_not_depend_on_the_order_of_neighbours() -> None:
    net = randomised(GroupTokenNet(3, (7, 6, 9, 4)))
    neighbours = torch.randn(2, 3, 8, 3)
    assert torch.allclose(net(neighbours), net(neighbours.flip(2)), atol=1e-6)


@torch.no_grad()
def test_every_block_adds_the_positions_again() -> None:
    torch.manual_seed(0)
    stack = BlockStack(12, 3, 2)
    x, positions = torch.randn(1, 4, 12), torch.randn(1, 4, 12)
    first, second = stack.blocks
    expected = second(first(x + positions, None) + positions, None)
    assert torch.equal(stack(x, positions), expected)


def test_the_mask_is_open_only_within_the_radius() -> None:
    centres = torch.tensor([[[0.0, 0, 0], [0.5, 0, 0], [3, 0, 0]]])
    mask = radius_mask(centres, 0.6)[0, 0]
    assert mask.tolist() == [[0, 0, -1e5], [0, 0, -1e5], [-1e5, -1e5, 0]]
    assert radius_mask(centres, 0.5)[0, 0, 0, 1] == -1e5


@torch.no_grad()
def test_a_masked_token_does_not_reach_the_others() -> None:
    torch.manual_seed(0)
    stack = BlockStack(12, 3, 2)
    mask = radius_mask(torch.tensor([[[0.0, 0, 0], [0.1, 0, 0], [9, 0, 0]]]), 1.0)
    x, positions = torch.randn(1, 3, 12), torch.zeros(1, 3, 12)
    changed = x.clone()
    changed[:, 2] += 5.0
    near, far = (stack(tokens, positions, mask)[0, :2] for tokens in (x, changed))
    assert torch.equal(near, far)


def test_gathering_takes_each_clouds_own_rows() -> None:
    x = torch.arange(12.0).view(2, 3, 2)
    ids = torch.tensor([[[0, 2]], [[1, 1]]])
    expected: Tensor = torch.stack((x[0][[0, 2]], x[1][[1, 1]]))[:, None]
    assert torch.equal(gather_rows(x, ids), expected)

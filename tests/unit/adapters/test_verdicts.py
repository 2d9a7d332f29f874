"""The verdicts of the ImageBind-LLM adapter: told, they join the tokens; untold, nothing changes."""

from __future__ import annotations

import numpy as np
import torch

from core.types import FloatArray
from models.adapters.imagebind_llm import BindNetworkConfig, ImageBindLLMAdapter

E, D, HEADS = 6, 8, 2


def row(width: int) -> FloatArray:
    return np.linspace(-1, 1, width, dtype=np.float32)


def test_a_verdict_joins_the_tokens_and_none_leaves_them_as_they_were() -> None:
    config = BindNetworkConfig(embedding_width=E, width=D, hidden_width=16)
    adapter = ImageBindLLMAdapter(config, num_layers=3, num_heads=HEADS, has_verdicts=True)
    assert adapter.verdicts is not None
    untold = {agrees: adapter.condition(row(E), agrees=agrees) for agrees in (None, True, False)}
    torch.nn.init.normal_(adapter.verdicts)
    told = {agrees: adapter.condition(row(E), agrees=agrees) for agrees in (None, True, False)}
    no, yes = adapter.verdicts.detach().numpy()
    plain = untold[None]
    assert plain is not None
    for agrees, verdict in ((None, 0.0 * no), (False, no), (True, yes)):
        before, after = untold[agrees], told[agrees]
        assert before is not None and after is not None
        assert np.array_equal(before.prompts, plain.prompts)
        np.testing.assert_allclose(after.prompts[:, 0], plain.prompts[:, 0] + verdict, atol=1e-6)


def test_each_row_of_a_batch_gets_its_own_verdict() -> None:
    config = BindNetworkConfig(embedding_width=E, width=D, hidden_width=16)
    adapter = ImageBindLLMAdapter(config, num_layers=3, num_heads=HEADS, has_verdicts=True).requires_grad_(False)
    assert adapter.verdicts is not None
    torch.nn.init.normal_(adapter.verdicts)
    rows = torch.from_numpy(np.stack([row(E), row(E), row(E)]))
    together = adapter.prompts(rows, verdicts=(False, None, True))
    alone = [adapter.prompts(rows[:1], verdicts=(verdict,)) for verdict in (False, None, True)]
    torch.testing.assert_close(together, torch.cat(alone))

"""Each part of the loss is least when the student agrees."""

import torch

from recipes.bundled_encoder.batches import Batch
from recipes.bundled_encoder.losses import Outputs, Rows, opinion_loss, token_loss, total_loss
from tests.recipes.tiny_student import unit_rows


def agreeing() -> tuple[Outputs, Batch, Rows]:
    """A student that says exactly what the batch wants."""
    rows = unit_rows(4, 0)
    maps = torch.randn(4, 192, 8, 8, generator=torch.Generator().manual_seed(0))
    kept = torch.arange(64).expand(4, -1)
    tokens = maps.flatten(2).transpose(1, 2)
    batch = Batch(torch.zeros(4, 3, 64, 64), torch.eye(4), rows, (maps, maps))
    outputs = Outputs(rows, torch.tensor(20.0), (tokens, tokens), kept)
    return outputs, batch, Rows(rows, rows, unit_rows(9, 1))


def test_agreement_costs_nothing() -> None:
    loss, parts = total_loss(*agreeing())
    assert set(parts) == {"classes", "names", "feature", "halfway", "final"}
    assert abs(float(loss)) < 1e-3


def test_opinions_that_differ_cost() -> None:
    assert float(opinion_loss(unit_rows(4, 0), unit_rows(4, 5), unit_rows(9, 1))) > 0.1


def test_token_loss_compares_the_kept_cells_only() -> None:
    outputs, batch, _ = agreeing()
    kept = torch.arange(0, 64, 2).expand(4, -1)
    assert abs(float(token_loss(outputs.tokens[0][:, ::2], batch.tokens[0], kept))) < 1e-5
    assert float(token_loss(outputs.tokens[0][:, 1::2], batch.tokens[0], kept)) > 0.5

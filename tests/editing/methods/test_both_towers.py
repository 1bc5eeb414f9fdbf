"""What must hold for every method where the text tower moves too."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.optimizer import register_optimizer_step_post_hook

from editing.errors import EditCancelled, InvalidTask
from editing.fewshot import EditTask
from editing.methods import METHODS, Fit, fit
from editing.methods.fitting import Start, Subject
from editing.text import TextFunction
from encoder.adapter import Adapter, Provenance
from encoder.classifier import TextFeatureCache
from encoder.clip import Encoder, adopt_model
from encoder.deltas import Dense, LowRank, Sparse
from encoder.errors import UnknownTowerLayout
from encoder.prompts import prompt_features
from encoder.tower import view_text_tower, view_tower
from tests.support.edit_task import PROMPTS, edit_task, quick_method, read_task
from tests.support.tiny_encoder import state_bytes, tiny_encoder, tiny_model

EVERY_METHOD = pytest.mark.parametrize("method", [*METHODS, "lorsu code-parity"])
# Texts among the model's own parts, and in a tower of their own with a projection with a bias.
EVERY_LAYOUT = pytest.mark.parametrize("layout", ["open_clip", "siglip"])
TARGETS = [0, 1, 2, 3, 4, 0, 1, 2]


def fitted(encoder: Encoder, method: str, task: EditTask | None = None, **changes: object) -> Fit:
    config = quick_method(method, towers="both", **changes)
    return fit(encoder, task or read_task(encoder, TARGETS), config, seed=0)


def edited(encoder: Encoder, edit: Fit) -> Encoder:
    return encoder.merged_deltas(edit.deltas, label="edited")


def texts_of(encoder: Encoder) -> Tensor:
    return prompt_features(encoder, PROMPTS, TextFeatureCache(100))


@EVERY_METHOD
@EVERY_LAYOUT
def test_no_steps_change_nothing_though_text_weights_may_move(layout: str, method: str) -> None:
    encoder = tiny_encoder(layout)
    edit = fitted(encoder, method, epochs=0)
    text = set(view_text_tower(encoder.model).weights)
    assert text & edit.deltas.keys()
    assert set(encoder.tower.weights) & edit.deltas.keys()
    assert state_bytes(edited(encoder, edit).model) == state_bytes(encoder.model)


@EVERY_METHOD
@EVERY_LAYOUT
def test_only_what_was_selected_moves_and_the_file_keeps_it(layout: str, method: str) -> None:
    encoder = tiny_encoder(layout)
    before = state_bytes(encoder.model)
    edit = fitted(encoder, method, epochs=3)
    origin = Provenance(method, {}, 0, 0, encoder.chain, encoder.name, None, encoder.base_digest)
    stored = encoder.merged([Adapter.from_bytes(Adapter(edit.deltas, origin).to_bytes())])
    assert state_bytes(stored.model) == state_bytes(edited(encoder, edit).model)
    assert state_bytes(encoder.model) == before
    assert not {"logit_scale", "logit_bias"} & edit.deltas.keys()
    weights = dict(encoder.model.named_parameters())
    for name, weight in stored.model.named_parameters():
        moved = weight != weights[name]
        match edit.deltas.get(name):
            case None:
                assert not bool(moved.any()), name
            case Sparse(mask=mask):
                assert not bool(moved[~mask].any())
            case LowRank(rows=rows) if rows is not None:
                outside = torch.ones(len(weight), dtype=torch.bool)
                outside[rows] = False
                assert not bool(moved[outside].any())
                assert bool(moved[rows].any())
            case _:
                assert bool(moved.any()), name


@EVERY_METHOD
@EVERY_LAYOUT
def test_its_texts_in_training_are_those_of_the_merged_encoder(layout: str, method: str) -> None:
    encoder = tiny_encoder(layout)
    selection = fitted(encoder, method, epochs=0).selection
    function = TextFunction(encoder, precision="fp32")
    generator = torch.Generator().manual_seed(1)

    def frozen(name: str) -> Tensor:
        return encoder.model.get_parameter(name).detach()

    subject = Subject(encoder, lambda _: {}, text=view_text_tower(encoder.model))
    start = Start(subject, frozen, 1.0, generator)
    numbers = quick_method(method, towers="both").prepare(selection, start)
    with torch.no_grad():
        for tensors, _ in numbers.groups():
            for tensor in tensors:
                tensor.add_(0.05 * torch.randn(tensor.shape, generator=generator))
    texts = ["a photo of an apple", "the sea", "x" * 200]
    merged = encoder.merged_deltas(numbers.extract(), label="shaken").embed_texts(texts)
    read = function(encoder.tokenizer(texts), numbers.weights())
    torch.testing.assert_close(read, merged, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(merged, encoder.embed_texts(texts), atol=1e-3)


@EVERY_METHOD
def test_the_loss_falls_and_corrections_become_right(method: str) -> None:
    encoder = tiny_encoder()
    task = read_task(encoder, TARGETS)
    edit = fitted(encoder, method, task, epochs=60)
    assert edit.history.losses[-1] < 0.3 * edit.history.losses[0]
    after = edited(encoder, edit)
    answers = (after.embed_images(task.pixels) @ texts_of(after).T).argmax(dim=1)
    assert torch.equal(answers, task.targets)


def test_texts_move_too_where_images_alone_cannot_tell() -> None:
    """Each image stands twice, with two labels: only texts can bring both labels to it."""
    encoder = tiny_encoder()
    task = read_task(encoder, [0, 1, 0, 1])
    task = EditTask(**{**vars(task), "pixels": task.pixels[:1].expand(4, -1, -1, -1).contiguous()})
    alone = fit(encoder, task, quick_method("lora", epochs=60), seed=0)
    together = fitted(encoder, "lora", task, epochs=60)
    assert together.history.losses[-1] < alone.history.losses[-1] - 1e-3
    before, after = texts_of(encoder), texts_of(edited(encoder, together))
    assert float(after[0] @ after[1]) > float(before[0] @ before[1])


@EVERY_METHOD
def test_the_same_seed_gives_the_same_bytes(method: str) -> None:
    encoder = tiny_encoder()
    first, again = (
        fitted(encoder, method, epochs=2, batch_size=4, text_labels=3, precision="bf16")
        for _ in range(2)
    )
    for name, delta in first.deltas.items():
        for part, tensor in delta.tensors().items():
            assert torch.equal(tensor, again.deltas[name].tensors()[part]), name


def test_the_papers_loss_moves_both_towers() -> None:
    encoder = tiny_encoder()
    edit = fitted(encoder, "full_finetune", loss="contrastive", epochs=3)
    assert bool(edit.deltas["text_projection"].tensors()["values"].any())
    assert bool(edit.deltas["visual.proj"].tensors()["values"].any())


def test_which_weights_of_the_text_tower_each_method_moves() -> None:
    encoder = tiny_encoder()
    vision, text = view_tower(encoder.model), view_text_tower(encoder.model)

    def moved(method: str) -> set[str]:
        deltas = fitted(encoder, method, epochs=0).deltas
        return {name for name in deltas if name not in vision.weights}

    block, both = "transformer.resblocks.0", ("weight", "bias")
    assert len(text.blocks) == 1
    assert moved("full_finetune") == set(text.weights)
    norms = (f"{block}.ln_1", f"{block}.ln_2", "ln_final")
    assert moved("layernorm") == {f"{norm}.{part}" for norm in norms for part in both}
    strict = {f"{block}.attn.in_proj_weight", f"{block}.mlp.c_fc.weight"}
    linears = strict | {f"{block}.attn.out_proj.weight", f"{block}.mlp.c_proj.weight"}
    assert moved("lora") == linears | {"text_projection"}
    fc1 = {f"{block}.mlp.c_fc.{part}" for part in both}
    assert moved("spu") == fc1 | {"text_projection"}
    assert moved("lorsu") == strict
    parity = {f"{block}.attn.in_proj_bias", "text_projection"}
    assert moved("lorsu code-parity") == strict | fc1 | parity


def test_heads_of_both_towers_are_in_the_summary() -> None:
    edit = fitted(tiny_encoder(), "lorsu", epochs=0)
    summary = edit.summary["selection"]
    assert (summary["heads"].keys(), summary["text_heads"].keys()) == ({"0", "1"}, {"0"})
    alone = fit(tiny_encoder(), edit_task(TARGETS), quick_method("lorsu", epochs=0), seed=0)
    assert "text_heads" not in alone.summary["selection"]


def test_text_heads_and_fc1_are_chosen_by_the_mean_gradient_through_the_texts() -> None:
    encoder = tiny_encoder()
    task = read_task(encoder, TARGETS)
    text = view_text_tower(encoder.model)
    names = [name for block in text.blocks for name in (*block.attention, *block.fc1)]
    gradients = plain_gradients(encoder, task, names)
    selection = fitted(encoder, "lorsu", task, epochs=0, batch_size=3).selection
    for block in text.blocks:
        assert selection.text_heads[block.index] == (int(block.head_scores(gradients).argmax()),)
        (fc1,) = block.fc1
        kept, left = selection.masks[fc1], ~selection.masks[fc1]
        assert gradients[fc1].abs()[kept].min() >= gradients[fc1].abs()[left].max() * 0.999


def plain_gradients(encoder: Encoder, task: EditTask, names: list[str]) -> dict[str, Tensor]:
    """Of the cross-entropy over all labels and images in one go, written plainly."""
    model = tiny_model()
    weights = dict(model.named_parameters())
    images = functional.normalize(
        model.encode_image(encoder.preprocessing.normalise(task.pixels)), dim=-1
    )
    labels = []
    for label, templates in PROMPTS:
        tokens = encoder.tokenizer([template.replace("{}", label) for template in templates])
        each = functional.normalize(model.encode_text(tokens), dim=-1)
        labels.append(functional.normalize(each.mean(dim=0), dim=-1))
    logits = encoder.logit_scale * images @ torch.stack(labels).T
    functional.cross_entropy(logits, task.targets).backward()
    found = {name: weights[name].grad for name in names}
    return {name: gradient for name, gradient in found.items() if gradient is not None}


def test_a_text_tower_of_another_kind_is_refused_by_name() -> None:
    encoder = tiny_encoder("siglip")
    task = read_task(encoder, TARGETS)
    model = tiny_model("siglip")
    model.text = nn.Linear(2, 2)
    foreign = adopt_model(model, encoder.tokenizer, name="foreign")
    with pytest.raises(UnknownTowerLayout, match="text tower 'Linear'"):
        fitted(foreign, "lorsu", task)
    assert fit(foreign, task, quick_method("lorsu", epochs=0), seed=0).deltas


def test_without_prompts_the_text_tower_cannot_move() -> None:
    with pytest.raises(InvalidTask, match="without its labels' prompts"):
        fitted(tiny_encoder(), "lorsu", edit_task(TARGETS))


def test_reading_all_labels_can_be_cancelled() -> None:
    encoder = tiny_encoder()

    def stop(*_: object) -> None:
        raise EditCancelled

    with pytest.raises(EditCancelled):
        fit(
            encoder,
            read_task(encoder, TARGETS),
            quick_method("lorsu", towers="both"),
            seed=0,
            progress=stop,
        )


def test_a_dense_change_of_words_reaches_the_embeddings() -> None:
    edit = fitted(tiny_encoder(), "full_finetune", epochs=2)
    words = edit.deltas["token_embedding.weight"]
    assert isinstance(words, Dense)
    used = words.values.abs().sum(dim=1) > 0
    assert 0 < int(used.sum()) < 40  # only words that stand in prompts


def test_a_round_that_is_undone_leaves_no_text_as_it_read_it() -> None:
    """Labels that a step does not read stay as they were last read, by weights that are gone."""
    encoder, steps = tiny_encoder(), 0

    def spoil(optimizer: torch.optim.Optimizer, *_: object) -> None:
        nonlocal steps
        steps += 1
        if steps == 5:
            for group in optimizer.param_groups:
                for numbers in group["params"]:
                    numbers.data.fill_(torch.nan)

    handle = register_optimizer_step_post_hook(spoil)
    rounds = {"rounds": 2, "epochs": 4, "batch_size": 2, "text_labels": 2, "stop_margin": 100}
    history = fitted(encoder, "lorsu", **rounds).history
    handle.remove()
    assert history.undone == 1
    assert [math.isfinite(loss) for loss in history.losses] == [True] * 5 + [False] + [True] * 16

"""iLLaMA's recipe learns from class folders, resumes exactly, follows its soft mask, and measures what it says."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from core.errors import CheckpointError, ConfigError
from models.illama.folder import load_classifier, save_classifier
from models.illama.model import Illama, IllamaConfig
from training.illama_measures import (
    FirstClassToken,
    attention_ranks,
    calibration_error,
    evaluate,
    first_class_token_model,
    quantised,
)
from training.labelled_pictures import Augmentation, AugmentationConfig, batches, read_labelled_pictures
from training.recipes import illama, illama_transfer
from training.recipes.illama import IllamaRecipe, soft_masks, train
from training.recipes.illama_study import blurred, shuffled

TINY = IllamaConfig(width=24, depth=2, num_heads=2, image_size=32, patch_size=8, num_classes=3)
QUICK = IllamaRecipe(
    width=24,
    depth=2,
    num_heads=2,
    image_size=32,
    patch_size=8,
    num_epochs=12,
    warmup_epochs=1,
    batch_size=8,
    rate=3e-3,
    augmentation=AugmentationConfig(randaugment_ops=0, jitter=0.0),
)
COLOURS = {"water_lilly": (200, 40, 40), "cougar_body": (40, 200, 40), "cougar_face": (60, 190, 60)}


@pytest.fixture(scope="module")
def pictures_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (folder / name).mkdir()
        for number in range(1, 21):
            noisy = np.clip(np.array(colour) + rng.normal(0, 20, (36, 40, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(folder / name / f"image_{number:04d}.png")
    return folder


def images(count: int) -> Tensor:
    return torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))


def test_class_folders_of_one_spoken_name_are_one_class(pictures_folder: Path) -> None:
    pictures = read_labelled_pictures(pictures_folder, 32)
    assert pictures.class_names == ("cougar", "water lily")
    assert torch.bincount(pictures.labels).tolist() == [40, 20]
    assert {split: pictures.splits.count(split) for split in ("train", "validation", "test")} == {
        "train": 42,
        "validation": 6,
        "test": 12,
    }


def test_a_folder_without_classes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="class/file"):
        read_labelled_pictures(tmp_path, 32)


def test_the_command_learns_and_writes_a_classifier_that_names_the_pictures(
    pictures_folder: Path, tmp_path: Path
) -> None:
    sizes = "--width 24 --depth 2 --num-heads 2 --image-size 32 --patch-size 8 --batch-size 8 --mixup 0 --cutmix 0"
    rest = "--num-epochs 16 --rate 0.003 --warmup-epochs 1 --randaugment-ops 1"
    illama.main([str(pictures_folder), "--out", str(tmp_path), *sizes.split(), *rest.split()])
    measures = json.loads((tmp_path / "measures.json").read_text())
    assert measures["top1"] > 0.9
    classifier = load_classifier(str(tmp_path / "classifier"))
    picture = np.asarray(Image.open(pictures_folder / "water_lilly" / "image_0005.png"))
    assert classifier.classify([picture], top_k=1)[0][0][0] == "water lily"
    assert list((tmp_path / "events").glob("events.out.tfevents.*"))


def test_an_interrupted_run_ends_with_the_same_classifier(
    pictures_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = read_labelled_pictures(pictures_folder, 32)
    whole, measures = train(QUICK, pictures, tmp_path / "whole")

    class Interrupted(Exception):
        pass

    def no_last_epoch(num_rows: int, batch_size: int, epoch: int, seed: int) -> Sequence[Tensor]:
        if epoch == QUICK.num_epochs - 1:  # after the checkpoint of step 50
            raise Interrupted
        return batches(num_rows, batch_size, epoch, seed)

    with monkeypatch.context() as patch:
        patch.setattr(illama, "batches", no_last_epoch)
        with pytest.raises(Interrupted):
            train(QUICK, pictures, tmp_path / "parts")
    again, measures_again = train(QUICK, pictures, tmp_path / "parts")
    assert measures == measures_again
    pairs = zip(whole.parameters(), again.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_classifier_carries_its_blocks_over_to_other_pictures(
    pictures_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    source = Illama(TINY)
    save_classifier(tmp_path / "source", source, ["ant", "bee", "cat"])
    starts: list[Mapping[str, Tensor] | None] = []

    def watched(*given: Any, start: Mapping[str, Tensor] | None) -> Any:
        starts.append(start)
        return train(*given, start=start)

    monkeypatch.setattr(illama_transfer, "train", watched)
    arguments = [str(pictures_folder), "--out", str(tmp_path / "out"), "--classifier", str(tmp_path / "source")]
    illama_transfer.main([*arguments, "--num-epochs", "2", "--batch-size", "16", "--seeds", "0"])
    stored = json.loads((tmp_path / "out" / "transfer.json").read_text())
    assert stored["classes"] == ["cougar", "water lily"]
    assert {name: len(runs) for name, runs in stored["arms"].items()} == {"from nothing": 1, "from the classifier": 1}
    assert (tmp_path / "out" / "transfer.png").read_bytes().startswith(b"\x89PNG")
    assert starts[0] is None and starts[1] is not None
    assert torch.equal(starts[1]["cls_token"], source.cls_token.half().float())
    assert not any(name.startswith("head") for name in starts[1])


def test_emoji_are_sorted_by_the_first_keyword_they_have(tmp_path: Path) -> None:
    entries = {"1f600": ["face", "smile"], "1f34e": ["food", "fruit"], "1f573": ["hole"]}
    (tmp_path / "names.json").write_text(json.dumps({code: {"keywords": words} for code, words in entries.items()}))
    with zipfile.ZipFile(tmp_path / "emoji.zip", "w") as archive:
        for code in entries:
            archive.writestr(f"{code}.webp", code)
    folder = illama_transfer.write_emoji(tmp_path / "emoji.zip", tmp_path / "names.json", tmp_path / "emoji")
    written = sorted(path.relative_to(folder).as_posix() for path in folder.glob("*/*"))
    assert written == ["face/1f600.webp", "fruit/1f34e.webp"]


def test_the_soft_mask_falls_to_causal_at_its_cutoff() -> None:
    masks = soft_masks(IllamaRecipe(num_epochs=10, soft_mask_cutoff=0.5), steps_per_epoch=4)
    assert masks[0] == 1.0
    assert masks[19] == 0.0
    assert masks[10] < masks[9]
    assert set(masks[20:]) == {0.0}


def test_a_class_token_that_comes_first_sees_next_to_nothing_of_the_picture() -> None:
    torch.manual_seed(0)
    first, last = FirstClassToken(TINY).eval(), Illama(TINY).eval()
    one, two = torch.split(images(2).float() / 255, 1)

    def difference(model: Illama, soft_mask_rate: float) -> float:
        logits = [model(picture, soft_mask_rate=soft_mask_rate) for picture in (one, two)]
        return float((logits[0] - logits[1]).detach().norm())

    assert difference(first, 0.0) < 0.02 * difference(last, 0.0)
    assert difference(first, 1.0) > 10 * difference(first, 0.0)


def test_a_mask_before_the_softmax_hides_the_picture_from_a_first_class_token() -> None:
    torch.manual_seed(0)
    model = first_class_token_model(TINY, masked_first=True).eval()
    one, two = torch.split(images(2).float() / 255, 1)
    assert torch.equal(model(one), model(two))
    assert attention_ranks(model, images(4))


def test_augmentation_depends_on_the_seed_alone_and_mixes_targets_that_sum_to_one() -> None:
    augment = Augmentation(AugmentationConfig(), 32, num_classes=3)
    labels = torch.arange(12) % 3
    torch.manual_seed(5)
    pictures, targets = augment(images(12), labels)
    torch.manual_seed(5)
    again, targets_again = augment(images(12), labels)
    assert torch.equal(pictures, again)
    assert torch.equal(targets, targets_again)
    assert targets.sum(dim=1).allclose(torch.ones(12))
    assert (targets.amax(dim=1) < 0.93).any()


def test_cutmix_targets_say_how_much_of_each_picture_is_left() -> None:
    only_cut = AugmentationConfig(
        min_crop_share=1.0, randaugment_ops=0, jitter=0, erasing=0, mixup=0, label_smoothing=0.0
    )
    augment = Augmentation(only_cut, 32, num_classes=2)
    black_and_white = torch.tensor([0, 255], dtype=torch.uint8).repeat(8)[:, None, None, None].expand(-1, 3, 32, 32)
    torch.manual_seed(1)
    pictures, targets = augment(black_and_white, torch.tensor([0, 1]).repeat(8))
    lit = (pictures[:, 0] > 0).float().mean(dim=(1, 2))  # the share of white pixels
    assert lit.allclose(targets[:, 1], atol=1e-6)
    assert ((lit > 0.05) & (lit < 0.95)).any()


def test_calibration_error_is_the_gap_between_confidence_and_accuracy() -> None:
    probabilities = torch.tensor([[0.8, 0.2]] * 10)
    labels = torch.tensor([0] * 6 + [1] * 4)
    assert calibration_error(probabilities, labels) == pytest.approx(0.2, abs=1e-6)


def test_a_causal_mask_alone_raises_the_rank_of_attention_maps() -> None:
    torch.manual_seed(0)
    model = Illama(TINY)
    causal, bidirectional = (attention_ranks(model, images(4), soft_mask_rate=rate) for rate in (0.0, 1.0))
    assert len(causal) == TINY.depth
    assert min(causal) > 3 * max(bidirectional)


def test_eight_bits_change_the_logits_a_little_and_leave_the_model_alone() -> None:
    torch.manual_seed(0)
    model = Illama(TINY).eval()
    before = model(images(4).float() / 255).detach()
    rounded = quantised(model)(images(4).float() / 255).detach()
    assert not torch.equal(before, rounded)
    assert before.allclose(rounded, atol=0.1 * float(before.abs().max()))
    assert torch.equal(before, model(images(4).float() / 255))


def test_shuffled_pictures_keep_their_patches_and_blurred_ones_their_mean() -> None:
    pixels = images(3)
    moved = shuffled(pixels, 8, seed=1)
    assert not torch.equal(moved, pixels)
    assert torch.equal(moved.flatten(1).sort().values, pixels.flatten(1).sort().values)
    assert blurred(pixels).float().std() < 0.5 * pixels.float().std()


def test_a_classifier_folder_gives_back_names_temperature_and_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Illama(TINY).eval()
    save_classifier(tmp_path / "own", model, ["ant", "bee", "cat"], temperature=0.7)
    loaded = load_classifier(str(tmp_path / "own"))
    assert loaded.class_names == ("ant", "bee", "cat")
    assert loaded.temperature == 0.7
    assert loaded.model(images(2).float() / 255).allclose(model(images(2).float() / 255), atol=1e-2)


def test_a_damaged_classifier_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "illama.json").write_text('{"config": {"width": 24}}')
    with pytest.raises(CheckpointError, match=r"illama\.json"):
        load_classifier(str(tmp_path))


def test_evaluation_counts_right_answers() -> None:
    torch.manual_seed(0)
    model = Illama(TINY).eval()
    chosen = model((images(6).float() / 255 - torch.tensor((0.485, 0.456, 0.406)).view(3, 1, 1))
                   / torch.tensor((0.229, 0.224, 0.225)).view(3, 1, 1)).argmax(dim=1)  # fmt: skip
    assert evaluate(model, images(6), chosen)["top1"] == 1.0
    assert evaluate(model, images(6), (chosen + 1) % 3)["top1"] == 0.0

"""Features computed once are those that the tower gives at each step, and are never mixed up."""

from pathlib import Path
from shutil import copytree

import pytest
import torch

from configs.jobs.grpo import PolicyConfig
from configs.schema.data import PromptConfig
from models.inputs.encoder import InputEncoder
from models.inputs.packing import pack_chats
from models.policy.features import (
    FEATURES,
    DiskFeatures,
    FeatureCache,
    FeatureStore,
    FrozenTower,
    MemoryFeatures,
)
from models.policy.loading import load_model
from models.policy.policy import Policy
from rl.data.records import Chat, Turn
from tests.unit.step_samples import png
from tests.vision_families import build_tiled_internvl

CPU = torch.device("cpu")
RED, BLUE = png(56, 56, (200, 0, 5)), png(90, 40, (0, 5, 200))


def chat(*images: bytes | str) -> Chat:
    turns = (Turn("user", "<image>" * len(images) + "What is it?"), Turn("assistant", "3+5=8"))
    return Chat("-".join(str(len(image)) for image in images), turns, images)


def load(folder: Path, frozen_projector: bool = False) -> tuple[Policy, InputEncoder]:
    encoder = InputEncoder(folder, PromptConfig(), trust_remote_code=False)
    model = load_model(PolicyConfig(path=str(folder), dtype="float32"), folder)
    if frozen_projector:
        model.model.multi_modal_projector.requires_grad_(False)
    return Policy(model, encoder, chunk=64), encoder


def cache_of(
    folder: Path, store: FeatureStore, frozen_projector: bool = False
) -> tuple[Policy, FeatureCache]:
    policy, encoder = load(folder, frozen_projector)
    return policy, FeatureCache(policy.detach_vision_tower(CPU, torch.float32), encoder, store)


@pytest.mark.parametrize("images", [(RED,), (RED, BLUE, RED), ()], ids=["one", "three", "none"])
def test_kept_features_give_the_loss_and_the_projectors_gradient_that_pixels_give(
    vlm: Path, images: tuple[bytes, ...]
) -> None:
    chats = [chat(*images), chat()]
    whole, encoder = load(vlm)
    encoded = [encoder.encode_chat(each) for each in chats]
    without, cache = cache_of(vlm, MemoryFeatures(10**6))
    found: list[list[torch.Tensor]] = []
    for policy, pixels in ((whole, encoder.pixels), (without, cache), (without, cache)):
        policy.zero_grad()
        logprobs_N, *_ = policy(pack_chats([encoded], encoder.pad_id, pixels(chats)))
        logprobs_N.sum().backward()
        projector = policy.model.model.multi_modal_projector.parameters()
        found.append([logprobs_N.detach(), *(p.grad for p in projector)])
    for computed in found[1:]:
        for ours, theirs in zip(computed, found[0], strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)


def test_behind_a_frozen_projector_what_it_makes_is_kept_under_another_name(vlm: Path) -> None:
    chats = [chat(RED, BLUE, RED), chat()]
    store = MemoryFeatures(10**6)
    whole, encoder = load(vlm)
    without, cache = cache_of(vlm, store, frozen_projector=True)
    assert "projector" not in " ".join(name for name, _ in without.model.named_parameters())
    encoded = [encoder.encode_chat(each) for each in chats]
    found = [
        policy(pack_chats([encoded], encoder.pad_id, pixels(chats)))[0].detach()
        for policy, pixels in ((whole, encoder.pixels), (without, cache), (without, cache))
    ]
    assert cache.counts == (2, 4)
    for logprobs_N in found[1:]:
        torch.testing.assert_close(logprobs_N, found[0], atol=1e-6, rtol=1e-5)
    before_it = cache_of(vlm, store)[1]
    before_it(chats)
    assert before_it.counts == (0, 2), "a tower alone makes something else"


def test_who_has_no_tower_finds_each_image_once_all_of_them_are_kept(tmp_path: Path) -> None:
    policy, kept = tmp_path / "policy", tmp_path / "kept"
    build_tiled_internvl(policy)
    one_tile, some = png(56, 56, (200, 0, 5)), png(150, 50, (0, 5, 200))
    cache = cache_of(policy, DiskFeatures(kept, 10**7, ranks=1), frozen_projector=True)[1]
    embeddings = cache.kept_in(kept)
    assert embeddings.find((one_tile,)) is None
    made = cache([chat(one_tile)])[FEATURES]
    assert embeddings.find((one_tile, some)) is None
    cache([chat(some)])
    found = embeddings.find((some, one_tile, some))
    assert found is not None
    (name, wide), (other, square), again = found
    assert name == again[0] != other and torch.equal(wide, again[1])
    assert torch.equal(square, made.flatten(0, 1)) and len(wide) > len(square)
    image = load(policy)[1].pixels([chat(some)])["pixel_values"]
    whole = load(policy)[0].model.model.get_image_features(image, return_dict=True)
    torch.testing.assert_close(wide, whole.pooler_output.flatten(0, 1).detach())


def test_an_image_is_computed_once_whoever_shows_it(vlm: Path, tmp_path: Path) -> None:
    _, cache = cache_of(vlm, MemoryFeatures(10**6))
    path = tmp_path / "red.png"
    path.write_bytes(RED)
    cache([chat(RED, BLUE)])
    assert cache.counts == (0, 2)
    cache([chat(BLUE), chat(str(path), RED)])
    assert cache.counts == (2, 4), "the same bytes are one image, file or not"


def test_images_cut_into_different_numbers_of_tiles_are_told_apart(tmp_path: Path) -> None:
    build_tiled_internvl(tmp_path)
    images = (png(56, 56, (200, 0, 5)), png(150, 50, (0, 5, 200)), png(40, 130, (9, 99, 9)))
    _, together = cache_of(tmp_path, MemoryFeatures(10**7))
    made = together([chat(*images)])[FEATURES]
    alone = [cache_of(tmp_path, MemoryFeatures(0))[1]([chat(each)])[FEATURES] for each in images]
    assert len({len(each) for each in alone}) > 1, "they should have different numbers of tiles"
    torch.testing.assert_close(made, torch.cat(alone))
    for image, feature in zip(images, alone, strict=True):  # as each was kept
        torch.testing.assert_close(together([chat(image)])[FEATURES], feature)


def test_what_does_not_fit_is_computed_again_and_still_right(vlm: Path) -> None:
    _, roomy = cache_of(vlm, MemoryFeatures(10**6))
    wanted = roomy([chat(RED, BLUE)])[FEATURES]
    one = wanted[:1].nbytes
    _, narrow = cache_of(vlm, MemoryFeatures(one))
    for _ in range(2):
        torch.testing.assert_close(narrow([chat(RED, BLUE)])[FEATURES], wanted)
    assert narrow.counts == (1, 4)


def test_features_on_disk_outlive_the_run_and_keep_their_bound(
    vlm: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = cache_of(vlm, DiskFeatures(tmp_path, 10**6, ranks=2))[1]
    wanted = first([chat(RED)])[FEATURES]
    later = cache_of(vlm, DiskFeatures(tmp_path, 1, ranks=2))[1]
    assert torch.equal(later([chat(RED)])[FEATURES], wanted)
    later([chat(BLUE)])
    assert later.counts == (1, 2)
    assert len(list(tmp_path.iterdir())) == 1, "one byte holds no feature"
    assert caplog.text.count("features.max_bytes are used up") == 1


def test_a_folder_that_takes_no_more_features_is_told_once_and_ends_nothing(
    vlm: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "features"
    cache = cache_of(vlm, DiskFeatures(folder, 10**6, ranks=1))[1]
    folder.rmdir()
    folder.write_text("in the way")
    whole = cache_of(vlm, MemoryFeatures(10**6))[1]
    for picture in (RED, BLUE):
        assert torch.equal(cache([chat(picture)])[FEATURES], whole([chat(picture)])[FEATURES])
    assert caplog.text.count("cannot be written to") == 1


def test_another_tower_or_another_tiling_finds_nothing(vlm: Path, tmp_path: Path) -> None:
    store = MemoryFeatures(10**6)
    cache_of(vlm, store)[1]([chat(RED)])
    moved, encoder = load(vlm)
    with torch.no_grad():
        next(moved.model.model.vision_tower.parameters()).add_(1e-6)
    other = FeatureCache(moved.detach_vision_tower(CPU, torch.float32), encoder, store)
    other([chat(RED)])
    assert other.counts == (0, 1)
    tiled = tmp_path / "tiled"
    copytree(vlm, tiled)
    text = (tiled / "processor_config.json").read_text()
    assert '"max_patches": 1' in text
    (tiled / "processor_config.json").write_text(
        text.replace('"max_patches": 1', '"max_patches": 4')
    )
    third = cache_of(tiled, store)[1]
    third([chat(RED)])
    assert third.counts == (0, 1)


@pytest.mark.parametrize("frozen_projector", [False, True])
def test_a_policy_without_its_tower_is_saved_whole(
    frozen_projector: bool, vlm: Path, tmp_path: Path
) -> None:
    policy, _ = load(vlm, frozen_projector)
    before = {name: value.clone() for name, value in policy.model.state_dict().items()}
    tower = policy.detach_vision_tower(CPU, torch.float32)
    rest = dict(policy.model.named_parameters())
    assert not any("vision_tower" in name for name in rest)
    with tower.attached():
        policy.model.save_pretrained(tmp_path, state_dict=rest | tower.weights())
    saved, _ = load(vlm)
    saved.model = load_model(PolicyConfig(path="", dtype="float32"), tmp_path)
    for name, value in saved.model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_policy_of_another_architecture_is_refused_with_the_reason(text: Path) -> None:
    policy, _ = load(text)
    with pytest.raises(ValueError, match="InternVL architecture, and this one is 'qwen2'"):
        FrozenTower(policy.model, CPU)


def test_a_gpu_without_a_number_is_refused(vlm: Path) -> None:
    policy, _ = load(vlm)
    with pytest.raises(ValueError, match="without a number"):
        FrozenTower(policy.model, torch.device("cuda"))

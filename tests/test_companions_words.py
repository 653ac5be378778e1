"""Words of a vocabulary: planted groups are named by a network of images and text, blind ones are not."""

import json
import socket

import numpy as np
import pytest

pytest.importorskip("sklearn")
from nwb_migvis import MigvisError, Study
from nwb_migvis.companions.words import adjusted, signed_squares
from nwb_migvis.config import CompanionsConfig, GroupConfig, read_vocabulary
from nwb_migvis.networks.text_networks import ImageTextNetwork, cosines, open_text_network
from nwb_migvis.registry import TEXT_NETWORKS
from nwb_migvis.testing import mock_session, tiny_config

GROUPS = tuple(GroupConfig(name=name, size=2) for name in ("light", "contrast", "blind"))
WORDS = ("bright", "dark", "gray", "coarse", "table")
SEEN = {"bright": (1, 0, 0), "dark": (-1, 0, 0), "coarse": (0, 1, 0), "gray": (0, 0, 0), "table": (0, 0, 1)}


def _describe_images(images):
    """Brightness, contrast, and a third number of each image that nothing goes with."""
    pixels = images.reshape(len(images), -1).astype(float)
    noise = np.sin(1e3 * pixels[:, :7].sum(1))
    return np.stack(
        [(pixels.mean(1) - 128) / 20, (pixels.std(1) - 20) / 6, noise, np.full(len(pixels), 4)], 1
    )


def _describe_words(words):
    return np.array([[*SEEN[word], 0] for word in words], float)


@pytest.fixture
def network():
    """A network that sees brightness and contrast, by the name "fake"."""
    told = []

    def opened(*, path, device):
        told.append(path)
        return ImageTextNetwork(_describe_images, _describe_words, "f" * 64)

    TEXT_NETWORKS.register("fake", opened)
    yield told
    TEXT_NETWORKS.unregister("fake")


def _session(seed=0, n=300):
    rng = np.random.default_rng(seed)
    session = mock_session(n_stimuli=n, n_repeats=1, size_px=16)
    mean, spread = rng.uniform(90, 160, n), rng.uniform(8, 32, n)
    image = mean[:, None, None] + spread[:, None, None] * rng.normal(size=(n, 16, 16))
    session = session.assign(image=(("stimulus", "y", "x"), np.clip(image, 0, 255).astype(np.uint8)))
    names = [name for name, c in session.coords.items() if c.dims == ("stimulus",) and name != "stimulus"]
    z = np.stack([mean, rng.normal(size=n), spread, rng.normal(size=n), *rng.normal(size=(2, n))], 1)
    z = (z - z.mean(0)) / z.std(0) + 0.4 * rng.normal(size=z.shape)
    return session, session.drop_vars(names), z


def _study(session, z, by="stimulus", **companions):
    chosen = {"network": "edges", "vocabulary": list(WORDS), "text_network": "fake:somewhere"} | companions
    few = {"n_permutations": 299, "n_bootstrap": 99}
    study = Study(session, tiny_config(evidence=few, companions=chosen, split={"by": by, "test": 0.4}))
    study.use_latents(z, groups=GROUPS)
    return study


def test_planted_groups_and_ends_have_their_words_and_a_blind_group_has_none(network):
    session, bare, z = _session()
    for own in (bare, session):
        found = _study(own, z).compute("names")
        words = found["group_word"].values.tolist()
        assert words[0] in ("bright", "dark") and words[1:] == ["coarse", ""]
        ends = found["end_word"]
        assert set(ends.sel(group="light", axis=1).values.tolist()) == {"bright", "dark"}
        assert "coarse" in ends.sel(group="contrast").values and (ends.sel(group="blind") == "").all()
        high = found["word_lean"].sel(word="bright", group="light", axis=1, end="high")
        assert (high > 0) == (ends.sel(group="light", axis=1, end="high") == "bright")
        assert "the word 'gray' is not tested: it fits all images alike" in found.attrs["note"]
        assert found["word"].values.tolist() == ["bright", "dark", "coarse", "table"]
        assert found.attrs["text_network_sha256"] == "f" * 64 and set(network) == {"somewhere"}
        assert ("told" in found) == (own is session) and found["image"].shape == (3, 2, 2, 8)
    assert found.attrs["headline"][:2] == ["name", "group_word"]


def test_blind_groups_have_words_as_seldom_as_they_should(network):
    named = []
    for seed in range(12):
        _, bare, z = _session(seed, n=100)
        rng = np.random.default_rng([seed, 1])
        found = _study(bare, z[rng.permutation(100)]).compute("names")
        named.append(bool((found["group_word"] != "").any()))
    assert sum(named) <= 2


def test_an_order_of_time_has_no_word(network):
    _, bare, z = _session()
    bright = bare["image"].mean(["y", "x"]).values
    start = bright[bare["stimulus_index"].values].argsort().argsort() * 0.2
    found = _study(bare.assign(start_time=("presentation", start)), z).compute("names")
    assert "the word 'bright' is not tested: it is read from the time" in found.attrs["note"]
    assert found["word"].values.tolist() == ["coarse", "table"]
    assert found["group_word"].values.tolist() == ["", "coarse", ""]


def test_whole_levels_are_exchanged_and_too_few_of_them_test_nothing(network):
    _, bare, z = _session()
    scene = np.repeat(np.arange(10), 30).astype(str)
    found = _study(bare.assign_coords(scene=("stimulus", scene)), z, by="scene").compute("names")
    assert "word_told" not in found and (found["group_word"] == "").all()
    many = np.repeat(np.arange(60), 5).astype(str)
    found = _study(bare.assign_coords(scene=("stimulus", many)), z, by="scene").compute("names")
    assert found["group_word"].values[2] == "" and found["word_told_q"].sel(group="light").min() < 0.05


def test_the_statistic_is_the_signed_square_of_a_correlation():
    rng = np.random.default_rng(0)
    goal, read = rng.normal(size=(2, 50, 3))
    weight = rng.multinomial(50, np.full(50, 0.02), size=4).astype(float)
    found = signed_squares(goal, read, np.vstack([np.ones((1, 50)), weight]))
    for k, w in enumerate(np.vstack([np.ones((1, 50)), weight])):
        rows = np.repeat(np.arange(50), w.astype(int))
        for j in range(3):
            r = np.corrcoef(goal[rows, j], read[rows, j])[0, 1]
            assert found[k, j] == pytest.approx(np.sign(r) * r**2)


def test_p_values_are_adjusted_by_the_largest_of_each_permutation():
    null = np.array([[[0.1, 0.5]], [[0.4, 0.2]], [[0.3, 0.0]]])
    np.testing.assert_allclose(adjusted(np.array([[0.45, 0.2]]), null), [[0.5, 1.0]])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"vocabulary": ("a",)}, "found vocabulary without text_network; expected both"),
        ({"text_network": "clip:x"}, "found text_network without vocabulary; expected both"),
        ({"vocabulary": ("a",), "text_network": "clop:x"}, r"expected one of clip \(did you mean 'clip'\?\)"),
        ({"vocabulary": ("a", "b", "a"), "text_network": "clip:x"}, "the word 'a' 2 times in vocabulary"),
        ({"vocabulary": (" a",), "text_network": "clip:x"}, "the word ' a' in vocabulary; expected text"),
        ({"vocabulary": ("a\nb",), "text_network": "clip:x"}, r"the word 'a\\nb' in vocabulary"),
        (
            {"vocabulary": tuple(map(str, range(1001))), "text_network": "clip:x"},
            "found 1001 words in vocabulary; expected at most 1000",
        ),
    ],
)
def test_settings_of_words_are_checked(settings, message):
    with pytest.raises(MigvisError, match=message):
        CompanionsConfig(**settings)


def test_a_vocabulary_is_read_from_a_text_file(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("\ufeffa dog\n\n  grass  field \na dog\n", encoding="utf-8")
    assert read_vocabulary(path) == ("a dog", "grass field")
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(
        MigvisError, match=r"words.txt: it is no text in UTF-8; expected a text file with one"
    ):
        read_vocabulary(path)
    path.write_text("\n \n")
    with pytest.raises(MigvisError, match=r"words.txt: found no words; expected one word or phrase per line"):
        read_vocabulary(path)
    with pytest.raises(MigvisError, match=r"nowhere.txt: No such file"):
        read_vocabulary(tmp_path / "nowhere.txt")


def test_what_words_need_is_said_before_any_work(network, tmp_path):
    _, bare, z = _session(n=120)
    study = _study(bare, z, vocabulary=[], text_network="")
    with pytest.raises(MigvisError, match="found no labels of the images and no vocabulary; expected one of"):
        study.compute("names")
    with pytest.raises(MigvisError, match="found no pixels of the images; expected some to compute 'names'"):
        _study(bare.drop_vars("image"), z).compute("names")


@pytest.mark.parametrize(
    ("seen", "said", "message"),
    [
        (np.ones((2, 3)), np.ones((1, 2)), r"shape \(2, 3\) for 2 images and \(1, 2\) for 1 words; expected"),
        (np.ones(2), np.ones((1, 2)), "expected one row each, of the same width"),
        (np.full((2, 2), np.nan), np.ones((1, 2)), "found features that are not finite numbers"),
    ],
)
def test_features_that_do_not_fit_are_refused(seen, said, message):
    odd = ImageTextNetwork(lambda images: seen, lambda words: said)
    with pytest.raises(MigvisError, match=message):
        cosines(odd, np.zeros((2, 4, 4), np.uint8), ["a"])


# CLIP itself


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A folder with a tiny CLIPModel whose weights are random, and a tokenizer of few letters."""
    transformers = pytest.importorskip("transformers", reason="the extra 'words' is not installed")
    import torch

    folder = tmp_path_factory.mktemp("clip")
    letters = "abcdeghiklnorst"
    vocabulary = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(vocabulary)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    transformers.CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt")).save_pretrained(folder)
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    end = len(vocabulary) - 1
    config = transformers.CLIPConfig(
        text_config={
            **small,
            **{"vocab_size": len(vocabulary), "max_position_embeddings": 12},
            **{"bos_token_id": end - 1, "eos_token_id": end, "pad_token_id": end},
        },
        vision_config={**small, "image_size": 16, "patch_size": 8},
        projection_dim=8,
    )
    torch.manual_seed(0)
    model = transformers.CLIPModel(config)
    model.save_pretrained(folder)
    return folder, model.eval()


def test_a_local_clip_model_gives_the_cosines_that_transformers_does(clip, monkeypatch, capfd):
    import torch
    from transformers import CLIPTokenizer

    folder, model = clip

    def refuse(*where):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 16), dtype=np.uint8)
    words = ["a dog", "kitten on the grass", "cat"]
    opened = open_text_network(f"clip:{folder}")
    found = cosines(opened, images, words)
    assert capfd.readouterr() == ("", "")
    tokens = CLIPTokenizer.from_pretrained(folder)(
        words, padding=True, truncation=True, max_length=12, return_tensors="pt"
    )
    mean, std = (
        torch.tensor(values)[:, None, None]
        for values in ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
    )
    pixels = (torch.from_numpy(images)[:, None].float().expand(-1, 3, -1, -1) / 255 - mean) / std
    with torch.no_grad():
        expected = model(**tokens, pixel_values=pixels)
    scale = float(model.logit_scale.detach().exp())
    np.testing.assert_allclose(found, expected.logits_per_image.numpy() / scale, atol=1e-5)
    assert np.ptp(found) > 0.01 and len(opened.sha256) == 64


def test_a_vocabulary_is_used_from_settings_with_clip(clip):
    folder, _ = clip
    _, bare, z = _session(n=100)
    found = _study(bare, z, vocabulary=["a dog", "cat"], text_network=f"clip:{folder}").compute("names")
    assert found["word_told"].shape == (3, 2) and found["word"].values.tolist() == ["a dog", "cat"]
    assert len(found.attrs["text_network_sha256"]) == 64


def test_folders_that_hold_no_clip_model_are_refused(clip, tmp_path):
    import shutil

    folder, _ = clip
    with pytest.raises(
        MigvisError, match=r"found no folder 'nowhere'; expected clip:FOLDER.*nothing is down"
    ):
        open_text_network("clip:nowhere")
    for absent in ("config.json", "model.safetensors"):
        part = shutil.copytree(folder, tmp_path / absent)
        (part / absent).unlink()
        with pytest.raises(MigvisError, match=f"found no {absent}; expected a CLIPModel with its tokenizer"):
            open_text_network(f"clip:{part}")
    for name, content in (("model.safetensors", b"nothing"), ("config.json", b"{")):
        broken = shutil.copytree(folder, tmp_path / f"broken {name}")
        (broken / name).write_bytes(content)
        with pytest.raises(MigvisError, match=r"cannot be read .*; expected a CLIPModel with its tokenizer"):
            open_text_network(f"clip:{broken}")
    from safetensors.torch import load_file, save_file

    lacking = shutil.copytree(folder, tmp_path / "lacking")
    state = load_file(folder / "model.safetensors")
    del state["visual_projection.weight"]
    save_file(state, lacking / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(MigvisError, match=r"its weights lack 1 tensors of a CLIPModel, such as visual_proj"):
        open_text_network(f"clip:{lacking}")


def test_without_transformers_the_extra_is_named(monkeypatch):
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "transformers" else real(name, *a)
    )
    _, bare, z = _session(n=120)
    study = _study(bare, z, text_network="clip:folder")
    with pytest.raises(
        MigvisError, match=r"transformers not installed; a vocabulary .* needs the extra 'words'"
    ):
        study.compute("names")

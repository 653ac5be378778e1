"""Stored weights, checked before a network is built from them.

A network's settings come from a file, and say how large it will be: they are believed only as far as the
tensors beside them have those sizes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from nwb_migvis.errors import MigvisError
from nwb_migvis.results import Results
from nwb_migvis.sources import Source
from nwb_migvis.tensors import MOST_PX, MOST_STEPS, Tensor, check_sizes, parse_json, read_header

MOST_THREADS = 1024
MOST_BATCH = 4096
MOST_BLOCKS = 9

_KEY = "nwb-migvis"
_KINDS = {"vae": "group VAE", "critic": "critic", "prior": "prior"}
_VAES = ("group VAE", "plain-vae", "swap-vae")
"""Kinds of latent models with the network of the group VAE."""
_MODEL_NAME = re.compile(r"[\w.]+", re.ASCII)
_PREDICTS = ("v_prediction", "epsilon", "sample", "flow_prediction")
_NETWORKS = ("UNet2DModel", "UNet2DConditionModel", "DiTTransformer2DModel")
_AUTOENCODERS = ("AutoencoderKL", "AutoencoderTiny", "AutoencoderDC")
_UNET_WORDS = {
    "act_fn": r"silu|swish|mish|gelu|relu",
    "class_embed_type": r"identity|timestep",
    "downsample_type": r"conv|resnet",
    "mid_block_type": r"UNetMidBlock2D",
    "resnet_time_scale_shift": r"default|scale_shift",
    "time_embedding_type": r"positional|fourier",
    "upsample_type": r"conv|resnet",
}
_UNET_NUMBERS = (
    "attention_head_dim",
    "attn_norm_num_groups",
    "downsample_padding",
    "dropout",
    "freq_shift",
    "layers_per_block",
    "mid_block_scale_factor",
    "norm_eps",
    "norm_num_groups",
    "num_train_timesteps",
    "time_embedding_dim",
)
_UNET_SWITCHES = ("add_attention", "center_input_sample", "flip_sin_to_cos")
_UNET_LISTS = ("block_out_channels", "down_block_types", "up_block_types")
_UNET_OTHERS = ("in_channels", "out_channels", "num_class_embeds", "sample_size")


@dataclass(frozen=True)
class _Network:
    """The header of stored weights: settings and tensors."""

    settings: Mapping[str, Any]
    tensors: Mapping[str, Tensor]

    def shape(self, name: str) -> tuple[int, ...]:
        if name not in self.tensors:
            raise ValueError(f"no tensor {name!r}")
        return self.tensors[name].shape

    def get(self, name: str, kind: type | tuple[type, ...]) -> Any:
        value = self.settings.get(name)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ValueError(f"{name} is {value!r:.60}")
        return value

    def sizes(self, name: str, *, most: int = 2**20) -> tuple[int, ...]:
        return _whole(name, self.settings.get(name), most=most)


def check_models(weights: Mapping[str, bytes], results: Results, *, path: Source) -> None:
    """Check the stored weights and settings of a run before its models are built again.

    Raises
    ------
    MigvisError
        As `check_weights` and `check_settings`.
    """
    where = f"{path}: /analysis/{results.name}/model"
    check_settings(results, where=where)
    check_weights(weights, results, where=where)


def check_weights(weights: Mapping[str, bytes], results: Results, *, where: str) -> None:
    """Check stored weights against each other, and against the results that they belong to.

    Parameters
    ----------
    weights : mapping of str to bytes
        safetensors bytes by network.
    results : Results
    where : str
        Place in the file, for messages.

    Raises
    ------
    MigvisError
        Naming the network and what of it does not fit.
    """
    for name, data in weights.items():
        with _naming(f"{where}/{name}"):
            tensors, metadata, begin = read_header(data)
            settings = parse_json(metadata.get(_KEY, ""))
            kind = _expected_kind(name, results)
            if settings.get("kind") != kind and kind is not None:
                raise ValueError(f"kind is {settings.get('kind')!r:.60}; expected {kind!r}")
            strange = next((n for n, t in tensors.items() if t.dtype not in ("F32", "I64")), None)
            if strange is not None:
                raise ValueError(f"tensor {strange!r} is {tensors[strange].dtype}; expected F32")
            _check_finite(tensors, data[begin:])
            if name in _CHECKS:
                _CHECKS[name](_Network(settings, tensors), results)


def _check_finite(tensors: Mapping[str, Tensor], data: bytes) -> None:
    for name, tensor in tensors.items():
        values = np.frombuffer(data[tensor.start : tensor.stop], "<f4" if tensor.dtype == "F32" else "<i8")
        if not np.isfinite(values).all():
            raise ValueError(f"tensor {name!r} holds values that are not finite")


def _expected_kind(name: str, results: Results) -> str | None:
    """Return what stored weights have to be; those of the latent model are of the kind in the settings."""
    model = _part(results.provenance.get("config", {}), "latents").get("model", "group-vae")
    return str(model) if name == "vae" and model != "group-vae" else _KINDS.get(name)


def check_settings(results: Results, *, where: str) -> None:
    """Check the recorded settings that later computations use against limits and against the results.

    Raises
    ------
    MigvisError
        For groups other than the results', more threads than `MOST_THREADS`, or batches above `MOST_BATCH`.
    """
    config = results.provenance.get("config", {})
    with _naming(f"{where}@config"):
        groups = _part(config, "latents").get("groups", ())
        if not isinstance(groups, list) or not all(isinstance(group, dict) for group in groups):
            raise ValueError(f"latents.groups is {groups!r:.60}; expected the groups of the run")
        recorded = [(group.get("name"), group.get("size")) for group in groups]
        present = list(zip(results.groups.index, results.groups["size"].tolist(), strict=True))
        if recorded != present:
            raise ValueError(f"latents.groups are {recorded!r:.80}; latent_groups has {present!r:.80}")
        for place, value, most in (
            ("n_threads", config.get("n_threads", 0), MOST_THREADS),
            ("synthesis.batch_size", _part(config, "synthesis").get("batch_size", 1), MOST_BATCH),
        ):
            if type(value) is not int or not 0 <= value <= most:
                raise ValueError(f"{place} is {value!r:.40}; expected a whole number up to {most}")


@contextmanager
def building(where: str) -> Iterator[None]:
    """Turn whatever goes wrong while a network is built from checked weights into one line.

    Raises
    ------
    MigvisError
    """
    try:
        yield
    except MigvisError:
        raise
    except Exception as error:  # diffusers and torch raise nearly anything for settings that do not fit
        raise MigvisError(
            f"{where}: no network can be built from the stored weights ({str(error)[:300]}); expected those "
            "that a run stored; fetch the file again, or run the model again"
        ) from error


@contextmanager
def _naming(where: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError) as error:
        raise MigvisError(
            f"{where}: {error}; expected what a run stored; fetch the file again, or run the model again"
        ) from None


def _part(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = config.get(name, {})
    if not isinstance(part, dict):
        raise ValueError(f"{name} is {part!r:.60}; expected a table of settings")
    return part


def _whole(name: str, values: Any, *, most: int) -> tuple[int, ...]:
    """Return a list of positive whole numbers."""
    if not isinstance(values, list) or not values:
        raise ValueError(f"{name} is {values!r:.60}; expected whole numbers")
    if not all(type(v) is int and 0 < v <= most for v in values):
        raise ValueError(f"{name} is {values!r:.60}; expected whole numbers from 1 to {most}")
    return tuple(values)


def _check_sizes(sizes: Sequence[int], results: Results) -> None:
    present = tuple(results.groups["size"].tolist())
    if tuple(sizes) != present:
        raise ValueError(f"sizes are {list(sizes)!r:.60}; the groups have {list(present)}")


def _check_convolutions(network: _Network, widths: Sequence[int], pattern: str, first: int) -> None:
    """Check that a convolution of each width is there: what is built can then not outgrow the file."""
    for i, (n_in, n_out) in enumerate(zip((first, *widths[:-1]), widths, strict=True)):
        shape = network.shape(pattern.format(i))
        if shape[:2] != (n_out, n_in):
            raise ValueError(f"{pattern.format(i)} has the shape {shape}; the settings say {n_out} x {n_in}")


def _check_prior(network: _Network, results: Results) -> None:
    shape = network.sizes("shape", most=MOST_PX)
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] != 3):
        raise ValueError(f"shape is {list(shape)}; expected (y, x) or (y, x, 3)")
    if results.synthesized.sizes["edit"] and shape != results.synthesized["image"].shape[1:]:
        raise ValueError(f"shape is {list(shape)}; the edits have {results.synthesized['image'].shape[1:]}")
    if not 1 <= network.get("patch_px", int) <= 64:
        raise ValueError(f"patch_px is {network.settings['patch_px']}")
    for name, words in (("precision", ("bfloat16", "float32")), ("predicts", _PREDICTS)):
        if network.settings.get(name) not in words:
            raise ValueError(f"{name} is {network.settings.get(name)!r:.60}; expected {' or '.join(words)}")
    scale = network.get("scale", dict)
    if set(scale) != {"mean", "std"} or not all(isinstance(v, (int, float)) for v in scale.values()):
        raise ValueError(f"scale is {scale!r:.60}; expected the numbers mean and std")
    if not scale["std"] > 0:
        raise ValueError(f"scale has std = {scale['std']}; expected more than 0")
    if network.settings.get("sizes") is not None:
        _check_sizes(network.sizes("sizes"), results)
    alpha_bar = network.shape("alpha_bar")
    n_steps = results.provenance.get("config", {}).get("prior", {}).get("n_timesteps", alpha_bar[0])
    if len(alpha_bar) != 1 or alpha_bar[0] != n_steps or n_steps > MOST_STEPS:
        raise ValueError(f"alpha_bar has the shape {alpha_bar}; the settings have {n_steps} steps")
    if "network" in network.settings or "autoencoder" in network.settings:
        _check_others(network)
    if "network" not in network.settings:
        _check_unet(_Network(network.get("unet", dict), network.tensors))


def _check_others(network: _Network) -> None:
    """Check networks of diffusers that are not ours; sizes are compared with the tensors on building them."""
    for name, kinds in (("unet", _NETWORKS), ("autoencoder", _AUTOENCODERS)):
        settings = network.settings.get(name, {})
        kind = settings.get("class") if name == "autoencoder" else network.settings.get("network", kinds[0])
        if settings and kind not in kinds:
            raise ValueError(f"{name} is a {kind!r:.60}; expected one of {', '.join(kinds)}")
        check_sizes(settings, within=f"{name}: ")
    null_class, text = network.settings.get("null_class"), network.settings.get("null_text")
    if not (null_class is None or (type(null_class) is int and 0 <= null_class < 2**20)):
        raise ValueError(f"null_class is {null_class!r:.40}")
    if text is not None and list(network.shape("null_text")) != text:
        raise ValueError(
            f"null_text has the shape {network.shape('null_text')}; the settings say {text!r:.60}"
        )


def _check_unet(unet: _Network) -> None:
    for name, value in unet.settings.items():
        if name in _UNET_WORDS:
            fits = value is None or (isinstance(value, str) and re.fullmatch(_UNET_WORDS[name], value))
        elif name in _UNET_NUMBERS:
            fits = value is None or (type(value) in (int, float) and 0 <= value <= MOST_STEPS)
        elif name in _UNET_SWITCHES:
            fits = isinstance(value, bool)
        else:
            fits = name in (*_UNET_LISTS, *_UNET_OTHERS)
        if not fits:
            raise ValueError(f"unet: {name} is {value!r:.60}, which no UNet of nwb-migvis has")
    channels = unet.sizes("block_out_channels")
    if len(channels) > MOST_BLOCKS:
        raise ValueError(
            f"unet: block_out_channels has {len(channels)} widths; expected at most {MOST_BLOCKS}"
        )
    for name, end in (("down_block_types", "DownBlock2D"), ("up_block_types", "UpBlock2D")):
        blocks = unet.get(name, list)
        names = (end, f"Attn{end}", f"Resnet{end.removesuffix('Block2D')}sampleBlock2D")
        if len(blocks) != len(channels) or any(block not in names for block in blocks):
            raise ValueError(
                f"unet: {name} is {blocks!r:.60}; expected {len(channels)} of {', '.join(names)}"
            )
    if unet.shape("unet.conv_in.weight")[:2] != (channels[0], unet.get("in_channels", int)):
        raise ValueError("unet: conv_in is of other channels than the settings")
    if unet.shape("unet.conv_out.weight")[:2] != (unet.get("out_channels", int), channels[0]):
        raise ValueError("unet: conv_out is of other channels than the settings")
    _check_convolutions(
        unet,
        channels,
        "unet.down_blocks.{}.resnets.0.conv1.weight",
        unet.get("in_channels", int) and channels[0],
    )
    n_layers = sum(
        bool(re.fullmatch(r"unet\.down_blocks\.0\.resnets\.\d+\.conv1\.weight", n)) for n in unet.tensors
    )
    if unet.get("layers_per_block", int) != n_layers:
        raise ValueError(f"unet: layers_per_block is {unet.settings['layers_per_block']}; found {n_layers}")
    width = unet.settings.get("time_embedding_dim") or 4 * channels[0]
    if unet.shape("unet.time_embedding.linear_2.weight") != (width, width):
        raise ValueError("unet: the time embedding is of another width than the settings")
    if unet.settings.get("num_class_embeds") is not None:
        raise ValueError("unet: num_class_embeds is set; expected a network without classes")


def _check_critic(network: _Network, results: Results) -> None:
    _check_sizes(network.sizes("sizes"), results)
    n_latents = int(results.groups["size"].sum())
    for name in ("mean", "std"):
        if network.shape(name) != (n_latents,):
            raise ValueError(f"{name} has the shape {network.shape(name)}; expected {(n_latents,)}")
    bank = network.shape("bank")
    if len(bank) != 2 or bank[0] < 2 or bank[1] != n_latents:
        raise ValueError(f"bank has the shape {bank}; expected two negatives or more of {n_latents} latents")
    if "channels" in network.settings:
        channels, first = network.sizes("channels"), network.get("n_channels", int)
        _check_convolutions(network, channels, "network.convolutions.{}.weight", first)
        if any(width % 8 for width in channels):
            raise ValueError(f"channels are {list(channels)}; expected multiples of 8")
        shrink = network.settings.get("shrink", 1)
        if type(shrink) is not int or not 1 <= shrink <= MOST_PX:
            raise ValueError(f"shrink is {shrink!r:.40}; expected a whole number from 1")
    elif network.settings.get("features") == "timm":
        if not _MODEL_NAME.fullmatch(network.get("model", str)):
            raise ValueError(
                f"model is {network.settings['model']!r:.60}; expected the name of an architecture"
            )
        if "\0" in network.get("path", str):
            raise ValueError("path holds a NUL")
    elif network.settings.get("features") not in (
        "prior",
        *(f"efficientnet-lite{number}" for number in range(3)),
        _part(results.provenance.get("config", {}), "critic").get("features", "prior"),
    ):
        raise ValueError(f"features is {network.settings.get('features')!r:.60}")


def _check_vae(network: _Network, results: Results) -> None:
    """Check the networks among the latent models; the tensors of any other are all that it is built from."""
    if network.get("kind", str) not in _VAES:
        return
    groups = network.get("groups", list)
    if not all(isinstance(g, list) and len(g) == 3 and isinstance(g[2], list) for g in groups):
        raise ValueError(f"groups is {groups!r:.60}; expected names, sizes and labels")
    _check_sizes(_whole("groups", [g[1] for g in groups], most=2**20), results)
    n_latents, n_units = int(results.groups["size"].sum()), results.units.sizes["unit"]
    if network.shape("decoder.weight") != (network.get("n_units", int), n_latents):
        raise ValueError(f"decoder.weight has the shape {network.shape('decoder.weight')}")
    if network.get("n_units", int) != n_units:
        raise ValueError(f"n_units is {network.settings['n_units']}; unit_loadings has {n_units}")
    n_layers = sum(
        bool(re.fullmatch(r"trunk\.\d+\.weight", n)) and len(t.shape) == 2 for n, t in network.tensors.items()
    )
    if network.get("n_layers", int) != n_layers or network.shape("trunk.0.weight")[0] != network.get(
        "n_hidden", int
    ):
        raise ValueError("n_layers or n_hidden is another than the tensors have")
    if network.settings.get("likelihood") not in ("poisson", "gaussian"):
        raise ValueError(f"likelihood is {network.settings.get('likelihood')!r:.60}")
    read_outs = [
        t.shape[0] for n, t in network.tensors.items() if re.match(r"(numeric|class)_heads\..*weight", n)
    ]
    targets = network.get("n_targets", list)
    numbers = np.array([n for k, classes in targets for n in (k, *classes)])
    if len(targets) != len(groups) or sorted(numbers[numbers > 0].tolist()) != sorted(read_outs):
        raise ValueError(f"n_targets is {targets!r:.60}; the read-outs have {read_outs!r:.60}")


_CHECKS = {"prior": _check_prior, "critic": _check_critic, "vae": _check_vae}

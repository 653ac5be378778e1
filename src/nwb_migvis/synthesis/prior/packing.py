"""Networks of a prior as settings and tensors, and built again from both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from nwb_migvis.plain import Json
from nwb_migvis.synthesis.prior.autoencoder import AUTOENCODERS, Autoencoder
from nwb_migvis.synthesis.prior.others import NETWORKS, OtherDenoiser, settings_of_network
from nwb_migvis.tensors import check_sizes

if TYPE_CHECKING:
    from nwb_migvis.synthesis.prior.model import Denoiser

_MOST_PLACES = 256
"""Of a transformer, along a side: its places have codes that are made with it."""

_AUTOENCODER = "autoencoder."
_NETWORK = "unet."


def described(denoiser: Denoiser | OtherDenoiser, autoencoder: Autoencoder | None) -> Json:
    """Return the settings of which the networks can be built, as JSON can hold them."""
    head: Json = {"unet": settings_of_network(denoiser.unet)}
    if isinstance(denoiser, OtherDenoiser):
        text: torch.Tensor | None = denoiser.null_text
        head |= {
            "network": type(denoiser.unet).__name__,
            "null_class": denoiser.null_class,
            "null_text": None if text is None else list(text.shape),
        }
    if autoencoder is not None:
        network = autoencoder.network
        head["autoencoder"] = settings_of_network(network) | {"class": type(network).__name__}
    return head


def tensors_of(
    denoiser: Denoiser | OtherDenoiser, autoencoder: Autoencoder | None
) -> dict[str, torch.Tensor]:
    """Return the tensors of the networks."""
    state = dict(denoiser.state_dict())
    if autoencoder is not None:
        state |= {_AUTOENCODER + name: tensor for name, tensor in autoencoder.network.state_dict().items()}
    return state


def built_denoiser(
    head: Mapping[str, Any], state: Mapping[str, torch.Tensor], *, alpha_bar: torch.Tensor
) -> OtherDenoiser:
    """Build the denoiser that settings tell of, with weights of its own.

    Raises
    ------
    ValueError
        If it is larger than the tensors, or its settings are out of all proportion.
    """
    network = built(NETWORKS, head["network"], head["unet"], _under(_NETWORK, state))
    text = None if head["null_text"] is None else torch.zeros(state["null_text"].shape)
    return OtherDenoiser(
        network,
        null_class=head["null_class"],
        null_text=text,
        flow=alpha_bar if head["predicts"] == "flow_prediction" else None,
        sizes=head["sizes"],
    )


def built_autoencoder(head: Mapping[str, Any], state: dict[str, torch.Tensor]) -> Autoencoder | None:
    """Build the autoencoder that settings tell of, and take its tensors out of `state`.

    Raises
    ------
    ValueError
        As `built_denoiser`.
    """
    if "autoencoder" not in head:
        return None
    own = _under(_AUTOENCODER, state)
    for name in own:
        state.pop(_AUTOENCODER + name)
    settings = {name: value for name, value in head["autoencoder"].items() if name != "class"}
    network = built(AUTOENCODERS, head["autoencoder"]["class"], settings, own)
    network.load_state_dict(own)
    return Autoencoder(network.eval().requires_grad_(False))


def built(
    classes: Mapping[str, Any], name: str, settings: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]
) -> Any:
    """Build a network of a class, once it is known to be no larger than its tensors."""
    if name not in classes:
        raise ValueError(f"a network of the class {name!r:.60}; expected one of {', '.join(classes)}")
    check_size(classes[name], settings, sum(tensor.numel() for tensor in tensors.values()))
    return classes[name](**settings)


def check_size(kind: Any, settings: Mapping[str, Any], n_stored: int) -> None:
    """Refuse settings of a network with more weights than are stored, without building it in memory.

    Raises
    ------
    ValueError
    """
    check_sizes(settings)
    if kind is NETWORKS["DiTTransformer2DModel"]:
        size, patch = settings.get("sample_size", 32), settings.get("patch_size", 2)
        if not (type(size) is int and type(patch) is int and 0 < patch <= size <= _MOST_PLACES * patch):
            raise ValueError(f"sample_size is {size!r:.40} in patches of {patch!r:.40}")
    with torch.device("meta"):
        network = kind.from_config(dict(settings))
    n_needed = sum(tensor.numel() for tensor in network.state_dict().values())
    if n_needed > n_stored:
        raise ValueError(f"its network has {n_needed} weights by its config.json, and {n_stored} are stored")


def _under(prefix: str, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}

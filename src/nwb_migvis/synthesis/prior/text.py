"""What stands for no text in a network that attends to text: the empty text, encoded."""

from __future__ import annotations

from pathlib import Path

import torch

from nwb_migvis.errors import MigvisError


def encoded_nothing(folder: Path) -> torch.Tensor:
    """Encode the empty text with the text encoder in a model's folder, (1, token, width).

    Raises
    ------
    MigvisError
        If transformers is not installed, or the encoder cannot be read.
    """
    try:
        from transformers import AutoTokenizer, CLIPTextModel
    except ModuleNotFoundError:
        raise MigvisError(
            f"prior {folder}: its text encoder needs transformers, which is not installed: pip install "
            "transformers"
        ) from None
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    encoder = CLIPTextModel.from_pretrained(
        folder / "text_encoder", local_files_only=True, use_safetensors=True
    )
    tokens = tokenizer(
        "", padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt"
    )
    with torch.no_grad():
        return encoder(tokens.input_ids)[0].float()

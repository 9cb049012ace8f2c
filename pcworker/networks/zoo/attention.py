"""Encoders of a transformer, written out in operations that torch.fx can trace."""

import math

import torch
from torch import Tensor, nn


class EncoderLayer(nn.Module):
    """A layer with the norms first: x + attention(norm(x)), and then y + perceptron(norm(y))."""

    def __init__(self, tokens: int, width: int, heads: int) -> None:
        super().__init__()
        self.tokens, self.heads, self.share = tokens, heads, width // heads
        self.norm_attention, self.norm_perceptron = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value, self.project = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [B, tokens, width] to the same shape."""
        y = self.norm_attention(x)
        q, k, v = (self._by_head(each(y)) for each in (self.query, self.key, self.value))
        scores = torch.softmax(q @ k.transpose(2, 3) / math.sqrt(self.share), dim=-1)
        heard = (scores @ v).transpose(1, 2).reshape(-1, self.tokens, self.heads * self.share)
        x = x + self.project(heard)
        x = x + self.down(nn.functional.gelu(self.up(self.norm_perceptron(x))))
        return x

    def _by_head(self, x: Tensor) -> Tensor:
        return x.reshape(-1, self.tokens, self.heads, self.share).transpose(1, 2)


class Transformer(nn.Module):
    """An encoder of patches. The output is linear in the mean over the patches."""

    def __init__(
        self, tokens: int, features: int, classes: int, layers: int, width: int = 128
    ) -> None:
        """
        tokens    the number of patches
        features  the number of values of a patch
        """
        super().__init__()
        self.embed = nn.Linear(features, width)
        self.place = nn.Parameter(torch.zeros(tokens, width))
        self.layers = nn.Sequential(*(EncoderLayer(tokens, width, heads=4) for _ in range(layers)))
        self.last = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [B, tokens, features] to [B, classes]."""
        x = self.layers(self.embed(x) + self.place)
        output: Tensor = self.last(x.mean(1))
        return output

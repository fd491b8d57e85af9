"""nanoGPT's model and loop for its CPU line, rewritten compactly to be timed against (karpathy/nanoGPT, MIT).

What costs time is kept as there: one fused qkv projection, LayerNorm without bias, GELU, tied head over all positions,
windows drawn at random from a memory-mapped uint16 file, AdamW as torch picks it for the CPU, the loss read and printed
at every step, two estimates over 20 batches every 250 steps with a checkpoint after each that improves.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

LAYERS, HEADS, WIDTH, CONTEXT, BATCH = 4, 4, 128, 64, 12


class Norm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, None, 1e-5)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = Norm(), Norm()
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH, bias=False), nn.Linear(4 * WIDTH, WIDTH, bias=False)
        self.dropout = nn.Dropout(0.0)

    def forward(self, x: Tensor) -> Tensor:
        b, t, d = x.shape
        q, k, v = (part.view(b, t, HEADS, d // HEADS).transpose(1, 2) for part in self.qkv(self.norm_1(x)).split(d, 2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.dropout(self.out(y.transpose(1, 2).contiguous().view(b, t, d)))
        return x + self.dropout(self.down(F.gelu(self.up(self.norm_2(x)))))


class Model(nn.Module):
    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocabulary, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.blocks, self.norm = nn.ModuleList(Block() for _ in range(LAYERS)), Norm()
        self.head = nn.Linear(WIDTH, vocabulary, bias=False)
        self.head.weight = self.tokens.weight
        self.dropout = nn.Dropout(0.0)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                last = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(parameter, 0.0, 0.02 / math.sqrt(2 * LAYERS) if last else 0.02)

    def forward(self, tokens: Tensor, labels: Tensor) -> Tensor:
        x = self.dropout(self.tokens(tokens) + self.places(torch.arange(tokens.shape[1])))
        for block in self.blocks:
            x = block(x)
        logits = self.head(self.norm(x))
        return F.cross_entropy(logits.view(-1, logits.size(-1)), labels.view(-1), ignore_index=-1)


def rate(step: int, steps: int, peak: float = 1e-3, low: float = 1e-4, warmup: int = 100) -> float:
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    return low + 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup))) * (peak - low)


def draw(path: Path) -> tuple[Tensor, Tensor]:
    data = np.memmap(path, dtype=np.uint16, mode="r")
    starts = torch.randint(len(data) - CONTEXT, (BATCH,))
    tokens = torch.stack([torch.from_numpy(data[i : i + CONTEXT].astype(np.int64)) for i in starts])
    labels = torch.stack([torch.from_numpy(data[i + 1 : i + 1 + CONTEXT].astype(np.int64)) for i in starts])
    return tokens, labels


@torch.no_grad()
def estimate(model: Model, path: Path, batches: int) -> float:
    model.eval()
    losses = torch.zeros(batches)
    for k in range(batches):
        losses[k] = model(*draw(path)).item()
    model.train()
    return losses.mean().item()


@torch.no_grad()
def whole_loss(model: Model, path: Path) -> float:
    """The loss over all of a file in windows of the context, as ostinato evaluates."""
    model.eval()
    ids = torch.from_numpy(np.fromfile(path, dtype=np.uint16).astype(np.int64))
    rows = (len(ids) - 1) // CONTEXT
    tokens, labels = ids[: rows * CONTEXT].view(-1, CONTEXT), ids[1 : rows * CONTEXT + 1].view(-1, CONTEXT)
    cuts = zip(tokens.split(64), labels.split(64), strict=True)
    return sum(model(t, y).item() * len(t) for t, y in cuts) / rows


def prepare(text: Path, folder: Path) -> int:
    """Character ids of the first 90 % and the last 10 % of a text; returns the vocabulary's size."""
    characters = text.read_text("utf-8")
    ids = {character: i for i, character in enumerate(sorted(set(characters)))}
    encoded, cut = np.array([ids[c] for c in characters], dtype=np.uint16), int(0.9 * len(characters))
    encoded[:cut].tofile(folder / "train.bin")
    encoded[cut:].tofile(folder / "val.bin")
    return len(ids)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("text", type=Path)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        vocabulary = prepare(arguments.text, folder)  # not timed: nanoGPT prepares its data by a command of its own
        started = time.perf_counter()
        torch.manual_seed(1337)
        model = Model(vocabulary)
        groups = [[p for p in model.parameters() if (p.ndim >= 2) is decayed] for decayed in (True, False)]
        optimizer = torch.optim.AdamW(
            [{"params": groups[0], "weight_decay": 0.1}, {"params": groups[1], "weight_decay": 0.0}],
            lr=1e-3,
            betas=(0.9, 0.99),
        )
        best, began = math.inf, time.perf_counter()
        batch = draw(folder / "train.bin")
        for step in range(arguments.steps + 1):
            for group in optimizer.param_groups:
                group["lr"] = rate(step, arguments.steps)
            if step % 250 == 0:
                train_loss, loss = (estimate(model, folder / f"{part}.bin", 20) for part in ("train", "val"))
                print(f"step {step}: train loss {train_loss:.4f}, val loss {loss:.4f}")
                if loss < best and step:
                    best = loss
                    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, folder / "ckpt.pt")
            loss_now = model(*batch)
            batch = draw(folder / "train.bin")
            loss_now.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            now = time.perf_counter()
            print(f"iter {step}: loss {loss_now.item():.4f}, time {(now - began) * 1000:.2f}ms")
            began = now
        seconds = time.perf_counter() - started
        result = {"seconds": seconds, "estimate": best, "whole_loss": whole_loss(model, folder / "val.bin")}
        print(json.dumps(result))


if __name__ == "__main__":
    main()

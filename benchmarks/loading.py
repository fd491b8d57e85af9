"""A checkpoint of 1 GB from a Hugging Face folder: time beside reading its file, and the most memory it takes.

The weights are random, in fp32 like the model, so that the model is as large as the file. The file is in the disk's
cache. Each contender is a process of its own; memory is its peak resident set less what it had before it began.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import medians, record, run_json, spread, take_turns

SIZES = {"hidden_size": 1536, "intermediate_size": 6144, "num_hidden_layers": 6, "num_attention_heads": 12}
CONFIG = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 12288,
    "max_position_embeddings": 2048,
    **SIZES,
}
ROUNDS = 5


def write_checkpoint(folder: Path) -> int:
    """config.json and model.safetensors of random weights; the file's bytes."""
    import torch

    from ostinato.training.foreign import foreign_model
    from ostinato.training.initialise import build_model
    from ostinato.training.state import named_weights
    from ostinato.training.tensor_files import write_tensors

    (folder / "config.json").write_text(json.dumps(CONFIG))
    model = build_model(*foreign_model(folder, CONFIG), 0, torch.device("cpu"))
    return int(write_tensors(folder / "model.safetensors", named_weights(model), {"format": "pt"})["bytes"])


def peak_bytes() -> int:
    """The most that this process has had resident so far."""
    line = next(one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def contender(how: str, folder: Path) -> None:
    """In a process of its own: read the file, or load the model; prints seconds and bytes beyond what it had."""
    import time

    from ostinato.core.registry import MODELS
    from ostinato.training.weights import find_weights

    MODELS.get("transformer")  # imports are not what is measured
    before, started = peak_bytes(), time.perf_counter()
    if how == "read":
        kept = (folder / "model.safetensors").read_bytes()
    else:
        kept = find_weights(str(folder), folder.parent).build("cpu")
    print(json.dumps({"seconds": time.perf_counter() - started, "bytes": peak_bytes() - before}))
    del kept


def main() -> None:
    """Medians of the times, the largest of the peaks."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        size = write_checkpoint(folder)
        peaks: dict[str, list[int]] = {"read": [], "load": []}

        def measured(how: str, cache: Path) -> float:
            command = [sys.executable, "-m", "benchmarks.loading", how, folder]
            found = run_json(command, OSTINATO_CACHE=str(cache))
            peaks[how].append(found["bytes"])
            return float(found["seconds"])

        measured("read", folder)
        first = measured("load", folder)  # hashes the file, which later starts know already
        kept = take_turns({how: lambda how=how: measured(how, folder) for how in peaks}, ROUNDS)  # type: ignore[misc]
    ratio = medians(kept)["load"] / medians(kept)["read"]
    record(
        "loading a checkpoint",
        [
            *(__doc__ or "").split("\n\n")[:1],
            "",
            f"- file: {size / 1e9:.3f} GB",
            f"- reading it into memory: {spread(kept['read'])} s",
            f"- loading the model: {spread(kept['load'])} s, {ratio:.2f} x reading (aim: below 2)",
            f"- the first time, when its bytes are hashed for the record: {first:.4g} s",
            f"- peak memory: {max(peaks['load']) / size:.3f} x the file (aim: below 1.15)",
        ],
        print_only="--print" in sys.argv,
    )


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in ("read", "load"):
        contender(sys.argv[1], Path(sys.argv[2]))
    else:
        main()

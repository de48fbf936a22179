"""Compare backends for the embedded model on a CPU with eager PyTorch in bfloat16.

    pip install openvino onnxruntime onnx onnxscript nncf        # none of them is needed by the package
    python -m benchmarks.backends FOLDER [--rounds 8] [--output backends.json]

Each backend runs the network (a batch of 8 patches) and the decoder (a tile of 88x88 latents). ``prepare``: seconds to
export and compile, with the result stored in FOLDER; ``start``: seconds of a new process from its first line to the
first values of both, with the stored files; ``call``: one call of each, alternating with all other backends, the least
and the median of the rounds. All seconds are processor time of one thread, on which other programs have little effect.
``error``: the root mean square difference from float32, as a share of the values' standard deviation.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pixelsmith import Compute
from pixelsmith.config.request import EMBEDDED
from pixelsmith.families import find_model, load_family, read_facts
from pixelsmith.families.architecture import network_of

BATCH, SIDE, TILE = 8, 32, 88
Call = Callable[[], Any]


class Network(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, timestep: Tensor, prompt: Tensor) -> Tensor:
        found: Tensor = self.network(x, timestep, prompt, return_dict=False)[0]
        return found


class Decoder(nn.Module):
    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.decoder = vae.decoder

    def forward(self, latents: Tensor) -> Tensor:
        found: Tensor = self.decoder(latents)
        return found


def modules(dtype: torch.dtype) -> dict[str, nn.Module]:
    """The network and the decoder."""
    folder = find_model(EMBEDDED)
    name: Any = str(dtype).removeprefix("torch.")
    pipeline: Any = load_family(folder, read_facts(folder, EMBEDDED), Compute("cpu", name)).pipeline  # type: ignore[attr-defined]
    return {"network": Network(network_of(pipeline)).eval(), "decoder": Decoder(pipeline.vae).eval()}


def inputs(dtype: torch.dtype) -> dict[str, tuple[Tensor, ...]]:
    rng = torch.Generator().manual_seed(0)
    x, prompt = torch.randn(BATCH, 16, SIDE, SIDE, generator=rng), torch.randn(BATCH, 32, 192, generator=rng)
    latents = torch.randn(1, 16, TILE, TILE, generator=rng) / 1.7
    return {
        "network": (x.to(dtype), torch.full((BATCH,), 500.0), prompt.to(dtype)),
        "decoder": (latents.to(dtype).contiguous(memory_format=torch.channels_last),),
    }


def _eager(folder: Path, dtype: torch.dtype) -> dict[str, Call]:
    given = inputs(dtype)
    return {name: partial(module, *given[name]) for name, module in modules(dtype).items()}


def _compiled(folder: Path) -> dict[str, Call]:
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "inductor")
    given = inputs(torch.bfloat16)
    found = {name: torch.compile(module) for name, module in modules(torch.bfloat16).items()}
    return {name: partial(module, *given[name]) for name, module in found.items()}


def _ahead(folder: Path) -> dict[str, Call]:
    """AOTInductor: a compiled library of each part, stored in a file."""
    given, found = inputs(torch.bfloat16), {}
    for name in given:
        file = folder / f"{name}.pt2"
        if not file.exists():
            exported = torch.export.export(modules(torch.bfloat16)[name], given[name])
            torch._inductor.aoti_compile_and_package(exported, package_path=str(file))
        found[name] = torch._inductor.aoti_load_package(str(file))
    return {name: partial(call, *given[name]) for name, call in found.items()}


def _openvino(folder: Path, precision: str, quantized: bool = False) -> dict[str, Call]:
    openvino = import_module("openvino")
    core = openvino.Core()
    core.set_property({"CACHE_DIR": str(folder / f"openvino-{precision}-{quantized}")})
    given, found = inputs(torch.float32), {}
    for name in given:
        file = folder / f"{name}{'-int8' if quantized else ''}.xml"
        if not file.exists():
            model = openvino.convert_model(modules(torch.float32)[name], example_input=given[name])
            model.reshape({port: list(value.shape) for port, value in zip(model.inputs, given[name], strict=True)})
            if quantized:
                nncf = import_module("nncf")
                model = nncf.quantize(model, nncf.Dataset([tuple(value.numpy() for value in given[name])] * 4))
            openvino.save_model(model, file, compress_to_fp16=False)
        hints = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}
        found[name] = core.compile_model(str(file), "CPU", hints)
    arrays = {name: [value.numpy() for value in values] for name, values in given.items()}
    return {name: partial(_first_of, call, arrays[name]) for name, call in found.items()}


def _first_of(run: Callable[..., Any], *given: Any) -> Any:
    return run(*given)[0]


def _onnx(folder: Path, quantized: bool = False) -> dict[str, Call]:
    onnxruntime = import_module("onnxruntime")
    given, found = inputs(torch.float32), {}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    for name in given:
        file, small = folder / f"{name}.onnx", folder / f"{name}-int8.onnx"
        if not file.exists():
            torch.onnx.export(modules(torch.float32)[name], given[name], file, dynamo=True, external_data=False)
        if quantized and not small.exists():
            import_module("onnxruntime.quantization").quantize_dynamic(file, small)
        found[name] = onnxruntime.InferenceSession(str(small if quantized else file), options)
    feeds = {
        name: {port.name: value.numpy() for port, value in zip(session.get_inputs(), given[name], strict=True)}
        for name, session in found.items()
    }
    return {name: partial(_first_of, session.run, None, feeds[name]) for name, session in found.items()}


BACKENDS: dict[str, Callable[[Path], dict[str, Call]]] = {
    "eager float32": lambda folder: _eager(folder, torch.float32),
    "eager bfloat16": lambda folder: _eager(folder, torch.bfloat16),
    "torch.compile bfloat16": _compiled,
    "AOTInductor bfloat16": _ahead,
    "OpenVINO float32": lambda folder: _openvino(folder, "f32"),
    "OpenVINO bfloat16": lambda folder: _openvino(folder, "bf16"),
    "OpenVINO int8": lambda folder: _openvino(folder, "bf16", quantized=True),
    "ONNX Runtime float32": _onnx,
    "ONNX Runtime int8": lambda folder: _onnx(folder, quantized=True),
}


@torch.inference_mode()
def start(backend: str, folder: Path) -> None:
    """Load both parts and compute their first values, in inference mode."""
    torch.set_num_threads(1)
    for call in BACKENDS[backend](folder).values():
        call()


def started(backend: str, folder: Path) -> float | str:
    """The processor time of a process that calls ``start``, with its child processes; or the error."""
    before = os.times()
    command = [sys.executable, "-m", "benchmarks.backends", str(folder), "--start", backend]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    after = os.times()
    if process.returncode:
        return (process.stderr.strip().splitlines() or ["it ended"])[-1][:200]
    return after.children_user - before.children_user + after.children_system - before.children_system


@torch.inference_mode()
def called(names: Sequence[str], folder: Path, rounds: int) -> dict[str, dict[str, Any]]:
    """Time one call of each backend alternately, for each part; the order is reversed every second time."""
    torch.set_num_threads(1)
    calls = {name: BACKENDS[name](folder) for name in names}
    expected = {part: _values(call()) for part, call in _eager(folder, torch.float32).items()}
    found: dict[str, dict[str, Any]] = {}
    for part, right in expected.items():
        seconds: dict[str, list[float]] = {name: [] for name in names}
        for name in names:
            error = float(np.sqrt(np.mean((_values(calls[name][part]()) - right) ** 2)) / right.std())
            found.setdefault(name, {})[f"{part}_error"] = error
        for turn in range(rounds):
            for name in names if turn % 2 else reversed(names):
                began = time.process_time()
                calls[name][part]()
                seconds[name].append(time.process_time() - began)
        for name in names:
            found[name] |= {f"{part}_least": min(seconds[name]), f"{part}_median": median(seconds[name])}
    return found


def _values(found: Any) -> np.ndarray:
    return found.float().numpy() if isinstance(found, Tensor) else np.asarray(found, np.float32)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--only", nargs="+", choices=list(BACKENDS), default=list(BACKENDS))
    parser.add_argument("--output", type=Path)
    parser.add_argument("--start", choices=list(BACKENDS), help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    args.folder.mkdir(parents=True, exist_ok=True)
    if args.start:
        start(args.start, args.folder)
        return
    rows: dict[str, dict[str, Any]] = {}
    for name in args.only:
        rows[name] = {"prepare": started(name, args.folder)}
        if not isinstance(rows[name]["prepare"], str):
            rows[name]["start"] = started(name, args.folder)
        print(name, rows[name], flush=True)
    able = [name for name in rows if "start" in rows[name]]
    for name, values in called(able, args.folder, args.rounds).items():
        rows[name] |= values
        print(name, values, flush=True)
    if args.output:
        args.output.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
